"""Type annotations of configurations, without the seconds that importing the data modules takes."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from maskrobust.train.data import AnnotatedDataModule
else:
    AnnotatedDataModule = object  # the argument parser reads annotations, and would import the module

__all__ = ["AnnotatedDataModule", "GivenVisible", "OnBad", "Split"]

Split = Literal["train", "val", "test"]

GivenVisible = float | str | dict[str, list[int]]
"""Which pixels may be seen, as a user says it; see `maskrobust.train.data.files.reading.Reading`."""

OnBad = Literal["stop", "skip"]
"""What to do with a sample that cannot be read: end, or leave it out."""
