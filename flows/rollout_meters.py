"""What versions do, on disk: each live process says it beside the journal, for who decides later.

A file for each replica, replaced whole every few seconds. Figures are since the step of the journal
that the file names: with the next step all begins anew.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from flows.settings import Settings
from fusion.plant import Plant
from fusion.rollout.judging import Seen

METERS_FOLDER = "meters"


class MeterReading(BaseModel):
    """What one live process saw of each version since a step of the journal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: int
    t_ns: int
    tick_s: float
    seen: dict[str, Seen]


def write_reading(settings: Settings, plant: Plant, reading: MeterReading, *, replica: str) -> None:
    """Put ``reading`` in the place of the replica's last one."""
    path = _folder(settings, plant) / f"{replica or 'unnamed'}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    beside.write_text(reading.model_dump_json(), encoding="utf-8")
    beside.rename(path)


def readings_of(settings: Settings, plant: Plant) -> list[MeterReading]:
    """Return the newest reading of every replica; what another release wrote is passed over."""
    found: list[MeterReading] = []
    for path in sorted(_folder(settings, plant).glob("*.json")):
        if path.name.startswith("."):
            continue
        try:
            found.append(MeterReading.model_validate_json(path.read_bytes()))
        except (ValidationError, FileNotFoundError):
            continue
    return found


def together(readings: list[MeterReading], version: str) -> Seen:
    """Return what all replicas saw of ``version``; a latency is the worst of them."""
    each = [reading.seen[version] for reading in readings if version in reading.seen]
    sums: Mapping[str, int] = {
        name: sum(getattr(seen, name) for seen in each)
        for name in Seen.model_fields
        if name.startswith("num_")
    }
    return Seen(
        **sums,
        p95_s=max((seen.p95_s for seen in each), default=0.0),
        parity_broken=next((s.parity_broken for s in each if s.parity_broken), None),
    )


def _folder(settings: Settings, plant: Plant) -> Path:
    return settings.models_dir / plant.prefix / METERS_FOLDER
