"""How a training objective gets its name, and what it may ask for."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from maskrobust.augment.registry import Registry
from maskrobust.errors import InputError

AnyLoss = TypeVar("AnyLoss", bound=Callable[..., Tensor])

INPUTS = ("learner", "batch", "shown", "teacher", "source", "label_smoothing", "consistency_weight")
"""Parameters of an objective that are filled in by name; see `objective`."""


@dataclass(frozen=True)
class Objective:
    """A registered training objective.

    Attributes:
        name: under which it is registered.
        function: the loss () of one batch; its parameters are `inputs`, and others with a default.
        inputs: those of `INPUTS` that it takes.
        needs_holes: whether it needs images of which something is hidden.
        takes_mixed_labels: whether it takes images whose hole shows another image, with a label of its own.
    """

    name: str
    function: Callable[..., Tensor]
    inputs: frozenset[str]
    needs_holes: bool
    takes_mixed_labels: bool

    @property
    def has_teacher(self) -> bool:
        """Whether the network learns from a frozen copy of itself, in place of labels."""
        return "teacher" in self.inputs

    def loss(self, given: Mapping[str, Any]) -> Tensor:
        """The loss () of one batch, for those of the `INPUTS` given that it takes."""
        return self.function(**{name: given[name] for name in self.inputs})


OBJECTIVES: Registry[Objective] = Registry("objective", "objective")
"""The training objectives by name."""


def objective(name: str, *, needs_holes: bool = True, takes_mixed_labels: bool = False) -> Callable[[AnyLoss], AnyLoss]:
    """Register the decorated function as a training objective, for `--model.objective`.

    It returns the loss () of one batch. It takes those of these parameters that it needs; others have a default.

    - `learner`: (images (B, C, H, W) in [0, 1], visible (B, 1, H, W) bool or None) -> logits (B, num_classes); called
      once in a step.
    - `batch`: the `Batch` with nothing hidden; where it has `visible`, pixels without data are black.
    - `shown`: the same images with their holes, as `PresentedImages`.
    - `teacher`: images -> logits of the network as it started out, which stand for the labels in validation, too.
    - `source`: the data module, or None.
    - `label_smoothing`, `consistency_weight`: arguments of the classifier.

    Args:
        name: a Python identifier.
        needs_holes: whether it is refused where `masking` is "none".
        takes_mixed_labels: whether the fill "other_image", which mixes two images and their labels, may be used.

    Raises:
        InputError: another objective has the name, or a parameter can neither be filled in nor left out.
    """

    def register(function: AnyLoss) -> AnyLoss:
        parameters = inspect.signature(function).parameters
        foreign = [each for each, of_it in parameters.items() if each not in INPUTS and of_it.default is of_it.empty]
        if foreign:
            raise InputError(
                f"every parameter of objective '{name}' must be one of {', '.join(INPUTS)}, or have a default, got "
                f"'{foreign[0]}'; change it."
            )
        inputs = frozenset(parameters).intersection(INPUTS)
        OBJECTIVES.enter(Objective(name, function, inputs, needs_holes, takes_mixed_labels))
        return function

    return register
