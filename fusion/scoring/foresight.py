"""What a head learned from operators' verdicts says of the ticks to come, tick after tick.

Shapes: D embedding, F features, K ends of the head's grid.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fusion.plant import Plant
from fusion.schema import EventChance, EventChances
from fusion.scoring.events import EventHead
from fusion.scoring.running_means import RunningMeans

log = logging.getLogger(__name__)


class HeadBasis(BaseModel):
    """What a head was fitted for, and on what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plant: str = Field(description="The address of the plant whose alarms were judged")
    model_version: str
    number: int = Field(ge=1, description="Heads of a version and plant count from 1.")
    t_ns: int = Field(description="When it was fitted, the machine's time")
    num_useful: int = Field(description="Useful alarms with windows before them")
    num_nuisance: int = Field(description="Alarms that were judged a nuisance")
    num_windows: int
    verdicts: str = Field(description="SHA-256 of which alarms were judged, and how")
    error: float | None = Field(
        default=None,
        description="Brier error in the stretches that were held back; None: of an earlier release",
    )
    base_rate_error: float | None = Field(
        default=None, description="The same of saying of every moment how often events come"
    )
    error_before: float | None = Field(
        default=None, description="The same of the head before; None where there was none"
    )


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A head, and what it rests on."""

    head: EventHead
    basis: HeadBasis


class Foresight:
    """The chances of one plant; between ticks it keeps running means, where there is a head.

    ``head`` may change at any time. With the first one the means begin; a later one goes on.
    """

    def __init__(self, plant: Plant) -> None:
        self.head: KnownHead | None = None
        self._tick_s = plant.tick_s
        self._means = RunningMeans()
        self._refused: KnownHead | None = None

    def follow(
        self, tick: int, ahead_D: NDArray[np.floating] | None, *, surprise: float
    ) -> EventChances | None:
        """Return the chances after ``tick``; None without a head, and while it is abnormal.

        A head is fitted on what came before alarms, so of a plant that is in one it knows nothing.
        """
        head = self.head
        if head is None or ahead_D is None:
            return None
        features_F = self._means.follow(tick, ahead_D)
        if features_F is None or surprise >= 1 or not self._fits(head, len(features_F)):
            return None
        chances_K = head.head.within(features_F[None])[0]
        error = head.head.reliability.error
        return EventChances(
            within=tuple(
                EventChance(within_s=ticks * self._tick_s, chance=float(chance))
                for ticks, chance in zip(head.head.grid_K, chances_K, strict=True)
            ),
            head=head.basis.number,
            num_useful=head.basis.num_useful,
            num_nuisance=head.basis.num_nuisance,
            error=error if np.isfinite(error) else None,
        )

    def snapshot(self) -> dict[str, Any] | None:
        """Return the state between two ticks, for JSON; None without a head."""
        return None if self.head is None else self._means.snapshot()

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on from ``snapshot``."""
        self._means.restore(snapshot)

    def _fits(self, head: KnownHead, num_features: int) -> bool:
        if head.head.num_features == num_features:
            return True
        if self._refused is not head:
            self._refused = head
            log.warning(
                "event head %d of %s must see %d numbers of a tick, and was fitted on %d; "
                "`fusion drift feedback --refit` after the next verdict makes a new one",
                head.basis.number,
                head.basis.model_version,
                num_features,
                head.head.num_features,
            )
        return False
