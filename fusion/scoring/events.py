"""P(event within d ticks) from a few labels: a small head on features of a frozen encoder.

A discrete-time hazard (Singer & Willett 1993; Gensheimer & Narasimhan 2019): the head gives each
interval of the grid a chance that the event comes in it if it has not come before, so the chance of
the event within d can only grow with d. Windows whose event never came count up to where the
recording ended (censoring). Several heads from several starts are averaged, then calibrated on
groups that none of them saw.

Shapes: N windows, F features, K intervals of the grid, E heads, W hidden width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

from fusion.errors import InputError, RecipeError
from fusion.scoring.reliability import Reliability, reliability

Floats = NDArray[np.floating]
FILE = "event_head.safetensors"
HIDDEN = 64
NUM_HEADS = 2
STEPS = 600
LEARNING_RATE = 1e-2
WEIGHT_DECAY = 0.3
DROPOUT = 0.2
HELD_OUT_GROUPS = 0.2
MIN_EVENT_GROUPS = 5
MAX_WINDOWS = 4000
"""Neighbouring windows say the same: of more, some are taken, evenly in the canonical order."""
MIN_HAZARD_LOGIT = -12.0
MAX_FILE_BYTES = 16 * 2**20
MAX_ENDS = 64


@dataclass(frozen=True, slots=True)
class Labelled:
    """Windows of some machines, and when the event came after each."""

    features_NF: Floats
    ticks_to_end_N: Floats
    """Ticks from the window's end to the event, or to the end of what was recorded."""
    has_event_N: NDArray[np.bool_]
    """False: the recording ended before any event."""
    group_N: NDArray[np.int64]
    """Which machine or run; windows of one group never lie on both sides of a split."""
    weight_N: Floats | None = None
    """How many windows each stands for, where some were left out; without it, 1."""

    def __post_init__(self) -> None:
        """Refuse labels that cannot be."""
        lengths = {len(self.features_NF), len(self.ticks_to_end_N), len(self.has_event_N)}
        if len(lengths | {len(self.group_N)}) != 1:
            raise InputError("features, ticks, events and groups must be as many, and are not")
        if not np.isfinite(self.ticks_to_end_N).all() or (self.ticks_to_end_N < 0).any():
            raise InputError(
                "ticks_to_end must be finite and at least 0; drop windows after events"
            )

    def __len__(self) -> int:
        return len(self.features_NF)

    def part(self, which_N: NDArray[np.bool_]) -> Labelled:
        """Return some of the windows."""
        return Labelled(
            self.features_NF[which_N],
            self.ticks_to_end_N[which_N],
            self.has_event_N[which_N],
            self.group_N[which_N],
            None if self.weight_N is None else self.weight_N[which_N],
        )

    def weights(self) -> Floats:
        """Return how many windows each stands for, [N]."""
        return np.ones(len(self)) if self.weight_N is None else self.weight_N


