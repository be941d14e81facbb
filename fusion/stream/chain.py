"""The chain of one plant: records in, scores and alarms out, nothing published yet.

What it has to say is collected in an outbox; :class:`fusion.stream.shard.Shard` publishes it
together with the offsets that it answers for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from fusion.alarms import AlarmEngine
from fusion.alignment import Observation
from fusion.alignment.ledger import to_key
from fusion.plant import Plant
from fusion.schema import AlarmCommand, AlarmEvent, Message, Record, Score
from fusion.scoring import Scorer
from fusion.stream.checkpoint import Checkpoint, ScorerCheckpoint
from fusion.stream.intake import Intake
from fusion.stream.outbox import Outbox
from fusion.stream.verdict import judge
from fusion.stream.windows import WindowEncoder


@dataclass(slots=True)
class Chain:
    """Intake, model, score and alarms of one plant."""

    plant: Plant
    model_version: str
    intake: Intake
    windows: WindowEncoder
    scorer: Scorer
    alarms: AlarmEngine
    partition: int = 0
    delivered_tick: int = -1
    outbox: Outbox = field(init=False)
    scores: list[Score] = field(default_factory=list[Score])
    events: list[AlarmEvent] = field(default_factory=list[AlarmEvent])
    is_changed: bool = False
    """Whether something was taken since the last checkpoint."""
    _saved_tick: int = -1
    """The tick whose score the broker's checkpoint of the score includes."""
    _closed: deque[Observation] = field(default_factory=deque[Observation])

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.plant)

    def take(self, records: Sequence[Record]) -> None:
        """Align ``records``; call it without any from time to time, so that silence is noticed."""
        taken = self.intake.take(records)
        self.is_changed |= bool(records or taken.observations)
        self._closed.extend(taken.observations)
        self.outbox.dead_letters(taken.dead_letters)

    def flush(self) -> None:
        """Close the ticks that are still open, as if their missing records never came."""
        self._closed.extend(self.intake.flush().observations)
        self.is_changed = True

    def command(self, command: AlarmCommand) -> None:
        """Do what an operator asked."""
        for event in self.alarms.command(command):
            self.outbox.event(event)
            self.events.append(event)
        self.is_changed = True

    def work(self) -> None:
        """Score every closed tick.

        Raises:
            InferenceUnavailableError: Nothing is lost; call it again.
        """
        while self._closed:
            window = self.windows.push(self._closed[0])  # -> embeddings of the last T ticks
            self._closed.popleft()
            if window is None or window.tick <= self.delivered_tick:
                continue  # (rebuilding the window of a restart)
            verdict = judge(
                self.scorer.observe(window),
                scorer=self.scorer,
                alarms=self.alarms,
                plant=self.plant,
                read_health=self.intake.health,
            )
            self.outbox.verdict(verdict)
            self.scores.append(verdict.score)
            self.events += [*verdict.events, *verdict.health_events]
            self.delivered_tick = window.tick

    def checkpoint(self) -> Checkpoint:
        """Return everything that a restart needs beside the raw records of the open window."""
        assert not self._closed, "a tick that is closed and not scored would be forgotten"
        return Checkpoint(
            plant_fingerprint=self.plant.fingerprint(),
            model_version=self.model_version,
            partition=self.partition,
            delivered_tick=self.delivered_tick,
            accounts={to_key(part): asdict(c) for part, c in self.intake.counts().items()},
            intake=self.intake.snapshot(),
            alarms=self.alarms.snapshot()
            | {"states": {s.name: s.model_dump(mode="json") for s in self.alarms.states()}},
        )

    def checkpoints(self) -> list[Message]:
        """Return what keeps the state of now; the score's only where a tick was scored since."""
        messages = [self.checkpoint().message(self.plant)]
        if self.delivered_tick != self._saved_tick:
            scorer = ScorerCheckpoint(
                model_version=self.model_version,
                tick=self.delivered_tick,
                scorer=self.scorer.snapshot(),
            )
            messages.append(scorer.message(self.plant, self.partition))
            self._saved_tick = self.delivered_tick
        return messages

    def resume(self, checkpoint: Checkpoint, scorer: ScorerCheckpoint | None) -> None:
        """Go on where ``checkpoint`` was written. Call once, before the first record.

        Alarms survive a change of model; the running statistics of the scores do not.
        """
        self.intake.restore(checkpoint.intake)
        self.alarms.restore(checkpoint.alarms)
        self.delivered_tick = checkpoint.delivered_tick
        if scorer is not None and scorer.model_version == self.model_version:
            self.scorer.restore(scorer.scorer)
            self._saved_tick = scorer.tick
