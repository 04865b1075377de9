"""The figures of claim.json and reliance.json as tables show them: heading, way of writing, definition."""

from collections.abc import Callable, Collection
from typing import NamedTuple

from maskrobust.train.report.wording import capitalised, compact, decimal, hidden_share, hundredths, percent


class Column(NamedTuple):
    """One figure.

    Attributes:
        key: its name in claim.json and reliance.json.
        title: a short heading.
        write: writes a value or a bound.
        definition: one or two sentences.
    """

    key: str
    title: str
    write: Callable[[float], str]
    definition: str

    def write_difference(self, value: float) -> str:
        """A difference of two such figures; of shares in percent it is in points, without the unit."""
        return hundredths(value) if self.write is percent else self.write(value)


class ColumnGroup(NamedTuple):
    """Figures that share a table.

    Attributes:
        identity: a short name for the table's id.
        title: heading of the table.
        columns: in order.
    """

    identity: str
    title: str
    columns: tuple[Column, ...]


_RETENTION = "retention"

_USED_SHARE = (
    "The headline: leak divided by what a network that sees nothing but outlines reads from them (accuracy of the "
    "mask-only probe minus share of the majority class). At 0 outlines are not read; at 1 they are read as well as by "
    "the probe; below zero they are read and mislead. Reliance is its magnitude."
)
_LEAK = (
    "Silhouette accuracy minus circle accuracy, paired image by image. Both holes remove the whole object; only the "
    "first leaves its outline. Below zero the outline is read too, and misleads."
)
_SWAP_PULL = (
    "How far a prediction follows another object's outline that is cut out of the image, against that of a third "
    "object of like area. Only the shape changes, so this is the causal effect of the shape. The interval takes the "
    "outlines that were swapped in as given."
)
_WHOLE_OVER_BROKEN = (
    "The paper's test: accuracy behind the object's mask over that behind the same mask with its quadrants swapped. "
    "The broken mask often leaves the object visible, so the quotient compares networks, and is no measure on its own."
)
_SILHOUETTE = (
    "Accuracy when the object is hidden exactly along its outline, and a blob elsewhere that does not touch it."
)
_CIRCLE = "Accuracy when the smallest circle around the object is hidden: as many pixels, the whole object, no outline."
_WHOLE = (
    "Of the images that are right when nothing is hidden, the share that stays right when the object alone is hidden "
    "along its outline. Over several seeds or networks, images count that any of them has right."
)
_BROKEN = "The same with the quadrants of the object's mask swapped before it is hidden."
_BITS = (
    "Mutual information between prediction and label behind the hole, in bits, corrected for bias. It sees any "
    "dependence, also where the outline misleads. In brackets: the interval under permuted labels, which is chance."
)
_FEATURES = (
    "Accuracy of a linear probe, trained on the penultimate features behind this hole and tested on other images."
)
_CARRIED = (
    "Feature accuracy behind the silhouette minus that behind the circle: how much of the outline the features still "
    "hold, whether the network uses it or not."
)
_SENSITIVITY = (
    "The largest change of any logit when the hidden pixels are redrawn. Exactly 0: what is hidden cannot matter."
)

INTERVAL_DEFINITION = (
    "Bootstrap intervals over images; over several seeds also over seeds, each resample drawing both. Fewer than five "
    "seeds make them too narrow where seeds differ more than images do: a 95\u202f% interval holds the truth in 50, "
    "75, 82 and 86\u202f% of cases with 2, 3, 4 and 5 seeds where the seed alone decides."
)

_OUTLINE_COLUMNS = (
    Column("used_share", "Used share", decimal, _USED_SHARE),
    Column("silhouette_leak", "Leak", decimal, _LEAK),
    Column("swap_pull", "Swap pull", decimal, _SWAP_PULL),
    Column("whole_over_broken", "Whole over broken", decimal, _WHOLE_OVER_BROKEN),
)
_HOLE_COLUMNS = (
    Column("silhouette_accuracy", "Silhouette hidden", percent, _SILHOUETTE),
    Column("circle_accuracy", "Circle hidden", percent, _CIRCLE),
    Column("whole_mask_accuracy", "Still right, whole mask", percent, _WHOLE),
    Column("broken_mask_accuracy", "Still right, broken mask", percent, _BROKEN),
)
_REMAINS_COLUMNS = (
    Column("information_silhouette", "Bits behind silhouette", decimal, _BITS),
    Column("information_circle", "Bits behind circle", decimal, "The same behind the circle."),
    Column("features_silhouette", "Features behind silhouette", percent, _FEATURES),
    Column("features_circle", "Features behind circle", percent, "The same behind the circle."),
    Column("carried_information", "Carried information", decimal, _CARRIED),
    Column("hidden_pixel_sensitivity", "Hidden-pixel sensitivity (logits)", compact, _SENSITIVITY),
)

LAYER_FIGURES = ("features_silhouette", "features_circle", "carried_information")
"""What is known of an inner layer."""


def column_groups(present: Collection[str], hidden_fraction: float | None = None) -> tuple[ColumnGroup, ...]:
    """The tables of figures, those about the outline first.

    Args:
        present: names of the figures that there are; columns without theirs are left out, and groups without any.
        hidden_fraction: share of patches hidden for the figure "retention"; figures like "retention_0.5" say theirs.
    """
    clean = Column("clean_accuracy", "Nothing hidden", percent, "Clean accuracy: accuracy with nothing hidden.")
    retention = [_retention(key, hidden_fraction) for key in present if key.split("_")[0] == _RETENTION]
    groups = (
        ColumnGroup("outline", "Reading the outline", _OUTLINE_COLUMNS),
        ColumnGroup("accuracy", "Accuracy", (clean, *retention, *_HOLE_COLUMNS)),
        ColumnGroup("remains", "What predictions and features still tell", _REMAINS_COLUMNS),
    )
    kept = (
        group._replace(columns=tuple(column for column in group.columns if column.key in present)) for group in groups
    )
    return tuple(group for group in kept if group.columns)


def _retention(key: str, hidden_fraction: float | None) -> Column:
    given = key.removeprefix(_RETENTION).removeprefix("_")
    hidden = hidden_share(float(given) if given or hidden_fraction is None else hidden_fraction)
    definition = f"Retention: accuracy when {hidden} of the square patches are hidden at random."
    return Column(key, f"{capitalised(hidden)} hidden", percent, definition)
