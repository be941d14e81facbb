"""The moment that a what-if is asked for: the window in the lake that ends with it, its model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flows import wiring
from flows.gates import open_stored_gate
from flows.settings import Settings
from flows.trust import trusted_model
from fusion.alignment import Observation, tick_end_ns
from fusion.errors import InputError
from fusion.manifest import Manifest, load_manifest
from fusion.model import WindowOutputs
from fusion.planning import Candidate, Goal, PlanReader
from fusion.plant import NANOSECONDS, Plant, Tag
from fusion.ports import Lake
from fusion.schema.records import rfc3339
from fusion.scoring import Calibration
from fusion.stream.intake import Gate, align_recorded
from fusion.stream.windows import WindowEncoder
from fusion.training.package import load_normaliser

LEAD_S = 60.0
"""Read before the window beside what it needs: clocks differ, and records come late."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A moment of a plant that can be asked what plans would lead to."""

    reader: PlanReader
    manifest: Manifest
    t_end_ns: int
    """The end of the window."""
    absent: tuple[str, ...]
    """Streams that said nothing in its newest tick."""

    @property
    def horizons_s(self) -> tuple[float, ...]:
        """How far ahead the model predicts."""
        calibration = self.reader.calibration
        return tuple(h * calibration.tick_s for h in calibration.horizons_ticks)


@contextlib.contextmanager
def open_what_if(
    plant: Plant,
    model_dir: Path,
    settings: Settings,
    *,
    at_ns: int | None = None,
    moves_s: tuple[float, ...] = (0.0,),
) -> Iterator[WhatIf]:
    """Yield the newest moment that the lake holds of ``plant``, or the last one up to ``at_ns``.

    Raises:
        InputError: The lake holds no whole window there, or the plant has no set-points.
        ManifestMismatchError: The model was trained for another plant.
    """
    with (
        trusted_model(model_dir, settings) as folder,
        open_stored_gate(plant, settings) as gate,
        contextlib.closing(wiring.open_inference(folder)) as inference,
    ):
        manifest, calibration = load_manifest(folder), Calibration.load(folder)
        manifest.require_fits(plant)
        lake = wiring.open_lake(settings)
        ticks = _observations(lake, plant, gate, manifest.window_ticks, at_ns)
        encoder = WindowEncoder(inference, plant, manifest, load_normaliser(folder))
        window = _last(encoder.run_many(ticks))
        if window is None:
            when = "" if at_ns is None else f" up to {rfc3339(at_ns)}"
            raise InputError(
                f"a what-if starts from {manifest.window_ticks} ticks of {plant.tick_s:g} s "
                f"without a gap, and the lake holds none of {list(plant.sense_topics)}{when}; run "
                "`fusion ingest`, or give another --at"
            )
        reader = PlanReader.at(
            window, inference=inference, plant=plant, calibration=calibration, moves_s=moves_s
        )
        absent = [
            s.name for s, p in zip(plant.streams, window.presence_TM[-1], strict=True) if not p
        ]
        yield WhatIf(reader, manifest, tick_end_ns(window.tick, plant), tuple(absent))


def shown_tags(plant: Plant, goal: Goal, also: Sequence[str]) -> list[tuple[int, Tag]]:
    """Return the measured tags to show, with their places: of the goal, ``also``, and with limits.

    Tags with limits are shown where the goal and ``also`` name none.

    Raises:
        InputError: ``also`` names what is no measured tag.
    """
    known = [tag.name for tag in plant.measured]
    for name in also:
        if name not in known:
            raise InputError(f"a tag to show must be measured, got {name!r}; choose from {known}")
    names = [*dict.fromkeys([*(term.tag for term in goal.terms), *also])]
    names = names or [tag.name for tag in plant.measured if tag.limits is not None] or known[:3]
    return [(known.index(name), plant.measured[known.index(name)]) for name in names]


