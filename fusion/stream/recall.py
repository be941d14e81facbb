"""What a plant's past says of a new alarm: the nearest episodes, and what operators made of them.

The first ticks of each alarm that the model raises are remembered. A verdict is kept with them; an
alarm that repeats a nuisance is lowered by a bounded part, and says so.

Shapes: T ticks, D state embedding.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusion.alarms import AlarmEngine
from fusion.plant import Plant
from fusion.schema import AlarmCommand, AlarmEvent, RememberedEpisode, Resembled, Score
from fusion.scoring import Calibration
from fusion.scoring.members import STATE, accumulated, member_name
from fusion.scoring.memory import FIRST_TICKS, Episode, Memory, Resembling, fingerprint
from fusion.stream.alarm_topics import KeptAlarms

KEPT_TICKS = 2 * FIRST_TICKS
"""Of an alarm that began longer ago than these ticks, the first of them stand for its first."""
MAX_EPISODES = 1_000
TOLD_BY = {"surprise", "forecast"}
"""Findings of the model; a crossed limit resembles nothing but itself."""


class _Tick(NamedTuple):
    t_ns: int
    state_D: NDArray[np.float64]
    members: Mapping[str, float]


class Recall:
    """The episodes of one plant under one model, and the last ticks."""

    def __init__(self, plant: Plant, calibration: Calibration, model_version: str) -> None:
        self._address = str(plant.address)
        self._calibration = calibration
        self._model_version = model_version
        self._memory = Memory(model_version)
        # (A calibration that never saw all streams at once cannot place the plant's state.)
        state = accumulated(member_name("density", STATE), 1.0)
        self._is_able = state in calibration.normal.whiteners
        self._ticks: deque[_Tick] = deque(maxlen=KEPT_TICKS)
        self._new: list[RememberedEpisode] = []

    def follow(self, score: Score, state_D: NDArray[np.float64]) -> None:
        """Take the next tick."""
        self._ticks.append(_Tick(score.t_end_ns, state_D, score.members))

    def tell(self, event: AlarmEvent, alarms: AlarmEngine) -> AlarmEvent:
        """Return ``event`` with what was alike before, and remember it."""
        state = event.state
        if event.transition != "raised" or state.finding not in TOLD_BY:
            return event
        if not self._ticks or not self._is_able:
            return event
        onset_ns = state.onset_ns or event.t_ns
        first = [tick for tick in self._ticks if tick.t_ns >= onset_ns][:FIRST_TICKS]
        z_TD = np.stack([tick.state_D for tick in first])
        print_V = fingerprint(z_TD, [tick.members for tick in first], self._calibration)
        nearest = [_resembled(each) for each in self._memory.nearest(print_V)]
        lowered = self._memory.lowers(print_V)
        told = alarms.inform(event, nearest, lowered.priority(state.priority), lowered.in_words())
        self._remember(Episode(event.id, event.t_ns, state.name), print_V)
        self._new.append(
            RememberedEpisode(
                plant=self._address,
                model_version=self._model_version,
                id=event.id,
                name=state.name,
                t_ns=event.t_ns,
                fingerprint=tuple(print_V.tolist()),
            )
        )
        return told

    def knows(self, episode: str | None) -> bool:
        """Whether an episode is remembered."""
        return any(each.id == episode for each in self._memory.episodes())

    def judge(self, command: AlarmCommand) -> None:
        """Keep what an operator said of an episode, if it is one that the model told."""
        if command.episode is not None and self.knows(command.episode):
            self._memory.judge(command.episode, command.judgement, command.note)

    def take_new(self) -> list[RememberedEpisode]:
        """Return what was remembered since the last call."""
        new, self._new = self._new, []
        return new

    def snapshot(self) -> dict[str, Any]:
        """Return the last ticks, for JSON: thousands of numbers, so they are packed."""
        return {
            "ticks": [
                {
                    "t_ns": tick.t_ns,
                    "state": base64.b64encode(tick.state_D.astype("<f8").tobytes()).decode(),
                    "members": dict(tick.members),
                }
                for tick in self._ticks
            ]
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on after the ticks of ``snapshot``."""
        self._ticks.clear()
        for tick in snapshot["ticks"]:
            state_D = np.frombuffer(base64.b64decode(tick["state"]), "<f8").astype(np.float64)
            self._ticks.append(_Tick(tick["t_ns"], state_D, tick["members"]))

    def recollect(self, kept: KeptAlarms) -> None:
        """Remember what the topic holds; of another model's episodes nothing can be compared."""
        for each in kept.episodes.values():
            if each.model_version != self._model_version:
                continue
            verdict = kept.verdicts.get(each.id)
            judgement = None if verdict is None else verdict.judgement
            note = "" if verdict is None else verdict.note
            episode = Episode(each.id, each.t_ns, each.name, judgement, note)
            self._remember(episode, np.array(each.fingerprint))

    def _remember(self, episode: Episode, print_V: NDArray[np.float64]) -> None:
        self._memory.remember(episode, print_V)
        episodes = self._memory.episodes()
        if len(episodes) > MAX_EPISODES:
            unjudged = (each for each in episodes if each.judgement is None)
            self._memory.forget(next(unjudged, episodes[0]).id)


def _resembled(each: Resembling) -> Resembled:
    return Resembled(
        episode=each.episode.id,
        name=each.episode.name,
        t_ns=each.episode.t_ns,
        similarity=each.similarity,
        judgement=each.episode.judgement,
        note=each.episode.note,
    )
