"""Weights and checkpoints from files: what is read, what is refused, and that nothing in a file is executed."""

import copy
import os
from collections import OrderedDict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import safetensors.torch
import torch
from torch import nn

from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.lm_modules.networks.weights import check_options, load_weights, read_checkpoint, read_state_dict
from maskrobust.lm_modules.reliance.arrays import read_arrays
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.fit.checkpoints import AtomicCheckpointIO
from tests.conftest import refused
from tests.lm_modules.masking.networks import randomise, seeded

PREFIXES = ["", "network.", "_orig_mod.module.model."]


def draw(num_classes=4, seed=0):
    return seeded(lambda: randomise(SmallResNet(num_classes, width=16), seed), seed)


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("kind", ["safetensors", "state dict", "checkpoint"])
def test_every_kind_of_file_loads_whatever_wrapped_the_network(tmp_path, kind, prefix):
    source, target = draw(seed=1), draw()
    state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    path = saved(tmp_path, kind, {"state_dict": state, "epoch": 3, "lr": [0.1]} if kind == "checkpoint" else state)
    assert_equal(read_state_dict(path), state)
    load_weights(target, str(path))
    assert_equal(target.state_dict(), source.state_dict())


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["network", "model", "module"])
def test_a_prefix_that_the_network_has_itself_stays(tmp_path, name, prefix):
    source, target = nn.Sequential(OrderedDict({name: draw(seed=1)})), nn.Sequential(OrderedDict({name: draw()}))
    torch.save({prefix + key: tensor for key, tensor in source.state_dict().items()}, tmp_path / "weights.pt")
    load_weights(target, tmp_path / "weights.pt")
    assert_equal(target.state_dict(), source.state_dict())


def test_a_new_head_starts_at_zero_and_the_rest_is_taken(tmp_path):
    source, target = draw(9, seed=1), draw(4)
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    load_weights(target, tmp_path / "weights.pt", new_head=True)
    assert not target.fc.weight.any() and not target.fc.bias.any()
    assert torch.equal(target.conv1.weight, source.conv1.weight)
    assert torch.equal(target.bn1.running_mean, source.bn1.running_mean)


def saved(folder, kind, state):
    path = folder / ("weights.safetensors" if kind == "safetensors" else "weights.pt")
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return path


def test_weights_of_another_precision_and_counts_of_another_type_load(tmp_path):
    source = draw(seed=1)
    source.bn1.num_batches_tracked += 7
    state = source.state_dict()
    for dtype in (torch.bfloat16, torch.float64):
        changed = {name: tensor.to(dtype) for name, tensor in state.items()}  # as averages of state dicts have them
        target = draw()
        load_weights(target, saved(tmp_path, "safetensors", changed))
        assert_equal(target.state_dict(), {name: tensor.to(state[name].dtype) for name, tensor in changed.items()})
        assert target.bn1.num_batches_tracked == 7


@pytest.mark.parametrize("kind", ["safetensors", "state dict"])
def test_weights_that_are_nan_in_places_are_refused_by_name_and_infinite_buffers_are_not(kind, tmp_path):
    state, target = draw(seed=1).state_dict(), draw()
    state["bn1.running_mean"][0] = torch.inf
    load_weights(target, saved(tmp_path, kind, state))
    assert_equal(target.state_dict(), state)
    state["fc.weight"][1, 2] = torch.nan
    with refused(InputError, "'fc.weight'", "NaN", "diverged"):
        load_weights(target, saved(tmp_path, kind, state))


@pytest.mark.parametrize("value", [torch.zeros(16, dtype=torch.int32), torch.full((16,), torch.nan)])
def test_a_checkpoint_of_fit_is_held_to_the_same(value, tmp_path):
    classifier, path = copy.deepcopy(smallest()), tmp_path / "last.ckpt"
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", barebones=True)
    trainer.strategy.connect(classifier)
    trainer.save_checkpoint(path, weights_only=True)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"]["network.bn1.bias"] = value
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match=r"'network\.bn1\.bias'"):
        MaskRobustClassifier.from_checkpoint(str(path))
    with pytest.raises(InputError, match=r"'network\.bn1\.bias'"):
        trainer.validate(classifier, [], ckpt_path=path, weights_only=True)


def renamed(state, old, new):
    return {name.replace(old, new): tensor for name, tensor in state.items()}


def without(state, name):
    return {key: tensor for key, tensor in state.items() if key != name}


MISFITS = [
    # what is wrong with a state dict, new_head, what the message names
    (lambda _: draw(7).state_dict(), False, ["fc.weight", "[7, 64]", "[4, 64]", "num_classes", "new_head"]),
    (lambda state: renamed(state, "layer1", "stage1"), True, ['Missing key(s) in state_dict: "layer1.0.conv1.weight"']),
    (lambda state: {**state, "more": torch.zeros(1)}, False, ['SmallResNet: Unexpected key(s) in state_dict: "more"']),
    (lambda state: without(state, "fc.bias"), False, ['"fc.bias"']),
    (lambda _: {}, False, ['"conv1.weight"']),
]


@pytest.mark.parametrize(("spoil", "new_head", "named"), MISFITS)
def test_weights_that_do_not_fit_are_refused(tmp_path, spoil, new_head, named):
    torch.save(dict(spoil(draw(seed=1).state_dict())), tmp_path / "weights.pt")
    with refused(ValueError, *named, match="weights"):
        load_weights(draw(), tmp_path / "weights.pt", new_head=new_head)


