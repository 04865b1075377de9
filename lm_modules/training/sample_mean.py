"""A mean over samples that is the same on any number of processes."""

from typing import Any

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from maskrobust.augment.families.shapes.bank import unique_first


class SampleMean(Metric):
    """mean_i v_i over samples i, each counted once however often it comes.

    Distributed samplers repeat a few samples so that every process has equally many; their ids tell which. The first
    value of an id counts, and values are summed in order of ids.

    Args:
        options: of `torchmetrics.Metric`.
    """

    full_state_update = False
    ids: list[Tensor]
    values: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("ids", default=[], dist_reduce_fx="cat")
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, ids: Tensor, values: Tensor) -> None:
        """Take in one batch.

        Args:
            ids: (B,) int64 sample ids.
            values: (B,) float or bool.
        """
        self.ids.append(ids)
        self.values.append(values.detach().float())

    def compute(self) -> Tensor:
        """The mean, () float32."""
        _, first = unique_first(dim_zero_cat(self.ids))
        return dim_zero_cat(self.values)[first].mean()
