"""Networks by name, through the code of torchvision, timm and huggingface_hub itself."""

import json

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from timm.data import ImageNetInfo, create_transform, resolve_model_data_config
from torch import nn

from maskrobust.errors import InputError
from maskrobust.lm_modules.loading import load_network
from maskrobust.lm_modules.masking.visible_map import MaskingOptions
from maskrobust.lm_modules.networks.architectures import SmallResNet, build_network
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from tests.conftest import refused
from tests.trainers import quiet_trainer

COMMIT = "0" * 40
SMALL_TORCHVISION, ITS_FILE = "shufflenet_v2_x0_5", "shufflenetv2_x0.5-f707e7126e.pth"
OWN = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6))


class Needy(nn.Identity):
    def __init__(self, width):
        super().__init__()


def number():
    return 3


def headless():
    return nn.Conv2d(3, 4, 3)
"""


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    """An empty cache of torch.hub's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "torch/hub/checkpoints").mkdir(parents=True)
    return tmp_path / "torch/hub/checkpoints"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Puts a network into an otherwise empty cache of the hub's, which is offline; by its repository."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def put(repository, name="test_resnet", num_classes=1000, **config):
        folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs/main").write_text(COMMIT)
        snapshot = folder / "snapshots" / COMMIT
        snapshot.mkdir(parents=True)
        network = timm.create_model(name, num_classes=num_classes).eval()
        safetensors.torch.save_file(network.state_dict(), snapshot / "model.safetensors")
        about = {"architecture": name, "num_classes": num_classes, **config}
        (snapshot / "config.json").write_text(json.dumps(about))
        return network

    return put


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module of a user's own, by its name."""
    name = "own_networks_of_test_loading"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def images(side=64):
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))


def same(network, other):
    found, expected = network.state_dict(), other.state_dict()
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def test_torchvisions_weights_come_with_their_preprocessing_and_classes(torch_home):
    expected = torchvision.models.get_model(SMALL_TORCHVISION)
    torch.save(expected.state_dict(), torch_home / ITS_FILE)
    found = load_network(f"{SMALL_TORCHVISION}:IMAGENET1K_V1")
    assert same(found.network, expected) and not found.training and found.num_classes == 1000
    weights = torchvision.models.get_model_weights(SMALL_TORCHVISION)["IMAGENET1K_V1"]
    assert found.class_names == tuple(weights.meta["categories"])
    assert found.wordnet_ids == tuple(ImageNetInfo().label_names())
    transforms = weights.transforms()
    assert found.preprocessing == Preprocessing(
        tuple(transforms.mean), tuple(transforms.std), (224, 224), 224 / 256, "bilinear"
    )


def test_timms_weights_come_with_their_preprocessing_and_classes(hub):
    expected = hub("timm/test_resnet.r160_in1k")
    for name in ("timm/test_resnet.r160_in1k:pretrained", "timm/test_resnet:pretrained"):
        found = load_network(name)
        assert same(found.network, expected) and found.name == name
        assert found.preprocessing == Preprocessing((0.5,) * 3, (0.5,) * 3, (160, 160), 0.95, "bilinear")
        assert found.wordnet_ids == tuple(ImageNetInfo().label_names())
        assert found.class_names is not None and found.class_names[1] == "goldfish, Carassius auratus"


def test_a_picture_at_timms_resolution_is_shown_as_timm_shows_it():
    import PIL.Image

    network = timm.create_model("test_efficientnet")
    found = load_network("timm/test_efficientnet:random").preprocessing
    pixels = (images(200)[0].permute(1, 2, 0) * 255).to(torch.uint8)
    expected = create_transform(**resolve_model_data_config(network))(PIL.Image.fromarray(pixels.numpy()))
    shown = found.resize(found.cut(pixels.permute(2, 0, 1)[None].float() / 255))
    normalised = (shown[0] - torch.tensor(found.mean)[:, None, None]) / torch.tensor(found.std)[:, None, None]
    assert normalised.shape == expected.shape and (normalised - expected).abs().mean() < 0.25


def test_a_network_of_the_hub_says_its_classes_itself(hub):
    expected = hub(
        "me/pets", num_classes=3, label_names=["cat", "dog", "eel"],
        pretrained_cfg={"input_size": [3, 96, 96], "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "crop_pct": 0.8,
                        "interpolation": "bicubic", "first_conv": "conv1.0", "classifier": "fc"},
    )  # fmt: skip
    found = load_network("hf-hub:me/pets")
    assert same(found.network, expected) and found.class_names == ("cat", "dog", "eel") and found.wordnet_ids is None
    assert found.preprocessing == Preprocessing((0.1, 0.2, 0.3), (1, 1, 1), (96, 96), 0.8, "bicubic")


@pytest.mark.parametrize(
    "config",
    [
        {"label_names": ["cat"]}, {"label_names": ["cat", "dog", 3]}, {"label_names": ["cat", "dog", "x" * 501]},
        {"model_args": {"pretrained_path": "/etc/passwd"}}, {"pretrained_cfg": {"input_size": [3, 96, 10**6]}},
        {"pretrained_cfg": {"mean": [5, 5, 5]}}, {"pretrained_cfg": {"input_size": [1, 96, 96]}},
    ],
)  # fmt: skip
def test_a_configuration_of_the_hubs_that_cannot_be_is_one_sentence(hub, config):
    hub("me/pets", num_classes=3, **config)
    with refused(InputError):
        load_network("hf-hub:me/pets")


