"""Single readings to rows of a stream: what was measured together stands in one row.

Shapes: R rows, C tags of the stream. Times are nanoseconds UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from fusion.plant import NANOSECONDS, TelemetryStream
from fusion.ports import Reading
from fusion.schema import Quality, TelemetryBatch

GRAINS_PER_PERIOD = 10
"""Readings closer than a tenth of the stream's period share a row and the time of the first.

So a time is at most that much too early, and no source, however fast, makes more rows than ten for
each that the plant file promises.
"""
LAST_NS = 2**62
"""Year 2116: no clock of a plant shows later, and 64 bits hold sums with it."""
MAX_CELLS = 200_000
"""Of one batch: 2.6 MB before the envelope, below the largest record of a broker."""


class RowGatherer:
    """Gathers the readings of one stream until :meth:`take`.

    Of two readings of a tag in one row the later one stands: what comes faster than ten times the
    stream's rate is thinned, and counted in ``num_thinned``.
    """

    def __init__(self, stream: TelemetryStream) -> None:
        self._stream = stream.name
        self._tags = tuple(tag.name for tag in stream.tags)
        self._columns = {name: column for column, name in enumerate(self._tags)}
        self._grain_ns = max(1, round(NANOSECONDS / (stream.rate_hz * GRAINS_PER_PERIOD)))
        self._rows: dict[int, dict[int, Reading]] = {}
        self.num_thinned = 0
        self.num_untimed = 0

    @property
    def num_cells(self) -> int:
        """How many cells :meth:`take` would return."""
        return len(self._rows) * len(self._tags)

    def add(self, readings: Iterable[Reading]) -> None:
        """Take ``readings``, in any order of their times.

        One whose source time cannot be is UNCERTAIN at the time of its receipt, and counted.
        """
        for came in readings:
            reading = came
            if not 0 < came.t_source_ns < LAST_NS or not 0 <= came.t_server_ns < LAST_NS:
                self.num_untimed += 1
                reading = came._replace(
                    t_source_ns=came.t_receive_ns,
                    t_server_ns=came.t_receive_ns,
                    quality=max(came.quality, Quality.UNCERTAIN),
                )
            row = self._rows.setdefault(reading.t_source_ns // self._grain_ns, {})
            column = self._columns[reading.tag]
            before = row.get(column)
            if before is not None:
                self.num_thinned += 1
                if before.t_source_ns > reading.t_source_ns:
                    continue
            row[column] = reading

    def take(self) -> list[TelemetryBatch]:
        """Return what was gathered, in the order of source times; no batch above ``MAX_CELLS``."""
        rows = [list(self._rows[slot].items()) for slot in sorted(self._rows)]
        self._rows = {}
        step = max(1, MAX_CELLS // len(self._tags))
        return [self._batch(rows[start : start + step]) for start in range(0, len(rows), step)]

    def _batch(self, rows: Sequence[list[tuple[int, Reading]]]) -> TelemetryBatch:
        shape = (len(rows), len(self._tags))
        values_RC = np.full(shape, np.nan)
        quality_RC = np.full(shape, Quality.NOT_REPORTED, np.uint8)
        status_RC = np.zeros(shape, np.uint32)
        for index, row in enumerate(rows):
            for column, reading in row:
                values_RC[index, column] = reading.value
                quality_RC[index, column] = reading.quality
                status_RC[index, column] = reading.status
        return TelemetryBatch(
            self._stream,
            self._tags,
            np.array([min(r.t_source_ns for _, r in row) for row in rows], np.int64),
            np.array([min(r.t_server_ns for _, r in row) for row in rows], np.int64),
            np.array([max(r.t_receive_ns for _, r in row) for row in rows], np.int64),
            values_RC,
            quality_RC,
            status_RC,
        )
