"""What the soak test's plant says: the simulated rig, its telemetry widened to 140 tags.

Shapes: R rows of a batch, B tags of the rig, A tags that are added.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fusion.plant import NANOSECONDS, Plant, TelemetryStream
from fusion.schema import AudioChunk, Payload, Quality, TelemetryBatch
from fusion.simulation import Scenario, simulate
from fusion.simulation.instruments import INSTRUMENTS

ROWS_PER_BATCH = 2
"""At most 500 values a batch: two rows of 140 tags."""
MEMORY = 0.98
"""Of the added tags' own noise, from row to row."""
BLOCK_S = 2
"""A simulated batch is at most this long: what is due before it is complete."""


def soak_payloads(scenario: Scenario, plant: Plant) -> Iterator[tuple[int, Payload]]:
    """Yield what ``plant`` says and when (ns of event time), in the order of sending."""
    widen = Widening(plant, seed=scenario.seed)
    waiting: list[tuple[int, int, Payload]] = []
    number = itertools.count()
    for payload in simulate(scenario, _rig(plant)):
        parts = widen(payload) if isinstance(payload, TelemetryBatch) else [payload]
        for part in parts:
            heapq.heappush(waiting, (sent_ns(part), next(number), part))
        complete_ns = sent_ns(payload) - BLOCK_S * NANOSECONDS
        while waiting[0][0] <= complete_ns:
            due_ns, _, part = heapq.heappop(waiting)
            yield due_ns, part
    while waiting:
        due_ns, _, part = heapq.heappop(waiting)
        yield due_ns, part


def sent_ns(payload: Payload) -> int:
    """Return when the payload is complete, in event time."""
    if isinstance(payload, TelemetryBatch):
        return int(payload.t_source_R_ns[-1])
    if isinstance(payload, AudioChunk):
        return payload.t_start_ns + len(payload.samples_N) * NANOSECONDS // payload.sample_rate_hz
    return payload.t_capture_ns


class Widening:
    """Makes batches of all tags of a plant from the rig's batches."""

    def __init__(self, plant: Plant, *, seed: int) -> None:
        (stream,) = plant.telemetry_streams
        self._names = tuple(tag.name for tag in stream.tags)
        low_B, high_B = np.array([tag.range for tag in stream.tags if tag.name in INSTRUMENTS]).T
        self._low_B, self._span_B = low_B, high_B - low_B
        num_added = len(self._names) - len(INSTRUMENTS)
        self._mixing_BA = np.random.default_rng(17).normal(size=(len(INSTRUMENTS), num_added))
        self._rng = np.random.default_rng([seed, 18])
        self._noise_A = np.zeros(num_added)

    def __call__(self, batch: TelemetryBatch) -> Iterator[TelemetryBatch]:
        """Yield ``batch`` with all tags, in parts of two rows."""
        mixed_RA = (batch.values_RC - self._low_B) / self._span_B @ self._mixing_BA
        added_RA = np.empty_like(mixed_RA)
        for row, mixed_A in enumerate(mixed_RA):
            self._noise_A = MEMORY * self._noise_A + 0.02 * self._rng.normal(size=len(mixed_A))
            added_RA[row] = np.round(10 * (mixed_A + self._noise_A), 2)
        values_RC = np.hstack([batch.values_RC, added_RA])
        for begin in range(0, len(values_RC), ROWS_PER_BATCH):
            rows = slice(begin, begin + ROWS_PER_BATCH)
            shape = values_RC[rows].shape
            yield replace(
                batch,
                tags=self._names,
                t_source_R_ns=batch.t_source_R_ns[rows],
                t_server_R_ns=batch.t_server_R_ns[rows],
                t_receive_R_ns=batch.t_receive_R_ns[rows],
                values_RC=values_RC[rows],
                quality_RC=np.full(shape, Quality.GOOD, np.uint8),
                status_RC=np.zeros(shape, np.uint32),
            )


def _rig(plant: Plant) -> Plant:
    """Return ``plant`` with the tags that the simulator plays, and no others."""
    streams = tuple(
        stream.model_copy(update={"tags": tuple(t for t in stream.tags if t.name in INSTRUMENTS)})
        if isinstance(stream, TelemetryStream)
        else stream
        for stream in plant.streams
    )
    return plant.model_copy(update={"streams": streams})
