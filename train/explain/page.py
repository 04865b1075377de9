"""The HTML page of `maskrobust explain`: a row for each image, a column for each masking method."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from maskrobust.lm_modules.explanation.explained import Explained, ExplainedImage
from maskrobust.lm_modules.explanation.explanation_plan import EXPLAINERS
from maskrobust.lm_modules.explanation.overlays import (
    AGAINST_CLASS,
    FOR_CLASS,
    centres,
    faded_overlay,
    grey,
    score_overlay,
    strongest,
)
from maskrobust.lm_modules.explanation.scores import shown_scores
from maskrobust.lm_modules.reliance.arrays import FloatArray, rankable
from maskrobust.train.explain.config import QUICK
from maskrobust.train.report.blocks import Cell, Line, Section, download, facts, folded, html, prose, render_page, table
from maskrobust.train.report.sections.run import command_line, machine_facts
from maskrobust.train.report.wording import (
    compact,
    decimal,
    in_sentence,
    interval,
    listed,
    method_title,
)

MOST_IMAGES = 20
"""Images that the page shows."""

_UNFOLDED = 2
_ALONE = 0.15
_NUMBERED = 5

_SCALES = {"probability": "probability", "logit": "logit", "log_odds": "log-odds"}

TRUSTED = 0.5
"""Held-out R^2 below which the page warns."""

WARNING = "⚠ "

_SEGMENTS = {"slic": "SLIC", "quickshift": "Quickshift", "patches": "Patches"}


class Explanations(NamedTuple):
    """Everything that the page of `maskrobust explain` shows.

    Attributes:
        content: the content of explanations.json; its settings, masking methods (in the order of the columns) and names
            of networks follow.
        images: the images by name, with their pictures.
        class_names: names of all classes.
    """

    content: Mapping[str, Any]
    settings: Mapping[str, Any]
    methods: Sequence[str]
    networks: Sequence[str]
    images: Mapping[str, ExplainedImage]
    class_names: Sequence[str]


def _choices(shown: Explanations) -> dict[str, list[str]]:
    """What the reader picks: an explainer, segments, and a class."""
    settings, first = shown.settings, next(iter(shown.images.values())).classes
    if isinstance(settings["targets"], str):
        classes = ["likeliest", *(f"{_ordinal(rank + 1)} likeliest" for rank in range(1, len(first)))]
    else:
        classes = [shown.class_names[each] for each in first]
    return {
        "Explainer": [EXPLAINERS[each] for each in shown.settings["explainers"]],
        "Segments": [_SEGMENTS[each] for each in settings["segments"]],
        "Class": classes,
    }


def _style(shown: Explanations) -> Markup:
    """Each picture once, and rules that show the view which is picked."""
    return prose(
        "style",
        "explain",
        columns=2 + len(shown.methods),
        colour_for=FOR_CLASS,
        against=AGAINST_CLASS,
        pictures=[each.picture for each in _pictured(shown).values() if each.picture is not None],
        grey=grey,
        choices=_choices(shown).values(),
    )


def _pictured(shown: Explanations) -> dict[str, ExplainedImage]:
    return dict(itertools.islice(shown.images.items(), MOST_IMAGES))


def explanations(shown: Explanations) -> Markup:
    """What to pick, and every view of every image: a line each, with a picture for each masking method."""
    lines = [
        [
            _line(shown, place, title, found, number, view)
            for number in range(len(shown.networks))
            for view in itertools.product(
                enumerate(shown.settings["explainers"], start=1),
                enumerate(shown.settings["segments"], start=1),
                enumerate(found.classes, start=1),
            )
        ]
        for place, (title, found) in enumerate(_pictured(shown).items(), start=1)
    ]
    headings = ["Image", *map(method_title, shown.methods)]

    def of(identity: str, images: Sequence[Sequence[Line]]) -> Markup:
        return table(identity, "Explanations", headings, [*itertools.chain(*images)], look="gallery")

    text = prose("explanations", "explain", choices=_choices(shown), left_out=len(shown.images) - MOST_IMAGES)
    text += of("explanations", lines[:_UNFOLDED])
    further = lines[_UNFOLDED:]
    return text + folded(f"{len(further)} more images", of("further", further)) if further else text


def _line(
    shown: Explanations, place: int, title: str, found: ExplainedImage, number: int, view: Sequence[tuple[int, Any]]
) -> Line:
    """One explainer's explanation of one class of one image by one network, under every masking method."""
    (_, explainer), (_, segments), (rank, label) = view
    labels = found.segments[segments]
    raw, low, high, r_squared = (
        each[number, ..., rank - 1] for each in found.explanations[Explained(segments, explainer)]
    )
    scores = shown_scores(raw, axis=1)
    low, high = (np.where(np.isfinite(each), each - raw + scores, scores) for each in (low, high))
    largest = np.abs(scores).max(axis=1)
    strength = np.abs(scores) / np.where(largest > 0, largest, 1)[:, np.newaxis]
    numbered = np.argsort(-rankable(strength.max(axis=0)), kind="stable")[:_NUMBERED]
    class_name = shown.class_names[label]
    subject = prose(
        "subject",
        "explain",
        place=place,
        title=title,
        marked=list(enumerate(centres(labels, numbered), start=1)),
        network=shown.networks[number] if len(shown.networks) > 1 else "",
        class_name=class_name,
        probability=float(found.whole[number, rank - 1]),
        predicted=shown.class_names[found.predicted[number]],
        confidence=float(found.confidence[number]),
    )
    cells = [
        Cell(
            prose(
                "scores",
                "explain",
                place=place,
                title=f"{title}, {class_name}, {method_title(method)}",
                overlay=score_overlay(labels, scores[at], float(largest[at])),
                largest=float(largest[at]),
                alone=faded_overlay(strongest(labels, scores[at], _ALONE)),
                warning=_warning(explainer, float(r_squared[at])),
                numbers=_numbers(*(each[at, numbered] for each in (low, scores, high))),
            )
        )
        for at, method in enumerate(shown.methods)
    ]
    return Line(subject, cells, " ".join(["view", *(f"is-{n}-{at}" for n, (at, _) in enumerate(view, start=1))]))


