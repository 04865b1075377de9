"""`maskrobust export`, and networks by name as commands ask them."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
import safetensors.torch
import torch
from markdown_it import MarkdownIt

from maskrobust.errors import InputError
from maskrobust.lm_modules import loading
from maskrobust.lm_modules.loading import load_network
from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import Origin, TrainedNetwork
from maskrobust.train import networks
from maskrobust.train.cli import main
from maskrobust.train.data import Cues
from maskrobust.train.export import model_card
from maskrobust.train.networks import load_for
from tests.lm_modules.masking.networks import randomise
from tests.train.networks import Tiny
from tests.train.test_cli import sentence_of
from tests.train.tiny import TINY_DATA, tiny_fit, write_checkpoint

MODULE = "own_network_of_test_export"
OWN = """
from maskrobust.lm_modules import loading
from maskrobust.lm_modules.networks.architectures import SmallResNet


class Net(SmallResNet):
    def __init__(self):
        super().__init__(5, width=20)
"""
HOSTILE = "<script>alert(1)</script> | [x](http://e.org) **b** www.e.org `c` \x1b[31m"


def answers(name):
    picture = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    visible = torch.ones(2, 1, 48, 48, dtype=torch.bool)
    visible[:, :, 10:30, 12:20] = False
    with torch.no_grad():
        return load_network(name).predictor("layer_masking")(picture, visible, torch.arange(2))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    main(["fit", *tiny_fit("cues.yaml", folder), "--model.layer_masking={merge: union, padding: mirror}"])
    return next(folder.rglob("last.ckpt"))


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A user's own class, to be found where the test says."""
    (tmp_path / "with").mkdir()
    (tmp_path / "with" / f"{MODULE}.py").write_text(OWN)
    torch.save(SmallResNet(5, width=20).state_dict(), tmp_path / "weights.pt")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "with"), *sys.path])
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    return f"{MODULE}.Net:{tmp_path / 'weights.pt'}"


def test_a_training_is_exported_with_its_classes_colours_and_arguments(trained, tmp_path):
    main(["export", f"--network={trained}", f"--out={tmp_path / 'out'}"])
    before, after = load_network(str(trained)), load_network(str(tmp_path / "out"))
    assert torch.equal(answers(str(trained)), answers(str(tmp_path / "out")))
    assert (after.class_names, after.preprocessing) == (before.class_names, before.preprocessing)
    assert after.origin is not None and after.origin.layer_masking == {"merge": "union", "padding": "mirror"}
    assert after.origin.training["learning_rate"] == pytest.approx(0.1)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert "| learning_rate | 0.1 |" in (tmp_path / "out/README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["timm/test_resnet:random", "mobilenet_v3_small:random"])
def test_a_network_by_name_is_itself_again_with_size_and_wordnet_ids(name, tmp_path):
    main(["export", f"--network={name}", f"--out={tmp_path / 'out'}"])
    before, after = load_network(name), load_network(str(tmp_path / "out"))
    assert torch.equal(answers(name), answers(str(tmp_path / "out")))
    assert (after.wordnet_ids, after.preprocessing) == (before.wordnet_ids, before.preprocessing)


def test_an_own_class_is_read_back_where_it_is_named_and_found(own_module, tmp_path, monkeypatch, capsys):
    expected = answers(own_module)
    main(["export", f"--network={own_module}", f"--out={tmp_path / 'out'}"])
    monkeypatch.delitem(sys.modules, MODULE)
    with pytest.raises(InputError, match=rf"'{MODULE}\.Net', which is not imported because a file names it"):
        load_network(str(tmp_path / "out"))
    assert MODULE not in sys.modules
    assert torch.equal(answers(f"{MODULE}.Net:{tmp_path / 'out'}"), expected)
    monkeypatch.delitem(sys.modules, MODULE)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path / "with")])
    with pytest.raises(InputError, match="module cannot be imported"):
        load_network(f"{MODULE}.Net:{tmp_path / 'out'}")


