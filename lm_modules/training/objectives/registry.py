"""How a training objective gets its name, and what it may ask for."""

from collections.abc import Callable
from dataclasses import dataclass

from maskrobust.augment.registry import AnyFunction, Entry, FunctionRegistry

INPUTS = ("learner", "batch", "shown", "teacher", "source", "label_smoothing", "consistency_weight")
"""Parameters of an objective that are filled in by name; see `objective`."""


@dataclass(frozen=True)
class Objective(Entry):
    """A registered training objective: its function returns the loss () of one batch.

    Attributes:
        needs_holes: whether it needs images of which something is hidden.
        takes_mixed_labels: whether it takes images whose hole shows another image, with a label of its own.
    """

    needs_holes: bool = True
    takes_mixed_labels: bool = False

    @property
    def has_teacher(self) -> bool:
        """Whether the network learns from a frozen copy of itself, in place of labels."""
        return "teacher" in self.inputs


OBJECTIVES = FunctionRegistry("objective", "objective", Objective, inputs=INPUTS)
"""The training objectives by name."""


def objective(
    name: str, *, needs_holes: bool = True, takes_mixed_labels: bool = False
) -> Callable[[AnyFunction], AnyFunction]:
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
        InputError: another objective has the name, a parameter can neither be filled in nor left out, or one is called
            weight.
    """
    return OBJECTIVES.register(name, needs_holes=needs_holes, takes_mixed_labels=takes_mixed_labels)
