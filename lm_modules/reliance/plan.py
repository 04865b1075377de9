"""`ReliancePlan`: which measures are computed, on which holes."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from maskrobust.augment import FAMILIES, FamilyName, family_needs
from maskrobust.errors import InputError, check_at_least, check_within
from maskrobust.lm_modules.reliance.holes.curves import CURVE_FAMILIES, CURVE_ORDERS, CurveFamily, CurveOrder
from maskrobust.lm_modules.reliance.holes.own import MENDING_FILLS


@dataclass(frozen=True)
class ReliancePlan:
    """Which measures are computed, and on which holes.

    Attributes:
        shapes: whether to hide objects along their outline and by their enclosing circle.
        shape_choice: whether to hide the shapes of two other objects where each picture's own was, too, by which it is
            decided whether a network reads outlines. It takes two passes.
        hidden_fractions: fractions in [0, 1] of the patches that are hidden at random.
        patch_size: side of a patch in pixels.
        curve_families: segments of the retention curves: patches, slic, quickshift. Empty: no curves.
        curve_orders: orders in which segments are hidden: random, most_salient, least_salient.
        curve_fractions: fractions in [0, 1] of the image to hide.
        transfer_families: mask families of the transfer matrix. Empty: no matrix.
        transfer_fraction: hidden fraction of the image in the transfer matrix, in [0, 1], for families that can choose
            it.
        sampled_fraction: fraction in (0, 1] of the images that curves and matrix use. (seed, sample id) decides which.
        scenes: number of empty scenes for the outline pull. 0: no outline pull.
        scene_objects: largest number of objects whose shapes are cut into each empty scene.
        own_holes: how many pairs of other images lend their holes to each image, where images have some of their own.
            A pair takes two passes, and exchanged holes take one. 0: nothing is asked about own holes.
        own_measures: your own measures, named with their module as in my_module.my_measure.

    Raises:
        InputError: a number leaves its range, or a name is unknown.
    """

    shapes: bool = True
    shape_choice: bool = True
    hidden_fractions: tuple[float, ...] = (0.5,)
    patch_size: int = 16
    curve_families: tuple[CurveFamily, ...] = ()
    curve_orders: tuple[CurveOrder, ...] = CURVE_ORDERS
    curve_fractions: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    transfer_families: tuple[FamilyName, ...] = ()
    transfer_fraction: float = 0.5
    sampled_fraction: float = 0.25
    scenes: int = 0
    scene_objects: int = 200
    own_holes: int = 0
    own_measures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Take lists for tuples, as configuration files give them, each entry once, and check every value."""
        for field in fields(self):
            if isinstance(value := getattr(self, field.name), list | tuple):
                object.__setattr__(self, field.name, tuple(dict.fromkeys(value)))
        check_within("[0, 1]", "hidden_fractions", *self.hidden_fractions)
        check_within("[0, 1]", "curve_fractions", *self.curve_fractions)
        check_within("[0, 1]", "transfer_fraction", self.transfer_fraction)
        check_within("(0, 1]", "sampled_fraction", self.sampled_fraction)
        for name, smallest in (("patch_size", 1), ("scenes", 0), ("scene_objects", 2), ("own_holes", 0)):
            check_at_least(name, getattr(self, name), smallest)
        for name, choices in (("curve_families", CURVE_FAMILIES), ("curve_orders", CURVE_ORDERS)):
            unknown = [choice for choice in getattr(self, name) if choice not in choices]
            if unknown:
                raise InputError(f"{name} must be some of {', '.join(choices)}, got '{unknown[0]}'; name these.")
        for family in self.transfer_families:
            FAMILIES.find(family, "transfer_families")
        if self.curve_families and not (self.curve_orders and self.curve_fractions):
            raise InputError("curves need at least one of curve_orders and curve_fractions, got none; name some.")

    @classmethod
    def union(cls, plans: Iterable[Self]) -> Self:
        """A plan that asks all that any of several plans asks, in the order in which they name it.

        Args:
            plans: at least one, with equal numbers, or numbers of which the largest asks all.
        """
        found = list(plans)
        with_curves = [plan for plan in found if plan.curve_families] or found
        together: dict[str, Any] = {}
        for each in fields(cls):
            values = [getattr(plan, each.name) for plan in (with_curves if "curve" in each.name else found)]
            if isinstance(values[0], tuple):
                together[each.name] = tuple(dict.fromkeys(entry for value in values for entry in value))
            else:
                together[each.name] = max(values)
        return cls(**together)

    def under(self, method: str) -> Self:
        """What of the plan can be asked under a masking method: of a fill that mends, nothing about own holes."""
        return replace(self, own_holes=0) if method in MENDING_FILLS else self

    def without_objects(self) -> Self:
        """What of the plan can be asked about images without object masks."""
        orders = tuple(each for each in self.curve_orders if each == "random")
        return replace(
            self,
            shapes=False,
            scenes=0,
            curve_families=self.curve_families if orders else (),
            curve_orders=orders,
            transfer_families=tuple(
                each for each in self.transfer_families if family_needs(each).isdisjoint(("bank", "object_mask"))
            ),
        )


INVERTED = (
    "most object masks cover half of the picture or all of its corners; are they inverted? An object is white, and "
    "what is around it black."
)
"""What is asked where `SilhouetteBank.seem_inverted`."""

WITHOUT_OBJECTS = (
    "no image has an object mask: all that is about outlines, scenes, curves by saliency and "
    "silhouettes in the transfer matrix are left out"
)
"""What `ReliancePlan.without_objects` leaves out, in words."""

WITHOUT_HOLES = "no image has a hole of its own, so nothing is said of such holes"
"""What is left out where a data module may hide pixels and hides none, in words."""
