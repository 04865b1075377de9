"""Callbacks that end a training: when they do, and what they leave untouched."""

import json
import os
import signal
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch

from maskrobust.lm_modules.callbacks import FiniteLoss, LastCheckpoint, StepSeed
from maskrobust.lm_modules.callbacks.last_checkpoint import StopSignals
from tests.lm_modules.callbacks.runs import csv_logger, fit


class Loss(pl.Callback):
    """Replaces the loss of one batch, and keeps the weights from before each step and the seed of each batch."""

    def __init__(self, value=1.0, at=0):
        self.value, self.at = value, at
        self.weights, self.after, self.draws = {}, {}, []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.weights = {name: value.clone() for name, value in pl_module.named_parameters()}
        self.draws.append(torch.rand(1).item())
        pl_module.__dict__.pop("training_step", None)
        if batch_idx == self.at:
            pl_module.training_step = lambda *_: self._replaced(next(pl_module.parameters()).sum())

    def on_exception(self, trainer, pl_module, exception):
        self.after = dict(pl_module.named_parameters())

    def _replaced(self, total):
        """The value, with a gradient of that value."""
        return (total - total.detach() + 1) * self.value


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_that_is_not_finite_ends_the_training_before_it_reaches_the_weights(tmp_path, value, accumulate):
    replaced = Loss(float(value), at=2)
    with pytest.raises(
        ValueError, match=f"^the loss is {value} in step {2 // accumulate} .*, no state was saved before"
    ):
        fit(csv_logger(tmp_path), replaced, FiniteLoss(), accumulate_grad_batches=accumulate)
    assert replaced.after and all(torch.equal(now, replaced.weights[name]) for name, now in replaced.after.items())
    record = json.loads((tmp_path / "not_finite.json").read_text())
    assert record["batches"][0]["loss"] == value and len(record["batches"][0]["ids"]) == 16


def test_what_a_network_draws_depends_on_seed_epoch_and_batch_alone(tmp_path):
    def draws(seed, at=-1):
        watch = Loss(at=at)
        fit(csv_logger(tmp_path / f"{seed}{at}"), StepSeed(seed), watch)
        return watch.draws

    first = draws(0)
    assert len(set(first)) == len(first) == 8
    assert draws(0, at=1) == first
    assert not set(draws(1)) & set(first)


@pytest.mark.parametrize(
    ("number", "then"), [(signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)]
)
def test_a_second_signal_is_not_swallowed_while_it_stops_and_after(number, then, tmp_path):
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    before = {each: signal.signal(each, lambda *_: None) for each in (signal.SIGTERM, signal.SIGINT)}
    signals = StopSignals()
    signals.listen()
    try:
        assert signals.received(trainer) == 0
        os.kill(os.getpid(), number)
        assert signals.received(trainer) == number
        assert signal.getsignal(number) is then
        signals.close()
        assert signal.getsignal(number) is then
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@pytest.mark.parametrize("other", [0, signal.SIGTERM])
def test_a_step_of_several_processes_exchanges_loss_and_signal_at_once(other, monkeypatch, tmp_path):
    """Another process has received the signal; nothing waits for this one's (`strategy.reduce` is not there).

    A job is put back into the queue where it has saved *and* stopped as told, not where it fails after a saving.
    """
    exchanged, progress = [], tmp_path / "progress"
    monkeypatch.setenv("MASKROBUST_PROGRESS", str(progress))

    def all_reduce(told, op):
        exchanged.append(told.copy_(torch.maximum(told, torch.tensor([0, other]))))

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    finite, last, steps = FiniteLoss(), LastCheckpoint(None if other else 1), 3
    saved = []
    trainer = SimpleNamespace(
        callbacks=[finite, last], world_size=2, global_step=0, is_last_batch=False, is_global_zero=True, loggers=[],
        save_checkpoint=lambda *_, **__: saved.append(trainer.global_step), fast_dev_run=False, default_root_dir=".",
    )  # fmt: skip
    monkeypatch.setattr(LastCheckpoint, "path", "last.ckpt")
    for step in range(1, steps + 1):
        finite.on_before_backward(trainer, None, torch.tensor(1.0))
        finite.on_before_optimizer_step(trainer, None, None)
        trainer.global_step = step
        finite.on_train_batch_end(trainer, None, None, None, step)
        with pytest.raises(SystemExit) if other else nullcontext():
            last.on_train_batch_end(trainer, None, None, None, step)
    assert len(exchanged) == steps
    assert saved == [*range(1, steps + 1)]
    assert progress.exists() == bool(other)


def test_without_a_signal_they_are_left_to_whoever_had_them_before():
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    signals = StopSignals()
    signals.listen()
    assert signal.getsignal(signal.SIGTERM) is not before[0]
    signals.close()
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize("steps", [0, -1])
def test_a_number_of_steps_below_one_is_refused(steps):
    with pytest.raises(ValueError, match=f"^every_n_train_steps must be at least 1, got {steps};"):
        LastCheckpoint(steps)
