"""Whether what is shown is still true of the plant."""

from __future__ import annotations

from console.picture import PlantPicture
from fusion.plant import NANOSECONDS

PATIENCE_S = 10.0
PATIENCE_TICKS = 4


def stale_since_ns(of_plant: PlantPicture, *, now_ns: int) -> int | None:
    """Return since when nothing new is known of a plant; None while it is fresh.

    Held against the broker's time stamps: it and the console must agree on the time to a few
    seconds. A plant that was never heard of is stale since 0.
    """
    patience_ns = max(round(PATIENCE_S * NANOSECONDS), PATIENCE_TICKS * of_plant.plant.tick_ns)
    heard_ns = of_plant.heard_ns
    if heard_ns is None:
        return 0
    return heard_ns if now_ns - heard_ns > patience_ns else None