def test_what_cannot_be_fetched_is_one_sentence(hub, torch_home, monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    by_file = {
        "timm/test_resnet:pretrained": "timm/test_resnet:FILE",
        f"{SMALL_TORCHVISION}:IMAGENET1K_V1": f"{SMALL_TORCHVISION}:FILE",
        "hf-hub:me/none": "my_module.MyNet:FILE",
        "hf-hub:a/b/c": "my_module.MyNet:FILE",
    }
    for name, remedy in by_file.items():
        with pytest.raises(InputError, match=f"^'{name}' cannot be fetched.*'{remedy}'[^\n]*$"):
            load_network(name)


@pytest.mark.parametrize(
    ("architecture", "make"),
    [
        ("small_resnet", lambda: SmallResNet(7)),
        ("resnet18", lambda: torchvision.models.resnet18(num_classes=7)),
        ("timm/test_resnet", lambda: timm.create_model("test_resnet", num_classes=7)),
    ],
)
def test_weights_from_a_file_say_how_many_outputs_there_are(architecture, make, tmp_path):
    path = tmp_path / "a:b.safetensors"
    safetensors.torch.save_file((given := make()).state_dict(), path)
    found = load_network(f"{architecture}:{path}")
    assert found.num_classes == 7 and found.class_names is None and found.wordnet_ids is None
    assert same(found.network, given)


def test_a_checkpoint_of_fit_knows_its_colours(tmp_path):
    classifier = MaskRobustClassifier(num_classes=4, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    trainer = quiet_trainer()
    trainer.strategy.connect(classifier)
    path = tmp_path / "with:colon.ckpt"
    trainer.save_checkpoint(path)
    found = load_network(str(path))
    assert found.preprocessing == Preprocessing((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)) and found.num_classes == 4
    torch.testing.assert_close(found(images()), classifier.eval()(images()))


def test_a_class_of_ones_own_is_made_where_the_user_names_it(own_module, tmp_path):
    alone = load_network(f"{own_module}.Net")
    torch.save(alone.network.state_dict(), tmp_path / "own.pt")
    found = load_network(f"{own_module}.Net:{tmp_path / 'own.pt'}", {"size": 20, "crop": 0.5})
    assert same(found.network, alone.network) and found.num_classes == 6
    assert found.preprocessing == Preprocessing(size=(20, 20), crop=0.5)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("resnet50", "resnet50:IMAGENET1K_V1, resnet50:IMAGENET1K_V2, resnet50:FILE"),
        ("timm/test_resnet", "timm/test_resnet.r160_in1k:pretrained"),
        ("timm/resnet50.none:pretrained", "resnet50"),
        ("resnet51:IMAGENET1K_V1", "resnet50"),
        ("small_resnet", "random"),
        ("nowhere.ckpt", "does not exist"),
        (".", "is a folder, which may hold several networks; name a file in it."),
        ("resnet18:nowhere.pt", "does not exist"),
        ("googlenet:nowhere.pt", "transforms its input"),
        ("no_such_module.Net", "no_such_module"),
        ("{own}.Missing", "has no 'Missing'"),
        ("{own}.Needy", "without arguments"),
        ("{own}.number", "nn.Module"),
        ("{own}.headless", "num_classes"),
    ],
)
def test_a_name_that_says_no_network_is_one_sentence(name, named, own_module):
    with refused(InputError, named):
        load_network(name.format(own=own_module))


def test_a_training_starts_from_the_names_that_are_measured(torch_home, hub):
    theirs = torchvision.models.get_model(SMALL_TORCHVISION)
    torch.save(theirs.state_dict(), torch_home / ITS_FILE)
    ours = MaskRobustClassifier(SMALL_TORCHVISION, 3, weights="IMAGENET1K_V1", new_head=True).network.network
    assert torch.equal(ours.conv1[0].weight, theirs.conv1[0].weight) and ours.fc.out_features == 3
    theirs = hub("timm/test_resnet.r160_in1k")
    ours = MaskRobustClassifier("timm/test_resnet.r160_in1k", 3, weights="pretrained", new_head=True).network.network
    assert torch.equal(ours.conv1[0].weight, theirs.conv1[0].weight) and ours.fc.out_features == 3
    whole = MaskRobustClassifier("timm/test_resnet", 1000, weights="pretrained").network.network
    assert same(whole, theirs)


@pytest.mark.parametrize(
    ("architecture", "weights", "named"),
    [
        ("resnet18", "IMAGENET1K_V9", "IMAGENET1K_V1 or a file"),
        ("timm/test_resnet", "IMAGENET1K_V1", "pretrained or a file"),
        ("small_resnet", "pretrained", "must be a file"),
        ("resnet18", "nowhere.pt", "does not exist"),
    ],
)
def test_a_training_from_weights_that_there_are_none_of_is_one_sentence(architecture, weights, named):
    with refused(InputError, named):
        MaskRobustClassifier(architecture, 10, weights=weights)


