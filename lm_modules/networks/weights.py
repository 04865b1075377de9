"""Read weights from files of strangers: nothing in them is executed or imported."""

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict
from zipfile import is_zipfile

import torch
from torch import Tensor, nn

from maskrobust.errors import InputError, MissingFileError, library_needed
from maskrobust.lm_modules.masking import MergeRule, PaddingRule, PartialPatches
from maskrobust.lm_modules.networks.architectures import head_of

_BESIDE_NETWORK = ("teacher.", "decoder.")
"""How names begin, in a checkpoint of a training, of what is trained or asked beside the network."""
_WRAPPER_PREFIXES = ("network.", "model.", "module.", "_orig_mod.")

_LONGEST = 300
_FETCHING = ("weights", "weights_backbone", "encoder_weights", "checkpoint_path", "cache_dir")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a safetensors file, a `torch.save`d state dict, or a Lightning checkpoint.

    Returns:
        The tensors under the keys of the file, on the CPU.

    Raises:
        MissingFileError: there is no such file.
        InputError: the file is not one of these kinds, or holds more than plain tensors and numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"weights must be a file, but '{path}' {_no_file(path)}.")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    content = read_checkpoint(path)
    return plain_tensors(content.get("state_dict", content), path)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, on the CPU.

    Raises:
        InputError: the file is no readable safetensors file, or holds a tensor that is not plain; see `is_plain`.
    """
    with library_needed():  # here: layer masking does without it
        import safetensors.torch

    try:
        tensors = safetensors.torch.load_file(path)
        odd = [name for name, tensor in tensors.items() if not is_plain(tensor)]
        if odd:
            raise ValueError(f"'{odd[0]}' in it is of {tensors[odd[0]].dtype}, where real numbers are expected")
    except Exception as error:  # a damaged file can make the reader raise anything
        reason = str(error) or type(error).__name__
        raise InputError(f"'{path}' is not a readable safetensors file ({reason}); write it again.") from error
    return tensors


def is_plain(value: object) -> bool:
    """Whether a value is a dense tensor of real numbers or truth values in memory."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_complex() or value.is_nested)
    )