def test_the_card_shows_the_networks_own_rows(trained, tmp_path):
    row = {"method": "black", "measure": "clean_accuracy", "value": 0.51234, "low": 0.4, "high": 0.6, "images": 24,
           "left_out": 0}  # fmt: skip
    rows = [{**row, "network": str(trained)}, {**row, "network": "other", "value": 0.9}]
    reliance = {"format": 3, "networks": [str(trained), "other"], "methods": ["black"], "rows": rows}
    (tmp_path / "reliance.json").write_text(json.dumps(reliance))
    given = ["export", f"--network={trained}", f"--reliance={tmp_path / 'reliance.json'}"]
    main([*given, f"--out={tmp_path / 'out'}"])
    tables = [line for line in (tmp_path / "out/README.md").read_text().splitlines() if "clean" in line]
    assert tables == ["| black | clean_accuracy | 0.512 | 0.4 to 0.6 | 24 |"]


def test_an_onnx_file_takes_pixels_and_answers_as_the_network_was_trained(tmp_path, monkeypatch, capsys):
    """Of two convolutions: the exporter takes seconds for each."""
    origin = Origin("tiny", layer_masking={"merge": "union", "padding": "mirror"})
    tiny = randomise(Tiny())
    network = TrainedNetwork("net", tiny.eval(), Preprocessing(size=(48, 40), crop=0.9), 8, origin=origin)
    monkeypatch.setattr(loading, "load_network", {"net": network}.__getitem__)
    main(["export", "--network=net", f"--onnx={tmp_path / 'a' / 'net.onnx'}"])
    network = network.configured(
        preprocessing=replace(network.preprocessing, crop=1.0)
    )  # the file takes what is cut already
    height, width = network.preprocessing.size or (0, 0)
    assert f"layer_masking_mirror with images (B, 3, {height}, {width})" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["net.onnx"]
    picture = torch.rand(5, 3, height, width, generator=torch.Generator().manual_seed(0))
    visible = torch.ones(5, 1, height, width, dtype=torch.bool)
    visible[1:, :, 10:30, 12:20] = False
    with torch.no_grad():
        expected = network.predictor("layer_masking_mirror")(picture, visible, torch.arange(5))
    session = onnxruntime.InferenceSession(tmp_path / "a" / "net.onnx")
    (found,) = session.run(None, {"images": picture.numpy(), "visible": visible.numpy()})
    assert torch.allclose(torch.from_numpy(found), expected, atol=1e-4)


def test_text_from_files_is_no_markup_in_the_card():
    origin = Origin("small_resnet", training={HOSTILE: HOSTILE * 100})
    names = (HOSTILE, "naïve")
    network = TrainedNetwork(HOSTILE, SmallResNet(2), Preprocessing(), 2, class_names=names, origin=origin)
    row = {"method": HOSTILE, "measure": HOSTILE, "parameters": {HOSTILE: HOSTILE}, "value": None, "low": None,
           "high": None, "images": 3}  # fmt: skip
    card = model_card(network, HOSTILE, [row] * 1000)
    assert "\x1b" not in card and len(card) < 10**6
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(card.split("---\n", 2)[2])
    inline = [child.type for token in tokens for child in token.children or ()]
    assert set(inline) <= {"text", "softbreak", "text_special"}
    assert not any(token.type.startswith("html") for token in tokens)
    cells = [token.content for token in tokens if token.type == "inline"]
    assert any("naïve" in cell for cell in cells)


def config(folder, **changes):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **changes}))


