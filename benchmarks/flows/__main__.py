"""``make bench-flows``: time and memory of each flow with 1, 10 and 100 times the data.

    python -m benchmarks.flows --scales 1 10

A simulated pump with 16 tags at 10 Hz, ticks of half a second; once is half an hour of it. Figures
of a scale replace those of an earlier go in ``flows.json``: a long one may be done in pieces.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import as_markdown, describe

ROOT = Path(__file__).parents[2]
ONCE_MINUTES = 30.0
FLOWS = (
    "simulate", "ingest", "validate", "train", "evaluate", "gate", "serve-anyway", "export",
    "send-more", "ingest-all", "watch-drift", "backfill", "housekeeping",
)  # fmt: skip
WHY = {
    "ingest": "one micro-batch after the other: time follows the records, memory does not",
    "validate": "one pass over the lake, a row for each tick is kept",
    "train": "the steps are as many as ever; reading, calibrating and the ticks in memory grow",
    "evaluate": "a fifth of the data through the model, and the baseline learns from the rest",
    "gate": "figures alone",
    "export": "the networks alone",
    "watch-drift": "the recent period, a fifth of the data, and the model's own",
    "backfill": "everything once through the model, a shard of an hour at a time",
    "housekeeping": "the lake's files",
}


def main() -> None:
    """Measure the scales that are asked for, then write figures and page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scales", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--flows", nargs="+", default=list(FLOWS), choices=FLOWS)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "flows.md")
    asked = parser.parse_args()
    figures = asked.out.with_suffix(".json")
    known: dict[str, Any] = json.loads(figures.read_text()) if figures.exists() else {"rows": []}
    known["machine"] = describe()
    for scale in asked.scales:
        others = [row for row in known["rows"] if row["scale"] != scale]
        known["rows"] = sorted(others + measured(scale, asked.flows), key=lambda r: r["scale"])
        figures.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    asked.out.write_text(as_page(known), encoding="utf-8")
    print(f"written to {asked.out}")


def measured(scale: int, flows: list[str]) -> list[dict[str, Any]]:
    """Return what each flow takes at one scale, each in a process of its own."""
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="fusion-bench-") as folder:
        for name in flows:
            command = ("-m", "benchmarks.flows.one", name, folder, str(ONCE_MINUTES * scale))
            ended = subprocess.run(
                [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
            )
            if ended.returncode != 0:
                raise RuntimeError(f"{name} at {scale} must end well: {ended.stderr[-2000:]}")
            row: dict[str, Any] = {"scale": scale, **json.loads(ended.stdout.splitlines()[-1])}
            print(row, flush=True)
            found.append(row)
    return found


def as_page(known: dict[str, Any]) -> str:
    """Return the page in Markdown."""
    scales = sorted({row["scale"] for row in known["rows"]})
    by = {(row["flow"], row["scale"]): row for row in known["rows"]}

    def shown(flow: str, scale: int, what: str) -> str:
        row = by.get((flow, scale))
        if row is None:
            return "–"
        value = row["seconds"] if what == "seconds" else row["peak_mib"] - row["before_mib"]
        return f"{value:,.1f}" if what == "seconds" else f"{value:,.0f}"

    heads = [f"{s}x, s" for s in scales] + [f"{s}x, MiB" for s in scales]
    lines = [f"| flow | {' | '.join(heads)} | what grows |", "|---" * (len(heads) + 2) + "|"]
    for flow, why in WHY.items():
        cells = [shown(flow, s, "seconds") for s in scales] + [shown(flow, s, "") for s in scales]
        lines.append(f"| {flow} | {' | '.join(cells)} | {why} |")
    minutes = ", ".join(f"{s}x is {ONCE_MINUTES * s / 60:g} h" for s in scales)
    table = "\n".join(lines)
    return f"""# What a flow costs

Written by `make bench-flows`; the figures are in [flows.json](flows.json). A simulated pump,
16 tags at 10 Hz, ticks of half a second ({minutes}); the embedded broker, a Delta lake, the recipe
`quick` with 30 steps, no MLflow. Each flow is a process of its own, without Prefect.

{as_markdown(known["machine"])}

{table}

Seconds are wall time of the work, without starting Python. MiB is the peak of the process's memory
above what it holds once everything is imported (about {_imported(known):,.0f} MiB).
"""


def _imported(known: dict[str, Any]) -> float:
    held = [row["before_mib"] for row in known["rows"]]
    return sum(held) / len(held)


if __name__ == "__main__":
    main()
