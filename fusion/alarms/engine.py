"""Alarms of one plant: which exist, what state each is in, what changed. Time is event time.

Three independent parts make a state: what the process does (``condition``), what people have
answered (``is_acknowledged``, ``is_latched``), and what hides it (``overrides``). Everything goes
in through :meth:`AlarmEngine.update`, ``health``, ``command`` and ``pass_time``; what comes out is
the journal. ``take_changed`` gives the states that differ since the last call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fusion.alarms.board import Board
from fusion.alarms.commands import answer
from fusion.alarms.floods import Announced, FloodWatch
from fusion.alarms.hiding import Hiding
from fusion.alarms.readings import Due, Readings
from fusion.alarms.restoring import restored
from fusion.alarms.sentences import flood_sentence, sentence_of, skew_sentence
from fusion.alarms.state_machine import Reading, next_condition
from fusion.alarms.timers import Timers
from fusion.alarms.watches import FLOOD, SKEW_OFF, watches_of
from fusion.plant import Plant
from fusion.schema import (
    AlarmCommand,
    AlarmConfig,
    AlarmEvent,
    AlarmState,
    Condition,
    Priority,
    Resembled,
    Score,
    StreamHealth,
)
from fusion.schema.alarms import Transition

MAX_COMMANDS = 1_000
"""So many ids of commands are remembered: a resend comes within seconds, not after a thousand."""


class AlarmEngine:
    """Holds the state of every alarm; scores and commands go in, transitions come out."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._board = Board(str(plant.address), watches_of(plant))
        self._readings = Readings(self._board.watches, plant.tick_ns)
        self._board.on_put.append(lambda at, state: self._readings.became(at, state.condition))
        self._timers = Timers(self._board)
        self._hiding = Hiding(self._board)
        self._flood = FloodWatch()
        self._first_outs: frozenset[str] = frozenset()
        self._commands: dict[str, None] = {}
        self._score_ns: int | None = None
        self._now_ns: int | None = None
        self._health_ns: dict[str, int] = {}

    @property
    def now_ns(self) -> int | None:
        """Plant time: the newest that was heard of; None before anything was."""
        return self._now_ns

    def states(self) -> list[AlarmState]:
        """Return the state of every alarm, in the order of the plant file."""
        return list(self._board.states)

    def configs(self) -> list[AlarmConfig]:
        """Return how every alarm is defined, in the same order."""
        return [watch.config for watch in self._board.watches]

    def has(self, name: str) -> bool:
        """Whether the plant has an alarm of that name."""
        return name in self._board.at

    def take_changed(self) -> list[AlarmState]:
        """Return the newest state of every alarm that changed since the last call."""
        return self._board.take_changed()

    def update(self, score: Score) -> list[AlarmEvent]:
        """Return what ``score`` raises or clears. A score of an old tick changes nothing.

        Without data an alarm stays as it is: bad inputs never clear it, they raise one of their
        own. Parents come before what they mask.
        """
        before_ns = self._score_ns
        if before_ns is not None and score.t_end_ns <= before_ns:
            return []
        self._score_ns = score.t_end_ns
        self._now_ns = max(score.t_end_ns, self._now_ns or score.t_end_ns)
        if any(score.present.values()):
            self._hiding.follow_mode(score)
        due = self._readings.see(score, before_ns)
        for each in sorted(due, key=lambda each: self._hiding.depth[each.at]):
            self._advance(each, score.tick, score)
        self._settle(score.t_end_ns, score.tick)
        return self._board.take_events()

    def health(self, streams: Iterable[StreamHealth]) -> list[AlarmEvent]:
        """Return what the skews of ``streams`` raise or clear; an unknown skew changes nothing."""
        for stream in streams:
            at = self._board.at[f"skew-{stream.stream}"]
            if stream.skew_s is None or stream.t_ns <= self._health_ns.get(stream.stream, -1):
                continue
            self._health_ns[stream.stream] = stream.t_ns
            level = abs(stream.skew_s) / self._plant.max_skew_s
            reading = Reading(stream.is_skewed, level < SKEW_OFF, stream.t_ns)
            self._advance(Due(at, level, reading), stream.t_ns // self._plant.tick_ns, stream)
        return self._board.take_events()

    def pass_time(self, now_ns: int) -> list[AlarmEvent]:
        """Return what ends by plant time alone, when no tick comes that would tell it."""
        if self._now_ns is None or now_ns <= self._now_ns:
            return []
        self._now_ns = now_ns
        self._settle(now_ns, f"t{now_ns}")
        return self._board.take_events()

    def command(self, command: AlarmCommand, *, is_episode: bool = False) -> list[AlarmEvent]:
        """Return the answer to ``command``: what it changed, or that it was refused and why.

        Nothing for a repeat: it was answered. ``is_episode`` says whether what it judges is known.

        Raises:
            KeyError: The plant has no such alarm.
        """
        board = self._board
        at = board.at[command.name]
        if command.id in self._commands:
            return []
        self._remember(command.id)
        state = board.states[at]
        now_ns = command.t_ns if self._now_ns is None else self._now_ns
        is_known = is_episode or bool(state.episode and state.episode == command.episode)
        said = answer(command, state, now_ns, is_episode=is_known)
        transition: Transition = "refused" if isinstance(said, str) else said.transition
        update = {} if isinstance(said, str) else said.update
        if update:
            board.put(at, state.model_copy(update={**update, "revision": state.revision + 1}))
        board.journal(
            AlarmEvent(
                id=f"{command.id}:{transition}",
                transition=transition,
                t_ns=command.t_ns,
                state=board.states[at],
                who=command.who,
                command=command.id,
                note=said if isinstance(said, str) else command.note,
                judgement=command.judgement if transition == "judged" else None,
            )
        )
        self._hiding.follow_masks(now_ns, command.id)
        return board.take_events()

    def inform(
        self, event: AlarmEvent, nearest: Sequence[Resembled], priority: Priority, words: str
    ) -> AlarmEvent:
        """Return ``event``, just raised, with what memory says of it; so is the state changed."""
        at = self._board.at[event.state.name]
        update = {
            "priority": priority,
            "sentence": f"{event.state.sentence} {words}".strip(),
        }
        self._board.put(at, self._board.states[at].model_copy(update=update))
        told = event.state.model_copy(update=update)
        return event.model_copy(update={"state": told, "nearest": tuple(nearest)})

    def snapshot(self) -> dict[str, Any]:
        """Return everything but the states, for JSON."""
        return {
            "score_ns": self._score_ns,
            "now_ns": self._now_ns,
            "health_ns": self._health_ns,
            "commands": list(self._commands),
            "flood": self._flood.snapshot(),
            **self._readings.snapshot(),
        }

    def restore(
        self, snapshot: Mapping[str, Any], states: Iterable[AlarmState] = ()
    ) -> list[AlarmEvent]:
        """Go on from ``snapshot`` and ``states``; return which alarms the plant file dropped.

        Earlier releases kept the states in the snapshot: those count then, whatever else is given.
        """
        if "states" in snapshot:
            states = [AlarmState.model_validate(each) for each in snapshot["states"].values()]
        found = restored(self._board.watches, states, self._plant, snapshot)
        self._board.replace(found.states, found.changed)
        self._score_ns, self._health_ns = found.score_ns, found.health_ns
        self._now_ns = snapshot.get("now_ns", found.score_ns)
        self._commands = dict.fromkeys(snapshot.get("commands", ()))
        if "flood" in snapshot:
            self._flood.restore(snapshot["flood"])
        self._first_outs = frozenset(s.name for s in found.states if s.is_first_out)
        self._readings.restore(snapshot, [state.condition for state in found.states])
        self._timers.reset()
        self._hiding.is_dirty = True
        return found.events

    def _remember(self, command_id: str) -> None:
        self._commands[command_id] = None
        while len(self._commands) > MAX_COMMANDS:
            del self._commands[next(iter(self._commands))]

    def _advance(self, due: Due, tick: int, found: Score | StreamHealth) -> None:
        board, t_ns = self._board, due.reading.t_ns
        state, watch = board.states[due.at], board.watches[due.at]
        since_ns = state.since_ns + self._readings.frozen_ns(due.at)
        condition = next_condition(state.condition, since_ns, due.reading, watch.delays)
        if condition is state.condition:
            return
        update: dict[str, Any] = {
            "tick": tick,
            "score": due.level,
            "condition": condition,
            "since_ns": t_ns,
        }
        if state.condition is Condition.NORMAL:
            update["onset_ns"] = t_ns
        was_standing = state.condition.is_standing
        if condition.is_standing and not was_standing:
            self._hiding.mask(due.at, t_ns, tick)
            self._raise(due, update, tick, found)
        elif was_standing and not condition.is_standing:
            board.say(due.at, update, "cleared", t_ns, tick)
            shelf = state.override("shelved")
            if shelf is not None and shelf.is_one_shot:
                board.uncover(due.at, "shelved", "unshelved", t_ns, tick, "the alarm has cleared")
        else:
            board.put(due.at, state.model_copy(update=update))

    def _raise(
        self, due: Due, update: dict[str, Any], tick: int, found: Score | StreamHealth
    ) -> None:
        state, config = self._board.states[due.at], self._board.config(due.at)
        score, t_ns = found if isinstance(found, Score) else None, due.reading.t_ns
        update |= {
            "priority": config.priority,
            "is_latched": state.is_latched or config.is_latching,
            "sentence": self._sentence(due, found),
            "shares": {} if score is None else score.shares,
            "raised_ns": t_ns,
        }
        if not state.is_hidden:
            update["is_acknowledged"] = False
            if config.kind == "alarm":
                self._flood.announce(Announced(t_ns, config.asset, config.name))
        self._board.say(due.at, update, "raised", t_ns, tick, score=score)

    def _sentence(self, due: Due, found: Score | StreamHealth) -> str:
        if isinstance(found, StreamHealth):
            return skew_sentence(found, self._plant)
        config = self._board.config(due.at)
        missing, num_frozen = [], 0
        if config.finding == "input":
            (stream,) = config.streams
            missing = self._readings.missing(found, stream)
            needing = (c for c in self.configs() if c.finding in {"surprise", "forecast", "limit"})
            num_frozen = sum(stream in each.streams for each in needing)
        return sentence_of(config, due.level, found, self._plant, missing, num_frozen)

    def _settle(self, t_ns: int, stamp: int | str) -> None:
        """Do what follows from the conditions of now, and what ends by time."""
        self._timers.pass_time(t_ns, stamp)
        self._hiding.follow_masks(t_ns, stamp)
        self._flood.pass_time(t_ns)
        self._follow_flood(t_ns, stamp)

    def _follow_flood(self, t_ns: int, stamp: int | str) -> None:
        at = self._board.at[FLOOD]
        state = self._board.states[at]
        if self._flood.is_flood and not state.condition.is_standing:
            update = {
                "condition": Condition.ACTIVE,
                "since_ns": t_ns,
                "onset_ns": t_ns,
                "raised_ns": t_ns,
                "is_acknowledged": state.is_hidden and state.is_acknowledged,
                "sentence": flood_sentence(self._flood),
                "score": float(self._flood.count),
            }
            self._board.say(at, update, "raised", t_ns, stamp)
        elif state.condition.is_standing and not self._flood.is_flood:
            update = {"condition": Condition.NORMAL, "since_ns": t_ns}
            self._board.say(at, update, "cleared", t_ns, stamp)
        firsts = frozenset(self._flood.first_outs.values())
        for name in firsts ^ self._first_outs:
            if (first := self._board.at.get(name)) is not None:
                mark = {"is_first_out": name in firsts}
                self._board.put(first, self._board.states[first].model_copy(update=mark))
        self._first_outs = firsts