def test_a_checkpoint_of_an_own_class_is_read_where_the_user_names_the_class(own_module, tmp_path):
    alone = load_network(f"{own_module}.Net")
    content = {
        "state_dict": {f"network.{name}": tensor for name, tensor in alone.network.state_dict().items()},
        "hyper_parameters": {
            "architecture": {"class_path": f"{own_module}.Net"},
            "mean": (0.1, 0.2, 0.3),
            "std": [1, 1, 1],
            "layer_masking": {"merge": "union", "padding": "mirror"},
        },
        "class_names": list("abcdef"),
    }
    torch.save(content, tmp_path / "own.ckpt")
    with pytest.raises(InputError, match="a file names it"):
        load_network(str(tmp_path / "own.ckpt"))
    found = load_network(f"{own_module}.Net:{tmp_path / 'own.ckpt'}")
    assert same(found.network, alone.network) and found.class_names == tuple("abcdef")
    assert found.preprocessing == Preprocessing((0.1, 0.2, 0.3), (1, 1, 1))
    assert found.network.options == MaskingOptions("union", padding="mirror")  # as it was trained
    assert found.origin.layer_masking == content["hyper_parameters"]["layer_masking"]


TRAININGS = [
    ({"masking": "layer_masking", "layer_masking": {"padding": "mirror"}}, "layer_masking_mirror"),
    ({"masking": "mixture", "fill": "mean"}, "layer_masking"),
    ({"masking": "fill", "fill": "blur"}, "blur"),
    ({"masking": "fill", "fill": {"mean": 1.0, "black": 2.0, "other_image": 3.0}}, "black"),
    ({"masking": "fill", "fill": "os.nothing"}, None),
    ({"masking": "fill", "fill": 3}, None),
    ({"masking": "none", "fill": "black"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("arguments", "method"), TRAININGS, ids=str)
def test_a_network_of_a_checkpoint_hides_as_it_was_trained_whatever_names_it(arguments, method, own_module, tmp_path):
    """A fill of nobody's is not looked for where a file says it."""
    of_own = load_network(f"{own_module}.Net").network.state_dict()
    torch.save({"state_dict": of_own, "hyper_parameters": arguments}, tmp_path / "own.ckpt")
    assert load_network(f"{own_module}.Net:{tmp_path / 'own.ckpt'}").own_method == method


@pytest.mark.parametrize(
    "changes",
    [
        {"class_names": list("abcde")}, {"class_names": 3}, {"class_names": ["x" * 501, *"bcdef"]},
        {"class_names": [*"abcde", ""]}, {"hyper_parameters": {"mean": "blue", "std": [1, 1, 1]}},
        {"hyper_parameters": {"layer_masking": {"merge": "sum"}}}, {"hyper_parameters": {"layer_masking": [3]}},
    ],
)  # fmt: skip
def test_what_a_checkpoint_says_that_cannot_be_is_one_sentence(changes, own_module, tmp_path):
    torch.save({"state_dict": load_network(f"{own_module}.Net").network.state_dict(), **changes}, tmp_path / "own.ckpt")
    with refused(InputError):
        load_network(f"{own_module}.Net:{tmp_path / 'own.ckpt'}")


@pytest.mark.parametrize(
    ("architecture", "num_classes", "options", "named"),
    [
        ("resnet5O", 10, None, ["'resnet5O' (did you mean resnet50?)", "timm/NAME"]),
        ("timm/resnet10", 10, None, ["'timm/resnet10'", "timm/resnet10t"]),
        ("small_resnet", 1, None, ["num_classes", "got 1"]),
        ("small_resnet", 10, {"depth": 3}, ["small_resnet", "depth"]),
        ("timm/resnet10t", 10, {"depthness": 3}, ["timm/resnet10t", "depthness"]),
    ],
)
def test_an_architecture_that_there_is_none_of_is_refused(architecture, num_classes, options, named):
    with refused(ValueError, *named, match=r"architecture|num_classes"):
        build_network(architecture, num_classes, options)


def test_the_small_resnet_has_three_stages_at_strides_two_four_and_eight():
    network = SmallResNet(4, width=16, blocks=2)
    sizes = {}
    for name in ("conv1", "layer1", "layer2", "layer3"):
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: sizes.update({name: tuple(output.shape[1:])})
        )
    assert network(torch.zeros(1, 3, 32, 48)).shape == (1, 4)
    assert sizes == {"conv1": (16, 16, 24), "layer1": (16, 16, 24), "layer2": (32, 8, 12), "layer3": (64, 4, 6)}
    assert [len(network.get_submodule(f"layer{i}")) for i in (1, 2, 3)] == [2, 2, 2]
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 1 + 12 + 2


def test_a_small_resnet_refuses_widths_at_which_torch_corrupts_memory():
    with pytest.raises(ValueError, match=r"^width must be at least 16, got 8; give a larger number\.$"):
        SmallResNet(4, width=8)
