"""The chain of one plant: records in, scores and alarms out, nothing published yet.

What it has to say is collected in an outbox; :class:`fusion.stream.shard.Shard` publishes it
together with the offsets that it answers for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from fusion.alarms import AlarmEngine
from fusion.alarms.readings import tag_values
from fusion.alignment import Observation
from fusion.alignment.ledger import to_key
from fusion.plant import NANOSECONDS, Plant
from fusion.rollout.metering import Meter
from fusion.schema import AlarmCommand, AlarmEvent, Message, Record, Score, Verdict
from fusion.scoring import Scorer
from fusion.stream.alarm_topics import KeptAlarms
from fusion.stream.checkpoint import Checkpoint, ScorerCheckpoint
from fusion.stream.intake import Intake
from fusion.stream.outbox import Outbox
from fusion.stream.recall import Recall
from fusion.stream.shadow import Shadow
from fusion.stream.verdict import judge
from fusion.stream.windows import WindowEncoder

SILENCE_NS = 5 * NANOSECONDS
"""When no tick comes for so long, alarms' time goes on with the machine's."""


class Averages(NamedTuple):
    """The running statistics of one version's score after ``tick``."""

    tick: int
    scorer: dict[str, Any]


@dataclass(slots=True)
class Chain:
    """Intake, model, score and alarms of one plant.

    ``monotonic_ns`` lets time pass for shelves and the like while the plant is silent.
    """

    plant: Plant
    model_version: str
    intake: Intake
    windows: WindowEncoder
    scorer: Scorer
    alarms: AlarmEngine
    partition: int = 0
    recall: Recall | None = None
    monotonic_ns: Callable[[], int] | None = None
    delivered_tick: int = -1
    meter: Meter | None = None
    """Counts what the version in service does."""
    shadow: Shadow | None = None
    """Another version that scores the same ticks and says nothing."""
    outbox: Outbox = field(init=False)
    scores: list[Score] = field(default_factory=list[Score])
    events: list[AlarmEvent] = field(default_factory=list[AlarmEvent])
    is_changed: bool = False
    """Whether something was taken since the last checkpoint."""
    _saved_tick: int = -1
    """The tick whose score the broker's checkpoint of the score includes."""
    _closed: deque[Observation] = field(default_factory=deque[Observation])
    _heard: tuple[int, int] | None = None
    """When the last tick was judged, by the machine, and the alarms' time then."""

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.plant, self.partition)

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
        """Do what an operator asked, or say why not."""
        is_episode = self.recall is not None and self.recall.knows(command.episode)
        for event in self.alarms.command(command, is_episode=is_episode):
            self._say(event)
            if event.transition == "judged":
                self._judged(command)
        self.is_changed = True

    def work(self) -> None:
        """Score every closed tick.

        Raises:
            InferenceUnavailableError: Nothing is lost; call it again.
        """
        is_silent = True
        while self._closed:
            observation = self._closed[0]
            window = self.windows.push(observation)  # -> embeddings of the last T ticks
            self._closed.popleft()
            if self.shadow is not None:
                self.shadow.follow(observation, is_new=observation.tick > self.delivered_tick)
            if window is None or window.tick <= self.delivered_tick:
                continue  # (rebuilding the window of a restart)
            verdict = judge(
                self.scorer.observe(window, tag_values(observation, self.plant)),
                scorer=self.scorer,
                alarms=self.alarms,
                plant=self.plant,
                read_health=self.intake.health,
                recall=self.recall,
            )
            self.outbox.verdict(verdict)
            self.scores.append(verdict.score)
            self.events += [*verdict.events, *verdict.health_events]
            if self.meter is not None:
                self.meter.scored(verdict.score, verdict.events)
            self.delivered_tick = window.tick
            is_silent = False
        self._pass_time(is_silent=is_silent)

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
            alarms={**self.alarms.snapshot(), "journal": self.outbox.journal.snapshot()},
        )

    def take_messages(self) -> list[Message]:
        """Return all there is to say since the last call, with the states that came of it.

        Call it once for each transaction: it keeps the state of now, the score's only where a tick
        was scored since.
        """
        self.outbox.states(self.alarms.take_changed())
        for episode in self.recall.take_new() if self.recall is not None else ():
            self.outbox.feedback(episode)
        messages = [*self.outbox.take(), self.checkpoint().message(self.plant)]
        if self.delivered_tick != self._saved_tick:
            scorer = self.scorer.snapshot()
            if self.recall is not None:
                scorer = {**scorer, "recall": self.recall.snapshot()}
            saved = ScorerCheckpoint(
                model_version=self.model_version, tick=self.delivered_tick, scorer=scorer
            )
            messages.append(saved.message(self.plant, self.partition))
            self._saved_tick = self.delivered_tick
        return messages

    def resume(self, checkpoint: Checkpoint, scorer: ScorerCheckpoint | None) -> None:
        """Go on where ``checkpoint`` was written. Call once, before the first record.

        Alarms survive a change of model; the running statistics of the scores only where
        :meth:`take_over` brings those of the version that now serves.
        """
        self.intake.restore(checkpoint.intake)
        self.delivered_tick = checkpoint.delivered_tick
        if scorer is not None and scorer.model_version == self.model_version:
            self.scorer.restore(scorer.scorer)
            if self.recall is not None and "recall" in scorer.scorer:
                self.recall.restore(scorer.scorer["recall"])
            self._saved_tick = scorer.tick

    def averages(self) -> dict[str, Averages]:
        """Return the running statistics of each version's score, up to the newest tick."""
        found = {self.model_version: Averages(self.delivered_tick, self.scorer.snapshot())}
        if self.shadow is not None:
            snapshot = self.shadow.scorer.snapshot()
            found[self.shadow.model_version] = Averages(self.delivered_tick, snapshot)
        return found

    def take_over(self, known: Mapping[str, Averages]) -> None:
        """Let both versions go on with the statistics that they had in another role.

        Those of an older tick than the checkpoint's are of no use: ticks are missing in them.
        """
        now = {name: each for name, each in known.items() if each.tick == self.delivered_tick}
        if self.shadow is not None and self.shadow.model_version in now:
            self.shadow.scorer.restore(now[self.shadow.model_version].scorer)
        if self.model_version in now and self._saved_tick < self.delivered_tick:
            self.scorer.restore(now[self.model_version].scorer)

    def resume_alarms(self, snapshot: Mapping[str, Any], kept: KeptAlarms) -> None:
        """Go on with the alarms as the topics have ``kept`` them. Call once, before the first tick.

        Alarms survive a change of model, and of the plant file. What is new is said: definitions,
        alarms that never were before, those that are no more.
        """
        if "journal" in snapshot:
            self.outbox.journal.restore(snapshot["journal"])
        for event in self.alarms.restore(snapshot, kept.states.values()):
            self._say(event)
        if self.shadow is not None:
            # What stands already is raised by neither: only so are their counts comparable.
            self.shadow.alarms.restore(snapshot, kept.states.values())
        configs = {config.name: config for config in self.alarms.configs()}
        changed = [each for each in configs.values() if kept.configs.get(each.name) != each]
        changed += [
            each.model_copy(update={"is_retired": True})
            for name, each in kept.configs.items()
            if name not in configs and not each.is_retired
        ]
        self.outbox.configs(changed, self.alarms.now_ns or 0)
        self.is_changed |= bool(changed)
        if self.recall is not None:
            self.recall.recollect(kept)

    def _say(self, event: AlarmEvent) -> None:
        self.outbox.event(event)
        self.events.append(event)

    def _judged(self, command: AlarmCommand) -> None:
        assert command.episode is not None, "only a known episode is judged"
        if self.recall is not None:
            self.recall.judge(command)
        verdict = Verdict(
            id=command.id,
            plant=command.plant,
            episode=command.episode,
            judgement=command.judgement,
            note=command.note,
            who=command.who,
            t_ns=command.t_ns,
        )
        self.outbox.feedback(verdict)
        # (Who listens now may be who raised it, in another role.)
        for meter in (self.meter, None if self.shadow is None else self.shadow.meter):
            if meter is not None:
                meter.judged(verdict)

    def _pass_time(self, *, is_silent: bool) -> None:
        """Let what hides alarms end in silence too: plant time goes on with the machine's."""
        plant_ns = self.alarms.now_ns
        if self.monotonic_ns is None or plant_ns is None:
            return
        now_ns = self.monotonic_ns()
        if self._heard is None or not is_silent:
            self._heard = (now_ns, plant_ns)
        elif now_ns - self._heard[0] >= SILENCE_NS:
            for event in self.alarms.pass_time(self._heard[1] + now_ns - self._heard[0]):
                self._say(event)
                self.is_changed = True
