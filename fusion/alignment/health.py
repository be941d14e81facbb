"""How each stream does: what came, what is missing, how its clock stands. From the records alone.

The state is that of every record *read*, so a restart does not count again what it reads again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from fusion.alignment.admission import Admitted
from fusion.alignment.clocks import SPAN_NS, StreamClock, skews_ns
from fusion.alignment.ledger import Outcome
from fusion.plant import NANOSECONDS, Plant
from fusion.schema import AudioChunk, Record, StreamHealth

MAX_EPOCHS = 8
RATE_SPANS = 7
"""The rate is that of the newest spans of ten seconds in which records came, the last one open."""


class StreamMonitor:
    """Counts the records of one stream; memory is constant."""

    def __init__(self, snapshot: dict[str, Any] | None = None) -> None:
        said = snapshot or _NOTHING
        self.records: int = said["records"]
        self.late: int = said["late"]
        self.duplicate: int = said["duplicate"]
        self.gaps: int = said["gaps"]
        self.restarts: int = said["restarts"]
        self.newest_ns: int | None = said["newest_ns"]
        self.clock = StreamClock(said["clock"])
        # epoch -> lowest and highest sequence number
        self._epochs: dict[str, list[int]] = {e: list(run) for e, run in said["epochs"].items()}
        # [ten seconds of the broker's time, records in them]
        self._arrivals = deque((list(span) for span in said["arrivals"]), maxlen=RATE_SPANS)

    def note(
        self,
        record: Record,
        admitted: Admitted,
        *,
        outcome: Outcome,
    ) -> None:
        """Count one record. A duplicate says nothing new of clock and gaps."""
        envelope, payload, stamps = admitted
        self.records += 1
        span = record.t_broker_ns // SPAN_NS
        if self._arrivals and span <= self._arrivals[-1][0]:
            self._arrivals[-1][1] += 1
        else:
            self._arrivals.append([span, 1])
        if outcome is Outcome.DUPLICATE:
            self.duplicate += 1
            return
        self.late += outcome is Outcome.LATE
        self._note_sequence(envelope.epoch, envelope.seq)
        if self.newest_ns is None or stamps.newest_ns > self.newest_ns:
            self.newest_ns = stamps.newest_ns
        self.clock.note(stamps, t_broker_ns=record.t_broker_ns)
        if isinstance(payload, AudioChunk):
            self.clock.note_sound(payload, epoch=envelope.epoch)

    def newest_arrival(self) -> int | None:
        """Return the ten seconds of the broker's time in which the newest record came."""
        return self._arrivals[-1][0] if self._arrivals else None

    def rate_hz(self, now_span: int) -> float:
        """Return the records a second over the last minute; of slow streams, over the last six."""
        num_records = sum(count for span, count in self._arrivals if span < now_span)
        if num_records == 0:
            return 0.0
        return num_records / ((now_span - self._arrivals[0][0]) * SPAN_NS / NANOSECONDS)

    def snapshot(self) -> dict[str, Any]:
        """Return what a restart needs, for JSON."""
        return {
            "records": self.records,
            "late": self.late,
            "duplicate": self.duplicate,
            "gaps": self.gaps,
            "restarts": self.restarts,
            "newest_ns": self.newest_ns,
            "clock": self.clock.snapshot(),
            "epochs": {epoch: list(run) for epoch, run in self._epochs.items()},
            "arrivals": [list(span) for span in self._arrivals],
        }

    def _note_sequence(self, epoch: str, seq: int) -> None:
        run = self._epochs.get(epoch)
        if run is None:
            self.restarts += bool(self._epochs)
            self._epochs[epoch] = [seq, seq]
            if len(self._epochs) > MAX_EPOCHS:
                del self._epochs[next(iter(self._epochs))]
        elif seq > run[1]:
            self.gaps += seq - run[1] - 1
            run[1] = seq
        elif seq < run[0]:
            self.gaps += run[0] - seq - 1
            run[0] = seq
        else:
            self.gaps -= 1  # It was missing until now.


_NOTHING: dict[str, Any] = {
    **dict.fromkeys(("records", "late", "duplicate", "gaps", "restarts"), 0),
    **dict.fromkeys(("newest_ns", "clock")),
    "epochs": {},
    "arrivals": [],
}


def health_of(
    monitors: Mapping[str, StreamMonitor], plant: Plant, *, idle: set[str], t_ns: int
) -> list[StreamHealth]:
    """Return how every stream of ``plant`` does at event time ``t_ns``, in plant order."""
    arrivals = [monitor.newest_arrival() for monitor in monitors.values()]
    now_span = max((span for span in arrivals if span is not None), default=0)
    skews = skews_ns({name: monitor.clock for name, monitor in monitors.items()})
    found: list[StreamHealth] = []
    for name, monitor in monitors.items():
        skew_s = _seconds(skews.get(name))
        found.append(
            StreamHealth(
                plant=str(plant.address),
                stream=name,
                t_ns=t_ns,
                records=monitor.records,
                rate_hz=monitor.rate_hz(now_span),
                gaps=monitor.gaps,
                restarts=monitor.restarts,
                late=monitor.late,
                duplicate=monitor.duplicate,
                offset_s=_seconds(monitor.clock.offset_ns()),
                skew_s=skew_s,
                drift_ppm=monitor.clock.drift_ppm(),
                sound_drift_ppm=monitor.clock.sound_drift_ppm(),
                clock_jumps=monitor.clock.num_jumps,
                is_skewed=skew_s is not None and abs(skew_s) > plant.max_skew_s,
                is_idle=name in idle,
                newest_ns=monitor.newest_ns,
            )
        )
    return found


def _seconds(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else duration_ns / NANOSECONDS
