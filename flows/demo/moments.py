"""What could be seen and heard at the alarms, read back from the lake, with a second look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.demo.maps import Maps
from flows.demo.second_look import SecondLook
from flows.learn import NEAR_S, recorded_observations
from flows.report.inputs import FaultTruth, Moment
from fusion.alignment import Observation
from fusion.plant import AudioStream, Plant, VideoStream
from fusion.ports import Lake
from fusion.schema import AlarmEvent
from fusion.stream.intake import Gate

MAX_MOMENTS = 12
SOUND_TICKS = 6
QUIET_NS = 30_000_000_000
"""So long before the first alarm lies the normal example."""


def moments(
    events: Sequence[AlarmEvent],
    lake: Lake,
    plant: Plant,
    gate: Gate,
    faults: Sequence[FaultTruth],
    *,
    model_dir: Path,
) -> list[Moment]:
    """Return picture and sound at the alarms, beside those of a quiet minute, first ones first."""
    raised = [event for event in events if event.transition == "raised"]
    chosen = _first_of_each_fault(raised, faults)[:MAX_MOMENTS]
    if not chosen:
        return []
    again, maps = SecondLook(plant, model_dir), Maps(plant, model_dir)
    quiet = tick_of_ns(min(e.t_ns for e in raised) - QUIET_NS, plant)
    at = {event.id: tick_of_ns(event.t_ns, plant) for event in chosen}
    heard = {tick for last in [*at.values(), quiet] for tick in _up_to(last)}
    needed = heard | {
        tick
        for event in chosen
        if event.state.finding == "surprise"
        for tick in again.ticks_up_to(at[event.id])
    }
    kept: dict[int, Observation] = {}
    near = _sparse(needed, reach=max(1, round(NEAR_S / plant.tick_s)))
    for observation in recorded_observations(lake, plant, gate, near=near):
        if observation.tick in needed:
            kept[observation.tick] = observation
        if observation.tick in heard:
            maps.draw(observation)
    return [moment_of(event, at[event.id], quiet, kept, plant, maps, again) for event in chosen]


def moment_of(  # noqa: PLR0917 one alarm, and everything that is known of its time
    event: AlarmEvent,
    tick: int,
    quiet: int | None,
    kept: Mapping[int, Observation],
    plant: Plant,
    maps: Maps | None,
    again: SecondLook | None,
) -> Moment:
    """Return what could be seen and heard at ``tick``, beside the normal of tick ``quiet``.

    ``maps`` have drawn the ticks up to ``tick``; without a model there are neither maps nor a
    second look.
    """
    ears = next((s for s in plant.streams if isinstance(s, AudioStream)), None)
    eyes = next((s.name for s in plant.streams if isinstance(s, VideoStream)), None)
    ear = None if ears is None else ears.name
    return Moment(
        event=event,
        frame_HW3=_frame(kept, eyes, tick),
        normal_frame_HW3=_frame(kept, eyes, quiet),
        sound_N=_sound(kept, ear, tick),
        normal_sound_N=_sound(kept, ear, quiet),
        sample_rate_hz=16_000 if ears is None else ears.sample_rate_hz,
        frame_map=None if maps is None else maps.beside(eyes, [tick]),
        sound_map=None if maps is None else maps.beside(ear, _up_to(tick)),
        left_out=again.look(tick, kept)
        if again is not None and event.state.finding == "surprise"
        else (),
    )


def _frame(
    kept: Mapping[int, Observation], stream: str | None, tick: int | None
) -> NDArray[np.uint8] | None:
    """Return the picture of ``tick``; of a clip the newest."""
    if stream is None or tick is None or tick not in kept or not kept[tick].is_present(stream):
        return None
    seen = kept[tick].senses[stream].astype(np.uint8)
    return seen if seen.ndim == 3 else seen[-1]


def _sound(
    kept: Mapping[int, Observation], stream: str | None, tick: int | None
) -> NDArray[np.int16] | None:
    """Return the sound of the ticks up to ``tick``."""
    if tick is None:
        return None
    ticks = [t for t in _up_to(tick) if stream and t in kept and kept[t].is_present(stream)]
    if not ticks or stream is None:
        return None
    return np.concatenate([kept[t].senses[stream].astype(np.int16) for t in ticks])


def _up_to(tick: int) -> range:
    return range(tick - SOUND_TICKS + 1, tick + 1)


def _sparse(ticks: Iterable[int], *, reach: int) -> list[int]:
    """Return as few ticks as say, each with ``reach`` around it, the same as all ``ticks``."""
    every, few = set(ticks), list[int]()
    for tick in sorted(every):
        if not few or tick - few[-1] > reach or tick + 1 not in every:
            few.append(tick)
    return few


def tick_of_ns(t_end_ns: int, plant: Plant) -> int:
    """Return the tick that ends at ``t_end_ns``."""
    return t_end_ns // plant.tick_ns - 1


def _first_of_each_fault(
    raised: Sequence[AlarmEvent], faults: Sequence[FaultTruth]
) -> list[AlarmEvent]:
    if not faults:
        return list(raised)
    chosen: list[AlarmEvent] = []
    for fault in faults:
        inside = [e for e in raised if fault.onset_ns <= e.t_ns <= fault.end_ns]
        chosen += inside[:1]
    return chosen
