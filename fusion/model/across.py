"""What a loss needs to know of the other processes that share its batch.

Every statistic of a batch (a masked mean, SIGReg's mean over points, a covariance) is a sum over
the *global* batch divided by the *global* count. Averaging each process's own statistic instead
would be another loss: SIGReg of a half is not half of SIGReg.
"""

from __future__ import annotations

from typing import Final, Protocol

import torch
from torch import Tensor


class Across(Protocol):
    """The processes among which a global batch is divided, in equal parts by rank."""

    @property
    def rank(self) -> int:
        """Which part is this process's."""
        ...

    @property
    def size(self) -> int:
        """How many processes there are."""
        ...

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of ``values`` over all processes, equal in each.

        Gradients flow back to the ``values`` of every process: that of a sum which all processes
        minimise comes back once from each, so :attr:`size` times in all. Averaging the gradients
        of the weights over the processes, as data-parallel training does, takes it out again.
        """
        ...


class Alone:
    """One process: the whole batch is its own."""

    rank = 0
    size = 1

    def sum(self, values: Tensor) -> Tensor:
        """Return ``values``."""
        return values


ALONE: Final[Across] = Alone()


def own_rows(values: Tensor, across: Across) -> Tensor:
    """Return this process's part of ``values``, whose rows are those of the global batch.

    Example:
        >>> own_rows(torch.arange(4), ALONE).tolist()
        [0, 1, 2, 3]
    """
    count = len(values) // across.size
    return values[across.rank * count : (across.rank + 1) * count]


def mean_of(values: Tensor, weights: Tensor, across: Across) -> Tensor:
    """Return the mean of ``values`` where ``weights`` are 1, over dimensions that they lack too.

    Over the global batch; 0 where no weight is.
    """
    while weights.dim() < values.dim():
        weights = weights[..., None]
    weights = weights.expand_as(values)
    total, count = across.sum(torch.stack([(values * weights).sum(), weights.sum()]))
    return total / count.clamp_min(1)
