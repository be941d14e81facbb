"""Trends of every tag, ready to be drawn: smallest and largest value of each bucket of time.

Two grids of buckets go round: a fine one for the last half hour and a coarse one for two days. A
chart gets at most as many points as it has pixels, each with both extremes, so that a spike that
is narrower than a pixel is still seen. Memory is bounded and known from the plant file.

Shapes: N samples, T tags of a stream, B buckets of a grid, P pixels.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.alignment.event_time import event_times_ns
from fusion.plant import NANOSECONDS, Plant
from fusion.schema import Quality, TelemetryBatch

FINE_S, NUM_FINE = 1.0, 1_800
COARSE_S, NUM_COARSE = 60.0, 2_880
MAX_POINTS = 4_000


@dataclass(frozen=True, slots=True)
class Trend:
    """One tag over time: per point its time in s UTC, and the extremes; None where nothing came."""

    t_s: list[float]
    low: list[float | None]
    high: list[float | None]


class _Grid:
    """A ring of buckets; ``at`` says which one lies in each place, -1 none yet."""

    def __init__(self, num_tags: int, bucket_s: float, num_buckets: int) -> None:
        self.bucket_ns = round(bucket_s * NANOSECONDS)
        self.low_BT = np.full((num_buckets, num_tags), np.nan, np.float32)
        self.high_BT = np.full((num_buckets, num_tags), np.nan, np.float32)
        self.at_B = np.full(num_buckets, -1, np.int64)
        self.newest = -1

    def add(self, bucket: int, low_T: NDArray[np.float32], high_T: NDArray[np.float32]) -> None:
        place = bucket % len(self.at_B)
        if self.at_B[place] > bucket:
            return  # (older than the ring is long)
        if self.at_B[place] != bucket:
            self.at_B[place] = bucket
            self.low_BT[place] = self.high_BT[place] = np.nan
        self.low_BT[place] = np.fmin(self.low_BT[place], low_T)
        self.high_BT[place] = np.fmax(self.high_BT[place], high_T)
        self.newest = max(self.newest, bucket)


class Trends:
    """The trends of one plant."""

    def __init__(self, plant: Plant) -> None:
        self._column: dict[str, tuple[str, int]] = {}
        self._grids: dict[str, tuple[_Grid, _Grid]] = {}
        self._streams = {stream.name: stream for stream in plant.telemetry_streams}
        for stream in plant.telemetry_streams:
            num = len(stream.tags)
            self._grids[stream.name] = (
                _Grid(num, FINE_S, NUM_FINE),
                _Grid(num, COARSE_S, NUM_COARSE),
            )
            self._column |= {t.name: (stream.name, i) for i, t in enumerate(stream.tags)}

    def add(self, stream: str, batch: TelemetryBatch) -> None:
        """Take the samples of one record; tags that the plant file does not have are left out."""
        if stream not in self._grids:
            return
        t_N_ns = event_times_ns(batch, self._streams[stream])
        for grid in self._grids[stream]:
            buckets_N = t_N_ns // grid.bucket_ns
            for bucket in np.unique(buckets_N):
                rows_NT = self._rows(stream, batch, buckets_N == bucket)
                with warnings.catch_warnings():  # (a tag without a value in the bucket)
                    warnings.simplefilter("ignore", RuntimeWarning)
                    grid.add(int(bucket), np.nanmin(rows_NT, 0), np.nanmax(rows_NT, 0))

    def _rows(
        self, stream: str, batch: TelemetryBatch, is_in_N: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        num_tags = self._grids[stream][0].low_BT.shape[1]
        rows_NT = np.full((int(is_in_N.sum()), num_tags), np.nan, np.float32)
        for index, tag in enumerate(batch.tags):
            own, column = self._column.get(tag, ("", -1))
            if own == stream:
                is_usable_N = batch.quality_RC[is_in_N, index] <= Quality.UNCERTAIN
                values_N = batch.values_RC[is_in_N, index]
                rows_NT[:, column] = np.where(is_usable_N, values_N, np.nan)
        return rows_NT

    def trend(self, tag: str, *, span_s: float, num_points: int) -> Trend:
        """Return the last ``span_s`` seconds of ``tag`` in at most ``num_points`` points.

        Raises:
            KeyError: The plant has no such tag.
        """
        stream, column = self._column[tag]
        fine, coarse = self._grids[stream]
        grid = fine if span_s <= FINE_S * NUM_FINE else coarse
        if grid.newest < 0:
            return Trend([], [], [])
        num = min(len(grid.at_B), max(1, round(span_s * NANOSECONDS / grid.bucket_ns)))
        buckets_B = np.arange(grid.newest - num + 1, grid.newest + 1)
        places_B = buckets_B % len(grid.at_B)
        is_there_B = grid.at_B[places_B] == buckets_B
        low_B = np.where(is_there_B, grid.low_BT[places_B, column], np.nan)
        high_B = np.where(is_there_B, grid.high_BT[places_B, column], np.nan)
        step = -(-num // max(1, min(num_points, MAX_POINTS)))
        starts_P = np.arange(0, num, step)
        return Trend(
            (buckets_B[starts_P] * (grid.bucket_ns / NANOSECONDS)).tolist(),
            _holes(np.fmin.reduceat(low_B, starts_P)),
            _holes(np.fmax.reduceat(high_B, starts_P)),
        )


def _holes(values_P: NDArray[np.floating]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values_P]
