"""What versions did on the stream, role by role: told by live processes, read by people.

One file per step of the journal and live process, beside the journal, replaced every few seconds
while the roles last. ``advance-rollout`` asks them whether a challenger was seen enough: without
them it waits, so a file that was deleted costs time and nothing else.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from flows.settings import Settings
from fusion.plant import Plant
from fusion.rollout.judging import Seen, together

SEEN_DIR = "rollout-seen"


class RoleSeen(BaseModel):
    """What each version did since the step ``revision`` of the journal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: int
    t_ns: int
    """Up to when."""
    seen: dict[str, Seen]


def write_seen(settings: Settings, plant: Plant, told: RoleSeen) -> None:
    """Let people see ``told``. Serving goes on where that cannot be written: the log says so."""
    folder = _folder(settings, plant)
    path = folder / f"{told.revision:06}-{settings.replica or 'live'}.json"
    waiting = path.with_suffix(f".{os.getpid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        waiting.write_text(told.model_dump_json(), encoding="utf-8")
        waiting.replace(path)
    except OSError as unwritable:
        logging.getLogger(__name__).warning("%s cannot be written: %s", path, unwritable)


def read_seen(settings: Settings, plant: Plant) -> list[RoleSeen]:
    """Return what the versions did since each step, oldest first, all live processes together."""
    by_revision: dict[int, list[RoleSeen]] = {}
    for path in sorted(_folder(settings, plant).glob("*.json")):
        try:
            told = RoleSeen.model_validate_json(path.read_bytes())
        except ValidationError as strange:
            logging.getLogger(__name__).warning("%s is passed over: %s", path, strange)
            continue
        by_revision.setdefault(told.revision, []).append(told)
    return [
        RoleSeen(revision=revision, t_ns=max(each.t_ns for each in parts), seen=_merged(parts))
        for revision, parts in sorted(by_revision.items())
    ]


def _merged(parts: Sequence[RoleSeen]) -> dict[str, Seen]:
    versions = dict.fromkeys(version for part in parts for version in part.seen)
    return {v: together([part.seen[v] for part in parts if v in part.seen]) for v in versions}


def _folder(settings: Settings, plant: Plant) -> Path:
    return settings.models_dir / plant.prefix / SEEN_DIR
