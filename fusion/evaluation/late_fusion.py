"""Late fusion: one product for each stream, and a vote on what they say.

Shapes: K products, N ticks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def at_least(count: int, surprises: Sequence[Floats]) -> Floats:
    """Return the surprise that at least ``count`` of the products reach at each tick, [N].

    1 is OR, as many as there are products is AND. NaN, where a product says nothing, is a vote
    against.

    Example:
        >>> ear, eye = np.array([1.5, 0.2, np.nan]), np.array([0.5, 0.3, 2.0])
        >>> at_least(1, [ear, eye]).tolist(), at_least(2, [ear, eye]).tolist()
        ([1.5, 0.3, 2.0], [0.5, 0.2, 0.0])
    """
    if not 1 <= count <= len(surprises):
        raise ValueError(
            f"count must lie between 1 and the {len(surprises)} products, got {count}; ask fewer"
        )
    return np.sort(np.nan_to_num(np.stack(surprises)), axis=0)[-count]
