"""What the sections about explanations are given, and how they call it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from maskrobust.lm_modules.explanation.explained import ExplainedImage
from maskrobust.lm_modules.explanation.explainers.registry import find_explainer
from maskrobust.lm_modules.reliance.results import Row

TRUSTED = 0.5
"""Held-out R^2, or rank correlation between seeds, below which the page warns."""

WARNING = "⚠ "

_SEGMENTS = {"slic": "SLIC", "quickshift": "Quickshift", "patches": "Patches", "decoys": "Decoys"}


class Explanations(NamedTuple):
    """Everything that the page of `maskrobust explain` shows.

    Attributes:
        content: that of explanations.json.
        rows: of the result table.
        images: by name, with their pictures.
        class_names: of all classes.
    """

    content: Mapping[str, Any]
    rows: Sequence[Row]
    images: Mapping[str, ExplainedImage]
    class_names: Sequence[str]

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decided the explanations."""
        settings: Mapping[str, Any] = self.content["settings"]
        return settings

    @property
    def methods(self) -> Sequence[str]:
        """Masking methods, in the order of the columns."""
        methods: Sequence[str] = self.content["methods"]
        return methods

    @property
    def networks(self) -> Sequence[str]:
        """Names of the networks."""
        networks: Sequence[str] = self.content["networks"]
        return networks


def segments_title(name: str) -> str:
    """A segmentation in words; that of a file is called by its name."""
    return _SEGMENTS.get(name, Path(name).stem)


def explainer_title(explainer: str, segments: str) -> str:
    """As in "LIME, Patches"."""
    return f"{find_explainer(explainer).title}, {segments_title(segments)}"
