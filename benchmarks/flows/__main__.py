"""``make bench-flows``: time and memory of each flow with 1, 10 and 100 times the data.

    python -m benchmarks.flows --plant rig --scales 1 10

A simulated pump with 16 tags at 10 Hz, and the whole rig with microphone and camera; once is six
minutes of them. Figures of a scale replace those of an earlier go in ``flows.json``: what is long
may be done in pieces.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

from benchmarks.flows.one import STREAMS, Took, measure
from benchmarks.flows.page import as_page
from benchmarks.flows.picture import draw
from benchmarks.machine import describe

ROOT = Path(__file__).parents[2]
ONCE_MINUTES = 6.0
SCALES = {"pump": [1, 10, 100], "rig": [1, 10]}
FLOWS = (
    "simulate", "ingest", "validate", "train", "evaluate", "gate", "export", "rollout",
    "send-more", "ingest-all", "watch-drift", "backfill", "housekeeping",
)  # fmt: skip
"""In their order: each works on what those before it have left."""


def main() -> None:
    """Measure what is asked for, then write figures, picture and page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plant", choices=sorted(STREAMS), help="both, where left out")
    parser.add_argument("--scales", type=int, nargs="+", help="what each is measured at otherwise")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "flows.md")
    asked = parser.parse_args()
    figures, machine = asked.out.with_suffix(".json"), describe()
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(figures.read_text())["rows"] if figures.exists() else []
    rows = [Took(**row) for row in known]
    for plant in [asked.plant] if asked.plant else SCALES:
        for scale in asked.scales or SCALES[plant]:
            rows = [row for row in rows if (row.plant, row.scale) != (plant, scale)]
            rows = sorted([*rows, *measured(plant, scale)], key=lambda r: (r.plant, r.scale))
            kept = {"machine": machine, "rows": [asdict(row) for row in rows]}
            figures.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    draw(rows, asked.out.with_suffix(".svg"))
    asked.out.write_text(as_page(machine, rows, ONCE_MINUTES), encoding="utf-8")
    print(f"written to {asked.out}")


def measured(plant: str, scale: int) -> Iterator[Took]:
    """Yield what each flow takes at one scale, each in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([measure.__module__])  # (the imports take longer than the flows)
    with (
        tempfile.TemporaryDirectory(prefix="fusion-bench-") as folder,
        ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool,
    ):
        for flow in FLOWS:
            took = pool.submit(measure, plant, flow, Path(folder), ONCE_MINUTES, scale).result()
            print(
                f"{plant} {scale:>4}x {flow:<12} {took.seconds:8.2f} s {took.grown_mib:8.1f} MiB  "
                f"{took.about}",
                flush=True,
            )
            yield took


if __name__ == "__main__":
    main()
