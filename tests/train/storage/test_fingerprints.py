"""Answers of one network are never those of another: what is kept is told apart by all that the answers follow from."""

import copy
import json
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskrobust.augment import FILLS
from maskrobust.lm_modules.masking import LayerMasking, MergeRule
from maskrobust.lm_modules.masking.masked import MaskingOptions
from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.lm_modules.networks.exported import CONFIG, write_export
from maskrobust.lm_modules.networks.loading import load_network
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import Origin, TrainedNetwork
from maskrobust.lm_modules.reliance.measurement import Measurement
from maskrobust.train.claim.arguments import parse_config
from maskrobust.train.cli import main
from maskrobust.train.data import Cues
from maskrobust.train.storage.fingerprints import network_fingerprint
from tests.train.claim.test_claim import write_claim
from tests.train.explain.test_explain import SHORT, photographs
from tests.train.test_cli import sentence_of
from tests.train.tiny import FEW_MEASURES, TINY_DATA

DATA = ["--data=Cues", *(f"--data.{name}={value}" for name, value in (TINY_DATA | {"batch_size": 4}).items())]
EVALUATE = ["evaluate", *DATA, *FEW_MEASURES, "--methods=[black, layer_masking]"]
EXPLAIN = ["explain", *SHORT, "--plan.explainers=[lime]", "--targets=[0]"]

Edit = tuple[str, dict[str, Any], str, str, Any]
"""An architecture, its options, and what is edited in the configuration of its export: section, option and value."""

EDITS: dict[str, Edit] = {
    "merge": ("small_resnet", {"width": 16, "blocks": 2}, "layer_masking", "merge", "union"),
    "detach_padding": ("small_resnet", {"width": 16}, "layer_masking", "detach_padding", False),
    "global_pool": ("timm/test_resnet", {}, "architecture_options", "global_pool", "max"),
    "output_stride": ("timm/test_resnet", {}, "architecture_options", "output_stride", 16),
}


def export(folder: Path, architecture: str, options: dict[str, Any]) -> Path:
    """A folder as `maskrobust export` writes it, with layer masking by its first rule."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    network = build_network(architecture, 8, options)
    origin = Origin(architecture, options, layer_masking={"merge": "intersection"})
    names = Cues(**TINY_DATA).class_names
    write_export(
        TrainedNetwork("a", network, Preprocessing(size=(64, 64)), 8, class_names=names, origin=origin), folder
    )
    return folder


def edit(folder: Path, section: str, option: str, value: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    config[section][option] = value
    (folder / CONFIG).write_text(json.dumps(config))


def stop_after(batches: int, command: list[str]) -> None:
    """Break an evaluation off once it has kept the answers to some batches."""
    ask, asked = Measurement.ask, []

    def limited(self: Measurement, batch: Any) -> Any:
        if len(asked) == batches:
            raise RuntimeError("stopped")
        asked.append(batch)
        return ask(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maskrobust.train.storage.store.SECONDS_A_CHUNK", 0.0)
        patch.setattr(Measurement, "ask", limited)
        with pytest.raises(RuntimeError, match="stopped"):
            main(command)


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_network_has_another_fingerprint_with_the_same_weights(name: str, tmp_path: Path) -> None:
    architecture, options, *edited = EDITS[name]
    folder = export(tmp_path / "network", architecture, options)
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    visible = torch.zeros(4, 1, 64, 64, dtype=torch.bool)
    visible[:, :, :49, :33] = True
    before = load_network(str(folder))
    edit(folder, *edited)
    after = load_network(str(folder))
    assert network_fingerprint(before) != network_fingerprint(after)
    assert all(torch.equal(each, after.state_dict()[key]) for key, each in before.state_dict().items())
    with torch.inference_mode():
        one, other = (each.predictor("layer_masking")(images, visible, torch.arange(4)) for each in (before, after))
    assert torch.equal(one, other) == (name == "detach_padding")  # which decides gradients alone


@pytest.mark.parametrize("command", ["evaluate", "explain"])
def test_networks_in_another_order_do_not_take_each_others_answers(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both keep answers by a network's place."""
    names = [str(export(tmp_path / "a", "small_resnet", {"width": 16}))]
    names.append(str(export(tmp_path / "b", "small_resnet", {"width": 20})))
    out = f"--out={tmp_path / 'out'}"
    first, second = (f"--network={json.dumps(each)}" for each in (names, names[::-1]))
    if command == "evaluate":
        stop_after(2, [*EVALUATE, first, out])
        kept = sorted((tmp_path / "out" / "partial").rglob("*"))
        assert "with another network; call it as it was called" in sentence_of([*EVALUATE, second, out], capsys)
        assert sorted((tmp_path / "out" / "partial").rglob("*")) == kept and len(kept) > 2
    else:
        others = [f"--images={photographs(tmp_path / 'images', 1)}", "--methods=[black]", out]
        main([*EXPLAIN, first, *others])
        assert "with another network" in sentence_of([*EXPLAIN, second, *others], capsys)


