"""Is it a sensor or the process? The last ticks are scored again with one stream, or tag, left out.

If leaving one stream out cures the surprise, that sensor is suspect: everything else is as it
should be. If it does not, several senses agree, and it is the process. What only one sense can
notice looks like its sensor: the sentence says so, and a person decides.

A stream is left out as if it had sent nothing, so that the networks see the plant without it: the
fused state, and with it what the other streams are expected to say, must not know of it. (Dropping
its members only would keep its mark on theirs.) A *tag* is left out by what the other tags of its
stream say of it: the networks never saw a tag go missing alone. Members made of readings forget it
exactly: the distance without it is the least that any value of it could give (the conditional term
of T², Mason, Young & Tracy 1995).

Shapes: S telemetry rows in a tick, C tags of the stream, V readings of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fusion.alignment import Observation
from fusion.plant import Plant, TelemetryStream
from fusion.scoring.calibration import Calibration
from fusion.scoring.members import accumulated, kind_of, member_name, owner
from fusion.scoring.normal import Normal

Verdict = Literal["sensor", "process", "undecided"]
ALARM = 1.0
DEADBAND = 0.3
"""A cure takes the surprise below the threshold by more than it flutters about it, as an alarm's
off-threshold does. (Not below the off-threshold itself: the others' normal running comes to 0.85.)
"""
OF_READINGS = {"chart", "innovation", "contradiction"}
"""Kinds of members whose vectors are the readings of their stream."""


class Rescore(Protocol):
    """Scores the ticks up to an alarm again."""

    def __call__(self, observations: Sequence[Observation], calibration: Calibration) -> float:
        """Return the surprise at the end of ``observations``; 1 is the alarm threshold."""
        ...


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What became of the surprise without one stream, or without one of its tags."""

    stream: str
    tag: str | None
    surprise: float
    without: float
    verdict: Verdict

    @property
    def name(self) -> str:
        """The tag, or the stream."""
        return self.tag or self.stream


def leave_each_out(
    observations: Sequence[Observation], plant: Plant, calibration: Calibration, rescore: Rescore
) -> list[LeftOut]:
    """Return what leaving out each stream does, and each tag of a suspect one; best cure first.

    ``observations`` end with the alarm and begin long enough before it for averages to settle.
    A stream whose absence cures nothing has no tag that would: its tags are not tried.
    """
    surprise = rescore(observations, calibration)
    said: list[LeftOut] = []
    present = [s for s in plant.streams if observations[-1].is_present(s.name)]
    for stream in present:
        is_suspect = True
        if len(present) > 1:
            left = rescore([each.without(stream.name) for each in observations], calibration)
            said.append(LeftOut(stream.name, None, surprise, left, verdict_of(surprise, left)))
            is_suspect = left < ALARM
        if isinstance(stream, TelemetryStream) and len(stream.measured) > 1 and is_suspect:
            for tag in stream.measured:
                told = without_tag(observations, plant, stream.name, tag.name, calibration)
                left = rescore(told, forgetful(calibration, stream.name, tag.name))
                verdict = verdict_of(surprise, left)
                said.append(LeftOut(stream.name, tag.name, surprise, left, verdict))
    return sorted(said, key=lambda each: each.without)


def verdict_of(surprise: float, without: float) -> Verdict:
    """Return whom leaving one out accuses.

    Example:
        >>> verdict_of(3.0, 0.4), verdict_of(3.0, 2.9), verdict_of(1.1, 0.9), verdict_of(0.5, 0.4)
        ('sensor', 'process', 'undecided', 'undecided')
    """
    if surprise < ALARM:
        return "undecided"
    if without >= ALARM:
        return "process"
    return "sensor" if without <= surprise - DEADBAND else "undecided"


def verdict_in_words(said: Sequence[LeftOut]) -> str:
    """Return what leaving out each one says together, as a sentence; "" where it says nothing.

    A single tag that cures it is named before its stream, which then cures it too. Where several
    would, nobody can tell which.
    """
    if not said or said[0].surprise < ALARM:
        return ""
    cures = [each for each in said if each.verdict == "sensor"]
    tags = [each for each in cures if each.tag is not None]
    streams = [each for each in cures if each.tag is None]
    if len(tags) == 1 and len(streams) <= 1:
        return _suspect(tags[0])
    if len(streams) == 1:
        return _suspect(streams[0])
    if cures:
        names = " or ".join(each.name for each in (streams or tags))
        return f"Leaving out either {names} cures it: it cannot be told which."
    if any(each.verdict == "undecided" for each in said):
        return ""
    return "Leaving out no single stream or tag cures it: suspect the process, not a sensor."


def _suspect(cure: LeftOut) -> str:
    return (
        f"Cured by leaving out {cure.name} (surprise {cure.surprise:.1f} → {cure.without:.1f}): "
        "suspect that sensor, or something that nothing else can sense."
    )


def without_tag(
    observations: Sequence[Observation],
    plant: Plant,
    stream: str,
    tag: str,
    calibration: Calibration,
) -> list[Observation]:
    """Return the ticks with ``tag`` as the other tags of its stream say it is."""
    described = plant.stream(stream)
    assert isinstance(described, TelemetryStream), "only telemetry has tags"
    measured = [index for index, each in enumerate(described.tags) if not each.setpoint]
    return list(_told_by_others(observations, stream, tag, measured, calibration))


def forgetful(calibration: Calibration, stream: str, tag: str) -> Calibration:
    """Return a calibration whose members made of readings do not see ``tag``.

    With ``W`` the whitener and ``u`` the direction of ``W e_tag``, the least of ``|W v|²`` over the
    tag's value is ``|W v|² - (u · W v)²``: the new whitener is ``(1 - u uᵀ) W``. Distances are per
    dimension, of which there is one fewer.
    """
    at = calibration.layout.stream(stream).readings.index(tag)
    return replace(
        calibration,
        normal=_forgetful(calibration.normal, stream, at),
        without={
            absent: _forgetful(normal, stream, at) for absent, normal in calibration.without.items()
        },
    )


def _forgetful(normal: Normal, stream: str, at: int) -> Normal:
    whiteners = dict(normal.whiteners)
    for key, whitener_VV in normal.whiteners.items():
        if owner(key) == stream and kind_of(key) in OF_READINGS:
            size = len(whitener_VV)
            u_V = whitener_VV[:, at] / np.linalg.norm(whitener_VV[:, at])
            projected_VV = whitener_VV - np.outer(u_V, u_V @ whitener_VV)
            whiteners[key] = projected_VV * np.sqrt(size / max(size - 1, 1))
    return replace(normal, whiteners=whiteners)


def _told_by_others(
    observations: Sequence[Observation],
    stream: str,
    tag: str,
    measured: list[int],
    calibration: Calibration,
) -> Iterator[Observation]:
    """Yield the ticks with the tag's conditional mean: ``-sum_j P_ij v_j / P_ii`` over the others.

    ``P`` is the precision of the stream's readings, all tags at once.
    """
    layout = calibration.layout
    at = layout.stream(stream).readings.index(tag)
    mean_V = calibration.reading_mean_R[layout.columns(stream)]
    std_V = calibration.reading_std_R[layout.columns(stream)]
    centre_V = calibration.normal.centres[member_name("chart", stream)]
    weights_V = _weights(calibration, stream, at)
    for each in observations:
        if not each.is_present(stream):
            yield each
            continue
        values_SC = each.senses[stream].astype(np.float32)
        scaled_SV = np.nan_to_num((values_SC[:, measured] - mean_V) / std_V) - centre_V
        told_S = scaled_SV @ weights_V + centre_V[at]
        values_SC[:, measured[at]] = told_S * std_V[at] + mean_V[at]
        yield replace(each, senses={**each.senses, stream: values_SC})


def _weights(calibration: Calibration, stream: str, at: int) -> NDArray[np.float64]:
    """Return how much each tag says about the one at ``at``, which itself says nothing, [V]."""
    whitener_VV = calibration.normal.whiteners[accumulated(member_name("chart", stream), 1.0)]
    precision_V = whitener_VV.T @ whitener_VV[:, at]
    weights_V = -precision_V / precision_V[at]
    weights_V[at] = 0.0
    return weights_V