def plain_tensors(content: object, path: str | Path) -> dict[str, Tensor]:
    """A state dict that has been read from a file.

    Raises:
        InputError: it holds anything but dense tensors of real numbers under names.
    """
    named = content if isinstance(content, Mapping) else {"all of it": content}
    for name, value in named.items():
        if not isinstance(name, str) or not is_plain(value):
            found = f"a tensor of {value.dtype}, {value.layout}" if isinstance(value, Tensor) else type(value).__name__
            raise InputError(
                f"'{path}' must hold a state dict of dense real tensors or a Lightning checkpoint, but '{name}' is "
                f"{found}; save one."
            )
    return dict(named)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a file written by `torch.save` that holds a dict of tensors and plain values, on the CPU.

    Its tensors stay in the file until they are used.

    Raises:
        MissingFileError: there is no such file.
        InputError: the file cannot be read, or would execute code.
    """
    if not Path(path).is_file():
        raise MissingFileError(f"the checkpoint '{path}' {_no_file(Path(path))}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))  # old files are no zip
    except pickle.UnpicklingError as error:
        raise InputError(
            f"'{path}' is damaged or holds more than tensors and plain values, so it was not loaded (it could run "
            "code); save the state dict alone, best as safetensors."
        ) from error
    except Exception as error:  # a damaged file can make the reader raise anything
        raise InputError(f"'{path}' is not a readable checkpoint ({type(error).__name__}); write it again.") from error
    if not isinstance(content, dict):
        raise InputError(f"'{path}' must hold a dict, got {type(content).__name__}; save a state dict.")
    return content


def load_weights(network: nn.Module, path: str | Path, *, new_head: bool = False) -> None:
    """Load weights from a file into a network in place; see `load_tensors` and `read_state_dict`."""
    load_tensors(network, read_state_dict(path), str(path), new_head=new_head)


def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor], source: str, *, new_head: bool = False) -> None:
    """Load weights into a network in place; every key and shape must match, and values be those of a network.

    Prefixes that wrappers added to every key ("network.", "module.", "_orig_mod.", "model.") are taken off where the
    network does not have them itself. Only batch norm's `num_batches_tracked` may be missing, as it is from files older
    than that count.

    Args:
        network: a classifier.
        tensors: a state dict.
        source: where it comes from, for messages.
        new_head: set the last linear layer to zero, for fine-tuning on other classes: the first loss is ln(classes)
            whatever the architecture's own initialisation, and a random layer cannot spoil the loaded ones.

    Raises:
        InputError: values are refused by `check_values`, and nothing was loaded; or keys or shapes differ, and those
            that fit were loaded.
    """
    expected = network.state_dict()
    given = max(unwrapped(tensors), key=lambda candidate: len(candidate.keys() & expected.keys()))
    head = head_of(network)
    if new_head and head is None:
        raise InputError(
            f"new_head needs a network with a linear layer, but {type(network).__name__} has none; leave new_head out."
        )
    if new_head:
        given = {
            **{key: value for key, value in given.items() if not key.startswith(f"{head}.")},
            **{key: torch.zeros_like(value) for key, value in expected.items() if key.startswith(f"{head}.")},
        }
    check_values(given, expected, source)
    try:
        network.load_state_dict(given)
    except RuntimeError as error:
        reason = " ".join(str(error).split()).replace(". ", ", ")
        reason = f"{reason[:_LONGEST]}..." if len(reason) > _LONGEST else reason.rstrip(".")
        raise InputError(
            f"'{source}' must fit the network, but torch says: {reason}; check the architecture, its options and "
            "num_classes, or set new_head to true for other classes."
        ) from error


def check_values(given: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """Refuse values that torch would convert without a word, or that no finished training has.

    Infinity may be there, as networks keep it in buffers; and a count, such as batch norm's `num_batches_tracked`, may
    be given as a floating-point number, as averages of state dicts have it.

    Args:
        given: tensors by name.
        expected: those that they will replace; names that are not in both are passed over.
        source: where the tensors come from, for messages.

    Raises:
        InputError: integers or truth values are given for floating-point numbers, or NaN is among these.
    """
    for name in sorted(given.keys() & expected.keys()):
        if not expected[name].is_floating_point():
            continue
        if not given[name].is_floating_point():
            wanted, found = (str(each[name].dtype).removeprefix("torch.") for each in (expected, given))
            raise InputError(
                f"'{source}' must hold '{name}' as floating-point numbers, such as {wanted}, got {found}; save the "
                "weights as they were trained, not quantised."
            )
        if given[name].float().isnan().any():
            raise InputError(
                f"'{source}' must hold trained weights, but '{name}' is NaN in places, as after a training that "
                "diverged; give those from before that."
            )


def _no_file(path: Path) -> str:
    if path.is_dir():
        return "is a folder; give a file in it"
    beside = sorted(each.name for each in path.parent.glob(f"*{path.suffix}") if path.suffix)
    return f"does not exist; {f'name one beside it, such as {beside[-1]!r}' if beside else 'check the path'}"


def unwrapped(tensors: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """A state dict as it is, then without the teacher of a distillation and the prefix of one wrapper after another.

    And without the decoder of a pre-training.
    """
    yield tensors
    tensors = {key: value for key, value in tensors.items() if not key.startswith(_BESIDE_NETWORK)}
    for prefix in _WRAPPER_PREFIXES:
        if tensors and all(key.startswith(prefix) for key in tensors):
            yield from unwrapped({key.removeprefix(prefix): value for key, value in tensors.items()})


def check_options(options: object, path: str | Path) -> None:
    """Refuse a network's options from a file that would make its constructor read or fetch another file.

    Raises:
        InputError: naming the option.
    """
    named = options if isinstance(options, Mapping) else {}
    foreign = [name for name in named if str(name) in _FETCHING or str(name).startswith("pretrained")]
    if foreign:
        raise InputError(
            f"'{path}' asks for the option '{foreign[0]}' of its architecture, with which a file could name further "
            "files or addresses to load; name its weights yourself, with --model.weights or as in resnet50:FILE."
        )


@contextmanager
def building_from(path: str | Path) -> Iterator[None]:
    """Build a network, within a block, as a file says.

    Raises:
        InputError: whatever the file's arguments make the constructor raise.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a file's arguments can be anything, and make a constructor raise anything
        raise InputError(
            f"'{path}' holds arguments or weights that no network takes ({type(error).__name__}); write it again."
        ) from error


class LayerMaskingOptions(TypedDict, total=False):
    """Options of `maskrobust.lm_modules.masking.LayerMasking`, where all of them are described."""

    merge: MergeRule
    detach_padding: bool
    padding: PaddingRule
    partial_patches: PartialPatches