def test_an_evaluation_is_not_continued_with_another_fill_of_ones_own(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    request.addfinalizer(lambda: FILLS.pop("dark", None))
    module = tmp_path / "fill_of_test_fingerprints.py"
    module.write_text(FILL)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    network = export(tmp_path / "a", "small_resnet", {"width": 16})
    command = [*EVALUATE, f"--network={network}", f"--out={tmp_path / 'out'}", f"--methods=[{module.stem}.dark]"]
    stop_after(2, command)
    module.write_text(FILL.replace("0.1", "0.2"))
    assert "with another code of your own" in sentence_of(command, capsys)


def trained(network: nn.Module, **options: Any) -> TrainedNetwork:
    return TrainedNetwork("a", network, Preprocessing(), 8, **options)


def test_every_option_of_layer_masking_that_decides_answers_decides_the_fingerprint() -> None:
    network = build_network("small_resnet", 8, {"width": 16})
    others: dict[str, Any] = {"merge": "union", "detach_padding": False, "padding": "mirror"}
    assert others.keys() == {each.name for each in fields(MaskingOptions)} and others["merge"] in get_args(MergeRule)
    options = [{}, *({name: value} for name, value in others.items()), {"engine": "dense"}]
    found = {network_fingerprint(trained(LayerMasking(network, **each))) for each in options}
    assert len(found | {network_fingerprint(trained(network))}) == len(options) + 1


def test_how_a_network_is_asked_decides_its_fingerprint_and_its_name_does_not() -> None:
    network = trained(build_network("small_resnet", 8, {"width": 16}))
    before = network_fingerprint(network)
    bf16, compiled, renamed = (network.select_outputs(range(8)) for _ in range(3))
    same = network_fingerprint(renamed)
    bf16.precision, compiled.pass_size, renamed.name = "bf16", 4, "b"
    others = [network.select_outputs([1, 0]), network.with_preprocessing(Preprocessing(crop=0.5)), bf16, compiled]
    assert len({before, same, *map(network_fingerprint, others)}) == 6
    assert network_fingerprint(renamed) == same and network_fingerprint(network) == before
    network.predictor("layer_masking")(torch.rand(1, 3, 32, 32), torch.rand(1, 1, 32, 32) < 0.5, torch.arange(1))
    assert network_fingerprint(network) == before


class Options(nn.Module):
    """A network of the user's own that keeps the arguments of its constructor in many ways."""

    num_classes = 2

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)
        for name, value in arguments.items():
            setattr(self, name, value)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.mean(dim=(2, 3)))


@pytest.mark.parametrize(
    "values",
    [
        (1, 2), (1, True), (1.0, 1.5), ("a", "b"), (None, 0), ((1, 2), (1, 3)), ([1], [1, 1]), ({"a": 1}, {"a": 2}),
        ({1: 2}, {1: 3}), ({"a"}, {"b"}), (torch.ones(2), torch.zeros(2)), (torch.float32, torch.float64),
        (np.ones(2), np.zeros(2)), (np.float32(1), np.float32(2)), (torch.relu, torch.tanh), (nn.ReLU, nn.GELU),
        (Preprocessing(), Preprocessing(crop=0.5)), (slice(1), slice(2)),
    ],
)  # fmt: skip
def test_arguments_that_a_class_of_ones_own_keeps_decide_the_fingerprint(values: tuple[Any, Any]) -> None:
    torch.manual_seed(0)
    networks = [TrainedNetwork("a", Options(kept=each), Preprocessing(), 2) for each in (*values, values[0])]
    for each in networks[1:]:
        each.network.load_state_dict(networks[0].network.state_dict())
    first, other, again = map(network_fingerprint, networks)
    assert first == again != other
    assert network_fingerprint(copy.deepcopy(networks[0])) == first


def test_a_value_without_a_description_of_its_own_does_not_stand_in_the_way() -> None:
    network = TrainedNetwork("a", Options(kept=[object(), lambda: 1, torch.Generator()]), Preprocessing(), 2)
    assert network_fingerprint(network) == network_fingerprint(network)


FILL = """
import torch
from maskrobust import draw, fill


@fill("dark")
def fill_dark(images, visible):
    return draw(images, visible, torch.full_like(images, 0.1))
"""

SOURCE = """
from maskrobust.lm_modules.networks.architectures import SmallResNet


class Net(SmallResNet):
    def __init__(self):
        super().__init__(8, width=16)

    def forward(self, images):
        return super().forward(images)
"""


def test_the_file_of_a_class_of_ones_own_decides_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name = tmp_path / "network_of_test_fingerprints.py", "network_of_test_fingerprints.Net"
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    torch.save(build_network("small_resnet", 8, {"width": 16}).state_dict(), tmp_path / "weights.pt")
    found = []
    for source in (SOURCE, SOURCE.replace("forward(images)", "forward(-images)")):
        module.write_text(source)
        sys.modules.pop(module.stem, None)
        found.append(network_fingerprint(load_network(f"{name}:{tmp_path / 'weights.pt'}")))
    assert found[0] != found[1]


def test_the_manipulation_check_of_another_arm_is_told_apart(tmp_path: Path) -> None:
    path = write_claim(tmp_path / "claim.yaml")
    before = parse_config([f"--config={path}", f"--out={tmp_path / 'out'}"])
    models = copy.deepcopy(before.models)
    models["patches_mean"]["hidden_fraction"] = (0.2, 0.3)
    after = replace(before, models=models)
    one, other = (config.run_of("no_masks", 1) for config in (before, after))
    assert one.trained.settings == other.trained.settings and one.answered.settings != other.answered.settings
    one, other = (config.run_of("mcal", 1) for config in (before, after))  # which has no manipulation check
    assert one.answered.settings == other.answered.settings
