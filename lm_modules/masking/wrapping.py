"""Try a network when it is wrapped: a forward pass in each mode, on tensors without values."""

import random
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import product
from types import FrameType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from maskrobust.errors import InputError
from maskrobust.lm_modules.masking.axes import Sizes
from maskrobust.lm_modules.masking.dispatch import NO_TENSORS, Run, ask_for_rules
from maskrobust.lm_modules.masking.masked import carry, masked_in
from maskrobust.lm_modules.masking.sizes import together
from maskrobust.lm_modules.masking.table import UnsupportedNetworkError
from maskrobust.lm_modules.masking.torch_private import hands_on, makers_of_tensors, without_compiling
from maskrobust.lm_modules.masking.visible_map import MaskingOptions, VisibleMap

_FLEX_ATTENTION = "torch.nn.attention.flex_attention"
_SIZES = (256, 224, 299, 64, 32, 28)
_CONVOLUTIONS = {count: (getattr(nn, f"Conv{count}d"), getattr(nn, f"ConvTranspose{count}d")) for count in (1, 2, 3)}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def refuse_unsupported(network: nn.Module, options: MaskingOptions) -> tuple[list[int], set[bool]]:
    """Refuse a network whose forward pass calls an operation that layer masking cannot compute.

    The forward pass runs once in eval and once in training mode, on a twin whose tensors have no values: neither the
    network, its buffers nor a random generator is changed, and no hook is called. What the pass does not reach, such as
    what follows where Python asks for a value, is refused when a masked pass meets it.

    Args:
        network: takes images (B, C, *size) as its only argument without a default.
        options: of masking.

    Returns:
        How many axes its images may have, and in which modes, training or not, a pass got through to the end.

    Raises:
        UnsupportedNetworkError: an operation on masked features has no rule, or none that computes it; the message
            names the layer, the operation and the remedy.
    """
    ask_for_rules(network.modules())
    with _random_states_kept():
        tries = {training: _try_sizes(network, options, training=training) for training in (False, True)}
    return [2 + each for each in tries[False][1]], {training for training, (steps, _) in tries.items() if steps >= 0}


def count_steps(network: nn.Module, options: MaskingOptions) -> int:
    """How many rules a pass applies, in the present mode of each module."""
    with _random_states_kept():
        return _try_sizes(network, options)[0]


def _try_sizes(
    network: nn.Module, options: MaskingOptions, *, training: bool | None = None
) -> tuple[int, Sequence[int]]:
    """How many rules the first pass applies that gets through, -1 where none does, and how many axes its images have.

    A network may take images of one size alone, or of none that is tried.

    Raises:
        UnsupportedNetworkError: at a size that the network alone takes, or at another one where none gets through.
    """
    refusal = None
    possible_axes = _possible_axes(network)
    for channels, axes in product(_possible_channels(network), possible_axes or [2]):
        failures: set[str] = set()
        for size in _SIZES:
            shape = (2, channels, *[size] * axes)
            try:
                return _run_without_values(network, options, shape, training=training), [axes]
            except UnsupportedNetworkError as error:
                if _takes_shape(network, shape, training):
                    raise
                refusal = refusal or error
            except Exception as error:
                if str(error) in failures:  # of the channels, then, and not of the size
                    break
                failures.add(str(error))
    if refusal is not None:
        raise refusal
    return -1, possible_axes or [1, 2, 3]


def _run_without_values(
    network: nn.Module, options: MaskingOptions | None, shape: Sizes, *, training: bool | None
) -> int:
    twin = _twin_without_values(network)
    if training is not None:
        twin.train(training)
    with torch.set_grad_enabled(training is not False):
        return _run_twin(twin, options, shape)


def _takes_shape(network: nn.Module, shape: Sizes, training: bool | None) -> bool:
    """Whether the network alone takes images of a shape, as one with position biases for 64 pixels takes no 256."""
    try:
        _run_without_values(network, None, shape, training=training)
    except Exception:
        return False
    return True


def _run_twin(twin: nn.Module, options: MaskingOptions | None, shape: Sizes, extent: Tensor | None = None) -> int:
    """How many rules the pass applies; without options of masking, of the twin alone.

    Args:
        twin: of a network.
        options: of masking.
        shape: of the images.
        extent: (B, n) without values, where they have several sizes.
    """
    dtype = next((each.dtype for each in twin.parameters() if each.is_floating_point()), torch.float32)
    images, run = torch.empty(shape, dtype=dtype, device="meta"), Run(together=None if extent is None else together)
    if options is not None:
        positions = torch.empty(shape[0], 1, *shape[2:], dtype=torch.bool, device="meta")
        images = carry(images, VisibleMap(positions, options, extent, is_whole=True))
        images.run = run
    with _WithoutValues():
        run_located(twin, images, is_guarded=True)
    return run.steps


def computes_together(network: nn.Module, options: MaskingOptions, shape: Sizes, sizes: Tensor) -> bool:
    """Whether all rules of a pass compute images of several sizes together, in the present mode of each module.

    Args:
        network: stays as it is.
        options: of masking.
        shape: of the images.
        sizes: (B, n), of each.
    """
    try:
        with _random_states_kept():
            _run_twin(_twin_without_values(network), options, shape, sizes.to("meta"))
    except Exception:  # whatever a forward raises that has no values
        return False
    return True


