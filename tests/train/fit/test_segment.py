"""`maskrobust segment`: hidden pixels have no part in a whole run, which goes on after a kill and on two processes."""

import numpy as np
import pytest
import tifffile
import torch
from torchmetrics.functional.classification import multiclass_jaccard_index

from maskrobust.lm_modules.training.segmenter import MaskRobustSegmenter
from maskrobust.train.cli import main
from maskrobust.train.data import Tiles
from tests.lm_modules.training.test_segmenter import TinyUNet
from tests.train.data.layouts import joined
from tests.train.data.sets.test_tiles import NAMES, hidden_in, write_tiles
from tests.train.fit.test_resume import assert_same
from tests.train.runs import last, next_commands, rows, run
from tests.train.test_cli import sentence_of

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")

RANGE = [0, 4096]
EXACT = ("state_dict", "optimizer_states", "lr_schedulers", "global_step")


def network(num_classes, in_channels=2):
    return TinyUNet(num_classes, in_channels)


def arguments(root, folder, *more):
    """Those of a training of two epochs, of 3 steps each, with holes of its own."""
    data = {
        "root": root,
        "class_names": NAMES,
        "crop_size": 32,
        "batch_size": 2,
        "num_workers": 0,
        "value_range": RANGE,
    }
    return [
        *("segment", "--data=Tiles", *(f"--data.{name}={value}" for name, value in data.items())),
        *(f"--model.architecture={__name__}.network", "--model.masking=layer_masking", "--model.patch_size=8"),
        *("--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
        *("--trainer.log_every_n_steps=1", f"--trainer.default_root_dir={folder}", *more),
    ]


def spoil_hidden(root):
    """Write NaN and other labels where a tile of floats is hidden, and leave the rest."""
    for path in root.rglob("images/*.npy"):
        hidden, label = hidden_in(int(path.stem)), path.parents[1] / "labels" / f"{path.stem}.tif"
        np.save(path, np.where(hidden, np.nan, np.load(path)).astype(np.float32))
        if label.exists():
            tifffile.imwrite(label, np.where(hidden, 99, tifffile.imread(label)).astype(np.uint8))
    return root


def test_what_hidden_pixels_hold_changes_no_bit_of_a_run_with_its_losses_weights_and_colours(tmp_path):
    plain, spoilt = (write_tiles(tmp_path / name, kind="npy") for name in ("plain", "spoilt"))
    for root in (plain, spoil_hidden(spoilt)):
        main(arguments(root, root / "runs"))
    one, other = (torch.load(last(root / "runs")) for root in (plain, spoilt))
    for name in (*EXACT, "read_as"):
        assert_same(one[name], other[name], name)
    assert one["hyper_parameters"]["mean"] == other["hyper_parameters"]["mean"]
    assert one["read_as"]["value_range"] == RANGE and one["class_names"] == NAMES
    losses = [[row.get("train/loss") for row in rows(root / "runs")] for root in (plain, spoilt)]
    assert losses[0] == losses[1] and any(losses[0])
    logged = [row for row in rows(plain / "runs") if row.get("val/iou")]
    assert all(
        0 <= float(row[f"val/iou{name}"]) <= 1 for row in logged for name in ("", "_half_hidden", "_beside_holes")
    )


def test_a_run_that_was_killed_as_it_saved_ends_as_if_it_had_not_been(tmp_path):
    root = write_tiles(tmp_path / "tiles")
    main(arguments(root, tmp_path / "whole"))
    kill = ["--trainer.callbacks+=tests.train.interruptions.Interruption", "--trainer.callbacks.kind=kill"]
    run(arguments(root, tmp_path / "parts", "--save_every_n_steps=1", *kill, "--trainer.callbacks.step=4"), status=-9)
    assert torch.load(last(tmp_path / "parts"))["global_step"] == 3
    main(arguments(root, tmp_path / "parts", "--ckpt_path=last"))
    ended, whole = (torch.load(last(tmp_path / name)) for name in ("parts", "whole"))
    for name in EXACT:
        assert_same(ended[name], whole[name], name)


def test_two_processes_log_the_iou_of_all_tiles_counted_once(tmp_path):
    root = write_tiles(tmp_path / "tiles")  # three tiles to validate on, so that one process gets one twice
    run(arguments(root, tmp_path / "two", "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=1"))
    together = next(row for row in rows(tmp_path / "two") if row.get("val/iou"))
    saved = torch.load(last(tmp_path / "two"))
    learner = MaskRobustSegmenter(network(len(NAMES)), len(NAMES), mean=(0.5,) * 2, std=(0.2,) * 2).eval()
    learner.mean, learner.std = (saved["hyper_parameters"][name] for name in ("mean", "std"))
    learner.load_state_dict(saved["state_dict"])
    whole = joined(Tiles(str(root), NAMES, num_workers=0, value_range=tuple(RANGE)).whole_split("val"))
    with torch.inference_mode():
        answers = learner(whole.images, whole.visible).argmax(dim=1)
    labels = learner.targets(whole, whole.known)
    expected = multiclass_jaccard_index(answers, labels, len(NAMES), average="none", ignore_index=-1)
    occur = torch.cat([answers[labels >= 0], labels[labels >= 0]]).unique()
    assert float(together["val/iou"]) == pytest.approx(float(expected[occur].mean()), abs=1e-5)


def test_a_batch_of_which_nothing_is_visible_trains_on(tmp_path):
    root = write_tiles(tmp_path / "tiles", counts=(2, 1))
    for path in (root / "train" / "images").glob("*.tif"):
        tifffile.imwrite(path, np.zeros((2, 64, 64), np.uint16), planarconfig="separate")
    colours = ["--data.mean=[0.5, 0.5]", "--data.std=[0.2, 0.2]", "--data.visible=0"]
    main(arguments(root, tmp_path / "runs", *colours))
    saved = torch.load(last(tmp_path / "runs"))
    assert saved["global_step"] == 2 and all(each.isfinite().all() for each in saved["state_dict"].values())
    assert [float(row["train/loss"]) for row in rows(tmp_path / "runs") if row.get("train/loss")] == [0, 0]


def test_the_commands_that_a_run_names_predict_grey_tiles_and_measure_it(tmp_path, capsys):
    root = write_tiles(tmp_path / "tiles", bands=1)
    for path in root.rglob("images/*.tif"):
        tifffile.imwrite(path, (tifffile.imread(path) // 16).astype(np.uint8), photometric="minisblack")
    one_band = ["--model.architecture_options={in_channels: 1}", "--data.value_range=null"]
    main(arguments(root, tmp_path / "runs", *one_band, "--trainer.max_epochs=1"))
    predict, evaluate = next_commands(capsys.readouterr().out)
    given = {"IMAGES": str(root / "val" / "images"), "MASKS": str(root / "val" / "visible")}
    main([given.get(each, each) for each in predict])
    written = sorted(path.name for path in (tmp_path / "runs").rglob("new_predictions/*"))
    assert written == ["0.tif", "1.tif", "2.tif", "classes.csv"]
    main(evaluate)
    assert [*(tmp_path / "runs").rglob("evaluation/report.html")]


def test_pictures_show_images_holes_labels_and_answers_and_a_run_is_trained_again_by_its_file(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("maskrobust.lm_modules.callbacks.training.log_picture", lambda *given: shown.append(given))
    monkeypatch.setattr("maskrobust.lm_modules.callbacks.training.shows_pictures", lambda _: True)
    root = write_tiles(tmp_path / "tiles", bands=4)
    main(arguments(root, tmp_path / "runs", "--data.show_bands=[4, 2, 1]", "--trainer.max_epochs=1"))
    ((_, name, picture, _, _),) = shown
    assert name == "val/segmentations" and picture.shape == (3, 4 * 66 + 2, 2 * 66 + 2)
    whole = joined(Tiles(str(root), NAMES, num_workers=0, value_range=tuple(RANGE)).whole_split("val")).select(slice(2))
    first = whole.images[0, [3, 1, 0]].where(whole.known[0], 0.0)
    torch.testing.assert_close(picture[:, 2:66, 2:66], first)
    labels = whole.labels[0].where(whole.known[0, 0] & (whole.labels[0] != 255), -1)
    row = picture[:, 2 * 66 + 2 : 3 * 66, 2:66]
    assert (row[:, labels < 0] == 1).all()
    colours = [{*map(tuple, row[:, labels == each].T.tolist())} for each in range(len(NAMES))]
    assert all(len(each) == 1 for each in colours) and len(set.union(*colours)) == len(NAMES)
    (config,) = (tmp_path / "runs").rglob("config.yaml")
    main(["segment", f"--config={config}", "--trainer.limit_train_batches=1", "--run_name=again"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--model.architecture=torchvision/deeplabv3_resnet5"], "did you mean torchvision/deeplabv3_resnet50"),
        (["--model.architecture=resnet18"], "architecture must name a segmentation network, got 'resnet18'"),
        (["--data.class_names=[land]"], "labels must be classes from 0 to 0, or 255 where there is none, got 1 in"),
    ],
)
def test_what_cannot_be_trained_is_told_in_one_sentence(tmp_path, capsys, more, said):
    assert said in sentence_of(arguments(write_tiles(tmp_path / "tiles"), tmp_path / "runs", *more), capsys)


def test_images_with_one_class_are_refused(tmp_path, capsys):
    given = ["segment", "--data=Cues", "--trainer.max_epochs=1", f"--trainer.default_root_dir={tmp_path}"]
    said = sentence_of(given, capsys)
    assert "segment needs a class for each pixel, but Cues has one for each image; give Tiles" in said
