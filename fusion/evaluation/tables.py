"""Recordings that are tables to what the rest of the product reads: a plant, and its ticks.

Shapes: N ticks, S rows of a tick, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusion.alignment import Observation
from fusion.plant import Address, Plant, Tag, TelemetryStream

STREAM = "process"


def table_plant(
    name: str,
    columns: Sequence[str],
    *,
    tick_s: float,
    rows_per_tick: int = 1,
    setpoints: Sequence[str] = (),
    resolution: float | None = None,
) -> Plant:
    """Return the description of a plant whose one stream has ``columns`` as tags.

    Example:
        >>> plant = table_plant("tep", ["XMEAS_01", "XMV_01"], tick_s=180)
        >>> [tag.name for tag in plant.measured]
        ['XMEAS_01', 'XMV_01']
    """
    tags = tuple(
        Tag(
            name=column,
            unit="1",
            range=(-1e9, 1e9),
            setpoint=column in setpoints,
            resolution=resolution,
        )
        for column in columns
    )
    stream = TelemetryStream(
        name=STREAM,
        modality="telemetry",
        rate_hz=rows_per_tick / tick_s,
        max_age_s=min(86_400.0, 2 * tick_s),
        tags=tags,
    )
    place = Address(
        enterprise="benchmark", site=name, area="table", line="table", cell="table", asset=name
    )
    return Plant(prefix=name, address=place, tick_s=tick_s, streams=(stream,))


def table_ticks(
    values_NC: NDArray[np.floating], *, rows_per_tick: int = 1, first_tick: int = 0
) -> list[Observation]:
    """Return the ticks of a table whose rows lie evenly in time, without an unfinished last one.

    Example:
        >>> len(table_ticks(np.zeros((7, 2)), rows_per_tick=3))
        2
    """
    count = len(values_NC) // rows_per_tick
    values_NSC = values_NC[: count * rows_per_tick].astype(np.float32)
    values_NSC = values_NSC.reshape(count, rows_per_tick, -1)
    return [
        Observation(
            first_tick + index, {STREAM: values}, {STREAM: float(np.isfinite(values).mean())}
        )
        for index, values in enumerate(values_NSC)
    ]
