"""How late scores and alarms reach who reads them, worked out apart from the product's own code.

The clock of a tick starts when the record is sent that moves the last stream's watermark over the
tick's end, and stops when a reader of committed records has its score, or the alarm's event.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusion.plant import NANOSECONDS, Plant

WARM_UP_S = 20.0
"""Of plant time: models are loaded and connections made in it."""
Key = tuple[str, int]


@dataclass(frozen=True)
class Latencies:
    """A distribution, in ms."""

    num: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


def closing_times(plant: Plant, told: Path) -> dict[Key, int]:
    """Return per asset and tick when the record that closed it was sent, ns UTC."""
    lateness_ns = round(plant.allowed_lateness_s * NANOSECONDS)
    closes_ns: dict[Key, int] = defaultdict(int)
    passed: dict[Key, int] = defaultdict(int)
    next_tick: dict[tuple[str, str], int] = {}
    for line in told.read_text(encoding="utf-8").splitlines():
        asset, stream, told_ns, t_sent_ns = json.loads(line)
        frontier: int = (told_ns - lateness_ns) // plant.tick_ns
        for tick in range(next_tick.get((asset, stream), frontier), frontier):
            closes_ns[asset, tick] = max(closes_ns[asset, tick], t_sent_ns)
            passed[asset, tick] += 1
        next_tick[asset, stream] = max(next_tick.get((asset, stream), frontier), frontier)
    return {key: t for key, t in closes_ns.items() if passed[key] == len(plant.streams)}


def latencies(
    closes_ns: Mapping[Key, int], in_hand_ns: Sequence[tuple[Key, int]]
) -> Latencies | None:
    """Return how long it took from closing to in hand; None where nothing was."""
    start_ns = min(closes_ns.values()) + round(WARM_UP_S * NANOSECONDS)
    found = [
        (t_ns - closes_ns[key]) / 1e6
        for key, t_ns in in_hand_ns
        if closes_ns.get(key, 0) >= start_ns
    ]
    if not found:
        return None
    p50, p95, p99 = (float(np.quantile(found, q)) for q in (0.5, 0.95, 0.99))
    return Latencies(len(found), p50, p95, p99, max(found))
