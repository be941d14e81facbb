"""What a plant has to say, collected for one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fusion.alarms.journal import Journal
from fusion.plant import Plant
from fusion.schema import (
    AlarmConfig,
    AlarmEvent,
    AlarmState,
    Message,
    RememberedEpisode,
    Score,
    StreamHealth,
)
from fusion.schema import Verdict as Feedback
from fusion.schema.records import rfc3339
from fusion.stream.alarm_topics import config_key, episode_key, state_key, verdict_key
from fusion.stream.verdict import Verdict


class Outbox:
    """Messages in the order in which they were said.

    What a restart goes on from lies in the partition of the plant's records, ``partition``.
    """

    def __init__(self, plant: Plant, partition: int | None = None) -> None:
        self._plant = plant
        self._partition = partition
        self.journal = Journal()
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
        """Say a transition: a line in the journal, which is a chain."""
        plant, body = event.state.plant, event.model_dump_json()
        chained = self.journal.enter(body.encode())
        self._say("alarm-events", plant, event.id, event.t_ns, body, chained)

    def states(self, states: Iterable[AlarmState]) -> None:
        """Say how alarms are now (compacted); at rest is a state as any other."""
        for each in states:
            identity = f"{each.plant}:{each.name}:{each.revision}:{each.since_ns}"
            self._keep("alarms", state_key(each), identity, each.since_ns, each.model_dump_json())

    def configs(self, configs: Iterable[AlarmConfig], t_ns: int) -> None:
        """Say how alarms are defined (compacted)."""
        for each in configs:
            identity = f"{each.plant}:{each.name}:config"
            self._keep("alarms", config_key(each), identity, t_ns, each.model_dump_json())

    def feedback(self, told: RememberedEpisode | Feedback) -> None:
        """Say what an alarm looked like, or what an operator thought of it (compacted)."""
        key = episode_key(told) if isinstance(told, RememberedEpisode) else verdict_key(told)
        self._keep("feedback", key, told.id, told.t_ns, told.model_dump_json())

    def _keep(self, kind: str, key: str, identity: str, t_ns: int, body: str) -> None:
        self._say(kind, key, identity, t_ns, body, partition=self._partition)

    def _say(  # noqa: PLR0917 what every message says
        self,
        kind: str,
        key: str,
        identity: str,
        t_ns: int,
        body: str,
        also: Mapping[str, str] | None = None,
        *,
        partition: int | None = None,
    ) -> None:
        headers = {
            "ce_specversion": "1.0",
            "ce_id": identity,
            "ce_source": "fusion-live",
            "ce_type": f"fusion.{kind}",
            "ce_subject": str(self._plant.address),
            "ce_time": rfc3339(t_ns),
            "content-type": "application/json",
            **(also or {}),
        }
        topic = self._plant.topic(kind)
        self.messages.append(Message(topic, key, body.encode(), headers, partition=partition))