@pytest.mark.parametrize("content", [[torch.zeros(1)], torch.zeros(3), {"a": 1}, {"state_dict": {"a": "b"}}, "text"])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "weights.pt")
    with refused(ValueError, "weights.pt", match="must hold"):
        read_state_dict(tmp_path / "weights.pt")


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("read", [read_state_dict, read_checkpoint, lambda path: load_weights(draw(), path)])
def test_nothing_in_a_file_is_executed(tmp_path, zipped, read):
    marker, path = tmp_path / "executed", tmp_path / "weights.pt"
    state = OrderedDict(draw().state_dict(), extra=Malicious(marker))
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=zipped)
    with refused(ValueError, str(path), match="run code"):
        read(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("read", [read_state_dict, read_checkpoint, lambda path: load_weights(draw(), path)])
@pytest.mark.parametrize("name", ["missing.pt", "missing.safetensors", "."])
def test_a_missing_file_is_named(tmp_path, read, name):
    with refused(FileNotFoundError, str(tmp_path / name)):
        read(tmp_path / name)


def saved_at(path, content):
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(2).to_sparse(), torch.empty(2, 2, device="meta"), "text", None,
        *(torch.eye(2).to(dtype) for dtype in (torch.complex64, torch.int8, torch.bool)),
    ],
)  # fmt: skip
def test_weights_that_are_no_plain_tensors_of_floats_are_refused_and_nothing_is_loaded(tmp_path, tensor):
    network = nn.Linear(2, 2)
    before = copy.deepcopy(network.state_dict())
    torch.save({"weight": tensor, "bias": torch.zeros(2)}, tmp_path / "odd.pt")
    with refused(ValueError, match=r"odd.pt'"):
        load_weights(network, tmp_path / "odd.pt")
    assert_equal(network.state_dict(), before)


@pytest.mark.parametrize("content", [(2**40).to_bytes(8, "little") + b"{}", b""], ids=["header of a terabyte", "empty"])
def test_a_damaged_safetensors_file_is_one_sentence(content, tmp_path):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a readable safetensors file"):
        read_state_dict(path)


@cache
def smallest():
    """A classifier with the smallest network."""
    return MaskRobustClassifier(num_classes=4)


def arguments(**changes):
    """What its checkpoint says of its model."""
    return {**smallest().hparams, **changes}


FETCHING = ["pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "weights"]


@pytest.mark.parametrize("option", FETCHING)
def test_a_checkpoint_cannot_name_a_further_file_to_load(tmp_path, option):
    further = saved_at(tmp_path / "further.pth", {})
    content = arguments(architecture="timm/resnet10t", architecture_options={option: str(further)})
    torch.save({"state_dict": {}, "hyper_parameters": content}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match=f"asks for the option '{option}' of its architecture"):
        MaskRobustClassifier.from_checkpoint(str(tmp_path / "evil.ckpt"))
    check_options({"width": 16}, "fine.ckpt")
    check_options(None, "fine.ckpt")


BUILDING = [
    ({"num_classes": 2**40}, "arguments or weights that no network takes"),
    ({"architecture_options": {"width": 32}}, "arguments or weights that no network takes"),
    ({"mean": "abc"}, "mean|takes"),
    ({"learning_rate": torch.ones(2)}, "takes|learning_rate"),
    ({"architecture": 7}, "architecture given by name"),
]


def written(path, **changes):
    """A checkpoint whose arguments are changed."""
    torch.save({"state_dict": smallest().state_dict(), "hyper_parameters": arguments(**changes)}, path)
    return str(path)


@pytest.mark.parametrize("more", [{}, {"mask_ramp": 0.5, "worst_of": 2, "objective": "abstention"}], ids=str)
def test_arguments_in_a_checkpoint_build_the_network_of_its_weights_whatever_version_wrote_it(tmp_path, more):
    path = written(tmp_path / "fine.ckpt", **more)
    assert MaskRobustClassifier.from_checkpoint(path).hparams["num_classes"] == 4


@pytest.mark.parametrize(("changes", "message"), BUILDING, ids=str)
def test_arguments_in_a_checkpoint_build_nothing_but_a_network_of_its_weights(tmp_path, changes, message):
    path = written(tmp_path / "odd.ckpt", **changes)
    with refused(ValueError, match=message):
        MaskRobustClassifier.from_checkpoint(path)


def test_paths_outside_a_checkpoints_folder_are_forgotten(tmp_path):
    inside, outside = str(tmp_path / "best.ckpt"), "/etc/passwd"
    known = {
        "best_model_path": outside,
        "last_model_path": inside,
        "best_k_models": {inside: 1.0, "s3://b/x": 2.0, "a\0b": 3.0},
    }
    torch.save({"callbacks": {"ModelCheckpoint": known, "Other": 7}}, tmp_path / "last.ckpt")
    states = AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")["callbacks"]
    assert states["ModelCheckpoint"] == {
        "best_model_path": "",
        "last_model_path": inside,
        "best_k_models": {inside: 1.0},
    }


def test_an_archive_of_arrays_with_a_pickle_in_it_is_refused_and_runs_nothing(tmp_path):
    path, marker = tmp_path / "outcomes.npz", tmp_path / "executed"
    np.savez(path, ids=np.arange(3))
    assert read_arrays(path, ["ids"])["ids"].tolist() == [0, 1, 2]
    np.savez(path, ids=np.array([Malicious(marker)], dtype=object))
    with pytest.raises(ValueError, match=r"must be a readable npz archive, but reading it failed \(\w+\)"):
        read_arrays(path, ["ids"])
    assert not marker.exists()