SPOILT: dict[str, Callable[[Path], object]] = {
    "another format": lambda folder: config(folder, format=2),
    "no configuration": lambda folder: (folder / "config.json").unlink(),
    "a path to fetch": lambda folder: config(folder, architecture_options={"pretrained_path": "x"}),
    "an unknown option": lambda folder: config(folder, architecture_options={"colour": 3}),
    "a huge network": lambda folder: config(folder, architecture_options={"width": 100_000}),
    "an unknown architecture": lambda folder: config(folder, architecture="resnet51"),
    "a module": lambda folder: config(folder, architecture="os.system"),
    "an own class": lambda folder: config(folder, own_class="os.system"),
    "classes as words": lambda folder: config(folder, num_classes="ten"),
    "too few names": lambda folder: config(folder, class_names=["a"]),
    "other ids": lambda folder: config(folder, wordnet_ids=["n1"] * 10),
    "a colour": lambda folder: config(folder, preprocessing={"mean": "blue"}),
    "a size": lambda folder: config(folder, preprocessing={"size": [10**6, 10**6]}),
    "other weights": lambda folder: safetensors.torch.save_file({"a": torch.ones(2)}, folder / "model.safetensors"),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "out"
    main(["export", "--network=small_resnet:random", f"--out={folder}"])
    return folder


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_folder_that_is_no_export_is_one_sentence(spoil, exported, tmp_path):
    shutil.copytree(exported, tmp_path / "out")
    spoil(tmp_path / "out")
    with pytest.raises(InputError) as refusal:
        load_network(str(tmp_path / "out"))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--network=small_resnet:random", "--out=."], "holds files"),
        (["--network=small_resnet", "--out=new"], "needs weights"),
        (["--network=small_resnet:random", "--out=new", "--reliance=other.json"], "other.json"),
        (["--network=small_resnet:random", "--out=new", "--reliance=two.json"], "has a, b"),
        (["--network=small_resnet:random"], "neither --out nor --onnx"),
        (["--network=small_resnet:random", "--onnx=net.onnx"], "give --size 224"),
        (["--network=small_resnet:random", "--onnx=net.onnx", "--size=0"], "size of a preprocessing"),
        (["--network=small_resnet:random", "--onnx=net.onnx", "--size=32", "--method=black"], "got 'black'"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence_and_leaves_nothing(options, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("other.json").write_text("[]")
    Path("two.json").write_text(json.dumps({"format": 3, "networks": ["a", "b"], "rows": []}))
    assert named in sentence_of(["export", *options], capsys)
    assert {path.name for path in tmp_path.iterdir()} == {"other.json", "two.json"}


@pytest.fixture(scope="module")
def trained_on_48(tmp_path_factory):
    """Of a network that was trained, for a step, on pictures of 48 pixels."""
    return write_checkpoint(tmp_path_factory.mktemp("trained") / "last.ckpt")


@pytest.mark.parametrize("exported", [False, True])
def test_size_and_crop_of_the_training_travel_with_the_checkpoint_and_its_export(exported, trained_on_48, tmp_path):
    if exported:
        main(["export", f"--network={trained_on_48}", f"--out={tmp_path / 'exported'}"])
    network = load_network(str(tmp_path / "exported") if exported else trained_on_48)
    assert (network.preprocessing.size, network.preprocessing.crop) == ((48, 48), Cues.crop_fraction)
    images = torch.rand(2, 3, 96, 96)
    shown = Preprocessing(size=(48, 48), crop=Cues.crop_fraction).resize(images)
    plain = network.configured(preprocessing=Preprocessing(network.preprocessing.mean, network.preprocessing.std))
    torch.testing.assert_close(network(images), plain(shown))
    view, hole = torch.ones(2, 1, 96, 96, dtype=torch.bool), torch.zeros(2, dtype=torch.int64)
    view[:, :, 30:60, 30:60] = False
    for method in ("black", "layer_masking"):
        assert network.predictor(method)(images, view, hole).shape == (2, 8)


def test_a_line_says_where_pictures_have_another_size_than_those_of_the_training(trained_on_48, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(networks, "rank_zero_info", said.append)
    same, large = (Cues(**{**TINY_DATA, "image_size": side}) for side in (48, 96))
    assert load_for(trained_on_48, same, "32").preprocessing.crop == 1.0  # the data's pictures are cut already
    assert said == []
    load_for(trained_on_48, large, "32")
    load_for(trained_on_48, None, "32", image_size=224)
    load_for(trained_on_48, large, "32", preprocess={"size": 96})
    assert said == [
        f"{trained_on_48}: pictures of {side} pixels are shown at 48 x 48, as in its training" for side in (96, 224)
    ]


def printed(arguments, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    main(arguments)
    return capsys.readouterr().out
