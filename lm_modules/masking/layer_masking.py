"""`LayerMasking`, which wraps a CNN so that its layers ignore hidden pixels."""

import dataclasses
import inspect
import threading
import traceback
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple, NoReturn, Self

import torch
from torch import Tensor, nn

from maskrobust.augment.batch import check_visible, farthest_value
from maskrobust.errors import InputError
from maskrobust.lm_modules.masking.axes import cropped, times
from maskrobust.lm_modules.masking.coverage import CoveredMap, cover_maps
from maskrobust.lm_modules.masking.dispatch import Observe, Run, ask_for_rules
from maskrobust.lm_modules.masking.hooks import masks_kept
from maskrobust.lm_modules.masking.masked import Masked, carry, map_output
from maskrobust.lm_modules.masking.morphology import can_inspect, hide
from maskrobust.lm_modules.masking.rules.attention import einsum, matrix_product
from maskrobust.lm_modules.masking.rules.pooling import total
from maskrobust.lm_modules.masking.sizes import check_sizes, counted_once, joined, parts_of_each_size, together
from maskrobust.lm_modules.masking.steps import Step, in_step
from maskrobust.lm_modules.masking.table import RULES, Rule, UnsupportedNetworkError, name_of
from maskrobust.lm_modules.masking.torch_private import as_constant, is_compiled, teach_compiler, within_compiled
from maskrobust.lm_modules.masking.visible_map import (
    Asked,
    MaskingOptions,
    MergeRule,
    PaddingRule,
    PartialPatches,
    VisibleMap,
    within_extent,
)
from maskrobust.lm_modules.masking.wrapping import (
    channels_of,
    computes_together,
    count_steps,
    layer_of,
    refuse_unsupported,
    run_located,
)

