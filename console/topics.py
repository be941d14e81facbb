"""Which topics the console reads, from where on, and what their records mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pydantic import ValidationError

from console.picture import Picture
from fusion.alignment import Admission
from fusion.errors import RecordError
from fusion.plant import Plant
from fusion.schema import (
    AlarmConfig,
    AlarmEvent,
    AlarmState,
    Record,
    Score,
    StreamHealth,
    TelemetryBatch,
    TopicPartition,
    Verdict,
)

BACKLOG: Mapping[str, int | None] = {
    "alarms": None,
    "feedback": None,
    "alarm-events": 20_000,
    "scores": 7_200,
    "stream-health": 1_000,
    "dead-letters": 1_000,
    "telemetry": 2_000,
}
"""How many offsets back from the end reading begins; None is everything there is."""

Change = Callable[[Picture], None]


def topics_of(plants: Sequence[Plant]) -> tuple[str, ...]:
    """Return the topics of ``plants`` that the console reads."""
    return tuple(
        dict.fromkeys(
            plant.topic(kind)
            for plant in plants
            for kind in BACKLOG
            if kind != "telemetry" or plant.telemetry_streams
        )
    )


def first_offsets(
    starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """Return where reading begins, per partition.

    Example:
        >>> scores = TopicPartition("rig.scores", 0)
        >>> first_offsets({scores: 5}, {scores: 10_000})[scores]
        2800
    """
    begin: dict[TopicPartition, int] = {}
    for part, end in ends.items():
        backlog, start = BACKLOG[_kind(part.topic)], starts.get(part, 0)
        begin[part] = start if backlog is None else max(start, end - backlog)
    return begin


class Understanding:
    """What records say to the pages of ``plants``."""

    def __init__(self, plants: Sequence[Plant]) -> None:
        self._gates = {str(plant.address): Admission(plant) for plant in plants}

    def change_of(self, record: Record) -> Change | None:
        """Return what ``record`` changes in the picture; None for one that cannot be used.

        That is somebody's mistake, which the live process dead-letters, or comes from a newer
        version of the product: the page says how many there were.
        """
        kind = _kind(record.topic)
        try:
            return self._telemetry(record) if kind == "telemetry" else _READERS[kind](record)
        except (ValidationError, RecordError):
            return None

    def _telemetry(self, record: Record) -> Change:
        """Return what samples change, if the live process would take them: of this plant, in time.

        One sample of next year would else lie for a year at the newest end of every trend.
        """
        gate = self._gates.get(record.key)
        if gate is None:
            return lambda _: None  # (another plant of the prefix)
        admitted = gate.admit(record)
        batch, stream = admitted.payload, admitted.envelope.stream
        if not isinstance(batch, TelemetryBatch):
            return lambda _: None  # (another sense, on a topic that is not its own)
        return lambda picture: picture.telemetry(record.key, stream, batch)


def _alarm(record: Record) -> Change:
    if record.key.startswith("config:"):
        config = AlarmConfig.model_validate_json(record.value)
        return lambda picture: picture.alarm_config(config)
    state = AlarmState.model_validate_json(record.value)
    return lambda picture: picture.alarm_state(state)


def _feedback(record: Record) -> Change:
    if not record.key.startswith("verdict:"):
        return lambda _: None  # (what an episode looked like is for the live process)
    verdict = Verdict.model_validate_json(record.value)
    return lambda picture: picture.verdict(verdict)


def _event(record: Record) -> Change:
    event = AlarmEvent.model_validate_json(record.value)
    return lambda picture: picture.alarm_event(event)


def _score(record: Record) -> Change:
    score = Score.model_validate_json(record.value)
    return lambda picture: picture.score(score, t_broker_ns=record.t_broker_ns)


def _health(record: Record) -> Change:
    health = StreamHealth.model_validate_json(record.value)
    return lambda picture: picture.health(health, t_broker_ns=record.t_broker_ns)


def _dead_letter(record: Record) -> Change:
    return lambda picture: picture.dead_letter(record.key)


_READERS: Mapping[str, Callable[[Record], Change]] = {
    "alarms": _alarm,
    "feedback": _feedback,
    "alarm-events": _event,
    "scores": _score,
    "stream-health": _health,
    "dead-letters": _dead_letter,
}


def _kind(topic: str) -> str:
    return topic.rpartition(".")[2]
