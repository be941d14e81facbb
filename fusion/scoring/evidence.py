"""What one window says, before it is held against the windows before it.

A score has two halves. Evidence follows from one window alone, so it may be found in any order and
by many processes; the judgement moves running averages and goes tick by tick.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.schema import SignalEvidence, TagForecast


@dataclass(frozen=True, slots=True)
class Measured:
    """One member of the score in this window."""

    member: str
    stream: str
    rarity: float | None
    """Of the deviation itself, ``-log10 P``; None for a member that was never calibrated."""
    limited: NDArray[np.float64]
    """What enters the running averages: off the centre, and shortened if it is far out."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything about one tick that its window alone decides."""

    tick: int
    measured: Sequence[Measured]
    mode: str | None
    present: dict[str, bool]
    signals: tuple[SignalEvidence, ...]
    forecasts: tuple[TagForecast, ...]
    caveats: tuple[str, ...]
    values: dict[str, float]
    """Of the tags that limit alarms watch, in their units."""
    state_D: NDArray[np.float64]
    """Where the plant is in the embedding; by it episodes are told apart."""
    ahead_D: NDArray[np.floating] | None = None
    """Where it is heading, for chances of events: live's alone, so it is not packed."""

    def pack(self) -> tuple[str, bytes]:
        """Return it as a line of JSON and the bytes of its vectors, without losing a bit."""
        said = {
            "tick": self.tick,
            "measured": [[m.member, m.stream, m.rarity, len(m.limited)] for m in self.measured],
            "mode": self.mode,
            "present": dict(self.present),
            "signals": [signal.model_dump() for signal in self.signals],
            "forecasts": [forecast.model_dump() for forecast in self.forecasts],
            "caveats": self.caveats,
            "values": self.values,
            "state": len(self.state_D),
        }
        arrays = [*(m.limited for m in self.measured), self.state_D]
        vectors = [np.ascontiguousarray(each, "<f8").tobytes() for each in arrays]
        return json.dumps(said), b"".join(vectors)

    @classmethod
    def unpack(cls, line: str, vectors: bytes) -> Evidence:
        """Return what :meth:`pack` was given."""
        said = json.loads(line)
        numbers = np.frombuffer(vectors, "<f8").astype(np.float64)
        measured: list[Measured] = []
        begin = 0
        for member, stream, rarity, length in said["measured"]:
            measured.append(Measured(member, stream, rarity, numbers[begin : begin + length]))
            begin += length
        return cls(
            tick=said["tick"],
            measured=measured,
            mode=said["mode"],
            present=said["present"],
            signals=tuple(SignalEvidence.model_validate(each) for each in said["signals"]),
            forecasts=tuple(TagForecast.model_validate(each) for each in said["forecasts"]),
            caveats=tuple(said["caveats"]),
            values=said["values"],
            state_D=numbers[begin : begin + said["state"]],
        )
