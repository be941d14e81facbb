"""The live loop: records in, explained alarms out, every record accounted for.

One step answers for what one poll brought: its scores, alarms and dead letters, the offsets below
the oldest record that an open window still needs, and the checkpoint that a restart goes on from
are published in one transaction. A process killed at any moment has either said all of a step or
nothing of it; the restarted one reads the open window again and goes on at the next tick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from fusion.alarms import AlarmEngine
from fusion.plant import Plant
from fusion.ports import Publisher, Source
from fusion.schema import AlarmEvent, Score
from fusion.scoring import Scorer
from fusion.stream.checkpoint import Checkpoint
from fusion.stream.intake import Intake, Taken
from fusion.stream.outbox import Outbox
from fusion.stream.windows import WindowEncoder

POLL_TIMEOUT_S = 0.25


@dataclass(slots=True)
class Step:
    """What one step of the loop did; shown to whoever watches."""

    num_records: int
    scores: list[Score] = field(default_factory=list[Score])
    events: list[AlarmEvent] = field(default_factory=list[AlarmEvent])


@dataclass(slots=True)
class Live:
    """The live chain of one plant."""

    plant: Plant
    model_version: str
    source: Source
    publisher: Publisher
    intake: Intake
    windows: WindowEncoder
    scorer: Scorer
    alarms: AlarmEngine
    delivered_tick: int = -1

    def steps(self, *, should_stop: Callable[[], bool]) -> Iterator[Step]:
        """Yield every step until ``should_stop`` says so; what was yielded is durable.

        Raises:
            BrokerUnavailableError: The broker is away. Nothing is lost: build a new chain and
                resume from its checkpoint.
        """
        while not should_stop():
            records = self.source.poll(timeout_s=POLL_TIMEOUT_S)
            yield self._answer(self.intake.take(records))

    def finish(self) -> Step:
        """Score the ticks that are still open, as if their missing records never came."""
        return self._answer(self.intake.flush())

    def _answer(self, taken: Taken) -> Step:
        """Take what one poll brought through the whole chain, and say it durably."""
        step, outbox = Step(taken.num_records), Outbox(self.plant)
        outbox.dead_letters(taken.dead_letters)
        for command in taken.commands:  # operator -> alarms
            self._raise_events(self.alarms.command(command), step, outbox)
        for observation in taken.observations:  # records -> aligned ticks
            window = self.windows.push(observation)  # -> embeddings of the last T ticks
            if window is None or window.tick <= self.delivered_tick:
                continue  # (rebuilding the window of a restart)
            score = self.scorer.update(window)  # -> surprise and forecasts, explained
            outbox.score(score)
            step.scores.append(score)
            self._raise_events(self.alarms.update(score), step, outbox)  # -> alarms, after delays
            self.delivered_tick = window.tick
        if taken.num_records or taken.observations:
            outbox.checkpoint(self.checkpoint())
            self.publisher.publish(outbox.messages, commit=self.intake.positions())
        return step

    def checkpoint(self) -> Checkpoint:
        """Return everything that a restart needs beside the raw records of the open window."""
        return Checkpoint(
            plant_fingerprint=self.plant.fingerprint(),
            model_version=self.model_version,
            delivered_tick=self.delivered_tick,
            intake=self.intake.snapshot(),
            scorer=self.scorer.snapshot(),
            alarms=self.alarms.snapshot(),
        )

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on where ``checkpoint`` was written. Call once, before the first step.

        Alarms survive a change of model; the running statistics of the scores do not.
        """
        self.intake.restore(checkpoint.intake)
        self.alarms.restore(checkpoint.alarms)
        self.delivered_tick = checkpoint.delivered_tick
        if checkpoint.model_version == self.model_version:
            self.scorer.restore(checkpoint.scorer)

    @staticmethod
    def _raise_events(events: list[AlarmEvent], step: Step, outbox: Outbox) -> None:
        for event in events:
            outbox.event(event)
        step.events.extend(events)
