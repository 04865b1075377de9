"""`Arrangement`: where the positions of a mask lie in features of any shape: maps, tokens, windows and attention.

Each axis of features is made of parts, each of which numbers channels or a stretch of an axis of the mask. Views
and permutes split and order parts; whether a mask varies along an axis follows from them, whatever its values.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import groupby, permutations
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from maskrobust.lm_modules.masking.axes import Axes, images_first
from maskrobust.lm_modules.masking.table import OWN_RULE

if TYPE_CHECKING:
    from maskrobust.lm_modules.masking.visible_map import VisibleMap


class Part(NamedTuple):
    """A factor of the length of an axis of features, larger than 1.

    Attributes:
        size: how many.
        source: the axis of `Places.shown` that it numbers, 0 for the images; None for channels.
        step: how many of that axis lie between two that it numbers.
    """

    size: int
    source: int | None = None
    step: int = 1


Axis = tuple[Part, ...]
IMAGES = 0


@dataclass(eq=False)
class Places:
    """Which positions are visible, in no order of their own; with what has been made from them so far.

    Attributes:
        shown: (B, ...) bool; 1 image long where it is the same for all.
        like: a map from which others can be made.
        is_map: whether the positions are those of `like`.
        windows: how many windows of each image are taken for images.
        factors: the queries and keys (transposed) whose product these positions are; None otherwise.
    """

    shown: Tensor
    like: "VisibleMap"
    is_map: bool = False
    windows: int = 1
    factors: tuple["Arrangement", "Arrangement"] | None = None
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What is made, computed once for each key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


@dataclass(frozen=True)
class Arrangement:
    """The positions of features: for each axis the parts that it is made of, the outermost first."""

    places: Places
    axes: tuple[Axis, ...]

    def varies(self, axis: int) -> bool:
        """Whether the mask may vary along an axis."""
        return _varies(self.axes[axis])

    @property
    def ends(self) -> bool:
        """Whether it varies between images at most."""
        return all(part.source in (None, IMAGES) for axis in self.kinds for part in axis)

    @property
    def kinds(self) -> list[Axis]:
        """The axes with 0 for the source of the images, 1 for that of positions, such as windows taken for images."""
        return [tuple(kind for part in axis for kind in self._kinds(part)) for axis in self.axes]

    def _kinds(self, part: Part) -> Axis:
        if part.source != IMAGES:
            return (Part(part.size, part.source and 1),)
        windows = min(part.size, max(self.places.windows // part.step, 1))
        return tuple(Part(size, kind) for kind, size in enumerate((part.size // windows, windows)) if size > 1)

    @property
    def positions(self) -> Tensor:
        """The mask, bool, as long as the features where it varies, and 1 elsewhere."""
        positions: Tensor = self.places.once(("positions", self.axes), self._positions)
        return positions

    def _positions(self) -> Tensor:
        parts = [part for axis in self.axes for part in axis if part.source is not None]
        order = sorted(range(len(parts)), key=lambda at: (parts[at].source, -parts[at].step))
        shown = self.places.shown.reshape([parts[at].size for at in order])
        shown = shown.permute([order.index(at) for at in range(len(parts))])
        axes = varying(self.axes)
        split = [1 if part.source is None else part.size for axis in axes for part in axis]
        full = [part.size for axis in axes for part in axis]
        return shown.reshape(split).expand(full).reshape([length(axis) for axis in axes])

    def with_axes(self, axes: Sequence[Axis]) -> "Arrangement":
        """The same positions elsewhere."""
        return Arrangement(self.places, tuple(axes))

    def viewed(self, shape: Sequence[int]) -> "Arrangement":
        """After a view.

        Raises:
            NotImplementedError: an axis would be cut where channels and positions mix.
        """
        axes, cut = self._cut(shape), self
        if axes is None:
            cut = self.whole
            axes = cut._cut(shape)
        if axes is None:
            raise NotImplementedError(
                f"layer masking cannot follow positions through a view of shape {self.shape} as {tuple(shape)}."
            )
        return cut.with_axes(axes)

    @property
    def whole(self) -> "Arrangement":
        """The same with one part for the positions of each axis."""
        made: Arrangement = self.places.once(
            ("whole", self.axes), lambda: remade(self.positions, self.kinds, self.places.like)
        )
        return made

    def _cut(self, shape: Sequence[int]) -> list[Axis] | None:
        """The axes of a view; None where a part of two factors would be cut in another way."""
        rest, axes = [part for axis in reversed(self.axes) for part in reversed(axis)], []
        for size in shape:
            axis: list[Part] = []
            missing = size
            while missing > 1:
                part = rest.pop()
                taken = math.gcd(part.size, missing)
                if taken not in (part.size, missing):
                    return None
                if taken < part.size:
                    inner = part.size // taken
                    rest.append(part._replace(size=inner))
                    part = part._replace(size=taken, step=1 if part.source is None else part.step * inner)
                axis.append(part)
                missing //= part.size
            axes.append(_joined(axis))
        return axes

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the features."""
        return tuple(map(length, self.axes))

    def permuted(self, order: Sequence[int]) -> "Arrangement":
        """After a permute."""
        return self.with_axes([self.axes[at] for at in order])

    def without(self, removed: Sequence[int]) -> "Arrangement":
        """Without some axes, along which it does not vary."""
        return self.with_axes([axis for at, axis in enumerate(self.axes) if at not in removed])

    def with_axis(self, at: int, size: int = 1) -> "Arrangement":
        """With a new axis of channels."""
        return self.with_axes([*self.axes[:at], channels(size), *self.axes[at:]])

    def resized(self, shape: Sequence[int]) -> "Arrangement":
        """In a shape that features are broadcast to, or that has other channels."""
        axes = [()] * (len(shape) - len(self.axes)) + [*self.axes]
        return self.with_axes(
            [
                axis if length(axis) == size else self._as_channels(axis, size)
                for axis, size in zip(axes, shape, strict=True)
            ]
        )

    def _as_channels(self, axis: Axis, size: int) -> Axis:
        if _varies(axis):
            raise NotImplementedError(f"layer masking cannot make {size} positions of {length(axis)}.")
        return channels(size)

    def met(self, others: Sequence["Arrangement"], shape: Sequence[int], *, in_any: bool = False) -> "Arrangement":
        """What is visible in all of several operands of one shape, or in any."""
        first, *rest = (each.resized(shape) for each in (self, *others))
        rest = [each for each in rest if each != first]
        if not rest:
            return first

        def meet() -> Arrangement:
            mask = first.positions
            for each in rest:
                mask = mask | each.positions if in_any else mask & each.positions
            axes = [*map(united, zip(*(each.kinds for each in (first, *rest)), strict=True))]
            return remade(mask, axes, first.places.like)

        met: Arrangement = first.places.once(("met", first.axes, tuple(rest), in_any), meet)
        return met

    def sliced(self, axis: int, start: int, size: int, step: int = 1) -> "Arrangement":
        """Some of an axis.

        Raises:
            NotImplementedError: images would be taken apart.
        """
        parts = self.axes[axis]
        if size == length(parts):
            return self
        if any(part.source == IMAGES for part in self.kinds[axis]):
            raise NotImplementedError(f"layer masking keeps all images; {OWN_RULE}")
        if not self.varies(axis) or (size == 0 and not self.places.is_map):
            return self.with_axes([*self.axes[:axis], channels(size), *self.axes[axis + 1 :]])
        (part, *more), shown = parts, self.places.shown
        if more or part.source is None or part.size != shown.shape[part.source]:
            if len(self.whole.axes[axis]) > 1:
                raise NotImplementedError("layer masking cannot slice positions and channels that one axis mixes.")
            return self.whole.sliced(axis, start, size, step)
        source = part.source
        place, key = slice(start, start + size * step, step), ("slice", source, start, size, step)
        if self.places.is_map:
            numbered = (slice(None),) * (source + 1) + (place,)
            places = self.places.like.derive(key, lambda numbers: numbers[numbered]).places
        else:
            own = (slice(None),) * source + (place,)
            places = self.places.once(key, lambda: Places(shown[own], self.places.like, windows=self.places.windows))
        new = (part._replace(size=size),) if size > 1 else ()
        return Arrangement(places, (*self.axes[:axis], new, *self.axes[axis + 1 :]))

    def reduced(self, over: Sequence[int]) -> "Arrangement":
        """Visible where any is along some axes, which are 1 long."""

        def reduce() -> Arrangement:
            mask = self.positions
            for axis in over:
                mask = mask.any(axis, keepdim=True)
            return remade(mask, axes, self.places.like)

        if any(part.source == IMAGES for axis in over for part in self.kinds[axis]):
            raise NotImplementedError("layer masking reduces over no images.")
        if not any(map(self.varies, over)):
            return self.with_axes([() if at in over else axis for at, axis in enumerate(self.axes)])
        axes = [() if at in over else axis for at, axis in enumerate(self.kinds)]
        made: Arrangement = self.places.once(("reduced", self.axes, tuple(over)), reduce)
        return made

    @property
    def map_and_axes(self) -> tuple["VisibleMap", Axes] | None:
        """The map, or one whose positions are transposed, and where images and positions lie, if each is one axis."""
        if torch.compiler.is_exporting():  # sizes may be symbols, which have no hash
            return self._map_and_axes()
        found: tuple[VisibleMap, Axes] | None = self.places.once(("axes", self.axes), self._map_and_axes)
        return found

    def _map_and_axes(self) -> tuple["VisibleMap", Axes] | None:
        like, count = self.places.like, len(self.axes)
        wanted = [(Part(side, source),) if side > 1 else () for source, side in enumerate(like.size)]
        shown = [axis for axis in self.axes if _varies(axis)]
        if (
            not self.places.is_map
            or sorted(map(len, shown)) != [1] * sum(map(bool, wanted))
            or any(axis not in wanted for axis in shown)
        ):
            return None
        usual = [axes for axes in (like.axes, tuple(range(len(wanted)))) if axes[-1] < count]
        for images, *places in (*usual, *permutations(range(count), len(wanted))):
            if images < min(places) and [self.axes[axis] for axis in (images, *places)] == wanted:
                return like.transposed([places.index(place) for place in sorted(places)]), (images, *sorted(places))
        return None

    def as_map(self) -> tuple["VisibleMap", Axes]:
        """The map of features (B, C, *size) or (B, *size, C), and where images and their positions lie.

        Raises:
            NotImplementedError: they are none.
        """
        count = len(self.axes) - 2
        if not 1 <= count <= 3 or (self.varies(1) and self.varies(-1)):
            raise NotImplementedError(
                f"layer masking needs a map such as (B, C, H, W) here, got positions along the axes "
                f"{[at for at in range(len(self.axes)) if self.varies(at)]} of shape {self.shape}, as tokens are."
            )
        axes = tuple(range(count + 1)) if self.varies(1) else images_first(count)
        known = self.map_and_axes
        if known is not None and known[1] == axes:
            return known
        size = [self.shape[axis] for axis in axes]

        def make() -> "VisibleMap":
            shown = self.positions.squeeze(-1 if self.varies(1) else 1).expand(size)
            of_image = math.prod([part.size for part in self.kinds[axes[0]] if part.source == IMAGES])
            return self.places.like.alike(shown[:, None].contiguous(), size[0] // of_image)

        return self.places.once(("map", self.axes), make), axes


def product(a: Arrangement, b: Arrangement, shape: Sequence[int]) -> Arrangement:
    """Of a matrix product: a result is visible where any two factors of a term of it are."""
    batch = shape[:-2]
    a, b = a.resized([*batch, *a.shape[-2:]]), b.resized([*batch, *b.shape[-2:]])
    if attends_to_itself(a, b):
        assert a.places.factors is not None
        queries = a.places.factors[0]
        return queries.resized([*batch, shape[-2], shape[-1]])

    def multiply() -> Arrangement:
        over = a.axes[-1] if a.varies(-1) else b.axes[-2]
        if not _varies(over):
            mask = a.positions & b.positions
        else:
            left = a.positions.expand(*a.positions.shape[:-1], length(over))
            right = b.positions.expand(*b.positions.shape[:-2], length(over), b.positions.shape[-1])
            mask = left.float() @ right.float() > 0
        axes = [*map(united, zip(a.kinds[:-2], b.kinds[:-2], strict=True))]
        made = remade(mask, [*axes, a.kinds[-2], b.kinds[-1]], a.places.like)
        if a.varies(-2) and b.varies(-1):
            made.places.factors = a, b
        return made

    made: Arrangement = a.places.once(("product", a.axes, b), multiply)
    return made


def attends_to_itself(weights: Arrangement, values: Arrangement) -> bool:
    """Whether each query is one of the keys, whose values these are, so that the result is as visible as the query."""
    if weights.places.factors is None:
        return False
    queries, keys = weights.places.factors
    return (
        queries.places is keys.places is values.places
        and varying(queries.axes[:-2]) == varying(keys.axes[:-2]) == varying(values.axes[:-2])
        and queries.axes[-2] == keys.axes[-1] == values.axes[-2]
        and not queries.varies(-1) and not values.varies(-1)
        and [_varies(axis) for axis in weights.axes] == [*map(_varies, queries.axes[:-1]), True]
    )  # fmt: skip


def remade(mask: Tensor, axes: Sequence[Axis], like: "VisibleMap") -> Arrangement:
    """Positions of their own for a mask that has been computed.

    Args:
        mask: bool, as long as the features where it varies, and 1 elsewhere.
        axes: of the features, as `Arrangement.kinds` are.
        like: a map from which others can be made.
    """
    lengths: list[int] = []
    kept: list[bool] = []
    made: list[Axis] = []
    images, source = None, 1
    for axis in axes:
        parts: list[Part] = []
        for kind, run in groupby(axis, key=lambda part: part.source):
            size = math.prod([part.size for part in run])
            if not _varies(axis):
                parts.append(Part(size))
                continue
            if kind == IMAGES and images is not None:
                raise NotImplementedError("layer masking keeps the images together.")
            if kind == IMAGES:
                images = len([each for each in kept if each])
            lengths.append(size)
            kept.append(kind is not None)
            parts.append(Part(size, kind if kind is None or kind == IMAGES else source))
            source += kind == 1
        made.append(tuple(parts))
    shown = mask.reshape(lengths)[tuple(slice(None) if each else 0 for each in kept)]
    shown = shown[None] if images is None else shown.movedim(images, 0)
    return Arrangement(Places(shown, like), tuple(made))


def united(axes: Sequence[Axis]) -> Axis:
    """What an axis is made of along which several operands vary, by `Arrangement.kinds`."""
    along = sorted(filter(_varies, dict.fromkeys(axes)), key=lambda axis: all(part.source != IMAGES for part in axis))
    if len(along) < 2:
        return along[0] if along else axes[0]
    return tuple(part._replace(source=1) if part.source is None else part for part in along[0])


def channels(size: int) -> Axis:
    """An axis along which nothing varies."""
    return (Part(size),) if size > 1 else ()


def several(size: int) -> Axis:
    """An axis of positions in an order of their own."""
    return (Part(size, 1),) if size > 1 else ()


def length(axis: Axis) -> int:
    """How long an axis is."""
    return math.prod([part.size for part in axis])


def _varies(axis: Axis) -> bool:
    return any(part.source is not None for part in axis)


def varying(axes: Sequence[Axis]) -> list[Axis]:
    """The axes along which a mask varies; those of channels without parts."""
    return [axis if _varies(axis) else () for axis in axes]


def _joined(axis: Sequence[Part]) -> Axis:
    """Neighbouring parts that number one stretch together are one."""
    joined: list[Part] = []
    for part in axis:
        last = joined[-1] if joined else None
        if last is not None and last.source is part.source is None:
            joined[-1] = Part(last.size * part.size)
        elif last is not None and last.source == part.source and last.step == part.size * part.step:
            joined[-1] = part._replace(size=last.size * part.size)
        else:
            joined.append(part)
    return tuple(joined)
