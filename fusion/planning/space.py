"""Where set-points may go, and how fast: every path that leaves here keeps box and rate limits.

Shapes: N plans, K moves, U set-points, L times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.plant import Plant

Floats = NDArray[np.float64]
UNLIMITED_PER_S = 1e6
"""Boxes a second: a set-point without a rate limit is there at the next tick."""


@dataclass(frozen=True, slots=True)
class SetpointSpace:
    """The set-points of a plant at one moment: what they are, and where they may be moved."""

    names: tuple[str, ...]
    now_U: Floats
    low_U: Floats
    high_U: Floats
    rate_U: Floats
    """In the unit per second."""
    moves_s: tuple[float, ...] = (0.0,)
    """Seconds from now at which a plan may begin to move them. A move goes on until the next."""

    @classmethod
    def of(
        cls, plant: Plant, now_U: Floats, *, moves_s: tuple[float, ...] = (0.0,)
    ) -> SetpointSpace:
        """Return the space that the plant file leaves to its operators.

        A set-point that stands outside its limits may stay there, and go no farther out.

        Raises:
            InputError: The plant has no set-points, or the moves do not ascend from 0 or later.
        """
        if not plant.setpoints:
            raise InputError(
                f"a what-if needs set-points to move, and {plant.prefix!r} has none; "
                "write setpoint: true at the tags that operators set, and train again"
            )
        if not moves_s or moves_s[0] < 0 or list(moves_s) != sorted(set(moves_s)):
            raise InputError(
                f"the moves of a plan must ascend from 0 s or later, got {moves_s}; sort them"
            )
        bounds_U2 = np.array([tag.bounds for tag in plant.setpoints])
        low_U, high_U = np.minimum(bounds_U2[:, 0], now_U), np.maximum(bounds_U2[:, 1], now_U)
        rate_U = [
            (high - low) * UNLIMITED_PER_S if tag.rate_limit_per_s is None else tag.rate_limit_per_s
            for tag, low, high in zip(plant.setpoints, low_U, high_U, strict=True)
        ]
        names = tuple(tag.name for tag in plant.setpoints)
        return cls(names, now_U, low_U, high_U, np.array(rate_U), moves_s)

    def hold(self) -> Floats:
        """Return the targets of the plan that moves nothing, [K, U]."""
        return np.tile(self.now_U, (len(self.moves_s), 1))

    def scenario(self, values: Mapping[str, float]) -> Floats:
        """Return the targets of moving some set-points now and holding the others, [K, U].

        Raises:
            InputError: A set-point is not known, or its value lies outside its limits.

        Example:
            >>> one = np.ones(1)
            >>> space = SetpointSpace(("level",), 0.5 * one, 0 * one, one, one)
            >>> space.scenario({"level": 0.7}).tolist()
            [[0.7]]
        """
        targets_KU = self.hold()
        for name, value in values.items():
            if name not in self.names:
                raise InputError(
                    f"a scenario must move set-points of this plant, got {name!r}; "
                    f"choose from {list(self.names)}"
                )
            column = self.names.index(name)
            low, high = self.low_U[column], self.high_U[column]
            if not low <= value <= high:
                raise InputError(
                    f"set-point {name!r} may be moved between {low:g} and {high:g}, got {value:g}; "
                    "choose a value between, or change its limits in the plant file"
                )
            targets_KU[:, column] = value
        return targets_KU

    def targets(self, deltas_NKU: Floats) -> Floats:
        """Return where each move leads, [N, K, U]: the sum of the deltas, kept in the box."""
        steps_NKU = np.cumsum(deltas_NKU, axis=1)
        return np.clip(self.now_U + steps_NKU, self.low_U, self.high_U)

    def deltas(self, targets_NKU: Floats) -> Floats:
        """Return by how much each move changes the set-points, [N, K, U]."""
        before_NKU = np.concatenate(
            [np.broadcast_to(self.now_U, targets_NKU[:, :1].shape), targets_NKU[:, :-1]], axis=1
        )
        return targets_NKU - before_NKU

    def paths(
        self, targets_NKU: Floats, times_L_s: Sequence[float] | NDArray[np.floating]
    ) -> Floats:
        """Return the set-points at ``times_L_s`` from now, [N, L, U], moving as fast as allowed."""
        times_L1 = np.asarray(times_L_s, np.float64)[:, None]
        ends_s = [*self.moves_s[1:], np.inf]
        at_NU = np.tile(self.now_U, (len(targets_NKU), 1))
        paths_NLU = np.tile(at_NU[:, None], (1, len(times_L1), 1))
        for move, (begin_s, end_s) in enumerate(zip(self.moves_s, ends_s, strict=True)):
            way_N1U = (targets_NKU[:, move] - at_NU)[:, None]
            reach_LU = self.rate_U * np.maximum(times_L1 - begin_s, 0.0)
            after_NLU = at_NU[:, None] + np.clip(way_N1U, -reach_LU, reach_LU)
            paths_NLU = np.where(times_L1 >= begin_s, after_NLU, paths_NLU)
            if np.isfinite(end_s):
                reach_U = self.rate_U * (end_s - begin_s)
                at_NU = at_NU + np.clip(way_N1U[:, 0], -reach_U, reach_U)
        # Sums of floats may leave the box by their last digit.
        return np.clip(paths_NLU, self.low_U, self.high_U)


def in_units(setpoints_U: NDArray[np.float32], plant: Plant) -> Floats:
    """Return scaled set-points, -1 to 1 over their range, in their units."""
    range_U2 = np.array([tag.range for tag in plant.setpoints])
    return range_U2[:, 0] + (setpoints_U.astype(np.float64) + 1) / 2 * np.ptp(range_U2, axis=1)


def scaled(setpoints_U: Floats, plant: Plant) -> NDArray[np.float32]:
    """Return set-points [..., U] as the networks read them, -1 to 1 over their range."""
    range_U2 = np.array([tag.range for tag in plant.setpoints])
    return (2 * (setpoints_U - range_U2[:, 0]) / np.ptp(range_U2, axis=1) - 1).astype(np.float32)