def parse_scenario(text: str) -> dict[str, float]:
    """Return the set-points that ``NAME=VALUE``, or several with commas between, moves.

    Raises:
        InputError: It reads otherwise.

    Example:
        >>> parse_scenario("level=0.6, heat=30")
        {'level': 0.6, 'heat': 30.0}
    """
    values: dict[str, float] = {}
    for part in text.split(","):
        name, is_given, value = part.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = np.nan
        if not is_given or not name.strip() or not np.isfinite(number):
            raise InputError(
                f"a scenario must read NAME=VALUE, or several with commas between, got {text!r}; "
                "write for example --set level_setpoint=0.6"
            )
        values[name.strip()] = number
    return values


def as_json(asked: WhatIf, goal: Goal, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Return everything that was compared, for JSON: all measured tags, in their units."""
    plant, space = asked.reader.plant, asked.reader.space
    return {
        "plant": str(plant.address),
        "is_simulated": plant.is_simulated,
        "model_version": asked.manifest.version,
        "time": rfc3339(asked.t_end_ns),
        "goal": [str(term) for term in goal.terms],
        "horizons_s": asked.horizons_s,
        "moves_s": space.moves_s,
        "setpoints_now": dict(zip(space.names, space.now_U.tolist(), strict=True)),
        "absent_streams": asked.absent,
        "candidates": [_candidate(each, plant, space.names) for each in candidates],
    }


def _candidate(each: Candidate, plant: Plant, names: Sequence[str]) -> Mapping[str, Any]:
    return {
        "name": each.name,
        "kind": each.kind,
        "targets": dict(zip(names, each.targets_KU.T.tolist(), strict=True)),
        "setpoints": dict(zip(names, each.setpoints_HU.T.tolist(), strict=True)),
        "tags": {
            tag.name: {
                "unit": tag.unit,
                "low": each.low_HG[:, index].tolist(),
                "median": each.median_HG[:, index].tolist(),
                "high": each.high_HG[:, index].tolist(),
            }
            for index, tag in enumerate(plant.measured)
        },
        "limits": [forecast.model_dump(mode="json") for forecast in each.limits],
        "confidence": each.confidence.value,
        "rarity": None if np.isnan(each.rarity) else each.rarity,
        "cost": each.cost,
        "costs": dict(each.costs),
    }


def _observations(
    lake: Lake, plant: Plant, gate: Gate, num_ticks: int, at_ns: int | None
) -> Iterator[Observation]:
    """Yield the last ticks that end by ``at_ns``, or the newest: ``num_ticks`` and some before."""
    topics = plant.sense_topics
    end_ns = _newest_ns(lake, topics) if at_ns is None else at_ns
    if end_ns is None:
        return
    lead_ns, span_ns = round(LEAD_S * NANOSECONDS), num_ticks * plant.tick_ns
    records = lake.read_in_arrival_order(
        topics,
        start=lake.offsets_at(topics, end_ns - span_ns - lead_ns),
        stop=lake.offsets_at(topics, end_ns + lead_ns),
    )
    for observation in align_recorded(records, plant, gate):
        if at_ns is None or tick_end_ns(observation.tick, plant) <= at_ns:
            yield observation


def _last(windows: Iterable[WindowOutputs]) -> WindowOutputs | None:
    """Return the last window in whose newest tick every stream spoke; where none is, the last."""
    last: WindowOutputs | None = None
    for window in windows:
        if last is None or window.presence_TM[-1].all() or not last.presence_TM[-1].all():
            last = window
    return last


def _newest_ns(lake: Lake, topics: Sequence[str]) -> int | None:
    """Return the event time of the newest stored record; None of an empty lake."""
    last = {part: at - 1 for part, at in lake.next_offsets().items() if part.topic in topics}
    stamps = [
        np.datetime64(record.headers["ce_time"].removesuffix("Z"), "ns")
        for record in lake.read_in_arrival_order(topics, start=last)
        if "ce_time" in record.headers
    ]
    return max((int(stamp.astype(np.int64)) for stamp in stamps), default=None)
