"""What a restarted live process needs to go on as if nothing had happened.

One JSON record per plant on the compacted topic ``checkpoints``, published in the same transaction
as the scores and alarms that it accounts for and as the committed offsets. The raw records of the
open window are not in it: they are read again from the committed offsets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict

from fusion.plant import Plant
from fusion.schema import Record


class Checkpoint(BaseModel):
    """The state of the live chain at one commit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plant_fingerprint: str
    model_version: str
    delivered_tick: int
    """The newest tick whose score was published; older ticks only rebuild the window."""
    intake: dict[str, Any]
    scorer: dict[str, Any]
    alarms: dict[str, Any]


def newest_checkpoint(records: Iterable[Record], plant: Plant) -> Checkpoint | None:
    """Return the last checkpoint of ``plant`` among ``records`` of its topic, None without one.

    A checkpoint of a plant description that has changed since is not used: the live process then
    starts at the committed offsets with fresh statistics.
    """
    newest: Checkpoint | None = None
    for record in records:
        if record.key == str(plant.address):
            newest = Checkpoint.model_validate_json(record.value)
    if newest is not None and newest.plant_fingerprint != plant.fingerprint():
        return None
    return newest
