"""Checkpoints from strangers: bombs, and arguments that would make us load, fetch or build what they like."""

import pickle
import resource
import sys
import zipfile
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from maskrobust.lm_modules.networks.weights import check_options, load_weights, read_checkpoint, read_state_dict
from maskrobust.lm_modules.reliance.arrays import read_arrays
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.fit.checkpoints import AtomicCheckpointIO, check_size


def rewritten(path: Path, change: Callable[[bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """A checkpoint with its pickle changed."""
    with zipfile.ZipFile(path) as archive:
        parts = {each.filename: archive.read(each) for each in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, change(content) if name.endswith("data.pkl") else content)
    return path


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def of_size(numbers: bytes) -> Callable[[bytes], bytes]:
    """Four elements become as many as a little-endian number of five bytes says, in the storage and in the shape."""
    large = b"\x8a\x06" + numbers + b"\x00"
    return lambda content: content.replace(b"K\x04tq", large + b"tq").replace(b"K\x04\x85", large + b"\x85")


def huge_tensor(path: Path) -> Path:
    return rewritten(saved(path, {"w": torch.arange(4.0)}), of_size((2**39).to_bytes(5, "little")))


def deep(depth: int) -> bytes:
    return b"\x80\x02}X\x01\x00\x00\x00a" + b"]" * depth + b"a" * (depth - 1) + b"s."


def laughs(levels: int, width: int = 10) -> bytes:
    """Lists of ten times the list before: a few hundred bytes that unfold to 10^levels values."""
    content = b"\x80\x02}(K\x00]q\x00"
    for level in range(levels):
        content += bytes([ord("K"), level + 1]) + b"](" + bytes([ord("h"), level]) * width + b"eq" + bytes([level + 1])
    return content + b"u."


def bytearray_of(count: int) -> bytes:
    return b"\x80\x02}X\x01\x00\x00\x00acbuiltins\nbytearray\n" + b"J" + count.to_bytes(4, "little") + b"\x85Rs."


def small(path: Path) -> Path:
    return saved(path, {"w": torch.arange(4.0)})


BOMBS = {
    "a tensor of 2^39 elements": huge_tensor,
    "a compressed archive": lambda path: rewritten(
        small(path), lambda content: content + bytes(10**7), zipfile.ZIP_DEFLATED
    ),
    "nested": lambda path: rewritten(small(path), lambda _: deep(100_000)),
    "unfolding": lambda path: rewritten(small(path), lambda _: laughs(12)),
    "a bytearray of 2 GiB": lambda path: rewritten(small(path), lambda _: bytearray_of(2**31 - 1)),
    "too many values": lambda path: rewritten(small(path), lambda _: b"\x80\x02" + b"]" * 1_100_000 + b"."),
}


@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_one_sentence(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "bomb.pt")
    assert path.stat().st_size < 10**7
    with pytest.raises(ValueError, match=r"'.*bomb.pt' is not (read as a|a readable) checkpoint") as refused:
        read_state_dict(path)
    assert "\n" not in str(refused.value) and str(refused.value).endswith(".")


def old_format(content: bytes) -> bytes:
    start = [pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join(start) + content + pickle.dumps([], 2)


@pytest.mark.parametrize(
    "content", [deep(100_000), laughs(12), bytearray_of(2**31 - 1)], ids=["deep", "laughs", "zeros"]
)
def test_a_bomb_in_the_old_format_is_one_sentence_too(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "old.pt"
    path.write_bytes(old_format(b"\x80\x02}X\x01\x00\x00\x00aK\x01s."))
    assert read_checkpoint(path) == {"a": 1}
    path.write_bytes(old_format(content))
    with pytest.raises(ValueError, match=r"'.*old.pt' is not read as a checkpoint"):
        read_checkpoint(path)


def read_with_little_memory(make: Callable[[Path], Path], path: Path) -> None:
    """Read a bomb with one GiB more than the process has already."""
    path = make(path)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
    try:
        read_state_dict(path)
    except ValueError:
        sys.exit(7)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_a_tensor_of_two_to_the_39_takes_no_memory(tmp_path: Path) -> None:
    process = get_context("fork").Process(target=read_with_little_memory, args=(huge_tensor, tmp_path / "bomb.pt"))
    process.start()
    process.join(60)
    assert process.exitcode == 7


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(2).to_sparse(),
        torch.eye(2, dtype=torch.complex64),
        torch.empty(2, 2, device="meta"),
        "text",
        None,
    ],
    ids=["sparse", "complex", "meta", "text", "none"],
)
def test_weights_that_are_no_plain_tensors_are_refused(tmp_path: Path, tensor: object) -> None:
    torch.save({"weight": tensor, "bias": torch.zeros(2)}, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match=r"odd.pt'") as refused:
        load_weights(torch.nn.Linear(2, 2), tmp_path / "odd.pt")
    assert "\n" not in str(refused.value)


def test_a_safetensors_header_of_a_terabyte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.safetensors"
    for header in ((2**40).to_bytes(8, "little") + b"{}", b""):
        path.write_bytes(header)
        with pytest.raises(ValueError, match="is not a readable safetensors file"):
            read_state_dict(path)
    safetensors.torch.save_file({"w": torch.eye(2)}, path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"[2,2]", b"[2,9]"))
    with pytest.raises(ValueError, match="is not a readable safetensors file"):
        read_state_dict(path)


def arguments(**changes: object) -> dict[str, Any]:
    """What a checkpoint of the smallest network says of its model."""
    return {**MaskRobustClassifier(num_classes=4).hparams, **changes}


FETCHING = ["pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "weights"]


@pytest.mark.parametrize("option", FETCHING)
def test_a_checkpoint_cannot_name_a_further_file_to_load(tmp_path: Path, option: str) -> None:
    further = saved(tmp_path / "further.pth", {})
    content = arguments(architecture="timm/resnet10t", architecture_options={option: str(further)})
    torch.save({"state_dict": {}, "hyper_parameters": content}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match=f"asks for the option '{option}' of its architecture"):
        MaskRobustClassifier.from_checkpoint(str(tmp_path / "evil.ckpt"))
    check_options({"width": 16}, "fine.ckpt")
    check_options(None, "fine.ckpt")


BUILDING = [
    ({"num_classes": 2**40}, "much larger than the weights in it"),
    ({"architecture_options": {"width": 2**20}}, "much larger than the weights in it"),
    ({"architecture_options": {"blocks": 10**9}}, "much larger than the weights in it"),
    ({"architecture_options": {"width": 32}}, "arguments or weights that no network takes"),
    ({"architecture_options": {"width": "wide"}}, "must|takes|take"),
    ({"architecture_options": 7}, "take"),
    ({"mean": "abc"}, "mean|takes"),
    ({"mean": 0.5}, "takes"),
    ({"hidden_fraction": None}, "takes|hidden_fraction"),
    ({"learning_rate": torch.ones(2)}, "takes|learning_rate"),
    ({"architecture": 7}, "architecture given by name"),
    ({"unknown": 7}, "architecture given by name"),
]


@pytest.mark.parametrize(("changes", "message"), BUILDING, ids=str)
def test_arguments_in_a_checkpoint_build_nothing_but_a_network_of_its_weights(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    classifier = MaskRobustClassifier(num_classes=4)
    path = str(tmp_path / "odd.ckpt")
    torch.save({"state_dict": classifier.state_dict(), "hyper_parameters": arguments()}, path)
    assert MaskRobustClassifier.from_checkpoint(path).hparams["num_classes"] == 4
    torch.save({"state_dict": classifier.state_dict(), "hyper_parameters": arguments(**changes)}, path)
    with pytest.raises(ValueError, match=message) as refused:
        MaskRobustClassifier.from_checkpoint(path)
    assert "\n" not in str(refused.value)


def test_a_run_goes_on_with_a_network_of_the_size_of_its_weights_alone() -> None:
    weights = MaskRobustClassifier(num_classes=4).state_dict()
    check_size(arguments(architecture_options={"width": 16}), {}, weights, "fine.ckpt")
    check_size(arguments(architecture_options=None), {}, weights, "fine.ckpt")
    large = arguments(architecture_options={"width": 4096})
    with pytest.raises(ValueError, match="much larger than the weights in it"):
        check_size(large, {}, weights, "evil.ckpt")
    nameless = {name: value for name, value in large.items() if name != "num_classes"}
    with pytest.raises(ValueError, match="arguments or weights that no network takes"):
        check_size(nameless, {}, weights, "evil.ckpt")


def test_paths_outside_a_checkpoints_folder_are_forgotten(tmp_path: Path) -> None:
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


def npy(shape: tuple[int, ...]) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize("content", [npy((2**40,)), npy((2, -2)), b"", npy(()), npy((2,)) + bytes(17)], ids=range(5))
def test_an_array_that_is_not_of_its_shape_is_refused_unread(tmp_path: Path, content: bytes) -> None:
    np.savez_compressed(tmp_path / "outcomes.npz", ids=np.arange(3))
    assert read_arrays(tmp_path / "outcomes.npz", ["ids"])["ids"].tolist() == [0, 1, 2]
    with zipfile.ZipFile(tmp_path / "outcomes.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ids.npy", content)
    with pytest.raises(ValueError, match=r"must be a readable npz archive, but reading it failed \(\w+\)"):
        read_arrays(tmp_path / "outcomes.npz", ["ids"])
