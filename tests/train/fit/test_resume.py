"""Nothing is lost: a run that was interrupted, however, ends with the weights of one that was not."""

import json
import os
from functools import cache

import pytest
import torch
import yaml

from maskrobust.lm_modules.training import module as training_module, training_masks
from maskrobust.train.cli import main
from tests.train.runs import last, rows, run
from tests.train.test_cli import sentence_of

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")

BEST = {"monitor": "val/accuracy", "mode": "max", "filename": "best"}
CALLBACKS = [
    {"class_path": "pytorch_lightning.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.5}},
    {"class_path": "pytorch_lightning.callbacks.ModelCheckpoint", "init_args": BEST},
]
DATA = {"train_images": 90, "val_images": 12, "image_size": 32, "batch_size": 8}  # 12 steps an epoch, the last with 2
EXACT = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "global_step")


def arguments(folder, *more, interruption=None, ckpt_path=None, **data):
    """Those of a training of two epochs with dropout, an average of weights, and holes."""
    callbacks = list(CALLBACKS)
    if interruption:
        callbacks.append({"class_path": "tests.train.interruptions.Interruption", "init_args": interruption})
    config = {
        "run_name": "run",
        "trainer": {
            "max_epochs": 2, "accelerator": "cpu", "devices": 1, "default_root_dir": str(folder),
            "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1, "callbacks": callbacks,
        },
        "model": {
            "architecture": {"class_path": "tests.train.networks.Tiny"}, "learning_rate": 0.01, "masking": "fill",
            "patch_size": 8,
        },
        "data": {"class_path": "Cues", "init_args": {**DATA, **data}},
        "ckpt_path": ckpt_path,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{'again' if ckpt_path else 'first'}.yaml"
    path.write_text(yaml.safe_dump(config))
    return ["fit", f"--config={path}", *more]


def assert_same(left, right, name=""):
    """Equal to the last bit, in all that a checkpoint holds."""
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), name
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), name
        for key in left:
            assert_same(left[key], right[key], f"{name}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), name
        for number, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_same(one, other, f"{name}.{number}")
    else:
        assert left == right, name


def assert_ends_the_same(folder, undisturbed):
    ended = torch.load(last(folder))
    for name in EXACT:
        assert_same(ended[name], undisturbed[name], name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Where a training with these further options ran that nothing happened to; each is run once."""

    @cache
    def train(*more):
        folder = tmp_path_factory.mktemp("whole")
        main(arguments(folder, *more))
        return folder

    return train


@pytest.fixture(scope="module")
def undisturbed(whole):
    """The last checkpoint of a training that nothing happened to."""
    return torch.load(last(whole()))


def validations(folder):
    """(epoch, val/accuracy, val/loss) of every validation, over all versions of a run."""
    found = []
    for path in sorted(folder.rglob("metrics.csv")):
        validated = [row for row in rows(path.parent) if row.get("val/loss")]
        found += [(row["epoch"], row["val/accuracy"], row["val/loss"]) for row in validated]
    return found


def stopped(given, capsys):
    """Run the command in this process until a signal ends it; its status, and its line on standard error."""
    with pytest.raises(SystemExit) as end:
        main(given)
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("maskrobust: stopped by ")
    return end.value.code, line


DRAWN_IN_LOADER = "--model.mask_family={slic: 1, blobs: 1}", "--model.fill={inpainting: 1, random_colour: 1}"


@pytest.mark.parametrize("drawn", [(), DRAWN_IN_LOADER], ids=["on the device", "in the loader"])
def test_a_run_killed_while_it_saves_within_an_epoch_ends_as_if_it_had_not_been(tmp_path, whole, drawn):
    interruption, undisturbed = {"kind": "kill", "step": 20}, torch.load(last(whole(*drawn)))
    run(arguments(tmp_path, "--save_every_n_steps=4", *drawn, interruption=interruption, num_workers=2), status=-9)
    assert torch.load(last(tmp_path))["global_step"] == 16
    assert sorted(path.name for path in last(tmp_path).parent.glob("*.ckpt")) == ["best.ckpt", "last.ckpt"]
    main(arguments(tmp_path, *drawn, ckpt_path="last", num_workers=2))
    assert_ends_the_same(tmp_path, undisturbed)


def test_holes_that_a_cpu_computes_are_drawn_where_batches_are_loaded(tmp_path, monkeypatch):
    """In other processes, otherwise in each epoch, and in the training process where images are mixed before."""
    drawn, present = [], training_masks.present_masked

    def noted(masks, masking, keys, batch):
        shown = present(masks, masking, keys, batch)
        drawn.append((os.getpid(), keys.tolist(), batch.ids.tolist()))
        (tmp_path / f"{len(drawn)}-{os.getpid()}").write_text(json.dumps(drawn[-1]))
        return shown

    for module in (training_masks, training_module):
        monkeypatch.setattr(module, "present_masked", noted)
    for workers, more in ((2, ()), (2, ("--model.mix=mixup",)), (0, ())):
        main(arguments(tmp_path / f"{workers}{len(more)}", *DRAWN_IN_LOADER, *more, num_workers=workers))
        found = [json.loads(path.read_text()) for path in tmp_path.glob("*-*")]
        [path.unlink() for path in tmp_path.glob("*-*")]
        assert len(found) == 24 and ({pid for pid, *_ in found} == {os.getpid()}) == (workers == 0 or bool(more))
        if not more:
            by_id = [dict(zip(ids, keys, strict=True)) for _, keys, ids in found]
            of_ids = {each: {keys[each] for keys in by_id if each in keys} for ids in by_id for each in ids}
            assert len(of_ids) == 90 and {len(keys) for keys in of_ids.values()} == {2}, "one key an epoch"


def test_a_run_all_of_whose_processes_are_told_to_stop_saves_and_goes_on(tmp_path, undisturbed):
    errors = run(arguments(tmp_path, interruption={"kind": "group", "step": 7}, num_workers=2), status=143)
    saved = last(tmp_path)
    assert f"stopped by SIGTERM after 7 steps; the state is in '{saved}'" in errors and "--ckpt_path last" in errors
    assert "Traceback" not in errors
    assert torch.load(saved)["global_step"] == 7
    main(arguments(tmp_path, ckpt_path="last"))
    assert_ends_the_same(tmp_path, undisturbed)


ACCUMULATED = ["--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=5"]


@pytest.mark.parametrize(
    ("interruption", "more", "left_out"),
    [
        ({"kind": "term", "step": 12}, [], []),
        ({"kind": "interrupt", "step": 12, "validating": True}, [], []),
        ({"kind": "term", "step": 4, "batches": 1}, ACCUMULATED, [1]),
    ],
    ids=["epoch's end", "validation", "in a step ahead of a validation"],
)
def test_a_run_stopped_at_an_awkward_moment_leaves_out_the_next_validation_at_most(
    tmp_path, whole, capsys, interruption, more, left_out
):
    status, line = stopped(arguments(tmp_path, *more, interruption=interruption), capsys)
    assert status == {"term": 143, "interrupt": 130}[interruption["kind"]] and str(last(tmp_path)) in line
    main(arguments(tmp_path, *more, ckpt_path="last"))
    assert_ends_the_same(tmp_path, torch.load(last(whole(*more))))
    assert validations(tmp_path) == [each for n, each in enumerate(validations(whole(*more))) if n not in left_out]


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")  # an epoch that is cut off has no validation
def test_a_run_that_ended_by_max_steps_goes_on_with_its_next_epoch_once_that_is_raised(tmp_path):
    steps = ["--trainer.max_epochs=-1", "--model.schedule=constant", "--model.warmup_fraction=0"]
    main(arguments(tmp_path / "whole", *steps, "--trainer.max_steps=24"))
    main(arguments(tmp_path / "parts", *steps, "--trainer.max_steps=12"))
    main(arguments(tmp_path / "parts", *steps, "--trainer.max_steps=24", "--model.optimiser=sgd", ckpt_path="last"))
    assert_ends_the_same(tmp_path / "parts", torch.load(last(tmp_path / "whole")))
    main(arguments(tmp_path / "within", *steps, "--trainer.max_steps=7"))
    main(arguments(tmp_path / "within", *steps, "--trainer.max_steps=9", ckpt_path="last"))
    again = [row for row in rows(last(tmp_path / "within").parents[1]) if row.get("train/loss")]
    assert [(row["epoch"], row["step"]) for row in again] == [("1", "7"), ("1", "8")]


def test_a_run_that_goes_on_from_the_best_state_counts_no_validation_twice(tmp_path):
    counting = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/loss"]
    counting += ["--trainer.callbacks.patience=50", "--trainer.callbacks+=ModelCheckpoint"]
    counting += ["--trainer.callbacks.filename={step}", "--trainer.callbacks.save_top_k=-1"]
    counting += ["--trainer.callbacks.monitor=val/loss", "--trainer.val_check_interval=5"]
    main(arguments(tmp_path / "whole", *counting))
    (state,) = (tmp_path / "whole").rglob("step=5.ckpt")
    main(arguments(tmp_path / "parts", *counting, ckpt_path=str(state)))
    assert_ends_the_same(tmp_path / "parts", torch.load(last(tmp_path / "whole")))
    assert validations(tmp_path / "parts") == validations(tmp_path / "whole")[1:]
    one, other = (torch.load(last(tmp_path / name))["callbacks"] for name in ("parts", "whole"))
    counted = next(key for key in one if key.startswith("EarlyStopping"))
    assert one[counted]["wait_count"] == other[counted]["wait_count"]


def test_two_processes_stop_together_whichever_is_told_to(tmp_path):
    two = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    run(arguments(tmp_path / "whole", *two))
    interruption = {"kind": "term", "step": 4, "rank": 1}
    errors = run(arguments(tmp_path / "parts", *two, interruption=interruption, num_workers=1), status=143)
    assert errors.count("stopped by SIGTERM after 5 steps") == 1  # told after the fourth, and exchanged in the next
    place = torch.load(last(tmp_path / "parts"))["Cues"]
    assert place == {"epoch": 0, "batches": 5, "batch_size": 16, "transform": None}
    never = {"kind": "term", "step": 99}
    errors += run(arguments(tmp_path / "parts", *two, ckpt_path="last", interruption=never, num_workers=1))
    assert "not left" not in errors
    assert_ends_the_same(tmp_path / "parts", torch.load(last(tmp_path / "whole")))


def test_a_loss_that_is_no_number_ends_the_run_in_one_sentence_that_names_what_was_saved(tmp_path, capsys):
    sentence = sentence_of(arguments(tmp_path, interruption={"kind": "nan", "step": 14}), capsys)
    saved = last(tmp_path)
    record = saved.parent.parent / "not_finite.json"
    assert sentence.startswith("the loss is nan in step 14 at learning rate 0.00")
    assert f"'{record}'" in sentence and f"'{saved}'" in sentence
    assert torch.load(saved)["global_step"] == 12
    content = json.loads(record.read_text())
    assert (content["step"], content["epoch"]) == (14, 1)
    (batch,) = content["batches"]
    assert (batch["rank"], batch["loss"], len(set(batch["ids"]))) == (0, "nan", 8)


def test_a_loss_that_is_no_number_in_one_process_ends_all_and_is_told_once(tmp_path):
    two = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    errors = run(arguments(tmp_path, *two, interruption={"kind": "nan", "step": 4, "rank": 1}), status=2)
    assert errors.count("maskrobust: error: the loss is nan in step 4") == 1
    (record,) = tmp_path.rglob("not_finite.json")
    assert [batch["rank"] for batch in json.loads(record.read_text())["batches"]] == [1]


def test_a_full_disk_ends_the_run_in_one_sentence_and_leaves_the_last_state(tmp_path):
    errors = run(arguments(tmp_path, interruption={"kind": "full", "step": 14}), status=2)
    saved = last(tmp_path)
    assert f"maskrobust: error: the checkpoint '{saved}' cannot be written (File too large); make room" in errors
    assert "Traceback" not in errors
    assert torch.load(saved)["global_step"] == 12
    assert [path.name for path in saved.parent.iterdir() if "ckpt" in path.name and path.suffix != ".ckpt"] == []


@pytest.mark.parametrize(
    ("more", "data", "named"),
    [
        (["--config=overlays/no_masks.yaml"], {}, "model.masking fill, got none;"),  # the default, too
        ([], {"batch_size": 4}, "8 images in a batch of all processes together, but there are 4 now;"),
    ],
)
def test_a_run_does_not_go_on_as_another_one(tmp_path, capsys, within_an_epoch, more, data, named):
    path = str(within_an_epoch)
    assert named in sentence_of(arguments(tmp_path, *more, ckpt_path=path, **data), capsys)
    assert not any(tmp_path.rglob("version_*"))


@pytest.fixture(scope="module")
def within_an_epoch(tmp_path_factory):
    """A checkpoint of a run that was stopped within its first epoch."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(SystemExit):
        main(arguments(folder, interruption={"kind": "term", "step": 3}))
    return last(folder)