def _numbers(low: FloatArray, scores: FloatArray, high: FloatArray) -> list[tuple[int, str, str]]:
    """The numbered segments' scores (M,) under one masking method, each with its interval where it has one."""
    ends = enumerate(zip(low.tolist(), scores.tolist(), high.tolist(), strict=True), start=1)
    return [(number, compact(score), interval(a, b, compact) if a < b else "") for number, (a, score, b) in ends]


def _warning(explainer: str, r_squared: float) -> str:
    """What to say of a surrogate that describes the network badly; empty of any other, or none."""
    if explainer != "lime" or r_squared >= TRUSTED:
        return ""
    if np.isnan(r_squared):
        return "R² undefined: answers do not vary"
    return f"{WARNING}R² {decimal(r_squared)}: explains little"


def _ordinal(number: int) -> str:
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number if number < 20 else number % 10, 'th') }"


def how_to_read(shown: Explanations) -> Markup:
    """What the pictures mean."""
    settings = shown.settings
    return prose(
        "how_to_read", "explain", scale=_SCALES[settings["scale"]], settings=settings, alone=_ALONE, trusted=TRUSTED
    )


def how_it_was_run(shown: Explanations) -> Markup:
    """Command, settings, machine, and the file to download."""
    about = [("Networks", ", ".join(shown.networks)), *shown.settings.items(), *machine_facts(shown.content)]
    return html(
        """{{ command }}{{ about }}<p class="downloads">{{ json }}</p>""",
        command=command_line(shown.content["provenance"]["command"]),
        about=facts(about, "settings"),
        json=download("explanations.json", json.dumps(shown.content, allow_nan=False), "application/json"),
    )


SECTIONS: tuple[Section[Explanations], ...] = (
    Section("pictures", "The explanations", explanations, is_open=True),
    Section("reading", "How to read it", how_to_read),
    Section("run", "How it was run", how_it_was_run),
)


def render_explanations(
    content: Mapping[str, Any], images: Mapping[str, ExplainedImage], class_names: Sequence[str]
) -> str:
    """The page, as `render_page` makes it; the arguments are those of `Explanations`."""
    settings, methods, networks = (content[name] for name in ("settings", "methods", "networks"))
    shown = Explanations(content, settings, methods, networks, images, class_names)
    under = listed([in_sentence(method_title(each)) for each in methods])
    title = f"What predictions for {len(images)} image{'s' * (len(images) > 1)} rest on, under {under}"
    header = prose("header", "explain", title=title, quick=QUICK if settings["quick"] else "")
    return render_page("explain", title, header, SECTIONS, shown, look="wide explanations", style=_style(shown))
