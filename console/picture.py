"""Everything that the pages show, in memory: one picture of all plants, made from their topics.

Pure: decoded things go in, in the order in which the broker has them. Each change gets the next
``revision``, so that whoever saw revision *n* can be told exactly what changed since. Only the
event loop touches a picture; it needs no lock. What it holds is bounded.
"""

from __future__ import annotations

import secrets
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from console.trends import Trends
from fusion.plant import NANOSECONDS, Plant
from fusion.schema import (
    AlarmConfig,
    AlarmEvent,
    AlarmState,
    Score,
    ShownState,
    StreamHealth,
    TelemetryBatch,
    Verdict,
)

MAX_EVENTS = 5_000
MAX_RAISED = 1_000
MAX_SURPRISES = 7_200
MAX_REFUSED = 200
QUIET_LEAD_NS = 10_000_000_000
QUIET = 0.5
"""Surprise, where 1 is the alarm threshold."""
AlarmKey = tuple[str, str]
"""Address of the plant, name of the alarm."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An alarm as it stands, and the revision of the picture in which it last changed."""

    state: AlarmState
    revision: int

    @property
    def is_listed(self) -> bool:
        """Whether it belongs into the list of alarms: it stands, or nobody has seen it yet."""
        return self.state.shown is not ShownState.NORMAL


@dataclass(slots=True)
class PlantPicture:
    """What is known of one plant."""

    plant: Plant
    score: Score | None = None
    surprises: deque[tuple[int, float]] = field(
        default_factory=lambda: deque[tuple[int, float]](maxlen=MAX_SURPRISES)
    )
    """End of tick (ns) and surprise."""
    health: dict[str, StreamHealth] = field(default_factory=dict[str, StreamHealth])
    heard_ns: int | None = None
    """When the broker got the newest score."""
    health_heard_ns: dict[str, int] = field(default_factory=dict[str, int])
    """When the broker got the newest word of each stream."""
    num_dead_letters: int = 0
    trends: Trends = field(init=False)

    def __post_init__(self) -> None:
        self.trends = Trends(self.plant)

    def lag_s(self, stream: str) -> float | None:
        """Return how old the newest record of ``stream`` was when it was last told of, in s."""
        health = self.health.get(stream)
        if health is None or health.newest_ns is None:
            return None
        return (self.health_heard_ns[stream] - health.newest_ns) / NANOSECONDS


@dataclass(frozen=True, slots=True)
class Counts:
    """How many alarms are in the list, absolute, never a difference."""

    unacknowledged: int = 0
    acknowledged: int = 0
    returned: int = 0
    """Gone again before anybody acknowledged them."""
    latched: int = 0
    """Gone and acknowledged, but to be reset."""
    hidden: int = 0
    """Shelved, masked, suppressed or out of service: not announced, and not forgotten."""
    advisories: int = 0
    """Findings without a definition; in none of the other counts."""


