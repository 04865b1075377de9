"""Images per second and the share of waiting, by a clock that is set by hand."""

import time
from types import SimpleNamespace

import pytest

from maskrobust.lm_modules.callbacks import Throughput
from tests.lm_modules.callbacks.runs import TRAINING, csv_logger, fit, logged


class Clocked:
    """A callback in front of a clock, a trainer and a module that keeps what is logged."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, world_size: int = 1, log_every_n_steps: int = 2) -> None:
        self.now = 0.0
        self.figures: list[tuple[str, float]] = []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        self.trainer = SimpleNamespace(world_size=world_size, log_every_n_steps=log_every_n_steps, global_step=0)
        self.module = SimpleNamespace(log=lambda name, value, **_: self.figures.append((name, value)))
        self.callback = Throughput()
        self.call("on_train_start")
        self.call("on_train_epoch_start")

    def call(self, hook, *more):
        getattr(self.callback, hook)(self.trainer, self.module, *more)

    def step(self, batch, *, wait, work, steps=True):
        self.now += wait
        self.call("on_train_batch_start", batch, 0)
        self.now += work
        self.trainer.global_step += steps
        self.call("on_train_batch_end", None, batch, 0)


def test_the_figures_are_those_of_the_steps_since_they_were_last_logged(monkeypatch):
    clocked = Clocked(monkeypatch)
    for wait, work in ((1.0, 2.0), (2.0, 3.0), (0.0, 2.0), (0.0, 2.0)):
        clocked.step(TRAINING[0], wait=wait, work=work)
    assert clocked.figures == [
        ("train/images_per_second", 32 / 8),
        ("train/data_wait", 3 / 8),
        ("train/images_per_second", 32 / 4),
        ("train/data_wait", 0.0),
    ]


def test_a_validation_counts_for_neither_figure(monkeypatch):
    clocked = Clocked(monkeypatch)
    clocked.step(TRAINING[0], wait=1.0, work=1.0)
    clocked.now += 100
    clocked.call("on_validation_start")
    clocked.now += 100
    clocked.step(TRAINING[0], wait=100.0, work=2.0)
    assert clocked.figures == [("train/images_per_second", 32 / 4), ("train/data_wait", 1 / 4)]


def test_a_training_logs_both_figures_at_each_step(tmp_path):
    fit(csv_logger(tmp_path), Throughput(), epochs=2)
    waits, speeds = (logged(tmp_path)[f"train/{name}"] for name in ("data_wait", "images_per_second"))
    assert len(waits) == len(speeds) == 8
    assert all(0 <= wait <= 1 for wait in waits) and min(speeds) > 0


def test_images_are_counted_over_all_processes(monkeypatch):
    clocked = Clocked(monkeypatch, world_size=4, log_every_n_steps=1)
    clocked.step(TRAINING[0], wait=1.0, work=1.0)
    assert clocked.figures[0] == ("train/images_per_second", 4 * 16 / 2)
