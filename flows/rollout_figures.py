"""What live processes saw of two versions that score the same ticks, for whoever has to decide.

One small file for each live process, beside the journal of the versions; it says how old it is.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from flows.settings import Settings
from fusion.plant import Plant
from fusion.rollout.judging import Seen

PATTERN = "figures-*.json"


class RolloutFigures(BaseModel):
    """What one live process counted of the version under test, and of the one beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replica: str
    t_ns: int
    revision: int
    """Of the journal of the versions: counts begin anew with each step."""
    tested: str
    beside: str
    seen: dict[str, Seen]


def write_figures(settings: Settings, plant: Plant, figures: RolloutFigures) -> None:
    """Put ``figures`` where :func:`figures_of` finds them; readers see the old or the new ones."""
    folder = settings.models_dir / plant.prefix
    path = folder / PATTERN.replace("*", figures.replica or "unnamed")
    beside = path.with_suffix(".tmp")
    beside.write_text(figures.model_dump_json(), encoding="utf-8")
    beside.replace(path)


def figures_of(settings: Settings, plant: Plant, *, revision: int) -> list[RolloutFigures]:
    """Return what live processes counted since the step ``revision`` of the journal."""
    found = (_read(p) for p in sorted((settings.models_dir / plant.prefix).glob(PATTERN)))
    return [each for each in found if each is not None and each.revision == revision]


def _read(path: Path) -> RolloutFigures | None:
    try:
        return RolloutFigures.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None  # (of another release, or just taken away: the next one comes in seconds)
