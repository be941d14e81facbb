"""The members of the score: what each measures, on one window or on a running average of windows.

Every member belongs to one stream, or to the whole plant's state. Vector members are accumulated
with several time constants (MEWMA; Lowry, Woodall, Champ & Rigdon 1992), so that small faults that
last show as well as large ones that pass.

Shapes: T ticks, M streams, P stream embedding, R readings of one stream, H horizons.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.features import Layout
from fusion.model.outputs import WindowOutputs

Floats = NDArray[np.float32]
Vector = NDArray[np.float64]
STATE = "state"
"""The owner of members that no single stream owns."""
FORGETTING = (1.0, 0.3, 0.05)
"""MEWMA weights of the newest tick: at once, about 3 ticks, about 20."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """One vector that is 0 when all is as expected."""

    member: str
    stream: str
    vector: Vector


def deviations(
    window: WindowOutputs, layout: Layout, horizons_ticks: tuple[int, ...]
) -> Iterator[Deviation]:
    """Yield the vector members of the newest tick, for the streams that are present.

    chart: the readings themselves (Hotelling's control chart, the floor). innovation: readings
    less what the predicted embedding decodes to. contradiction: readings less what the other
    streams say. latent: embedding less its prediction. density: the embedding itself.
    """
    last = len(window.z_TD) - 1
    due = list(enumerate(h for h in horizons_ticks if h <= last))
    for m, stream in enumerate(layout.streams):
        if window.presence_TM[last, m] == 0:
            continue
        columns = layout.columns(stream.name)
        now = window.readings_TR[last, columns]
        yield Deviation("chart", stream.name, _known(now))
        yield Deviation("density", stream.name, window.p_TMP[last, m].astype(np.float64))
        for row, horizon in due[1:]:
            expected = window.readings_due_SR[row, columns]
            yield Deviation(f"innovation-{horizon}", stream.name, _known(now - expected))
        if due:
            predicted = window.p_due_SMP[-1, m]
            yield Deviation("latent", stream.name, _known(window.p_TMP[last, m] - predicted))
        if window.presence_TM[last].sum() > 1:
            told = window.cross_readings_TR[last, columns]
            yield Deviation("contradiction", stream.name, _known(now - told))
            crossed = window.p_TMP[last, m] - window.cross_TMP[last, m]
            yield Deviation("latent-contradiction", stream.name, _known(crossed))
    if window.presence_TM[last].all():
        yield Deviation("density", STATE, window.z_TD[last].astype(np.float64))
        if due:
            yield Deviation("latent", STATE, _known(window.z_TD[last] - window.z_due_SD[-1]))


class RunningDeviations:
    """The running averages of every deviation; the state of the score between ticks."""

    def __init__(self, snapshot: Mapping[str, Any] | None = None) -> None:
        self._averages = {} if snapshot is None else _unpacked(snapshot)

    def follow(self, member: str, stream: str, vector: Vector) -> Iterator[tuple[str, Vector]]:
        """Yield the name of each average that remembers, and the average with ``vector`` in it.

        ``vector`` is what a member lies off its centre, shortened if it is far out: a violent
        moment must not be remembered longer than a small fault that lasts.
        """
        for weight in FORGETTING[1:]:
            key = member_key(member, stream, weight)
            # Where nothing is known yet, an average starts at what is normal.
            before = self._averages.get(key, np.zeros_like(vector))
            after = before + weight * (vector - before)
            self._averages[key] = after
            yield key, after

    def snapshot(self) -> dict[str, Any]:
        """Return the averages, for JSON: thousands of numbers, so they are packed, bit for bit."""
        packed = b"".join(values.astype("<f8").tobytes() for values in self._averages.values())
        lengths = {key: len(values) for key, values in self._averages.items()}
        return {"lengths": lengths, "float64": base64.b64encode(packed).decode()}


def member_key(member: str, stream: str, weight: float) -> str:
    """Return the name of an accumulated member, for example ``process/chart/0.3``."""
    return accumulated(member_name(member, stream), weight)


def member_name(member: str, stream: str) -> str:
    """Return the name of a member, for example ``process/chart``."""
    return f"{stream}/{member}"


def accumulated(name: str, weight: float) -> str:
    """Return the name of the running average of a member."""
    return f"{name}/{weight:g}"


def owner(key: str) -> str:
    """Return the stream that a member belongs to."""
    return key.partition("/")[0]


def kind_of(key: str) -> str:
    """Return what a member measures, whatever its stream and horizon.

    Example:
        >>> kind_of("process/innovation-4/0.3"), kind_of("state/density")
        ('innovation', 'density')
    """
    return key.split("/")[1].rstrip("-0123456789")


def _unpacked(snapshot: Mapping[str, Any]) -> dict[str, Vector]:
    lengths: Mapping[str, int] = snapshot["lengths"]
    packed = np.frombuffer(base64.b64decode(snapshot["float64"]), "<f8").astype(np.float64)
    ends = np.cumsum(list(lengths.values()), dtype=int)
    return dict(zip(lengths, np.split(packed, ends[:-1]), strict=False))


def _known(values: Floats) -> NDArray[np.float64]:
    """Return ``values`` with 0, no deviation, where nothing is known."""
    return np.nan_to_num(values.astype(np.float64))
