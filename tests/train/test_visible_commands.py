"""What a training was told of visible pixels is used by every command, which says so, unless it is told otherwise."""

import re

import numpy as np
import pytest
import torch

from maskrobust import load_network
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.train.cli import main
from maskrobust.train.data.files.reading import Reading
from maskrobust.train.explain.pictures import read_picture
from maskrobust.train.play.painted_hole import ask_about_hole
from tests.train.data.layouts import save
from tests.train.test_cli import sentence_of
from tests.train.tiny import FEW_MEASURES, TINY_NETWORK, TWO_STEPS

STAMP = (4, 12, 36, 34)
SIDE = 37
SAID = f"visible: {{'hidden_box': {[*STAMP]}}}, as in the training of "


def write(root, paint):
    """Photographs of two classes with a large stamp, black or white, by `paint`."""
    left, top, right, bottom = STAMP
    for split, count in {"train": 6, "val": 4}.items():
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            pixels[top:bottom, left:right] = (0, 255)[(paint + number) % 2]
            path = root / split / ("cat", "dog")[number % 2] / f"{number}.png"
            save(pixels, path)
    return root


def data(root, *more):
    return ["--data=Folder", f"--data.root={root}", "--data.image_size=32", "--data.num_workers=0", *more]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint of photographs with stamps that are hidden."""
    folder = tmp_path_factory.mktemp("trained")
    given = data(write(folder / "images", 1), f"--data.visible={{hidden_box: {[*STAMP]}}}", "--data.batch_size=4")
    options = ["--model.masking=layer_masking", f"--trainer.default_root_dir={folder}"]
    main(["fit", *given, *TINY_NETWORK, *TWO_STEPS, *options])
    return folder / "run" / "version_0" / "checkpoints" / "last.ckpt"


def answers(command, trained, images, out, *options):
    """What a command writes as numbers."""
    named = [f"--network={trained}", *options]
    if command == "predict":
        main(["predict", *named, f"--images={images / 'val'}", f"--out={out / 'found.csv'}", "--num_workers=0"])
        return (out / "found.csv").read_text(encoding="utf-8").replace(str(images), "")
    if command == "evaluate":
        given = [*data(images), *FEW_MEASURES, "--methods=[layer_masking]", "--predictions=true", "--split=val"]
        main(["evaluate", *given, *named, f"--out={out}"])
        pictures = re.findall("data:image[^\"']+", (out / "report.html").read_text(encoding="utf-8"))
        return (out / "predictions.csv").read_text(encoding="utf-8"), pictures
    short = ["--methods=[layer_masking]", "--segments=[patches]", "--patch_size=8", "--plan.samples=64"]
    one = f"--images={images / 'val' / 'cat' / '0.png'}"
    main(["explain", *named, one, *short, "--plan.window=16", "--image_size=32", f"--out={out}"])
    with np.load(out / "explanations.npz") as arrays:
        return {name: arrays[name].tobytes() for name in arrays if "picture" not in name}


@pytest.mark.parametrize("command", ["predict", "evaluate", "explain"])
def test_a_stamp_that_was_hidden_in_training_is_hidden_and_said_unless_a_command_is_told_otherwise(
    command, trained, tmp_path, caplog
):
    caplog.set_level("INFO", "pytorch_lightning")
    folders = [write(tmp_path / f"{paint}", paint) for paint in (1, 2)]
    found = [answers(command, trained, each, each / "out") for each in folders]
    assert found[0] == found[1]
    assert SAID in caplog.text and caplog.text.count("visible:") == 2
    caplog.clear()
    found = [answers(command, trained, each, each / "all", "--data.visible=all") for each in folders]
    assert found[0] != found[1] and "visible:" not in caplog.text


def test_play_hides_it_behind_every_hole(trained, tmp_path):
    network, told = load_network(str(trained)), Reading({"hidden_box": [*STAMP]})
    hole = np.zeros((32, 32), dtype=bool)
    hole[4:12, 4:12] = True
    shown = []
    for paint in (1, 2):
        picture = read_picture("a", write(tmp_path / f"{paint}", paint) / "val" / "cat" / "0.png", 32, told)
        picture = picture._replace(image=torch.where(picture.known, picture.image, paint / 2))
        asked = ask_about_hole([network], ["mean", "layer_masking"], picture.image, hole, picture.known)
        shown.append([each.answers for each in asked])
    assert shown[0] == shown[1] and len(shown[0]) == 3


def test_an_explanation_never_shows_a_network_what_the_image_hides(trained, tmp_path, monkeypatch):
    """Equal answers for two paints do not tell: hidden pixels are black by then, and a black hole can be read, too."""
    shown, predictor = [], TrainedNetwork.predictor

    def watched(self, method):
        ask = predictor(self, method)

        def asked(images, visible, keys):
            shown.append(visible)
            return ask(images, visible, keys)

        return asked

    monkeypatch.setattr(TrainedNetwork, "predictor", watched)
    images = write(tmp_path, 1)
    answers("explain", trained, images, tmp_path / "out")
    known = read_picture("0", images / "val/cat/0.png", 32, Reading({"hidden_box": [*STAMP]})).known
    seen = torch.cat(shown).any(dim=0)
    assert torch.equal(seen, known) and not known.all()


def test_masks_of_a_training_say_nothing_about_other_images_and_two_trainings_must_agree(
    trained, tmp_path, capsys, caplog
):
    caplog.set_level("INFO", "pytorch_lightning")
    checkpoint = torch.load(trained, weights_only=True)
    networks = {}
    for name, read_as in {"masks": {"visible": "MASKS/train"}, "none": {}, "odd": {"visible": [1]}}.items():
        networks[name] = tmp_path / f"{name}.ckpt"
        torch.save({**checkpoint, "read_as": read_as}, networks[name])
    images = write(tmp_path / "images", 1)
    answers("predict", networks["masks"], images, tmp_path)
    assert "visible: MASKS/train, as in the training of " in caplog.text and "says nothing about these" in caplog.text
    both = f"--network=[{trained}, {networks['none']}]"
    said = sentence_of(["evaluate", *data(images), both, f"--out={tmp_path / 'out'}"], capsys)
    assert "say how these images are to be read (--data.visible)" in said
    predicting = ["predict", f"--images={images}", f"--out={tmp_path / 'a.csv'}"]
    assert "must say visible in words or numbers" in sentence_of([*predicting, f"--network={networks['odd']}"], capsys)
