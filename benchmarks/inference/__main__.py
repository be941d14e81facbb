"""``make bench-inference``: ONNX Runtime in process, PyTorch eager, Triton.

Everything runs on the same cores, the server too. Compare rows of one run only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.inference.measuring import Measured, Window, measure, one_window
from benchmarks.inference.page import EACH, LOCAL, SERVED, UNBATCHED, as_page
from benchmarks.inference.subject import make_subject
from benchmarks.machine import describe
from connectors.local_inference import OnnxInference
from connectors.triton_io import Asking, Batching, TritonInference, TritonServer
from flows.export import export_to_triton
from fusion.model.in_process import TorchInference
from fusion.ports import Inference

ROOT = Path(__file__).parents[2]
CONCURRENCIES = (1, 2, 4, 8, 16, 32)
SHORT = (1, 16)
FEW = (1, 2, 16)
PATIENT = Asking(deadline_s=60.0)
JOINED = Asking(deadline_s=60.0, joins_threads=True)
SHARED = Asking(deadline_s=60.0, joins_threads=True, uses_shared_memory=True)


def main() -> None:
    """Measure, then write the page and the figures beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="see that it runs; figures are rough")
    parser.add_argument("--seconds", type=float, default=6.0, help="counted for each row")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "inference.md")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    machine = describe()
    seconds, concurrencies = (2.0, SHORT) if asked.short else (asked.seconds, CONCURRENCIES)
    found = list(run(seconds, concurrencies))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(as_page(machine, found, seconds=seconds), encoding="utf-8")
    rows = {"machine": machine, "rows": [each.row() for each in found]}
    asked.out.with_suffix(".json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(f"written to {asked.out}")


def run(seconds: float, concurrencies: tuple[int, ...]) -> Iterator[Measured]:
    """Yield what every contestant does, one after another."""
    with tempfile.TemporaryDirectory() as place:
        model_dir = Path(place) / "models" / "untrained"
        model = make_subject(model_dir)
        window = one_window(model_dir)
        for name, opened in (
            (LOCAL, OnnxInference(model_dir)),
            ("PyTorch eager", TorchInference(model)),
        ):
            yield from _told(name, opened, window, (1,), seconds)
        name, opened = f"{LOCAL}, 16 rows", OnnxInference(model_dir)
        yield from _told(name, opened, window, (1,), seconds, num_rows=16)
        served = (
            (SERVED, Batching(), JOINED, concurrencies),
            ("Triton, shared memory", Batching(), SHARED, concurrencies),
            (EACH, Batching(), PATIENT, concurrencies),
            ("Triton, two instances", Batching(instances=2), JOINED, SHORT),
            ("Triton, bounded", Batching(max_queue=256), PATIENT, FEW),
            ("Triton, bounded, two instances", Batching(max_queue=256, instances=2), PATIENT, FEW),
            (UNBATCHED, Batching(is_on=False), PATIENT, concurrencies),
        )
        for number, (name, batching, asking, at_once) in enumerate(served):
            with _served(model_dir, Path(place) / str(number), batching, asking) as opened:
                yield from _told(name, opened, window, at_once, seconds)


def _told(
    name: str,
    inference: Inference,
    window: Window,
    concurrencies: tuple[int, ...],
    seconds: float,
    *,
    num_rows: int = 1,
) -> Iterator[Measured]:
    rows = {
        network: {key: np.concatenate([array] * num_rows) for key, array in inputs.items()}
        for network, inputs in window.items()
    }
    with contextlib.closing(inference):
        for concurrency in concurrencies:
            row = measure(name, inference, rows, concurrency=concurrency, seconds=seconds)
            print(
                f"{name:26} {concurrency:3} at once: {row.windows_per_s:7.1f} windows/s, "
                f"p50 {row.p50_ms:.1f} p95 {row.p95_ms:.1f} p99 {row.p99_ms:.1f} ms, "
                f"{row.num_failed} failed",
                flush=True,
            )
            yield row


@contextlib.contextmanager
def _served(
    model_dir: Path, folder: Path, batching: Batching, asking: Asking
) -> Iterator[TritonInference]:
    server = TritonServer(
        ROOT / ".services" / "triton", folder / "repository", folder / "run", _port(), _port()
    )
    server.start()
    try:
        exported = export_to_triton(
            model_dir, server.repository, backend="python", batching=batching
        )
        yield TritonInference(server.access, exported.models, asking)
    finally:
        server.stop()


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
