"""Explanations as one HTML page: a row an image, a column a masking method, on one diverging colour scale."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskrobust.lm_modules.explanation.explained import Explained, ExplainedImage
from maskrobust.lm_modules.explanation.explainers.registry import find_explainer
from maskrobust.lm_modules.explanation.judges.agreement import mean_rank_correlation
from maskrobust.lm_modules.explanation.overlays import (
    AGAINST_CLASS,
    FOR_CLASS,
    Overlay,
    centres,
    difference_overlay,
    faded_overlay,
    grey,
    score_overlay,
    shown_scores,
    strongest,
)
from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.report.judged import TRUSTED, curve_charts, judged_tables, segments_title
from maskrobust.train.report.templates import compact_json, render_template
from maskrobust.train.report.wording import compact, decimal, method_title

_ALONE = 0.15
MOST_IMAGES = 20
"""Images that the page shows."""
_NUMBERED = 5
_ORANGE, _BLUE = 2, 5
"""Numbers of colours of the page."""

_SCALES = {"probability": "probability", "logit": "logit", "log_odds": "log-odds"}


class Bar(NamedTuple):
    """A score with its interval.

    Attributes:
        number: of its segment on the picture.
        text: the score.
        value: where it stands on the line's scale, in percent; so do the next.
        low: lower bound, the score where there is none.
        high: upper bound.
        zero: where 0 is.
        colour: number of a colour of the page.
        margin: none, for the page's bars have one elsewhere.
    """

    number: int
    text: str
    value: float
    low: float
    high: float
    zero: float
    colour: int
    margin: None = None


class Cell(NamedTuple):
    """One explanation.

    Attributes:
        title: of the masking method.
        overlay: its scores.
        alone: what fades all but its strongest segments.
        r_squared: held-out, in words; empty for an explainer without a surrogate.
        is_weak: whether that is below `TRUSTED`.
        bars: of the segments that are numbered.
    """

    title: str
    overlay: Overlay
    alone: Overlay
    r_squared: str
    is_weak: bool
    bars: list[Bar]


class Line(NamedTuple):
    """One explainer's explanations of one class, under every masking method.

    Attributes:
        view: its places among explainers, segmentations and classes.
        class_name: that is explained.
        probability: of that class, for the whole image.
        largest: the score that has the full colour.
        places: number and position, in percent from left and top, of the segments with the strongest scores.
        cells: one for each masking method.
        difference: how far the methods differ, at most and as drawn over the picture; None for a single method.
        alike: mean rank correlation between methods, in words.
    """

    view: tuple[int, int, int]
    class_name: str
    probability: float
    largest: str
    places: list[tuple[int, float, float]]
    cells: list[Cell]
    difference: Overlay | None
    alike: str


class ImageRows(NamedTuple):
    """One image as one network sees it.

    Attributes:
        title: of the image.
        number: of the image, from 1.
        network: its name, empty where there is one alone.
        predicted: the likeliest class.
        confidence: its probability.
        lines: one for each view.
    """

    title: str
    number: int
    network: str
    predicted: str
    confidence: float
    lines: list[Line]


def render_explanations(
    content: Mapping[str, Any], rows: Sequence[Row], images: Mapping[str, ExplainedImage], class_names: Sequence[str]
) -> str:
    """One self-contained page; it loads nothing, runs nothing, and follows the system's light or dark.

    Args:
        content: that of explanations.json.
        rows: of the result table.
        images: by name, with their pictures.
        class_names: of all classes.

    Returns:
        HTML; equal arguments give equal text.
    """
    settings, methods = content["settings"], content["methods"]
    explainers, segments = settings["explainers"], settings["segments"]
    ranks = range(len(next(iter(images.values())).classes))
    if settings["judge"]:
        classes = ["the image's own"]
    elif isinstance(settings["targets"], str):
        classes = ["likeliest", *(f"{_ordinal(rank + 1)} likeliest" for rank in ranks[1:])]
    else:
        classes = [class_names[each] for each in next(iter(images.values())).classes]
    choices = {
        "Explainer": [find_explainer(each).title for each in explainers],
        "Segments": [segments_title(each) for each in segments],
        "Class": classes,
    }
    shown = dict(itertools.islice(images.items(), MOST_IMAGES))
    image_rows = [
        _image_rows(place, name, number, network, found, content, class_names)
        for place, (name, found) in enumerate(shown.items(), start=1)
        for number, network in enumerate(content["networks"])
    ]
    return render_template(
        "explanations.html.j2",
        ("page.css", "masks.css", "explanations.css"),
        content=content,
        choices=choices,
        methods=[method_title(each) for each in methods],
        pictures=[(each.picture, grey(each.picture)) for each in shown.values() if each.picture is not None],
        left_out=len(images) - len(shown),
        rows=image_rows,
        judged=judged_tables(rows, methods, several_networks=len(content["networks"]) > 1),
        curves=curve_charts([*images.values()], content) if settings["judge"] else [],
        curve_keys=[(number, method_title(each)) for number, each in enumerate(methods, start=2)],
        glance=_glance(content, images),
        scale=_SCALES[settings["scale"]],
        for_class="rgb({}, {}, {})".format(*FOR_CLASS),
        against_class="rgb({}, {}, {})".format(*AGAINST_CLASS),
        trusted=TRUSTED,
        alone=_ALONE,
        json=compact_json(content),
    )


def _image_rows(
    place: int,
    name: str,
    number: int,
    network: str,
    found: ExplainedImage,
    content: Mapping[str, Any],
    class_names: Sequence[str],
) -> ImageRows:
    settings = content["settings"]
    views = itertools.product(
        enumerate(settings["explainers"]), enumerate(settings["segments"]), enumerate(found.classes)
    )
    lines = []
    for (at_explainer, explainer), (at_segments, segments), (rank, label) in views:
        explanation = found.explanations[Explained(segments, explainer)]
        parts = [each[number, ..., rank] for each in explanation if each is not None]
        line = _line(found.segments[segments], explainer, parts, content["methods"])
        lines.append(
            line._replace(
                view=(at_explainer, at_segments, rank),
                class_name=class_names[label],
                probability=float(found.whole[number, rank]),
            )
        )
    several = len(content["networks"]) > 1
    predicted, confidence = class_names[found.predicted[number]], float(found.confidence[number])
    return ImageRows(name, place, network if several else "", predicted, confidence, lines)


def _line(
    labels: NDArray[np.integer[Any]], explainer: str, parts: Sequence[FloatArray], methods: Sequence[str]
) -> Line:
    """Of one view; what it is called is left empty.

    Args:
        labels: (H, W) segments.
        explainer: its name.
        parts: scores, low and high (T, M), R^2 (T,).
        methods: T masking methods.
    """
    raw, low, high, r_squared = parts
    scores = shown_scores(explainer, raw, axis=1)
    low, high = (np.where(np.isfinite(each), each - raw + scores, scores) for each in (low, high))
    largest = float(np.abs(scores).max())
    numbered = np.argsort(-np.abs(scores).max(axis=0), kind="stable")[:_NUMBERED]
    ends = min(0.0, low[:, numbered].min()), max(0.0, high[:, numbered].max())
    decimals = 2 - math.floor(math.log10(largest)) if largest > 0 else 2
    cells = []
    for place, method in enumerate(methods):
        bars = [
            _bar(number, scores[place, segment], (low[place, segment], high[place, segment]), ends, decimals)
            for number, segment in enumerate(numbered, start=1)
        ]
        held_out = float(r_squared[place])
        cells.append(
            Cell(
                method_title(method),
                score_overlay(labels, scores[place], largest),
                faded_overlay(strongest(labels, scores[place], _ALONE)),
                _r_squared_in_words(explainer, held_out),
                held_out < TRUSTED,
                bars,
            )
        )
    spread = scores.max(axis=0) - scores.min(axis=0)
    places = [
        (number, 100 * column, 100 * row) for number, (row, column) in enumerate(centres(labels, numbered), start=1)
    ]
    difference = difference_overlay(labels, spread, largest) if len(methods) > 1 else None
    return Line((0, 0, 0), "", 0.0, compact(largest), places, cells, difference, _alike(scores))


def _bar(number: int, value: float, interval: tuple[float, float], ends: tuple[float, float], decimals: int) -> Bar:
    reach = (ends[1] - ends[0]) or 1.0
    value_at, low_at, high_at, zero_at = (
        float(4 + 92 * np.clip((each - ends[0]) / reach, 0, 1)) for each in (value, *interval, 0.0)
    )
    text = f"{value:.{max(decimals, 0)}f}".replace("-", "−")
    return Bar(number, text, value_at, low_at, high_at, zero_at, _ORANGE if value > 0 else _BLUE)


def _r_squared_in_words(explainer: str, value: float) -> str:
    if not find_explainer(explainer).has_surrogate:
        return ""
    return "R² undefined: answers do not vary" if np.isnan(value) else f"R² {decimal(value)}"


def _alike(scores: FloatArray) -> str:
    value = mean_rank_correlation(scores)
    return "undefined" if np.isnan(value) else decimal(value)


def _glance(
    content: Mapping[str, Any], images: Mapping[str, ExplainedImage]
) -> list[tuple[str, list[tuple[str, bool]], str]]:
    """What the first table says of the first class, the mean over the images.

    For each explainer, segmentation and network: title, R^2 by masking method and whether it is low, and the mean rank
    correlation between methods.
    """
    lines = []
    settings = content["settings"]
    for explainer, segments, (number, network) in itertools.product(
        settings["explainers"], settings["segments"], enumerate(content["networks"])
    ):
        entry = find_explainer(explainer)
        title = f"{entry.title}, {segments_title(segments)}"
        several = len(content["networks"]) > 1
        found = [each.explanations[Explained(segments, explainer)] for each in images.values()]
        means = np.mean([each.r_squared[number, :, 0] for each in found if each.r_squared is not None], axis=0)
        scores = [each.scores[number, ..., 0] for each in found]
        cells = [(decimal(mean) if entry.has_surrogate else "no surrogate", bool(mean < TRUSTED)) for mean in means]
        alike = float(np.mean([mean_rank_correlation(each) for each in scores]))
        lines.append(
            (f"{title}, {network}" if several else title, cells, "undefined" if np.isnan(alike) else decimal(alike))
        )
    return lines


def _ordinal(number: int) -> str:
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number if number < 20 else number % 10, 'th') }"
