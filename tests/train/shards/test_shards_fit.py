"""Training from shards and on pets as users do: shipped configurations, real processes, errors in one sentence."""

import pytest
import torch

from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.cli import main
from tests.train.data.sets.test_shards import COUNTS, write_folder
from tests.train.runs import last, rows, run
from tests.train.test_cli import sentence_of

resumes = pytest.mark.filterwarnings("ignore:The dirpath has changed")
SMALL = ["--data.init_args.image_size=32", "--data.init_args.batch_size=4", "--trainer.accelerator=cpu"]


def fit_arguments(shards, out, *more):
    return [
        "fit",
        "--config=fashion_shards.yaml",
        f"--data.init_args.root={shards}",
        f"--trainer.default_root_dir={out}",
        "--trainer.max_epochs=2",
        "--trainer.enable_progress_bar=false",
        "--model.architecture_options={width: 16}",
        *SMALL,
        *more,
    ]


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "shards")


def last_weights(out):
    weights: dict[str, torch.Tensor] = torch.load(last(out), weights_only=True)["state_dict"]
    return weights


@resumes
@pytest.mark.parametrize("validating", [False, True])
def test_a_run_that_goes_on_within_an_epoch_reads_and_learns_what_an_undisturbed_one_does(
    folder, tmp_path, validating, monkeypatch
):
    steps = sum(COUNTS["train"]) // 4
    read: list[tuple[int, list[int]]] = []
    take = MaskRobustClassifier.training_step

    def watched(module, batch, batch_idx):
        read.append((module.trainer.global_step, batch.ids.tolist()))
        return take(module, batch, batch_idx)

    monkeypatch.setattr(MaskRobustClassifier, "training_step", watched)
    same = ["--data.init_args.num_workers=2"]
    main(fit_arguments(folder, tmp_path / "whole", *same))
    whole = list(read)
    read.clear()
    stop = ["--trainer.callbacks+=tests.train.interruptions.Interruption", "--trainer.callbacks.kind=term"]
    stop += [f"--trainer.callbacks.step={steps if validating else 3}", f"--trainer.callbacks.validating={validating}"]
    with pytest.raises(SystemExit):
        main(fit_arguments(folder, tmp_path / "parts", *same, *stop))
    main(fit_arguments(folder, tmp_path / "parts", *same, "--ckpt_path=last"))
    assert [step for step, _ in read] == list(range(2 * steps))
    assert read == whole
    weights, resumed = last_weights(tmp_path / "whole"), last_weights(tmp_path / "parts")
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)


@resumes
def test_two_processes_train_to_the_end_on_uneven_shards_and_evaluate_as_one_does(folder, tmp_path):
    reliance = [
        "--trainer.callbacks+=maskrobust.lm_modules.callbacks.RelianceCallback",
        "--trainer.callbacks.plan={patch_size: 8}",
        "--trainer.callbacks.methods=[black]", "--trainer.callbacks.replicates=20",
    ]  # fmt: skip
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.init_args.num_workers=1"]
    command = fit_arguments(folder, tmp_path / "two", *two, *reliance, "--trainer.max_epochs=1")
    assert "sync_dist" not in run(command), "figures that all processes have joined need no advice"
    trained = rows(tmp_path / "two")
    checkpoint = last(tmp_path / "two")
    assert torch.load(checkpoint)["global_step"] == sum(COUNTS["train"]) // (4 * 2)
    validate = ["validate", *fit_arguments(folder, tmp_path / "one", *reliance)[1:], f"--ckpt_path={checkpoint}"]
    main([each for each in validate if "max_epochs" not in each] + ["--data.init_args.num_workers=0"])
    (alone,) = rows(tmp_path / "one")
    together = next(row for row in trained if row["val/accuracy"])
    names = [name for name in alone if name.startswith(("val/", "reliance/")) and alone[name]]
    assert "val/accuracy" in names and any(name.startswith("reliance/black/") for name in names)
    assert [float(alone[name]) for name in names] == pytest.approx([float(together[name]) for name in names], rel=1e-5)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_that_a_loader_process_finds_is_one_sentence(folder, tmp_path, capsys, workers):
    path = folder / "val-000001.tar"
    path.write_bytes(path.read_bytes()[:3000])
    more = [f"--data.init_args.num_workers={workers}", "--trainer.num_sanity_val_steps=-1"]
    sentence = sentence_of(fit_arguments(folder, tmp_path / "runs", *more), capsys)
    assert sentence.startswith("'val-000001.tar' breaks off after ") and sentence.endswith("with maskrobust shards.")
    assert "Traceback" not in sentence