@dataclass(frozen=True, slots=True)
class EventHead:
    """The fitted heads, their calibration, and how reliable they were on unseen groups."""

    grid_K: tuple[int, ...]
    """The upper ends of the intervals, in ticks, ascending."""
    arrays: dict[str, NDArray[np.float32]]
    """Per head: mean and std of features, weights and biases of both layers."""
    scale: float
    shift: float
    """Calibrated: logit of a hazard x scale + shift."""
    reliability: Reliability

    @property
    def num_features(self) -> int:
        """How many numbers it sees of a tick."""
        return self.arrays["mean"].shape[1]

    def within(self, features_NF: Floats) -> Floats:
        """Return the chance of the event within each interval's end, [N, K], growing along K."""
        hazard_ENK = self._hazards(features_NF)
        alive_NK = np.cumprod(1 - hazard_ENK, axis=2).mean(axis=0)
        return np.clip(1 - alive_NK, 0.0, 1.0)

    def within_each(self, features_NF: Floats, ticks_H: Sequence[float]) -> Floats:
        """Return the chance of the event within each of ``ticks``, [N, H]; between ends a line.

        Raises:
            ValueError: One lies beyond the grid: nothing was learned about that.
        """
        at_H = np.array(ticks_H, np.float64)
        if not ((at_H >= 0) & (at_H <= self.grid_K[-1])).all():
            raise ValueError(
                f"ticks must lie in 0 to {self.grid_K[-1]}, the grid of this head, got {ticks_H}; "
                "fit it with a longer grid"
            )
        ends = np.array([0, *self.grid_K], np.float64)
        table = np.pad(self.within(features_NF), ((0, 0), (1, 0)))
        upper_H = np.clip(np.searchsorted(ends, at_H), 1, len(ends) - 1)
        part_H = (at_H - ends[upper_H - 1]) / (ends[upper_H] - ends[upper_H - 1])
        return table[:, upper_H - 1] + part_H * (table[:, upper_H] - table[:, upper_H - 1])

    def expected_ticks(self, features_NF: Floats, *, cap: int) -> Floats:
        """Return the expected ticks until the event, counted up to ``cap``, [N].

        The mean of ``min(T, cap)`` is the area under the chance of having survived.
        """
        # Of whole ticks: the sum of P(T > k) over k below the cap.
        return (1 - self.within_each(features_NF, range(cap))).sum(axis=1)

    def _hazards(self, features_NF: Floats) -> Floats:
        heads = range(len(self.arrays["mean"]))
        logits = [self._logits(features_NF.astype(np.float32), head) for head in heads]
        return 1 / (1 + np.exp(-(self.scale * np.stack(logits).astype(np.float64) + self.shift)))

    def _logits(self, features_NF: NDArray[np.float32], head: int) -> NDArray[np.float32]:
        a = self.arrays
        x = (features_NF - a["mean"][head]) / a["std"][head]
        hidden = np.maximum(x @ a["weight_1"][head].T + a["bias_1"][head], 0.0)
        return hidden @ a["weight_2"][head].T + a["bias_2"][head]

    def save(self, folder: Path) -> None:
        """Write the head into a folder: arrays, and the rest as JSON in the header."""
        header = {
            "grid": list(self.grid_K),
            "scale": self.scale,
            "shift": self.shift,
            "said": list(self.reliability.said),
            "happened": list(self.reliability.happened),
            "count": list(self.reliability.count),
        }
        arrays = {name: np.ascontiguousarray(value) for name, value in self.arrays.items()}
        save_file(arrays, folder / FILE, metadata={"event_head": json.dumps(header)})

    @classmethod
    def load(cls, folder: Path) -> EventHead:
        """Return the head in ``folder``.

        Raises:
            InputError: There is none, or what is there is none.
        """
        path = folder / FILE
        if not path.is_file():
            raise InputError(f"the folder must hold {FILE}, {folder} does not; fit a head first")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(
                f"an event head may have {MAX_FILE_BYTES} bytes, {path} has "
                f"{path.stat().st_size}; fit it again"
            )
        try:
            with safe_open(path, framework="numpy") as file:
                header = json.loads((file.metadata() or {})["event_head"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            told = Reliability(
                tuple(header["said"]), tuple(header["happened"]), tuple(header["count"])
            )
            head = cls(
                tuple(header["grid"]), arrays, float(header["scale"]), float(header["shift"]), told
            )
            _require_whole(head)
        except (SafetensorError, ValueError, KeyError, TypeError, IndexError) as broken:
            raise InputError(
                f"{path} must be an event head, but: {broken!r}; fit it again"
            ) from broken
        return head


def _require_whole(head: EventHead) -> None:
    """Return when every array is there, of its shape, and a number everywhere."""
    grid, arrays = head.grid_K, head.arrays
    num_heads, num_features = arrays["mean"].shape
    shapes = {
        "mean": (num_heads, num_features),
        "std": (num_heads, num_features),
        "weight_1": (num_heads, HIDDEN, num_features),
        "bias_1": (num_heads, HIDDEN),
        "weight_2": (num_heads, len(grid), HIDDEN),
        "bias_2": (num_heads, len(grid)),
    }
    if {name: array.shape for name, array in arrays.items()} != shapes or not num_heads:
        raise ValueError(f"its arrays must be {shapes}")
    if not (np.isfinite([head.scale, head.shift]).all() and (arrays["std"] > 0).all()):
        raise ValueError("its calibration and its scales must be numbers, the scales above 0")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("its arrays must be numbers")
    if not 0 < len(grid) <= MAX_ENDS or not all(type(end) is int for end in grid):
        raise ValueError(f"its grid must be 1 to {MAX_ENDS} whole ticks")
    if list(grid) != sorted(set(grid)) or grid[0] < 1:
        raise ValueError("its grid must ascend from at least 1 tick")
    rows = head.reliability
    if len({len(rows.said), len(rows.happened), len(rows.count)}) != 1:
        raise ValueError("its reliability must have as many of each")


def fit_event_head(
    labelled: Labelled, *, grid: Sequence[int], seed: int = 0, num_heads: int = NUM_HEADS
) -> EventHead:
    """Return the head fitted on four of five groups and calibrated on the fifth.

    The order of windows does not matter. Of groups with an event, and of those without, one in five
    is held out. With an event in fewer than five groups nothing can be: the head is then not
    calibrated, and nothing is known of its reliability.

    Raises:
        RecipeError: No event was seen, so nothing can be learned about it.

    Example:
        A machine whose first feature says that it is worn, and which then fails within 5 ticks:

        >>> is_worn = np.arange(60) % 2
        >>> windows = Labelled(
        ...     features_NF=is_worn[:, None].astype(float),
        ...     ticks_to_end_N=np.where(is_worn, np.arange(60) % 5 + 1.0, 20.0),
        ...     has_event_N=is_worn == 1,
        ...     group_N=np.arange(60) // 6,
        ... )
        >>> head = fit_event_head(windows, grid=(5, 10), num_heads=1)
        >>> new, worn = head.within(np.array([[0.0], [1.0]]))[:, 0]
        >>> bool(new < 0.1 < 0.9 < worn)
        True
    """
    if not labelled.has_event_N.any():
        raise RecipeError("fitting needs at least one window before an event, and there is none")
    grid_K = np.array(grid, np.int64)
    if len(grid_K) < 1 or grid_K[0] < 1 or (np.diff(grid_K) < 1).any():
        raise RecipeError(f"the grid must ascend from at least 1 tick, got {list(grid)}")
    seen, unseen = seen_and_unseen(labelled, grid, seed=seed)
    heads = [_fit_one(seen, grid_K, seed * 1000 + number) for number in range(num_heads)]
    arrays = {name: np.stack([head[name] for head in heads]) for name in heads[0]}
    nothing = Reliability((), (), ())
    raw = EventHead(tuple(int(k) for k in grid_K), arrays, 1.0, 0.0, nothing)
    if not len(unseen):
        return raw
    scale, shift = _calibrate(raw, unseen)
    found = EventHead(raw.grid_K, arrays, scale, shift, nothing)
    happened_NK, known_NK = outcomes(unseen, grid_K)
    weight_NK = np.broadcast_to(unseen.weights()[:, None], known_NK.shape)
    told = reliability(
        found.within(unseen.features_NF)[known_NK],
        happened_NK[known_NK],
        weight=weight_NK[known_NK],
    )
    return EventHead(raw.grid_K, arrays, scale, shift, told)


def seen_and_unseen(
    labelled: Labelled, grid: Sequence[int], *, seed: int = 0
) -> tuple[Labelled, Labelled]:
    """Return the windows that :func:`fit_event_head` learns from, and those that it holds back."""
    ordered = _in_canonical_order(labelled)
    is_unseen = np.isin(ordered.group_N, _held_out(ordered, np.array(grid, np.int64), seed))
    return ordered.part(~is_unseen), ordered.part(is_unseen)


def _held_out(labelled: Labelled, grid_K: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return the groups to calibrate on; without an event among them no chance could be right."""
    groups = np.random.default_rng(seed).permutation(np.unique(labelled.group_N))
    is_before_N = labelled.has_event_N & (labelled.ticks_to_end_N <= grid_K[-1])
    has_event = np.isin(groups, labelled.group_N[is_before_N])
    if has_event.sum() < MIN_EVENT_GROUPS:
        return groups[:0]
    return np.concatenate(
        [
            part[: round(HELD_OUT_GROUPS * len(part))]
            for part in (groups[has_event], groups[~has_event])
        ]
    )


def outcomes(
    labelled: Labelled, grid_K: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return whether the event came within each end of the grid, [N, K], and where that is known.

    Example:
        >>> windows = Labelled(np.zeros((2, 1)), np.array([3.0, 3.0]), np.array([True, False]),
        ...                    np.array([0, 1]))
        >>> happened, known = outcomes(windows, np.array([2, 4]))
        >>> happened.tolist(), known.tolist()
        ([[False, True], [False, False]], [[True, True], [True, False]])
    """
    is_over_NK = labelled.ticks_to_end_N[:, None] <= grid_K
    happened_NK = is_over_NK & labelled.has_event_N[:, None]
    # A recording that ends at its tick 3 tells that nothing came within 3, not within 4.
    is_watched_NK = labelled.ticks_to_end_N[:, None] >= grid_K
    return happened_NK, labelled.has_event_N[:, None] | is_watched_NK


def _in_canonical_order(labelled: Labelled) -> Labelled:
    """Return windows sorted by what they are, so that their order cannot change a sum."""
    keys = (*labelled.features_NF.T[::-1], labelled.ticks_to_end_N, labelled.group_N)
    order = np.lexsort(keys)
    order = order[:: -(-len(order) // MAX_WINDOWS)]
    return Labelled(
        labelled.features_NF[order],
        labelled.ticks_to_end_N[order],
        labelled.has_event_N[order],
        labelled.group_N[order],
        None if labelled.weight_N is None else labelled.weight_N[order],
    )


def _fit_one(
    labelled: Labelled, grid_K: NDArray[np.int64], seed: int
) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of one head: full batch, so that every step sees all windows."""
    noise = torch.Generator().manual_seed(seed)
    mean_F, std_F = labelled.features_NF.mean(axis=0), labelled.features_NF.std(axis=0)
    std_F = np.where(std_F > 1e-6, std_F, 1.0)
    x = torch.from_numpy(((labelled.features_NF - mean_F) / std_F).astype(np.float32))
    event_NK, at_risk_NK = (torch.from_numpy(v) for v in _hazard_targets(labelled, grid_K))
    weight_N1 = _weights(labelled)
    first, second = nn.Linear(x.shape[1], HIDDEN), nn.Linear(HIDDEN, len(grid_K))
    with torch.no_grad():
        first.weight.normal_(0, x.shape[1] ** -0.5, generator=noise)
        first.bias.zero_()
        second.weight.zero_()
        rate_K = ((weight_N1 * event_NK).sum(0) + 0.5) / ((weight_N1 * at_risk_NK).sum(0) + 1.0)
        second.bias.copy_(torch.logit(rate_K).clamp_min(MIN_HAZARD_LOGIT))
    groups = [
        {"params": [first.weight, second.weight], "weight_decay": WEIGHT_DECAY},
        {"params": [first.bias, second.bias], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        kept = (torch.rand(len(x), HIDDEN, generator=noise) >= DROPOUT) / (1 - DROPOUT)
        logits = second(torch.relu(first(x)) * kept)
        loss = _negative_log_likelihood(logits, event_NK, weight_N1 * at_risk_NK)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return {
        "mean": mean_F.astype(np.float32),
        "std": std_F.astype(np.float32),
        "weight_1": first.weight.detach().numpy(),
        "bias_1": first.bias.detach().numpy(),
        "weight_2": second.weight.detach().numpy(),
        "bias_2": second.bias.detach().numpy(),
    }


def _hazard_targets(
    labelled: Labelled, grid_K: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return per window and interval whether the event came in it, and whether it could have."""
    lower_K = np.append(0, grid_K[:-1])
    end_N1, has_event_N1 = labelled.ticks_to_end_N[:, None], labelled.has_event_N[:, None]
    event_NK = has_event_N1 & (end_N1 > lower_K) & (end_N1 <= grid_K)
    # An event at once (0 ticks) belongs to the first interval.
    event_NK[:, 0] |= labelled.has_event_N & (labelled.ticks_to_end_N == 0)
    at_risk_NK = event_NK | (end_N1 >= grid_K)
    return event_NK.astype(np.float32), at_risk_NK.astype(np.float32)


def _weights(labelled: Labelled) -> Tensor:
    """Return how much each window counts, 1 on the mean; [N, 1]."""
    weights_N = labelled.weights() / labelled.weights().mean()
    return torch.from_numpy(weights_N.astype(np.float32))[:, None]


def _negative_log_likelihood(logits_NK: Tensor, event_NK: Tensor, counts_NK: Tensor) -> Tensor:
    """Return the mean over windows of ``-log P(what happened)``, as much as each counts."""
    each_NK = nn.functional.binary_cross_entropy_with_logits(logits_NK, event_NK, reduction="none")
    return (each_NK * counts_NK).sum(dim=1).mean()


def _calibrate(head: EventHead, unseen: Labelled) -> tuple[float, float]:
    """Return scale and shift of the hazards' logits that make unseen groups likeliest."""
    grid_K = np.array(head.grid_K, np.int64)
    event_NK, at_risk_NK = (torch.from_numpy(v) for v in _hazard_targets(unseen, grid_K))
    weight_N1 = _weights(unseen)
    hazards = np.clip(head._hazards(unseen.features_NF).mean(axis=0), 1e-9, 1 - 1e-9)  # noqa: SLF001
    logits_NK = torch.logit(torch.from_numpy(hazards)).float()
    scale, shift = torch.ones(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS([scale, shift], max_iter=50)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = _negative_log_likelihood(logits_NK * scale + shift, event_NK, weight_N1 * at_risk_NK)
        loss.backward()
        return loss

    optimiser.step(closure)
    return float(scale.detach().clamp(0.2, 3.0)), float(shift.detach().clamp(-3.0, 3.0))
