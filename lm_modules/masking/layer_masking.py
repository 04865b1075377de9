"""`LayerMasking`: any supported CNN, with the mask carried through its layers."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from maskrobust.augment import check_visible
from maskrobust.errors import InputError
from maskrobust.lm_modules.masking.coverage import CoveredMap, carry_coverage, channels_of
from maskrobust.lm_modules.masking.functional import hide
from maskrobust.lm_modules.masking.hooked import as_tensors, refuse_hooks_when_compiled, run_in_segments, run_with_hooks
from maskrobust.lm_modules.masking.inputs import check_images, check_network, warn_of_bytes, why_it_failed
from maskrobust.lm_modules.masking.masked import Masked, MaskingOptions, MergeRule, PaddingRule, VisibleMap
from maskrobust.lm_modules.masking.morphology import PADDINGS
from maskrobust.lm_modules.masking.program import Folding, Program, Step, find_folded, mode, read_program
from maskrobust.lm_modules.masking.row_engine import (
    LARGEST_SHARE,
    RowSuffix,
    find_dropped,
    find_row_suffix,
    plan_suffix,
    run_suffix,
)
from maskrobust.lm_modules.masking.rules.table import UnsupportedNetworkError
from maskrobust.lm_modules.masking.state import is_hooked

_ROW = "{:<32} {:<22} {:<26} {:>11} {:>5} {:>8}"

Engine = Literal["auto", "dense", "rows"]
_PREFIX = "network."
_KEPT = 8
_LOCK = threading.Lock()


class PlanRow(NamedTuple):
    """One operation on masked features.

    Attributes:
        layer: path of the module that it is, or belongs to.
        operation: class of the module, or name of the function.
        rule: name of the rule that computes it.
        height: of the result in positions; None where masking ends.
        width: likewise.
        rings: of neighbour padding ahead of it.
        visible_fraction: fraction of the result's positions that are visible, in [0, 1]; None where masking ends.
    """

    layer: str
    operation: str
    rule: str
    height: int | None
    width: int | None
    rings: int
    visible_fraction: float | None


class Plan(list[PlanRow]):
    """The rows of a network in the order of computation; printed as a table."""

    def __str__(self) -> str:
        head = _ROW.format("layer", "operation", "rule", "resolution", "rings", "visible")
        return "\n".join([head, *(self._line(row) for row in self)])

    @staticmethod
    def _line(row: PlanRow) -> str:
        ends = row.visible_fraction is None
        size = "masking ends" if ends else f"{row.height} x {row.width}"
        visible = "" if row.visible_fraction is None else f"{row.visible_fraction:.1%}"
        return _ROW.format(row.layer, row.operation, row.rule, size, row.rings or "", visible).rstrip()


def plan_rows(step: Step, network: nn.Module, result: Any) -> Iterator[PlanRow]:
    """The rows of one step: none where nothing was masked, one for each of several results otherwise.

    Args:
        step: as the program ran it.
        network: whose step it is.
        result: of the step.
    """
    if step.rule is None:
        return
    for part in result if isinstance(result, tuple) else (result,):
        operation, rule = step.operation_name(network), step.rule.apply.__name__
        if isinstance(part, Masked):
            _, _, height, width = part.visible.positions.shape
            fraction = part.visible.positions.count_nonzero().item() / part.visible.positions.numel()
            yield PlanRow(step.layer, operation, rule, height, width, part.rings, fraction)
        else:
            yield PlanRow(step.layer, operation, rule, None, None, 0, None)


@dataclass(frozen=True)
class Reading:
    """What is known of a network in one state.

    Attributes:
        program: of its forward pass.
        calls_hooks: whether a module has hooks, so that `hooked` has to run the program.
        dropped: names of convolutions that need half of the padding; none in training mode.
        folded: batch norms that can be folded, by the name of the convolution; none in training mode.
        row_suffix: the end of the program that rows can compute; None in training mode.
    """

    program: Program
    calls_hooks: bool = False
    dropped: frozenset[str] = frozenset()
    folded: Mapping[str, Folding] = field(default_factory=dict)
    row_suffix: RowSuffix | None = None


class LayerMasking(nn.Module):
    """A CNN that takes `visible` beside the images and computes every layer on visible positions only.

    Source: Balasubramanian and Feizi, "Towards Improved Input Masking for Convolutional Neural Networks", ICCV 2023.
    Hidden pixels do not matter: whatever they hold, NaN included, no output changes by a bit, and their gradient is
    exactly zero. The parameters are the network's own, under its own `state_dict` keys.

    Args:
        network: any CNN whose operations all have a rule, a classifier or one that returns maps; kept
            as it is and shared, not copied.
        merge: visible positions after a residual sum, "intersection" (the paper) or "union" of the branches'.
        detach_padding: values filled in beside visible positions carry no gradient (the paper).
        padding: what these values are: "mean" of their known neighbours, ring by ring (the paper), or "mirror", the
            features mirrored at the edge of the hole (`functional.mirrored_places`).
        engine: "dense" computes every position; "rows" only those that are needed, from the first layer on from which
            the network allows it (`row_engine`); "auto" decides on a CPU for each batch in eval mode which is cheaper,
            and is dense elsewhere. Both give the same result but for rounding.
        checkpoint_segments: parts into which a training pass is cut, each computed again in the backward pass instead
            of being kept, which saves memory; 0 keeps everything. A network's own checkpointing is not used.

    Raises:
        UnsupportedNetworkError: naming the layer and operation without a rule, and how to add one.
        TypeError: the network is no module.
        InputError: the padding is unknown, or the network has layer masking already.

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
        engine: Engine = "auto",
        checkpoint_segments: int = 0,
    ) -> None:
        super().__init__()
        check_network(network)
        if isinstance(network, LayerMasking):
            raise InputError("network must be a plain one, but has layer masking already; take it as it is.")
        if padding not in PADDINGS:
            raise InputError(f"padding must be one of {', '.join(PADDINGS)}, got '{padding}'; choose one of these.")
        self.options = MaskingOptions(merge, detach_padding, padding)
        self.network = network
        self.engine = engine
        self.checkpoint_segments = checkpoint_segments
        self._compiled: dict[int, Reading] = {}
        self._readings = [self._read(training=training) for training in (False, True)]
        self.row_suffix = self._readings[0].row_suffix
        if engine == "rows" and self.row_suffix is None:
            raise UnsupportedNetworkError(
                f"{type(network).__name__} cannot be computed on rows, which takes ungrouped convolutions, batch norm "
                "and sums up to global pooling, merged by intersection; set engine to 'auto'."
            )
        self._last_mask: tuple[bool, Tensor, VisibleMap | None] | None = None
        self.training = network.training
        self.register_state_dict_post_hook(_without_prefix)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_with_prefix)  # type: ignore[no-untyped-call]

    def forward(self, images: Tensor, visible: Tensor | None = None) -> Any:
        """The network's output for images of which only `visible` may be seen.

        Args:
            images: (B, C, H, W) float, as the network expects them (normalised).
            visible: (B, 1, H, W) bool, True where a pixel may be seen; None for all, exactly the plain network.

        Returns:
            What the network returns: logits (B, num_classes), or maps (B, C, h, w), alone or in dictionaries, lists
            and tuples, with 0 where a map is hidden (`coverage` says where that is). With everything visible in eval
            mode it is equal to the plain network's bit for bit; with nothing visible it is finite.

        Raises:
            TypeError, InputError: `images` are integers, or fit neither `visible` nor the network, a visible pixel is
                NaN (not asked on an accelerator, nor when compiled), or `torch.jit` traces the call.

        Warns:
            UserWarning: a visible pixel lies beyond -16 or 16, as bytes do; looked at on a CPU, in the first image.
        """
        if torch.compiler.is_compiling():
            return self._answer(images, visible)
        try:
            return self._answer(images, visible)
        except RuntimeError as error:
            reason = why_it_failed(self.network, images)
            if reason is None:
                raise
            raise reason from error

    def _answer(self, images: Tensor, visible: Tensor | None) -> Any:
        if visible is None:
            return self.network(images)
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            self.__prepare_scriptable__()
        check_visible(images, visible)
        check_images(images)
        warn_of_bytes(images, visible)
        visible_map = self._map_of(visible)
        if not self.training and not torch.compiler.is_compiling() and visible_map.is_all_visible:
            _refuse_nan(images)
            return self.network(images)
        # Zero instead of what the caller left there: a NaN would reach weight gradients through 0 x NaN.
        shown = hide(images, visible)
        if visible_map.may_be_read:
            _refuse_nan(shown)
        return as_tensors(self._run(Masked(shown, visible_map)))

    def _map_of(self, visible: Tensor) -> VisibleMap:
        """The map of a mask; on a CPU a mask that comes again and again keeps its map, with all that is planned."""
        if visible.device.type != "cpu" or torch.compiler.is_compiling():
            return VisibleMap(visible, self.options)
        in_inference_mode = torch.is_inference_mode_enabled()  # whose tensors no gradient can go through
        last = self._last_mask
        if last is None or last[0] != in_inference_mode or not torch.equal(last[1], visible):
            self._last_mask = in_inference_mode, visible.clone(), None
            return VisibleMap(visible, self.options)
        visible_map = last[2] or VisibleMap(last[1], self.options)
        self._last_mask = in_inference_mode, last[1], visible_map
        return visible_map

    def with_padding(self, padding: PaddingRule) -> "LayerMasking":
        """The same network under another padding, with all other options as here; weights are shared."""
        if padding == self.options.padding:
            return self
        options = asdict(replace(self.options, padding=padding))
        engine, segments = self.engine, self.checkpoint_segments
        return LayerMasking(self.network, engine=engine, checkpoint_segments=segments, **options)

    def __prepare_scriptable__(self) -> NoReturn:
        """Refuse TorchScript: `torch.jit.script` calls this for each module that it reads."""
        raise InputError(
            "layer masking plans anew for each mask, which torch.jit.trace and torch.jit.script cannot record; export "
            "it with torch.export.export, or with torch.onnx.export and dynamo=True."
        )

    def _run(self, images: Masked) -> Any:
        reading = self.read()
        program = reading.program
        if program.state.trains and not torch.compiler.is_compiling():
            self._forget_folded()
        if reading.calls_hooks:
            return run_with_hooks(program, self.network, images)
        if program.state.trains and self.checkpoint_segments and torch.is_grad_enabled():
            return run_in_segments(program, self.network, images, self.checkpoint_segments)
        values: dict[str, Any] = {program.input_name: images}
        may_be_read = images.visible.may_be_read  # neither compiled nor on an accelerator
        takes_rows = may_be_read or (self.engine == "rows" and not torch.compiler.is_compiling())
        suffix = reading.row_suffix if takes_rows else None
        is_exact = may_be_read and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
        folded = reading.folded if is_exact else None
        run_steps = partial(program.run_steps, self.network, values, dropped=reading.dropped, folded=folded)
        start = 0
        if suffix is not None:
            run_steps(0, suffix.start)
            entry, start = values[suffix.entry], suffix.start
            plan = plan_suffix(program, self.network, suffix, entry.visible)
            if self.engine == "rows" or plan.share <= LARGEST_SHARE:
                pool, start = program.steps[suffix.end - 1].name, suffix.end
                values[pool] = run_suffix(program, self.network, suffix, plan, entry, folded)
        run_steps(start, len(program.steps))
        return program.output_of(values)

    def _forget_folded(self) -> None:
        """Training changes weights, by optimisers that write through `.data` as well."""
        for folding in (each for reading in self._readings for each in reading.folded.values()):
            folding.fold.forget()

    def read(self) -> Reading:
        """What is known of the network in its present state, the modes and settings of its modules.

        A state that is new is read first, which takes about as long as a forward pass; the last few are kept.

        Raises:
            UnsupportedNetworkError: in this state an operation has no rule.
        """
        if torch.compiler.is_compiling():
            reading = self._compiled[self._read_for_compiler()]
            reading.program.state.guard(self.network)
            return reading
        for reading in self._readings:
            is_same, has_hooks = reading.program.state.compare(self.network)
            if is_same and has_hooks == reading.calls_hooks:
                return reading
        reading = self._read(calls_hooks=any(map(is_hooked, self.network.modules())))
        with _LOCK:
            self._readings = [reading, *self._readings[: _KEPT - 1]]
        return reading

    def _read_for_compiler(self) -> int:
        refuse_hooks_when_compiled(self.network)
        number = len(self._compiled)
        self._compiled[number] = self._read(calls_hooks=False)
        return number

    # As torch.compiler.assume_constant_result marks a function; that imports the compiler, which takes seconds.
    _read_for_compiler._dynamo_marked_constant = True  # type: ignore[attr-defined]

    def _read(self, *, training: bool | None = None, calls_hooks: bool = False) -> Reading:
        network = self.network
        program = read_program(network, training=training, separates_calls=calls_hooks)
        if calls_hooks or program.state.trains:
            return Reading(program, calls_hooks)
        row_suffix = None if self.engine == "dense" else find_row_suffix(program, network, self.options)
        folded = find_folded(program, network)
        if row_suffix is not None:
            folded.pop(row_suffix.entry, None)  # rows normalise by themselves
        return Reading(program, calls_hooks, find_dropped(program, network, self.options), folded, row_suffix)

    def __getstate__(self) -> dict[str, Any]:
        """Without what can be read again, which holds functions that cannot be pickled."""
        return {**super().__getstate__(), "_readings": [], "_compiled": {}, "_last_mask": None}  # type: ignore[no-untyped-call]

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
        check_visible(images, visible)
        masked_images = Masked(hide(images, visible), VisibleMap(visible, self.options))
        reading = self.read()
        if not reading.calls_hooks:
            output: Masked | Tensor = reading.program.run_to(self.network, masked_images, layer)
            return output
        outputs: dict[str, Any] = {}
        reading.program.name_of(self.network, layer)
        run_with_hooks(reading.program, self.network, masked_images, watch=outputs.__setitem__)
        found: Masked | Tensor = outputs[layer]
        return found

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
        """
        with mode(self.network, training=False):
            program = self.read().program
            channels = channels_of(program, self.network) if channels is None else channels
            dtype = next((each.dtype for each in self.network.parameters()), torch.float32)
            size = visible.shape[0], channels, *visible.shape[2:]
            images = torch.zeros(size, dtype=dtype, device=visible.device)
            check_visible(images, visible)
            covered = CoveredMap(visible, self.options, coverage=visible.float())
            return carry_coverage(program, self.network, Masked(images, covered))

    @torch.no_grad()
    def plan(self, images: Tensor, visible: Tensor) -> Plan:
        """What is done to each layer for a given mask: rule, resolution, rings of padding, visible fraction.

        Args:
            images: (B, C, H, W) float; only their shape matters.
            visible: (B, 1, H, W) bool; fractions are means over the batch.

        Returns:
            A list of rows that prints as a table, for the forward pass in eval mode.
        """
        check_visible(images, visible)
        rows = Plan()
        masked_images = Masked(hide(images, visible), VisibleMap(visible, self.options))
        with mode(self.network, training=False):
            run_with_hooks(
                self.read().program,
                self.network,
                masked_images,
                lambda step, result: rows.extend(plan_rows(step, self.network, result)),
            )
        return rows


def _refuse_nan(shown: Tensor) -> None:
    if shown.sum().isnan() and shown.isnan().any():
        index = int(shown.isnan().flatten(1).any(dim=1).nonzero()[0])
        raise InputError(
            f"visible pixels must be numbers, got NaN at a visible pixel of image {index} of the batch; hide such "
            "pixels, as visible_from(images) does."
        )


def _without_prefix(_module: nn.Module, state_dict: dict[str, Any], prefix: str, _local_metadata: Any) -> None:
    inner = prefix + _PREFIX
    keys = [key for key in state_dict if key.startswith(inner)]
    state_dict.update({prefix + key.removeprefix(inner): value for key, value in _taken_out(state_dict, keys)})


def _with_prefix(_module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    keys = [key for key in state_dict if key.startswith(prefix)]
    state_dict.update(
        {prefix + _PREFIX + key.removeprefix(prefix): value for key, value in _taken_out(state_dict, keys)}
    )


def _taken_out(state_dict: dict[str, Any], keys: list[str]) -> list[tuple[str, Any]]:
    """All of them at once: a network may have both 'x' and 'network.x', and one's new name is the other's old one."""
    return [(key, state_dict.pop(key)) for key in keys]
