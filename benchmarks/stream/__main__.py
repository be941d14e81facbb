"""``python -m benchmarks.stream``: run everything, write docs/benchmarks/stream.md and .json."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import machine
from benchmarks.broker import ROOT, own_kafka
from benchmarks.stream.latency import measure_latency
from benchmarks.stream.page import AIM_BARE, AIM_QUIX, page, ratio
from benchmarks.stream.profile import profile
from benchmarks.stream.race import Contestant, Result, contestants, job_of, race
from benchmarks.stream.scaling import measure_scaling
from benchmarks.stream.workloads import Workload, workloads
from flows.settings import Settings

PEERS_PYTHON = ROOT / ".services" / "peers" / "bin" / "python"
PEERS = ("confluent-kafka", "quixstreams")
LATENCY_PLANTS = (1, 4)
SCALING_PLANTS = (1, 2, 4, 8, 16, 32)


def main() -> None:
    """Run what the command line asks for."""
    options = _options()
    if not PEERS_PYTHON.is_file():
        sys.exit("the peers must be installed to be raced against; run `make bench-stream`")
    said: dict[str, Any] = {
        "is_short": options.short,
        "repetitions": options.repetitions,
        "machine": machine.describe(machine.peer_versions(PEERS_PYTHON, PEERS)),
    }
    scale, min_seconds = (0.1, 0.5) if options.short else (1.0, 3.0)
    with own_kafka() as settings:
        said["results"] = []
        for workload in workloads(scale):
            if options.only and workload.name not in options.only:
                continue
            said["results"].append(_measure(settings, workload, options.repetitions, min_seconds))
        if not options.only:
            seconds = 30.0 if options.short else 150.0
            said["latency"] = [
                _told(measure_latency(settings, num_plants=number, seconds=seconds))
                for number in LATENCY_PLANTS
            ]
            said["scaling"] = _scaling(
                settings, 60.0 if options.short else 300.0, options.repetitions
            )
    folder: Path = options.out
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stream.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    (folder / "stream.md").write_text(page(said), encoding="utf-8")
    print(f"{folder / 'stream.md'} is written")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream")
    parser.add_argument("--short", action="store_true", help="a tenth of the data")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="names of workloads; leaves out the rest")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    return parser.parse_args()


def _measure(
    settings: Settings, workload: Workload, repetitions: int, min_seconds: float
) -> dict[str, Any]:
    """Return the race of one workload; with a profile where an aim was missed."""
    entrants = contestants(PEERS_PYTHON)
    result = race(
        settings,
        workload,
        entrants,
        repetitions=repetitions,
        min_seconds=min_seconds,
        on_run=print,
    )
    said = asdict(result)
    if _misses(said):
        said["profile"] = _profile(settings, workload, result, entrants[0])
    return said


def _misses(result: dict[str, Any]) -> bool:
    quix = [name for name in result["answers"] if name.startswith("quix")]
    return ratio(result, "bare")[0] < AIM_BARE or any(
        ratio(result, name)[0] < AIM_QUIX for name in quix
    )


def _profile(
    settings: Settings, workload: Workload, result: Result, product: Contestant
) -> dict[str, Any] | None:
    # Long enough for some thousand samples.
    job = job_of(settings, workload, result.num_records, 6.0)
    return profile([*product.command, job.to_argument()])


def _scaling(settings: Settings, seconds: float, repetitions: int) -> list[dict[str, Any]]:
    """Return the medians for every number of plants; turns are taken as in the race."""
    runs: dict[int, list[dict[str, Any]]] = {number: [] for number in SCALING_PLANTS}
    for repetition in range(max(1, repetitions // 2)):
        for number in SCALING_PLANTS:
            prefix = f"scale{repetition}x{number}"
            runs[number].append(
                _told(measure_scaling(settings, prefix=prefix, num_plants=number, seconds=seconds))
            )
    return [_medians(part) | {"runs": part} for part in runs.values()]


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        key: None if any(run[key] is None for run in runs) else median(run[key] for run in runs)
        for key in runs[0]
    }


def _told(figures: dict[str, Any]) -> dict[str, Any]:
    print({key: value and round(value, 2) for key, value in figures.items()})
    return figures


if __name__ == "__main__":
    main()
