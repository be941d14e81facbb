"""One contestant at one concurrency: so many plants, each asking for one window after another."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion.errors import InferenceUnavailableError
from fusion.model.export import ENCODER, PREDICTOR
from fusion.ports import Inference
from fusion.training.package import load_golden

WARM_UP_S = 1.0
Window = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Measured:
    """What came out. A window is one tick encoded and one prediction made."""

    contestant: str
    concurrency: int
    windows_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    num_windows: int
    num_failed: int
    last_failure: str = ""

    def row(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def one_window(model_dir: Path) -> Window:
    """Return the inputs of a window of one plant."""
    return {
        network: {name: array[:1] for name, array in load_golden(model_dir, network)[0].items()}
        for network in (ENCODER, PREDICTOR)
    }


def measure(
    contestant: str, inference: Inference, window: Window, *, concurrency: int, seconds: float
) -> Measured:
    """Return how many windows ``concurrency`` plants got in ``seconds``, and how long each took."""
    for network, inputs in window.items():
        inference.infer(network, inputs)  # (a server loads the networks at the first question)
    is_over, counts = threading.Event(), threading.Event()
    failures: list[str] = []

    def plant(_: int) -> list[float]:
        took_s: list[float] = []
        while not is_over.is_set():
            began_s = time.perf_counter()
            try:
                for network, inputs in window.items():
                    inference.infer(network, inputs)
            except InferenceUnavailableError as failed:
                failures.append(str(failed))
                continue
            if counts.is_set():
                took_s.append(time.perf_counter() - began_s)
        return took_s

    num_rows = len(next(iter(next(iter(window.values())).values())))
    with ThreadPoolExecutor(concurrency) as threads:
        plants = [threads.submit(plant, i) for i in range(concurrency)]
        time.sleep(WARM_UP_S)
        counts.set()
        began_s = time.perf_counter()
        time.sleep(seconds)
        is_over.set()
        passed_s = time.perf_counter() - began_s
        took_ms = 1e3 * np.array([each for found in plants for each in found.result()])
    # (A contestant that answered nothing is a row too, with what it said instead.)
    p50, p95, p99 = (
        float(np.quantile(took_ms, q)) if len(took_ms) else float("nan") for q in (0.5, 0.95, 0.99)
    )
    num_windows = len(took_ms) * num_rows
    return Measured(
        contestant,
        concurrency,
        num_windows / passed_s,
        p50,
        p95,
        p99,
        num_windows,
        len(failures),
        failures[-1] if failures else "",
    )
