"""`maskrobust predict` and `predict`: what the network answers, of the pixels that `evaluate` would show it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskrobust import load_network, predict
from maskrobust.augment import sample_keys
from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.train.cli import main
from maskrobust.train.data import Folder
from maskrobust.train.predict import answers
from tests.conftest import refused
from tests.train.data.layouts import save
from tests.train.runs import table
from tests.train.test_cli import sentence_of
from tests.train.tiny import FEW_MEASURES

SIDE, CLASSES = 48, ("bird", "cat")
SIZES = [(60, 80), (70, 50), (48, 48), (90, 64), (61, 61)]


def hole(number, height, width):
    y, x = np.mgrid[:height, :width]
    return (y - height / 2) ** 2 + (x - width / 2 + 6 * (number % 3)) ** 2 < (8 + number) ** 2


def write_images(folder, paint):
    """Images in `images/val`, with a hole that alpha tells and `masks/val` too; `paint` decides what lies in it."""
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate(SIZES):
        pixels = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        inside = hole(number, height, width)
        pixels[inside] = np.random.default_rng(paint).integers(0, 256, (inside.sum(), 3))
        visible = np.where(inside, 0, 255).astype(np.uint8)
        name = f"val/{CLASSES[number % 2]}/{number}.png"
        for kind, image in (("images", np.dstack([pixels, visible])), ("masks", visible)):
            save(image, folder / kind / name)
    return folder / "images" / "val"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), 1)


def network(own_method=None):
    found = load_network("small_resnet:random", {"size": SIDE, "crop": 0.875}, num_classes=3)
    names = ["bird", "cat", "=dog"]
    made = TrainedNetwork("net", found.network, found.preprocessing, 3, class_names=names, own_method=own_method)
    with torch.no_grad():
        made.network.fc.bias.zero_()  # so that features times weights are logits
    return made


def probabilities(found, method=None):
    return torch.stack([each.probabilities[method or next(iter(each.probabilities))] for each in found])


@pytest.mark.parametrize("visible", [None, "alpha", 0])
@pytest.mark.parametrize("method", ["black", "uniform_noise", "layer_masking"])
@torch.no_grad()
def test_files_are_predicted_bit_for_bit_as_an_evaluation_of_their_folder_asks_about_them(visible, method, images):
    data = Folder(str(images.parent), visible=visible, image_size=SIDE, batch_size=3, num_workers=0)
    asked, expected = network(own_method=method), []
    for batch in (each.to("cpu") for each in data.whole_split("val")):
        keys = sample_keys(0, batch.ids)
        expected.append(asked.predictor(method)(batch.images, batch.known, keys).softmax(dim=1))
    found = [*predict(asked, images.parent, visible, batch_size=3)]
    assert [each.file for each in found] == [file.image for file in data.files("val")]
    assert torch.equal(probabilities(found), torch.cat(expected))
    assert [*found[0].probabilities] == ["whole" if visible is None else method]


def test_a_command_predicts_the_classes_that_an_evaluation_writes(images, tmp_path, monkeypatch):
    """With nothing hidden but what holds no data."""
    monkeypatch.chdir(tmp_path)
    undecided = network()
    features = torch.stack(
        [each.features["layer_masking"] for each in predict(undecided, images, "alpha", features=True)]
    )
    with torch.no_grad():
        undecided.network.fc.bias.copy_(-undecided.network.fc(features).mean(dim=0))
    torch.save(undecided.network.state_dict(), "net.pt")
    named = ["--network=small_resnet:net.pt"]
    (tmp_path / "classes.csv").write_text("class,output\nbird,0\ncat,1\n")
    data = ["--data=Folder", f"--data.root={images.parent}", "--data.visible=alpha", f"--data.image_size={SIDE}"]
    asked = ["--methods=[black, layer_masking]", "--classes=classes.csv", "--predictions=true", "--out=out"]
    main(["evaluate", *named, *data, *asked, *FEW_MEASURES, f"--preprocess={{size: {SIDE}}}"])
    shown = f"--preprocess={{size: {SIDE}, crop: 0.875}}"
    main(["predict", *named, f"--images={images}", "--data.visible=alpha", shown, "--out=found.csv"])
    predicted = {row["file"].rpartition("/")[2]: row["class_1"] for row in table(Path("found.csv"))}
    rows = [row for row in table(Path("out/predictions.csv")) if row["hidden_fraction"] == "0.0"]
    clean = {row["sample"]: row["prediction"] for row in rows if row["method"] == "layer_masking"}
    assert clean != {row["sample"]: row["prediction"] for row in rows if row["method"] == "black"}
    as_outputs = {"bird": "class 0", "cat": "class 1", "another class": "class 2"}
    assert predicted == {name: as_outputs[prediction] for name, prediction in clean.items()}
    assert len({*predicted.values()}) > 1


@pytest.mark.parametrize("source", ["alpha", "masks"])
def test_a_stamp_that_is_painted_anew_changes_no_byte_of_what_is_written(source, tmp_path, monkeypatch):
    torch.save(network().network.state_dict(), tmp_path / "net.pt")
    written = []
    for paint in (1, 2):
        folder = tmp_path / f"{paint}"
        write_images(folder, paint)
        monkeypatch.chdir(folder)
        given = source if source == "alpha" else "masks/val"
        options = [
            f"--data.visible={given}",
            "--features=found.npz",
            f"--preprocess={{size: {SIDE}}}",
            "--out=found.csv",
        ]
        main(
            [
                "predict",
                "--network=small_resnet:../net.pt",
                "--images=images/val",
                "--methods=[black, layer_masking]",
                *options,
            ]
        )
        with np.load("found.npz") as arrays:
            written.append([(folder / "found.csv").read_bytes(), *(arrays[each].tobytes() for each in arrays)])
    assert written[0] == written[1]
    first, *_ = table(Path("found.csv"))
    assert [*first][:4] == ["file", "visible_fraction", "black_class_1", "black_probability_1"]
    assert first["black_probability_1"] != first["layer_masking_probability_1"]
    assert 0 < float(first["visible_fraction"]) < 1


@torch.no_grad()
def test_masks_beside_the_images_say_what_alpha_does_and_features_are_the_networks(images):
    asked = network()
    by_alpha, by_masks = (
        [*predict(asked, images, each, features=True)] for each in ("alpha", images.parents[1] / "masks" / "val")
    )
    assert torch.equal(probabilities(by_alpha), probabilities(by_masks))
    whole = [*predict(asked, images, features=True)]
    for found in (by_alpha[0], whole[0]):
        (method,) = found.features
        logits = asked.network.fc(found.features[method])
        torch.testing.assert_close(logits.softmax(dim=0), found.probabilities[method])
    assert not torch.equal(probabilities(by_alpha), probabilities(whole))
    assert whole[0].visible_fraction == 1.0 > by_alpha[0].visible_fraction


def test_each_process_predicts_a_part_and_readers_change_nothing(images, monkeypatch):
    asked = network()
    alone = {each.file: each.probabilities["layer_masking"] for each in predict(asked, images, "alpha", batch_size=2)}
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(answers, "rank_and_number", lambda rank=rank: (rank, 2))
        parts.append({each.file: each for each in predict(asked, images, "alpha", batch_size=2, num_workers=1)})
    assert [len(part) for part in parts] == [3, 2]
    assert all(
        torch.equal(alone[file], each.probabilities["layer_masking"]) for part in parts for file, each in part.items()
    )
    assert {*alone} == {*parts[0], *parts[1]}


def test_the_likeliest_classes_come_first(images):
    found = next(predict(network(), [images / "bird" / "0.png"]))
    names, values = zip(*found.likeliest(), strict=True)
    assert len(names) == 3 and [*values] == sorted(values, reverse=True) and sum(values) == pytest.approx(1)
    assert names[0] == found.class_names[int(found.probabilities["whole"].argmax())]
    assert found.likeliest(1) == found.likeliest()[:1]


def test_a_file_that_cannot_be_read_is_a_row_that_says_why(images, tmp_path, monkeypatch, capsys):
    folder = write_images(tmp_path, 1)
    (folder / "bird" / "broken.png").write_bytes(b"no picture")
    (folder / "cat" / "readme.txt").write_text("skipped")
    masks = tmp_path / "masks" / "val"
    (masks / "bird" / "0.png").unlink()
    Image.fromarray(np.full((5, 5), 255, dtype=np.uint8)).save(masks / "bird" / "2.png")
    height, width = SIZES[1]
    edges = np.zeros((height, width), dtype=np.uint8)
    edges[:2] = 255  # which the square at the centre does not show
    Image.fromarray(edges).save(masks / "cat" / "1.png")
    torch.save(network().network.state_dict(), tmp_path / "net.pt")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="skipped 1 file, first .*readme.txt"):
        main(
            [
                "predict",
                "--network=small_resnet:net.pt",
                f"--preprocess={{size: {SIDE}}}",
                "--images=images/val",
                "--data.visible=masks/val",
                "--out=found.csv",
            ]
        )
    assert "predicted: 2 of 6 images (4 could not be read, the first: " in capsys.readouterr().out
    said = {row["file"]: row for row in table(Path("found.csv"))}
    expected = {
        "bird/broken.png": "no known format",
        "bird/0.png": "No such file",
        "bird/2.png": "must have the size of its image as it is displayed",
        "cat/1.png": "is visible in the square",
    }
    for name, reason in expected.items():
        row = said[f"images/val/{name}"]
        assert reason in row["error"] and row["class_1"] == row["visible_fraction"] == ""
    assert said["images/val/cat/3.png"]["error"] == "" and said["images/val/cat/3.png"]["class_3"]


WRONG = [
    (["--images=nowhere"], "does not exist"),
    (["--images=empty"], "holds none"),
    (["--images=broken.png"], "none of 1 files could be read; the first: 'broken.png' cannot be read"),
    (["--images=images", "--methods=[black]"], "give visible, too."),
    (
        ["--images=images", "--data.visible=nowhere"],
        "must be alpha, nan, nodata, all, a no-data value such as 0, a folder of masks",
    ),
    (["--images=images", "--data.visible=inf"], "a value that pixels can have"),
    (["--images=images", "--data.visible=alpha", "--methods=[blak]"], "did you mean black?"),
    (["--images=images", "--data.visible=alpha", "--methods=[black, black]"], "black"),
    (["--images=images", "--data.visible=alpha", "--methods=[token_dropping]"], "begins with patches"),
    (["--images=images", "--top=0"], "top"),
    (["--images=images", "--preprocess={}"], "--preprocess '{size: 224}'"),
]


@pytest.mark.parametrize(("options", "named"), WRONG, ids=[" ".join(options) for options, _ in WRONG])
def test_what_cannot_be_predicted_is_one_sentence_and_leaves_nothing(
    options, named, images, tmp_path, monkeypatch, capsys
):
    (tmp_path / "images").symlink_to(images)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    sized = [] if "--preprocess={}" in options else [f"--preprocess={{size: {SIDE}}}"]
    assert named in sentence_of(
        ["predict", "--network=small_resnet:random", "--out=found.csv", "--num_workers=0", *sized, *options], capsys
    )
    assert not (tmp_path / "found.csv").exists()


def test_what_is_wrong_is_told_at_the_call_and_not_at_the_first_prediction(images):
    with refused(InputError, "give visible, too"):
        predict(network(), images, methods=["black"])
    with refused(InputError, "batch_size"):
        predict(network(), images, batch_size=0)