_SUMS = (einsum, matrix_product, total)
_ROW = "{:<32} {:<22} {:<26} {:>11} {:>5} {:>8}"
_SHARED = (
    "_parameters", "_buffers", "_non_persistent_buffers_set", "_modules", "_state_dict_hooks", "_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)  # fmt: skip


class PlanRow(NamedTuple):
    """One operation on masked features.

    Attributes:
        layer: path of the innermost module whose forward calls it.
        operation: name of the function of torch, or class of a module with a rule of its own.
        rule: name of the rule that computes it.
        size: of the result in positions, such as (height, width); None where masking ends.
        rings: of neighbour padding ahead of it.
        visible_fraction: fraction of the result's positions that are visible, in [0, 1]; None where masking ends.
        is_sum: whether masking ends in a sum of the visible positions. If the network divides it by the number of
            positions, hidden ones count as 0 in that mean; `mean`, and a division by a sum of `torch.ones_like`, are of
            the visible ones alone.
    """

    layer: str
    operation: str
    rule: str
    size: tuple[int, ...] | None
    rings: int
    visible_fraction: float | None
    is_sum: bool = False


class Plan(list[PlanRow]):
    """The rows of a network in the order of computation; printed as a table."""

    def __str__(self) -> str:
        head = _ROW.format("layer", "operation", "rule", "resolution", "rings", "visible")
        return "\n".join([head, *(self._line(row) for row in self)])

    @staticmethod
    def _line(row: PlanRow) -> str:
        size = "masking ends" if row.size is None else times(row.size)
        ended = "in a sum" if row.is_sum else ""
        visible = ended if row.visible_fraction is None else f"{100 * row.visible_fraction:.1f} %"
        return _ROW.format(row.layer, row.operation, row.rule, size, row.rings or "", visible).rstrip()


class MaskedMap(NamedTuple):
    """One map that a network returns, with what is visible of it.

    Attributes:
        features: (B, C, *size), such as (B, C, h, w), 0 where hidden.
        visible: (B, 1, *size) bool, True where a position is visible; False beyond an image that is smaller than
            others.
        sizes: (B, n) int64 on a CPU, size of the map of each image alone, in positions.
    """

    features: Tensor
    visible: Tensor
    sizes: Tensor


def plan_rows(layer: str, operation: Any, rule: Rule, result: Any) -> Iterator[PlanRow]:
    """The rows of one operation: one for each of several results.

    Args:
        layer: path of the innermost module that calls the operation.
        operation: that is called.
        rule: that computes it.
        result: of the rule.
    """
    name, rule_name = name_of(operation).rpartition(".")[2], rule.apply.__name__
    for part in result if isinstance(result, tuple) else (result,):
        if not isinstance(part, Masked):
            yield PlanRow(layer, name, rule_name, None, 0, None, is_sum=rule.apply in _SUMS)
            continue
        shown = part.positions
        size = part.visible.size[1:] if part.is_map else (shown[0].numel(),)
        yield PlanRow(layer, name, rule_name, size, part.rings, shown.count_nonzero().item() / shown.numel())


class LayerMasking(nn.Module):
    """A CNN that takes `visible` beside the images and computes every layer on visible positions only.

    Source: Balasubramanian and Feizi, "Towards Improved Input Masking for Convolutional Neural Networks", ICCV 2023.
    Hidden pixels do not matter: whatever they hold, NaN included, no output changes by a bit, and their gradient is
    exactly zero. Its parameters, buffers and modules are the network's own, under the network's own names.

    Args:
        network: any CNN whose operations all have a rule, a classifier or one that returns maps; kept
            as it is and shared, not copied. Of one that `torch.compile` returned, the network within; compile the
            masked one instead.
        merge: visible positions after a residual sum, "intersection" (the paper) or "union" of the branches'.
        detach_padding: values filled in beside visible positions carry no gradient (the paper).
        padding: what these values are: "mean" of their known neighbours, ring by ring (the paper), "mirror", the
            features mirrored at the edge of the hole (`functional.mirrored_places`), or "zeros", for comparison: zeros
            show the outline of a hole to every layer.
        partial_patches: what becomes of a partly hidden patch in a network that begins with patches, as vision
            transformers do: "padded", as by any convolution, or "hidden" as a whole, so that the network gets the
            visible patches alone and no outline within them.

    Raises:
        UnsupportedNetworkError: naming the layer and operation without a rule, and how to add one.
        TypeError: the network is no module.
        InputError: the padding is unknown, or the network has layer masking already.

    Warns:
        UserWarning: the network has been compiled.

    Examples:
        >>> masked = LayerMasking(torchvision.models.resnet50())
        >>> logits = masked(images, visible)  # (B, 3, H, W), (B, 1, H, W) -> (B, 1000)
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        merge: MergeRule = "intersection",
        detach_padding: bool = True,
        padding: PaddingRule = "mean",
        partial_patches: PartialPatches = "padded",
    ) -> None:
        network = _network_to_mask(network)
        if isinstance(network, LayerMasking):
            raise InputError("network must be a plain one, but has layer masking already; take it as it is.")
        options = MaskingOptions(merge, detach_padding, padding, partial_patches)
        _refuse_further_arguments(network)
        self._set_up(network, options, *refuse_unsupported(network, options))

    def _set_up(self, network: nn.Module, options: MaskingOptions, axes: list[int], tried_modes: set[bool]) -> None:
        super().__init__()
        # No module of this one: all that it holds is held here as well, under the same names.
        self.__dict__.update({name: vars(network)[name] for name in _SHARED}, network=network)
        self.network: nn.Module
        self.options = options
        self._axes, self._tried_modes = axes, tried_modes
        self._last_mask: tuple[bool, Tensor, VisibleMap | None] | None = None
        self._known_kinds: dict[Hashable, Asked] = {None: Asked([], {})}
        self._known_to_join: dict[Hashable, bool] = {}

    def forward(self, images: Tensor, visible: Tensor | None = None, *, sizes: Tensor | None = None) -> Any:
        """The network's output for images of which only `visible` may be seen.

        Args:
            images: (B, C, H, W) float, as the network expects them (normalised).
            visible: (B, 1, H, W) bool, True where a pixel may be seen; None for all, exactly the plain network.
            sizes: (B, n) int64, size of each image, which lies at the top left of its canvas (`pad_batch`):
                each is answered as if it were alone, whatever lies beyond. None where all images are as large as that.

        Returns:
            What the network returns: logits (B, num_classes), or maps (B, C, h, w), alone or in dictionaries, lists
            and tuples, with 0 where a map is hidden (`coverage` says where that is). With everything visible in eval
            mode, on a CPU, it is equal to the plain network's bit for bit; with nothing visible it is finite.

        Raises:
            TypeError, InputError: `images` are integers, or do not fit `visible` or `sizes`, a visible pixel is NaN
                (not asked on an accelerator, nor when compiled), or `torch.jit` traces the call.
            UnsupportedNetworkError: the network cannot compute some image alone, or what it returns for images of
                several sizes is no batch.

        Warns:
            UserWarning: a visible pixel lies beyond -16 or 16, as bytes do; looked at on a CPU, in the first image.
        """
        return self._joined(images, visible, sizes, _as_tensors)

    def each(self, images: Tensor, visible: Tensor | None = None, *, sizes: Tensor) -> list[Any]:
        """What the network returns for each image by itself, as if it were alone.

        Args:
            images: as in `forward`, as are all.
            visible: likewise.
            sizes: likewise.

        Returns:
            For each image what the network returns, for a batch of one: a map has the size that the image alone gives.

        Raises:
            UnsupportedNetworkError: the network returns a plain tensor whose first axis is not that of the images.
        """

        def refuse(count: int, value: Any) -> None:
            is_map = isinstance(value, Masked) and value.is_map
            if isinstance(value, Tensor) and not is_map and value.shape[:1] != (count,):
                raise UnsupportedNetworkError(
                    f"each needs tensors with the {len(images)} images on the first axis, but "
                    f"{type(self.network).__name__} returns one of shape {tuple(value.shape)}; return images first."
                )

        found: list[Any] = [None] * len(images)
        for rows, output in self._passes(images, visible, sizes, finish=lambda output: output):
            map_output(partial(refuse, len(rows)), output)
            for index, row in enumerate(rows.tolist()):
                found[row] = _as_tensors(output, index)
        return found

    def maps(self, images: Tensor, visible: Tensor | None = None, *, sizes: Tensor | None = None) -> Any:
        """What the network returns, each map with its visible positions and the size that each image alone gives.

        Args:
            images: as in `forward`, as are all.
            visible: likewise.
            sizes: likewise.

        Returns:
            What the network returns, with a `MaskedMap` for each tensor with as many axes as the images; other tensors
            as they are.
        """
        with_visible = partial(_with_visible, images.ndim)
        return self._joined(images, visible, sizes, lambda output: map_output(with_visible, output))

    def _joined(
        self, images: Tensor, visible: Tensor | None, sizes: Tensor | None, finish: Callable[[Any], Any]
    ) -> Any:
        if sizes is None:
            return self._answer(images, visible, sizes, finish)
        rows, outputs = zip(*self._passes(images, visible, sizes, finish), strict=True)
        return outputs[0] if len(outputs) == 1 else joined(outputs, rows)

    def _passes(
        self, images: Tensor, visible: Tensor | None, sizes: Tensor, finish: Callable[[Any], Any]
    ) -> list[tuple[Tensor, Any]]:
        """Which images go through the network together, (N,) int64, and what it returns for them."""
        check_sizes(images, sizes)
        if torch.compiler.is_compiling() or len(sizes.unique(dim=0)) < 2 or self._takes_all_sizes(images, sizes):
            return [(torch.arange(len(images)), self._answer(images, visible, sizes, finish))]
        parts = [*parts_of_each_size(images, visible, sizes)]
        passes = [partial(self._answer_size, part, shown, finish) for _, part, shown in parts]
        modules = [*self.network.modules()]
        if not any(module.training for module in modules):
            outputs = [each(Step(each)) for each in passes]
        else:
            with counted_once(modules, len(parts)):
                outputs = in_step(passes)
        return [(rows, output) for (rows, *_), output in zip(parts, outputs, strict=True)]

    def _takes_all_sizes(self, images: Tensor, sizes: Tensor) -> bool:
        """Whether the network computes images of several sizes together, as far as a pass without values shows."""
        shape = *images.shape[:2], *sizes.amax(0).tolist()
        kind = shape[1:], *((id(module), module.training) for module in self.network.modules())
        if kind not in self._known_to_join:
            self._known_to_join[kind] = computes_together(self.network, self.options, shape, sizes)
        return self._known_to_join[kind]

    def _answer_size(self, images: Tensor, visible: Tensor, finish: Callable[[Any], Any], step: Step) -> Any:
        """What the network returns for the images of one size of a batch."""
        try:
            return self._answer(images, visible, None, finish, step)
        except (RuntimeError, IndexError) as error:  # of torch, for one size
            raise UnsupportedNetworkError(
                f"{type(self.network).__name__} cannot compute the images of {times(images.shape[2:])} pixels of the "
                f"batch ({str(error).splitlines()[0]}); leave them out, or enlarge them."
            ) from error

    def _answer(
        self, images: Tensor, visible: Tensor | None, sizes: Tensor | None, finish: Callable[[Any], Any],
        step: Step | None = None,
    ) -> Any:  # fmt: skip
        if visible is None and sizes is None:
            return finish(self.network(images))
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            self.__prepare_scriptable__()
        if visible is not None:
            check_visible(images, visible, self._axes)
        if sizes is not None:
            visible_map = self._map_of_sizes(images, visible, sizes)
        else:
            assert visible is not None
            visible_map = self._map_of(visible)
        visible = visible_map.positions
        images = cropped(images, visible.shape[2:])
        _check_images(images, visible)
        if not self.training and visible_map.everything and step is None:
            _refuse_nan(images)
            return finish(self.network(images))
        # Zero instead of what the caller left there: a NaN would reach weight gradients through 0 x NaN.
        shown = hide(images, visible)
        if visible_map.can_inspect:
            _refuse_nan(shown)
        return self._run(shown, visible_map, finish=finish, step=step)

    def _map_of_sizes(self, images: Tensor, visible: Tensor | None, sizes: Tensor) -> VisibleMap:
        """The map of images of several sizes, without what lies beyond all of them; extents are on a CPU."""
        size = tuple(images.shape[2:])
        if torch.compiler.is_compiling():
            return VisibleMap.within(sizes, size, self.options, visible, images.device)
        sizes = sizes.cpu().long() if len(sizes) else torch.tensor([size])  # of no image that of the canvas
        size = tuple(sizes.amax(0).tolist())
        if visible is not None:
            visible = cropped(visible, size)
        if (sizes == sizes[0]).all():
            if visible is None:
                visible = torch.ones(len(images), 1, *size, dtype=torch.bool, device=images.device)
            return VisibleMap(visible, self.options)
        inside = within_extent(sizes, size, images.device)
        if visible is not None and visible.device.type == "cpu" and (visible | ~inside).all():
            visible = None
        return VisibleMap.within(sizes, size, self.options, visible, images.device)

    def _run(
        self,
        shown: Tensor,
        visible_map: VisibleMap,
        observe: Observe | None = None,
        finish: Callable[[Any], Any] | None = None,
        step: Step | None = None,
    ) -> Any:
        """What the network returns, with plain tensors for masked features, or what `finish` makes of it."""
        finish = _as_tensors if finish is None else finish
        run = Run(observe, None if visible_map.extent is None else together, step)
        images = carry(shown, visible_map)
        images.run = run
        if torch.compiler.is_dynamo_compiling():
            steps = self._steps_for_compiler()
            output = self.network(images)
            if run.steps < steps:
                raise InputError(
                    "torch.compile must hand every function of the network to layer masking, but some did not arrive; "
                    "compute it without compiling."
                )
            return finish(output)
        try:
            modules = modules_of(self.network)
            ask_for_rules(modules)
            with masks_kept(modules), _uncompiled(modules):
                kind = _kind_of_pass(images, modules)
                is_tried = self._tried_modes.issuperset([module.training for module in modules])
                asked = self._known_kinds.get(kind)
                if asked is not None:
                    visible_map.plan(asked)
                output = run_located(self.network, images, is_guarded=asked is None or not is_tried)
                self._known_kinds[kind] = visible_map.asked
                return finish(output)
        finally:
            run.is_over = True

    @as_constant
    def _steps_for_compiler(self) -> int:
        ask_for_rules(self.network.modules())
        teach_compiler([each for each in RULES if not isinstance(each, type)])
        return count_steps(self.network, self.options)

    def _map_of(self, visible: Tensor) -> VisibleMap:
        """The map of a mask; on a CPU a mask that comes again and again keeps its map, with all that is planned."""
        if not can_inspect(visible):
            return VisibleMap(visible, self.options)
        in_inference_mode = torch.is_inference_mode_enabled()  # whose tensors no gradient can go through
        last = self._last_mask
        if last is None or last[0] != in_inference_mode or not torch.equal(last[1], visible):
            self._last_mask = in_inference_mode, visible.clone(), None
            return VisibleMap(visible, self.options)
        visible_map = last[2] or VisibleMap(last[1], self.options)
        self._last_mask = in_inference_mode, last[1], visible_map
        return visible_map

    @property
    def training(self) -> bool:
        """The network's mode, which others may set for each module by itself, as Lightning does after a validation."""
        return bool(self.network.training)

    @training.setter
    def training(self, mode: bool) -> None:
        if "network" in self.__dict__:  # not yet while this module is made
            self.network.training = mode

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the network and of all that it holds."""
        self.network.train(mode)
        return self

    def _save_to_state_dict(self, *args: Any) -> None:
        self.network._save_to_state_dict(*args)

    def _load_from_state_dict(self, *args: Any) -> None:
        self.network._load_from_state_dict(*args)

    def with_padding(self, padding: PaddingRule) -> "LayerMasking":
        """The same network under another padding, with all other options as here; weights are shared."""
        if padding == self.options.padding:
            return self
        other = LayerMasking.__new__(LayerMasking)
        other._set_up(self.network, dataclasses.replace(self.options, padding=padding), self._axes, self._tried_modes)
        return other

    def __prepare_scriptable__(self) -> NoReturn:
        """Refuse TorchScript: `torch.jit.script` calls this for each module that it reads."""
        raise InputError(
            "layer masking plans anew for each mask, which torch.jit.trace and torch.jit.script cannot record; export "
            "it with torch.export.export, or with torch.onnx.export and dynamo=True."
        )

    def __getstate__(self) -> dict[str, Any]:
        """Without the plan of the last mask and what is known of kinds of passes, which can be made again."""
        known: dict[str, Any] = {"_last_mask": None, "_known_kinds": {None: Asked([], {})}, "_known_to_join": {}}
        return {**super().__getstate__(), **known}  # type: ignore[no-untyped-call]

    def output_of(self, layer: str, images: Tensor, visible: Tensor) -> Masked | Tensor:
        """What one module of the network returns for images of which only `visible` may be seen.

        Args:
            layer: path of the module within the network; it may hold others, such as a stage of a ResNet.
            images: (B, C, H, W) float, as the network expects them (normalised).
            visible: (B, 1, H, W) bool.

        Returns:
            Features with the positions of them that are visible; a tensor from global pooling on.

        Raises:
            TypeError, InputError: `visible` does not fit `images`, or the forward pass has no such result.
        """
        check_visible(images, visible, self._axes)
        thread, outputs = threading.get_ident(), []

        def keep(_module: nn.Module, _args: Any, output: Any) -> None:
            if threading.get_ident() == thread:  # later layers may change it in place
                outputs.append(output.with_features(output.as_plain()) if isinstance(output, Masked) else output)

        module = dict(self.network.named_modules()).get(layer) if layer else None
        if module is not None:
            with module.register_forward_hook(keep):
                self._run(hide(images, visible), VisibleMap(visible, self.options))
        if not outputs or not isinstance(outputs[-1], Tensor):
            raise InputError(
                f"layer must be a module that {type(self.network).__name__} calls and that returns one tensor, got "
                f"'{layer}'; name another of its named_modules()."
            )
        return outputs[-1]

    @torch.no_grad()
    def coverage(self, visible: Tensor, *, channels: int | None = None) -> Any:
        """How much of what each position of the network's maps reads is visible.

        A fraction that every layer carries on: a window's coverage is the mean of that of the positions under it, the
        outside of the image left out, a sum's or concatenation's the mean over its operands. What reads the whole
        image, such as the pooled branch of DeepLabV3, is covered as the image is. Costs about one forward pass.

        Args:
            visible: (B, 1, H, W) bool.
            channels: of the images; None for as many as the network's first convolution takes.

        Returns:
            For each map (B, C, h, w) that the network returns in eval mode, in the same structure, (B, 1, h, w) float32
            in [0, 1]: 0 where the map is hidden and nowhere else, 1 where all that it reads is visible and nowhere
            else. For other tensors, such as logits, (B, 1, 1, 1).

        Raises:
            TypeError, InputError: `visible` is no mask, or the network does not say how many channels it takes.
            UnsupportedNetworkError: positions become tokens, as in networks that attend.
        """
        if channels is None:
            channels = channels_of(self.network, self.options, tuple(visible.shape[2:]))
        dtype = next((each.dtype for each in self.network.parameters()), torch.float32)
        images = torch.zeros(visible.shape[0], channels, *visible.shape[2:], dtype=dtype, device=visible.device)
        check_visible(images, visible, self._axes)
        with mode(self.network, training=False), torch.autocast(visible.device.type, enabled=False):
            return cover_maps(self.network, images, CoveredMap(visible, self.options, coverage=visible.float()))

    @torch.no_grad()
    def plan(self, images: Tensor, visible: Tensor) -> Plan:
        """What is done to each layer for a given mask: rule, resolution, rings of padding, visible fraction.

        Args:
            images: (B, C, H, W) float; only their shape matters.
            visible: (B, 1, H, W) bool; fractions are means over the batch.

        Returns:
            A list of rows that prints as a table, for the forward pass in eval mode.
        """
        check_visible(images, visible, self._axes)
        rows = Plan()

        def observe(operation: Any, rule: Rule, _arguments: Sequence[Any], result: Any) -> Any:
            frames = [frame for frame, _ in traceback.walk_stack(None)][::-1]
            rows.extend(plan_rows(layer_of(frames, self.network), operation, rule, result))
            return result

        with mode(self.network, training=False):
            self._run(hide(images, visible), VisibleMap(visible, self.options), observe)
        return rows


@contextmanager
def mode(network: nn.Module, *, training: bool) -> Iterator[None]:
    """Within the context every module is in one mode; afterwards each is in its own again."""
    before = {module: module.training for module in network.modules()}
    network.train(training)
    try:
        yield
    finally:
        for module, flag in before.items():
            module.training = flag


def modules_of(network: nn.Module) -> list[nn.Module]:
    """A network and all modules in it, each once: those of `modules()`, in a quarter of its time, as it makes names."""
    modules, known = [network], {network}
    for module in modules:
        for each in module._modules.values():
            if each is not None and each not in known:
                known.add(each)
                modules.append(each)
    return modules


def _kind_of_pass(images: Masked, modules: Sequence[nn.Module]) -> Hashable:
    """What a forward may choose its code by without a look at values; None in an export, whose sizes are symbols."""
    if torch.compiler.is_compiling():
        return None
    with torch._C.DisableTorchFunctionSubclass():  # it is not the network that asks for sizes
        several = images.run is not None and images.run.together is not None
        device, of_images = images.device.type, (images.shape, images.dtype, images.requires_grad, several)
    modes = (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device),
    )
    return device, of_images, modes, tuple(module.training for module in modules)


def _uncompiled(modules: Sequence[nn.Module]) -> AbstractContextManager[Any]:
    """Within the context no module that has been compiled by itself is: `torch.compile` takes no masked features."""
    if not any(map(is_compiled, modules)):
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


def _as_tensors(output: Any, index: int | None = None) -> Any:
    """Plain tensors with 0 at hidden positions for masked features.

    Args:
        output: of a network, in any structure.
        index: of the image of which alone the result is, without what lies beyond it; None for all images.
    """

    def as_tensor(value: Any) -> Any:
        if isinstance(value, Masked):
            return value.as_plain() if index is None else value.of_image(index)
        return value if index is None or not isinstance(value, Tensor) else value[index : index + 1]

    return map_output(as_tensor, output)


def _with_visible(axes: int, value: Any) -> Any:
    """A map with its visible positions: all of them for a plain tensor, such as pooled features."""
    if not isinstance(value, Tensor) or value.ndim != axes:
        return value
    if not isinstance(value, Masked):
        return MaskedMap(value, torch.ones_like(value[:, :1], dtype=torch.bool), _sizes_of(value.shape[2:], len(value)))
    extent, (count, *size) = value.visible.extent, value.visible.size
    return MaskedMap(value.as_plain(), value.positions, _sizes_of(size, count) if extent is None else extent)


def _sizes_of(size: Sequence[int], count: int) -> Tensor:
    return torch.tensor([[*size]]).expand(count, -1)


def _refuse_further_arguments(network: nn.Module) -> None:
    parameters = list(inspect.signature(network.forward).parameters.values())
    collecting = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [each.name for each in parameters[1:] if each.default is each.empty and each.kind not in collecting]
    if needed:
        raise UnsupportedNetworkError(
            f"{type(network).__name__} takes {', '.join(needed)} beside the images, but layer masking needs a network "
            "of the images alone; wrap one that sets the other arguments itself."
        )


def _refuse_nan(shown: Tensor) -> None:
    if shown.sum().isnan() and shown.isnan().any():
        index = int(shown.isnan().flatten(1).any(dim=1).nonzero()[0])
        raise InputError(
            f"visible pixels must be numbers, got NaN at a visible pixel of image {index} of the batch; hide such "
            "pixels, as visible_from(images) does."
        )


def _network_to_mask(network: object) -> nn.Module:
    """The network that `torch.compile` was given; any other as it is.

    Raises:
        TypeError: it is no module, naming what was given.

    Warns:
        UserWarning: it is another one than was given.
    """
    if not isinstance(network, nn.Module):
        given = f"the class {network.__name__}" if isinstance(network, type) else type(network).__name__
        raise TypeError(f"network must be a torch.nn.Module, got {given}; give the network itself.")
    within = within_compiled(network)
    if within is None:
        return network
    warnings.warn(
        "network was compiled by torch.compile, which takes no masked features, so layer masking computes the network "
        "within; compile the masked network instead, as in torch.compile(LayerMasking(network)).",
        stacklevel=3,
    )
    return within


def _check_images(images: Tensor, visible: Tensor) -> None:
    """Refuse images that are still bytes, and warn of values that no normalised image has.

    A network of its own may want these, so they are not refused. Nothing is looked at on an accelerator, and in
    compiled code; see `farthest_value`.

    Raises:
        TypeError: naming the dtype given.
    """
    if not images.is_floating_point():
        raise TypeError(
            f"images must be floating point, as the network expects them, got {images.dtype}; divide by 255 and "
            "normalise."
        )
    if (value := farthest_value(images, visible)) is not None:
        warnings.warn(
            f"images should be normalised as the network was trained, got a pixel of {value:.4g}; divide bytes by 255 "
            "and normalise, or ignore this where the network takes such numbers.",
            stacklevel=3,
        )
