"""What arrived on the broker, by second of its event time, and how late each record was."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from flows import wiring
from flows.settings import Settings
from fusion.plant import NANOSECONDS, Plant
from fusion.schema import (
    AudioChunk,
    Envelope,
    Payload,
    Quality,
    Record,
    TelemetryBatch,
)
from fusion.schema.codec import decode_payload
from fusion.stream.reading import read_to_end


@dataclass
class Arrivals:
    """Counts of one part inside its window."""

    num_records: int = 0
    num_bytes: int = 0
    num_units: int = 0
    """Values, frames or samples; each once."""
    num_repeated: int = 0
    """Values that came again."""
    delays_s: list[float] = field(default_factory=list[float])
    """Broker's stamp less the newest event time of each record."""

    def delay_ms(self, percentile: float) -> float:
        """Return a percentile of the delays; nothing in time has none (NaN)."""
        if not self.delays_s:
            return math.nan
        return float(np.percentile(self.delays_s, percentile)) * 1_000


def count_values(settings: Settings, plant: Plant, numbers: range) -> Arrivals:
    """Return the arrivals of tags that said ``numbers``, one after the other."""
    found, seen = Arrivals(), Counter[tuple[str, str, float]]()
    for record, batch in _payloads(settings, plant):
        assert isinstance(batch, TelemetryBatch)
        is_wanted_RC = (batch.quality_RC == Quality.GOOD) & (batch.values_RC >= numbers.start)
        is_wanted_RC &= batch.values_RC < numbers.stop
        for row, column in np.argwhere(is_wanted_RC):
            seen[batch.stream, batch.tags[column], float(batch.values_RC[row, column])] += 1
        if is_wanted_RC.any():
            rows = np.flatnonzero(is_wanted_RC.any(axis=1))
            _note(found, record, int(batch.t_source_R_ns[rows[-1]]))
    found.num_units = len(seen)
    found.num_repeated = seen.total() - len(seen)
    return found


def count_senses(settings: Settings, plant: Plant, begin_ns: int, end_ns: int) -> Arrivals:
    """Return the arrivals of frames or samples from ``begin_ns`` until ``end_ns`` of event time."""
    found = Arrivals()
    for record, payload in _payloads(settings, plant):
        assert not isinstance(payload, TelemetryBatch)
        if isinstance(payload, AudioChunk):
            num_units = len(payload.samples_N)
            t_ns = payload.t_start_ns
            last_ns = t_ns + num_units * NANOSECONDS // payload.sample_rate_hz
        else:
            num_units, t_ns, last_ns = 1, payload.t_capture_ns, payload.t_capture_ns
        if begin_ns <= t_ns < end_ns:
            found.num_units += num_units
            _note(found, record, last_ns)
    return found


def _note(found: Arrivals, record: Record, newest_ns: int) -> None:
    found.num_records += 1
    found.num_bytes += len(record.value)
    found.delays_s.append((record.t_broker_ns - newest_ns) / NANOSECONDS)


def _payloads(settings: Settings, plant: Plant) -> Iterator[tuple[Record, Payload]]:
    source = wiring.open_source(settings, plant.sense_topics, "bench-edge")
    with contextlib.closing(source):
        for record in read_to_end(source):
            yield record, decode_payload(Envelope.from_headers(record.headers), record.value)
