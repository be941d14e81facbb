"""Which of a window's predictions are asked for.

Shapes: B windows, T ticks, H horizons, K pairs of position and horizon.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Pairs(nn.Module):
    """Some positions of a window, each with one of the H horizons.

    A window has T x H of them. A score reads one per horizon: what was expected of now, and what
    is expected from now on.
    """

    def __init__(self, pairs: Sequence[tuple[int, int]], num_horizons: int) -> None:
        super().__init__()
        positions, columns = (torch.tensor(each) for each in zip(*pairs, strict=True))
        self.register_buffer("position_K", positions, persistent=False)
        self.register_buffer("column_K", columns, persistent=False)
        self.register_buffer("flat_K", positions * num_horizons + columns, persistent=False)

    def of_position(self, values_BT: Tensor) -> Tensor:
        """Return [B, K, ...] of values that each position has, [B, T, ...]."""
        return values_BT.index_select(1, self.get_buffer("position_K"))

    def of_horizon(self, values_H: Tensor) -> Tensor:
        """Return [K, ...] of values that each horizon has, [H, ...]."""
        return values_H.index_select(0, self.get_buffer("column_K"))

    def of_both(self, values_BTH: Tensor) -> Tensor:
        """Return [B, K, ...] of values that each position has for each horizon, [B, T, H, ...]."""
        return values_BTH.flatten(1, 2).index_select(1, self.get_buffer("flat_K"))