class _WithoutValues(TorchFunctionMode):
    """Every tensor is on the device "meta", also those that a forward makes, or finds outside its network."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (Tensor.cpu, Tensor.cuda):
            return args[0]
        if func is Tensor.to:
            args = ["meta" if isinstance(each, str | torch.device) else each for each in args]
        if "device" in kwargs or func in makers_of_tensors():
            kwargs["device"] = "meta"
        try:
            args = [_without_values(each) for each in args]
            if func in (torch.full, Tensor.new_full):  # whose number may be a tensor, which they read
                args = [*args[:1], *(0.0 if isinstance(each, Tensor) else each for each in args[1:])]
            kwargs = {name: _without_values(each) for name, each in kwargs.items()}
            return func(*args, **kwargs)
        except NotImplementedError as error:
            if "meta" not in str(error).lower():
                raise
            raise RuntimeError(str(error)) from error  # no refusal of a rule


def _without_values(value: Any) -> Any:
    if type(value) in (list, tuple):
        return type(value)([_without_values(each) for each in value])
    if not isinstance(value, Tensor) or value.is_meta:
        return value
    return nn.Parameter(_alike(value), value.requires_grad) if isinstance(value, nn.Parameter) else _alike(value)


def _alike(tensor: Tensor) -> Tensor:
    """A tensor without values; `torch.empty_like` finds out its strides in Python, twenty times as slowly."""
    if not tensor.is_contiguous() and not tensor.is_contiguous(memory_format=torch.channels_last):
        return torch.empty_like(tensor, device="meta")  # a result of an expanded or sliced tensor is dense
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def run_located(network: nn.Module, images: Tensor, *, is_guarded: bool = False) -> Any:
    """Call a network, and refuse code below rules where it `is_guarded`; a refusal says at which layer."""
    try:
        with _NothingBelowRules(network) if is_guarded else nullcontext():
            return network(images)
    except Exception as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        message = str(error)
        if any(frame.f_globals.get("__name__") == _FLEX_ATTENTION for frame in frames):
            message = f"layer masking has no rule for {_FLEX_ATTENTION}; use scaled_dot_product_attention."
        elif not isinstance(error, UnsupportedNetworkError) or message.startswith("at layer "):
            raise
        raise UnsupportedNetworkError(f"{at_layer(frames, network)}, {message}") from error


def at_layer(frames: Iterable[FrameType], network: nn.Module) -> str:
    """Where a network was when some frames were made, from the outermost one on, as the beginning of a sentence."""
    return f"at layer '{layer_of(frames, network)}' of {type(network).__name__}"


def layer_of(frames: Iterable[FrameType], network: nn.Module) -> str:
    """Path of the innermost module that is called in some frames, from the outermost one on; "" for the network."""
    paths = {id(module): path for path, module in network.named_modules()}
    found = [paths[id(each)] for each in (frame.f_locals.get("self") for frame in frames) if id(each) in paths]
    return found[-1] if found else ""


class _NothingBelowRules(TorchDispatchMode):
    """Refuses code that hands masked features to torch below the functions that rules are looked up for."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._network, self._refusal = network, ""

    def __exit__(self, *error: Any) -> None:
        """Raise the refusal, also where another error has taken its place, as in torch.jit.script."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        if self._refusal:
            raise UnsupportedNetworkError(self._refusal)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if hands_on() and masked_in(args):
            frames = [frame for frame, _ in traceback.walk_stack(None)][::-1]
            self._refusal = (
                f"{at_layer(frames, self._network)}, masked features reach torch.ops.{func} without their mask, as "
                "within torch.jit.script, torch.vmap, torch.func and torch.tensor; call functions of torch from Python "
                "instead."
            )
            raise RuntimeError(self._refusal)
        return func(*args, **(kwargs or {}))


def _twin_without_values(network: nn.Module) -> nn.Module:
    """A network to try things with: its modules, lists and dictionaries are its own, and its tensors have no values."""
    twins = {module: object.__new__(type(module)) for module in network.modules()}

    def of_twin(value: Any) -> Any:
        if type(value) in NO_TENSORS:
            return value
        if isinstance(value, nn.Module):
            return twins.get(value, value)
        if isinstance(value, MethodType) and isinstance(value.__self__, nn.Module):
            return MethodType(value.__func__, of_twin(value.__self__))
        if type(value) in (list, tuple):
            return type(value)(map(of_twin, value))
        if type(value) is dict:
            return {key: of_twin(each) for key, each in value.items()}
        return _without_values(value)

    for module, twin in twins.items():
        twin.__dict__.update({name: {} if name in _HOOKS else of_twin(value) for name, value in vars(module).items()})
        without_compiling(twin)  # of the network, with its hooks
    return twins[network]


@contextmanager
def _random_states_kept() -> Iterator[None]:
    own, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(own)
        np.random.set_state(of_numpy)


def channels_of(network: nn.Module, options: MaskingOptions, size: Sizes) -> int:
    """How many channels the images of a network have, of those that its first layers take.

    Args:
        network: in eval mode.
        options: of masking.
        size: of the images.

    Raises:
        InputError: a forward pass gets through with none of them.
    """
    for channels in _possible_channels(network):
        try:
            _run_without_values(network, options, (1, channels, *size), training=False)
        except Exception:  # whatever a forward raises that other images are given to
            continue
        return channels
    raise InputError(f"{type(network).__name__} does not say how many channels its images have; give `channels`.")


def _possible_channels(network: nn.Module) -> list[int]:
    found = [getattr(module, "in_channels", None) for module in network.modules()]
    first = dict.fromkeys(each for each in found if isinstance(each, int))
    return list(dict.fromkeys([*list(first)[:3], 3]))


def _possible_axes(network: nn.Module) -> list[int]:
    """How many axes the positions of images may have: those of its convolutions, the first one's first."""
    found = [
        count for module in network.modules() for count, kinds in _CONVOLUTIONS.items() if isinstance(module, kinds)
    ]
    return list(dict.fromkeys(found))
