"""The study of the page about ImageNet networks: its statistics, its questions, and the network that it rebuilds."""

import sys

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from scipy import stats
from torch import nn

from maskrobust import Batch, Preprocessing, SilhouetteBank
from maskrobust.lm_modules.masking.morphology import PADDINGS
from maskrobust.lm_modules.methods import WRAPPERS
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.estimates.crossed import crossed_mean
from maskrobust.lm_modules.reliance.holes.scenes import draw_shapes
from tests.lm_modules.masking.networks import build
from tests.pages.commands import script

SIDE, OBJECTS, CLASSES = 32, 6, 5


@pytest.fixture(scope="module")
def study():
    before = dict(PADDINGS), dict(WRAPPERS)
    module = script("holes_study")
    module.SIDE, module.PATCH, module.BATCH = SIDE, 8, 60
    yield module
    for registry, kept in zip((PADDINGS, WRAPPERS), before, strict=True):
        registry.clear()
        registry.update(kept)  # type: ignore[call-overload]


def make_data(study):
    """Two views of each of a few discs, and two scenes of each kind."""
    rng = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    radii = 6 + 0.1 * torch.arange(2 * OBJECTS) % OBJECTS
    masks = ((y - 16) ** 2 + (x - 16) ** 2 < radii[:, None, None] ** 2)[:, None]
    ids, objects = torch.arange(2 * OBJECTS), torch.arange(2 * OBJECTS) % OBJECTS
    labels = objects % CLASSES
    images = torch.randint(0, 256, (2 * OBJECTS, 3, SIDE, SIDE), dtype=torch.uint8, generator=rng)
    bank = SilhouetteBank(masks[:OBJECTS], labels[:OBJECTS], ids[:OBJECTS], ids[:OBJECTS])
    scenes = torch.rand(2 * len(study.KINDS), 3, SIDE, SIDE, generator=rng)
    batch = Batch(ids, images, masks, labels)
    return study.Data(
        batch, objects, batch, draw_shapes(bank, count=OBJECTS, seed=0), scenes, np.repeat(study.KINDS, 2)
    )


def test_a_run_that_stopped_resumes_and_its_tables_have_every_method_and_planned_test(study, tmp_path, monkeypatch):
    asked = []
    looks = Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3, size=None, crop=1.0)

    def read_network(name):
        trained = TrainedNetwork(name, build("small_resnet"), looks, CLASSES)
        return study.Network(trained, name.startswith("classes"))

    monkeypatch.setattr(study, "make_data", lambda: make_data(study))
    monkeypatch.setattr(study, "read_network", read_network)
    ask = study.ask_pull
    monkeypatch.setattr(study, "ask_pull", lambda *arguments: asked.append(1) or ask(*arguments))
    arguments = [str(tmp_path), "classes.safetensors", "features.onnx"]
    study.main([*arguments, f"--parts={2 * study.NEEDED}"])
    assert len(asked) == 6
    study.main(arguments)
    assert len(asked) == 24
    lines = (tmp_path / "holes.md").read_text(encoding="utf-8").splitlines()
    for title in study.METHODS.values():
        assert sum(line.startswith(f"| {title} |") for line in lines) == 2
    assert sum(line.startswith(("| half:", "| pull:")) for line in lines) == 2 * len(study.PLANNED)
    assert "| nan" not in "".join(lines)


class Pixels(nn.Module):
    """Features that are the pixels, or the same whatever is shown."""

    def __init__(self, sees):
        super().__init__()
        self.sees = sees

    def forward(self, images):
        return images.flatten(1) if self.sees else images.new_ones(len(images), 3 * SIDE**2)


@pytest.mark.parametrize("sees", [True, False])
def test_the_nearest_clean_picture_is_its_own_for_features_that_see_it(study, sees):
    looks = Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3, size=None, crop=1.0)
    trained = TrainedNetwork("pixels", Pixels(sees), looks, 3 * SIDE**2)
    right = study.ask_accuracy(study.Network(trained, False), "mean", make_data(study), 0.25)
    assert right.all() == right.any() == sees


def test_differences_have_the_p_of_students_t_and_that_of_their_interval(study):
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 40))
    found = study.over_objects(one - other)
    expected = stats.ttest_rel(one, other)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.half == pytest.approx((expected.confidence_interval().high - expected.confidence_interval().low) / 2)
    pairs = np.stack([np.arange(10), np.roll(np.arange(10), 1)], axis=1)
    kinds = np.repeat(["grass", "noise"], 4)
    for mean in (0.2, 1.0):
        values = mean + rng.normal(size=(10, 8))
        found = study.over_pairs(values, pairs, kinds)
        low, high = crossed_mean(values[None], pairs, kinds).interval(1 - found.p)[1:]
        assert min(abs(low), abs(high)) < 1e-3
    views = np.array([1.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(study.by_object(views, [7, 7, 3, 3]), [1.0, 0.5])


def test_holms_correction_is_that_of_its_paper(study):
    np.testing.assert_allclose(study.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_a_partial_convolution_divides_by_what_its_window_sees(study):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, 2, 1)
    visible = torch.rand(2, 1, 9, 9) < 0.3
    images = torch.randn(2, 3, 9, 9)
    ones = torch.ones(1, 1, 3, 3)
    seen, whole = (F.conv2d(each.float(), ones, None, 2, 1) for each in (visible, torch.ones_like(visible)))
    expected = (
        F.conv2d(images * visible, conv.weight, None, 2, 1) * whole / seen.clamp(min=1) + conv.bias[:, None, None]
    )
    expected = (expected * (seen > 0)).sum(dim=(2, 3)) / (seen > 0).sum(dim=(2, 3))
    partial = script("padding_variants").PartialConvolution
    script("padding_variants").register(lambda *_: None)
    found = partial(nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten()))(images, visible)
    torch.testing.assert_close(found, expected)


def test_the_network_that_is_rebuilt_computes_the_features_of_its_file(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    weights = {"a": (8, 3, 7, 7), "c": (8, 8, 3, 3), "d": (8, 8, 1, 1)}
    arrays = {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in weights.items()}
    arrays |= {f"{name}_bias": rng.normal(size=8).astype(np.float32) for name in weights}

    def node(kind, inputs, output, **attributes):
        return helper.make_node(kind, inputs.split(), [output], **attributes)

    nodes = [
        node("Transpose", "input", "x0", perm=[0, 3, 1, 2]),
        node("Conv", "x0 a a_bias", "x1", strides=[2, 2], pads=[3] * 4),
        node("Relu", "x1", "x2"),
        node("MaxPool", "x2", "x3", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
        node("Conv", "x3 c c_bias", "x4", strides=[2, 2], pads=[1] * 4),
        node("Conv", "x3 d d_bias", "x5", strides=[2, 2]),
        node("Add", "x4 x5", "x6"),
        node("AveragePool", "x6", "x7", kernel_shape=[28, 28]),
        node("Flatten", "x7", "outputs"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 224, 224, 3])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "network.onnx")
    monkeypatch.setattr(sys, "argv", ["thin_resnet", str(tmp_path / "network.onnx")])
    script("thin_resnet").main()
    difference, largest = (
        float(word) for word in capsys.readouterr().out.replace(",", "").split() if word[0].isdigit()
    )
    assert difference < 1e-5 * largest


def test_the_intervals_of_the_study_hold_the_mean_in_about_95_percent():
    simulation = script("interval_coverage")
    found = [simulation.coverage(sizes, skewed=False, trials=300) for sizes in simulation.SIZES.values()]
    assert min(found) > 0.92  # 95 % of 300, minus two and a half standard errors
