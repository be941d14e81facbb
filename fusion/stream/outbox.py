"""What a plant has to say, collected for one transaction."""

from __future__ import annotations

from collections.abc import Iterable

from fusion.plant import Plant
from fusion.schema import AlarmEvent, Message, Score, StreamHealth
from fusion.schema.records import rfc3339
from fusion.stream.verdict import Verdict


class Outbox:
    """Messages in the order in which they were said."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self.messages: list[Message] = []

    def dead_letters(self, letters: Iterable[Message]) -> None:
        """Say which records could not be used, and why."""
        self.messages.extend(letters)

    def take(self) -> list[Message]:
        """Return what was said since the last call."""
        messages, self.messages = self.messages, []
        return messages

    def verdict(self, verdict: Verdict) -> None:
        """Say everything of one tick."""
        self.score(verdict.score)
        for event in verdict.events:
            self.event(event)
        self.health(verdict.health)
        for event in verdict.health_events:
            self.event(event)

    def score(self, score: Score) -> None:
        """Say the score of one tick. Its id names plant, tick and model: repeats are recognised."""
        identity = f"{score.plant}:{score.tick}:{score.model_version}"
        self._say("scores", score.plant, identity, score.t_end_ns, score.model_dump_json())

    def health(self, streams: Iterable[StreamHealth]) -> None:
        """Say how the streams do."""
        for each in streams:
            identity = f"{each.plant}/{each.stream}:{each.t_ns}"
            self._say("stream-health", each.plant, identity, each.t_ns, each.model_dump_json())

    def event(self, event: AlarmEvent) -> None:
        """Say a transition: a line in the journal, and the alarm's new state (compacted)."""
        plant, name = event.state.plant, event.state.name
        self._say("alarm-events", plant, event.id, event.t_ns, event.model_dump_json())
        self._say("alarms", f"state:{name}", event.id, event.t_ns, event.state.model_dump_json())

    def _say(self, kind: str, key: str, identity: str, t_ns: int, body: str) -> None:
        headers = {
            "ce_specversion": "1.0",
            "ce_id": identity,
            "ce_source": "fusion-live",
            "ce_type": f"fusion.{kind}",
            "ce_subject": str(self._plant.address),
            "ce_time": rfc3339(t_ns),
            "content-type": "application/json",
        }
        self.messages.append(Message(self._plant.topic(kind), key, body.encode(), headers))