class Picture:
    """All plants. A new one has a new ``epoch``: revisions of another epoch mean nothing in it."""

    def __init__(self, plants: Sequence[Plant], *, epoch: str | None = None) -> None:
        self.epoch = epoch or secrets.token_hex(8)
        self.revision = 0
        self.is_complete = False
        """Whether everything that the topics held at the start has been read."""
        self.plants = {str(plant.address): PlantPicture(plant) for plant in plants}
        self.events: deque[AlarmEvent] = deque(maxlen=MAX_EVENTS)
        self.num_events = 0
        """Ever taken, also those that are no longer kept."""
        self._alarms: OrderedDict[AlarmKey, Shown] = OrderedDict()
        """The one that changed last is last."""
        self._counted: dict[str, Counter[str]] = {address: Counter() for address in self.plants}
        self._raised: OrderedDict[str, AlarmEvent] = OrderedDict()
        self.configs: dict[AlarmKey, AlarmConfig] = {}
        self._verdicts: OrderedDict[str, Verdict] = OrderedDict()
        self._refused: deque[tuple[int, AlarmEvent]] = deque(maxlen=MAX_REFUSED)

    def alarm_state(self, state: AlarmState) -> None:
        """Take the newest state of an alarm; of a plant that is not watched it is no concern."""
        counted = self._counted.get(state.plant)
        if counted is None:
            return
        key = (state.plant, state.name)
        before = self._alarms.get(key)
        if before is not None:
            counted[_bin(before.state)] -= 1
        self.revision += 1
        self._alarms[key] = Shown(state, self.revision)
        self._alarms.move_to_end(key)
        counted[_bin(state)] += 1

    def alarm_config(self, config: AlarmConfig) -> None:
        """Take how an alarm is defined."""
        if config.plant in self.plants:
            self.configs[config.plant, config.name] = config

    def alarm_event(self, event: AlarmEvent) -> None:
        """Take one line of the alarms' journal."""
        if event.state.plant not in self.plants:
            return
        self.revision += 1
        self.events.append(event)
        self.num_events += 1
        if event.transition == "raised":
            self._raised[event.id] = event
            while len(self._raised) > MAX_RAISED:
                self._raised.popitem(last=False)
        if event.transition == "refused":
            self._refused.append((self.revision, event))

    def verdict(self, verdict: Verdict) -> None:
        """Take what an operator said of an episode; the newest counts."""
        if verdict.plant in self.plants:
            self.revision += 1
            self._verdicts[verdict.episode] = verdict
            self._verdicts.move_to_end(verdict.episode)
            while len(self._verdicts) > MAX_RAISED:
                self._verdicts.popitem(last=False)

    def score(self, score: Score, *, t_broker_ns: int) -> None:
        """Take the score of one tick."""
        of_plant = self.plants.get(score.plant)
        if of_plant is None:
            return
        self.revision += 1
        of_plant.score, of_plant.heard_ns = score, t_broker_ns
        of_plant.surprises.append((score.t_end_ns, score.surprise))

    def health(self, health: StreamHealth, *, t_broker_ns: int) -> None:
        """Take how a stream does."""
        of_plant = self.plants.get(health.plant)
        if of_plant is not None:
            self.revision += 1
            of_plant.health[health.stream] = health
            of_plant.health_heard_ns[health.stream] = t_broker_ns

    def dead_letter(self, address: str) -> None:
        """Count a record that could not be used."""
        of_plant = self.plants.get(address)
        if of_plant is not None:
            self.revision += 1
            of_plant.num_dead_letters += 1

    def telemetry(self, address: str, stream: str, batch: TelemetryBatch) -> None:
        """Take samples for the trends. No revision: trends are asked for, not pushed."""
        of_plant = self.plants.get(address)
        if of_plant is not None:
            of_plant.trends.add(stream, batch)

    def alarm(self, key: AlarmKey) -> Shown | None:
        """Return the alarm ``key`` as it stands."""
        return self._alarms.get(key)

    def alarms(self, addresses: frozenset[str]) -> list[Shown]:
        """Return what the list of alarms shows of the plants ``addresses``, urgent ones first."""
        listed = [s for (a, _), s in self._alarms.items() if a in addresses and s.is_listed]
        return sorted(listed, key=_urgency)

    def changed(self, addresses: frozenset[str], *, since: int) -> Iterator[Shown]:
        """Yield the alarms of ``addresses`` that changed after revision ``since``, newest first."""
        for (address, _), shown in reversed(self._alarms.items()):
            if shown.revision <= since:
                return
            if address in addresses:
                yield shown

    def counts(self, addresses: frozenset[str]) -> Counts:
        """Return how many alarms are in the list of ``addresses``."""
        total: Counter[str] = sum((self._counted[a] for a in addresses), Counter())
        return Counts(
            unacknowledged=total["unacknowledged"],
            acknowledged=total["acknowledged"],
            returned=total["returned-unacknowledged"],
            latched=total["latched"],
            hidden=total["hidden"],
            advisories=total["advisory"],
        )

    def raised(self, event_id: str) -> AlarmEvent | None:
        """Return the event ``event_id`` that raised an alarm; None when it is unknown or old."""
        return self._raised.get(event_id)

    def last_raised(self, key: AlarmKey) -> AlarmEvent | None:
        """Return the newest event that raised the alarm ``key``."""
        return next(
            (e for e in reversed(self._raised.values()) if (e.state.plant, e.state.name) == key),
            None,
        )

    def verdict_on(self, episode: str) -> Verdict | None:
        """Return what was last said of ``episode``; None where nobody did, or took it back."""
        verdict = self._verdicts.get(episode)
        return None if verdict is None or verdict.judgement is None else verdict

    def refused(self, who: str, *, since: int) -> list[AlarmEvent]:
        """Return what ``who`` asked for and the live process refused after revision ``since``."""
        return [e for revision, e in self._refused if revision > since and e.who == who]

    def quiet_before(self, event: AlarmEvent) -> int | None:
        """Return the last moment of plainly normal running before ``event``, None if unknown."""
        until_ns = (event.state.onset_ns or event.t_ns) - QUIET_LEAD_NS
        surprises = self.plants[event.state.plant].surprises
        return next((t for t, s in reversed(surprises) if t <= until_ns and s < QUIET), None)


def _bin(state: AlarmState) -> str:
    """Return which count ``state`` belongs to."""
    if state.shown is ShownState.NORMAL:
        return "normal"
    if state.is_hidden:
        return "hidden"
    return "advisory" if state.kind == "advisory" else state.shown.value


_PRIORITY = {"high": 0, "medium": 1, "low": 2}


def _urgency(shown: Shown) -> tuple[bool, bool, int, int]:
    state = shown.state
    is_answered = state.is_acknowledged or state.is_hidden
    return (
        is_answered,
        not state.condition.is_standing,
        _PRIORITY[state.priority],
        -state.since_ns,
    )
