"""`maskrobust export`, and networks by name as commands ask them."""

import json

import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from maskrobust import Batch
from maskrobust.lm_modules import loading
from maskrobust.lm_modules.loading import load_network
from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import Origin, TrainedNetwork
from maskrobust.train import networks
from maskrobust.train.cli import main
from maskrobust.train.data import Cues
from maskrobust.train.networks import load_for
from tests.lm_modules.masking.networks import randomise
from tests.train.test_cli import sentence_of
from tests.train.tiny import TINY_DATA, write_checkpoint


def test_an_onnx_file_takes_pixels_and_answers_as_the_network_was_trained(tmp_path, monkeypatch, capsys):
    """Of one convolution: the exporter takes seconds for each."""
    origin = Origin("tiny", layer_masking={"merge": "union", "padding": "mirror"})
    layers = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    tiny = randomise(nn.Sequential(*layers, nn.Linear(8, 8)))
    names = ["disc", "a, b", *"cdefgh"]
    preprocessing = Preprocessing(size=(48, 40), crop=0.9)
    network = TrainedNetwork("net", tiny.eval(), preprocessing, 8, class_names=names, origin=origin)
    monkeypatch.setattr(loading, "load_network", {"small_resnet:random": network}.__getitem__)
    main(["export", "--network=small_resnet:random", f"--onnx={tmp_path / 'a' / 'net.onnx'}"])
    height, width = network.preprocessing.size or (0, 0)
    told, following = capsys.readouterr().out.splitlines()
    assert "layer_masking_mirror with images (B, 3, H, W)" in told
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["net.onnx"]
    picture = torch.rand(5, 3, height, width, generator=torch.Generator().manual_seed(0))
    visible = torch.ones(5, 1, height, width, dtype=torch.bool)
    visible[1:, :, 10:30, 12:20] = False
    with torch.no_grad():
        expected = network.predictor("layer_masking_mirror")(picture, visible, torch.arange(5))
    session = onnxruntime.InferenceSession(tmp_path / "a" / "net.onnx")
    (found,) = session.run(["logits"], {"images": picture.numpy(), "visible": visible.numpy()})
    assert torch.allclose(torch.from_numpy(found), expected, atol=1e-4)
    shown = {"images": picture.numpy(), "visible": visible.numpy(), "onnxruntime": onnxruntime}
    (again,) = eval(following.removeprefix("next: "), shown)  # what it says to type next
    assert (again == found).all()
    shapes = [each.shape for each in (*session.get_inputs(), *session.get_outputs())]
    free = ["height", "width"]
    assert shapes == [["batch", 3, *free], ["batch", 1, *free], ["batch", 8]]
    smaller = picture[:, :, 3:, :37], visible[:, :, 3:, :37]  # which the export has not seen
    with torch.no_grad():
        expected = network.configured(preprocessing=Preprocessing()).predictor("layer_masking_mirror")(
            *smaller, torch.arange(5)
        )
    (found,) = session.run(
        ["logits"], dict(zip(("images", "visible"), (each.numpy() for each in smaller), strict=True))
    )
    assert torch.allclose(torch.from_numpy(found), expected, atol=1e-4)
    about = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    assert (about.pop("method"), about.pop("classes")) == ("layer_masking_mirror", names)
    said = Preprocessing().with_changes(about)  # enough to show it a picture of another size as the network sees it
    large = torch.rand(5, 3, 90, 70, generator=torch.Generator().manual_seed(1))
    (found,) = session.run(["logits"], {"images": said.resize(large).numpy(), "visible": (visible | True).numpy()})
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(found), network(large), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--network=small_resnet", "--onnx=net.onnx"], "needs weights"),
        (["--network=small_resnet:random"], "onnx"),
        (["--network=resnet18:no", "--onnx=net.txt"], "must name a file that ends in .onnx, got 'net.txt'"),
        (["--network=small_resnet:random", "--onnx=net.onnx"], "give --size 224"),
        (["--network=small_resnet:random", "--onnx=net.onnx", "--size=0"], "size of a preprocessing"),
        (["--network=small_resnet:random", "--onnx=net.onnx", "--size=32", "--method=black"], "got 'black'"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence_and_leaves_nothing(options, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert named in sentence_of(["export", *options], capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def trained_on_48(tmp_path_factory):
    """Of a network that was trained, for a step, on pictures of 48 pixels."""
    return write_checkpoint(tmp_path_factory.mktemp("trained") / "last.ckpt")


@pytest.mark.parametrize("side", [48, 96])
def test_pictures_of_a_data_module_are_not_cropped_again_whatever_their_size(trained_on_48, side):
    data = Cues(**{**TINY_DATA, "image_size": side})
    batch = Batch.cat(list(data.test_dataloader())).to("cpu")
    shown = F.interpolate(batch.images, 48, mode="bilinear", antialias=True)
    everything = torch.ones(len(shown), 1, side, side, dtype=torch.bool)
    for network in (load_network(trained_on_48), load_for(trained_on_48, data, "32")):
        assert (network.preprocessing.size, network.preprocessing.crop) == ((48, 48), data.crop_fraction)
        looks = network.preprocessing
        mean, std = (torch.tensor(each)[:, None, None] for each in (looks.mean, looks.std))
        with torch.no_grad():
            expected = network.network((shown - mean) / std)
            torch.testing.assert_close(network(batch.images), expected, rtol=1e-4, atol=1e-5)
            for method in ("black", "layer_masking"):
                found = network.predictor(method)(batch.images, everything, batch.ids)
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_line_says_where_pictures_have_another_size_than_those_of_the_training(trained_on_48, monkeypatch):
    said = []
    monkeypatch.setattr(networks, "rank_zero_info", said.append)
    same, large = (Cues(**{**TINY_DATA, "image_size": side}) for side in (48, 96))
    load_for(trained_on_48, same, "32")
    assert said == []
    load_for(trained_on_48, large, "32")
    load_for(trained_on_48, None, "32", image_size=224)
    load_for(trained_on_48, large, "32", preprocess={"size": 96})
    assert said == [
        f"{trained_on_48}: pictures of {side} pixels are shown at 48 x 48, as in its training" for side in (96, 224)
    ]


def test_what_is_assumed_of_a_files_colours_is_said_with_the_option_that_changes_it(
    tmp_path, trained_on_48, monkeypatch
):
    said = []
    monkeypatch.setattr(networks, "rank_zero_info", said.append)
    torch.save(SmallResNet(10).state_dict(), tmp_path / "weights.pt")
    name = f"small_resnet:{tmp_path / 'weights.pt'}"
    load_for(name, None, "32")
    assert said == [
        f"{name}: the file says no mean and standard deviation, so (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225) are "
        "assumed; --preprocess '{mean: [...], std: [...]}' changes them"
    ]
    load_for(name, None, "32", preprocess={"mean": [0.5] * 3, "std": [0.2] * 3})
    for known in (trained_on_48, "small_resnet:random"):
        load_for(known, None, "32")
    assert len(said) == 1
