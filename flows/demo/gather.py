"""Everything that a demo's report shows, read back from where the chain has put it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flows import wiring
from flows.demo.moments import moments
from flows.demo.place import DemoPlace
from flows.gates import open_stored_gate
from flows.learn import recorded_observations
from flows.operate import alarm_events, scores
from flows.report.inputs import Detection, FaultTruth, ReportInputs
from flows.report.verdicts import judge
from fusion.alignment import Counts, Observation, tick_end_ns
from fusion.evaluation.baselines import alarms_of, alone, fit_pca_chart, tag_means
from fusion.manifest import Manifest, load_manifest
from fusion.plant import Plant, TelemetryStream
from fusion.ports import Lake
from fusion.schema import Score
from fusion.scoring import Calibration
from fusion.stream.intake import Gate


@dataclass(frozen=True, slots=True)
class DemoRun:
    """What a demo knows when the live process has ended."""

    place: DemoPlace
    model_dir: Path
    title: str
    faults: Sequence[FaultTruth]
    test_start_ns: int
    counts: dict[str, Counts]
    seeds: dict[str, int]
    read_by_offsets: dict[str, int] = field(default_factory=dict[str, int])
    duration_s: dict[str, float] = field(default_factory=dict[str, float])


def report_inputs(run: DemoRun) -> ReportInputs:
    """Return everything that the report of ``run`` shows."""
    plant, settings = run.place.plant, run.place.settings
    manifest = load_manifest(run.model_dir)
    said, events = scores(plant, settings), alarm_events(plant, settings)
    lake = wiring.open_lake(settings)
    with open_stored_gate(plant, settings) as gate:
        telemetry = telemetry_ticks(lake, plant, gate)
        at_alarms = moments(events, lake, plant, gate, run.faults, model_dir=run.model_dir)
    before, during = _split(telemetry, run.test_start_ns, plant)
    base = ReportInputs(
        plant=plant,
        model_version=manifest.version,
        is_simulated=plant.is_simulated,
        title=run.title,
        scores=said,
        events=events,
        faults=run.faults,
    )
    detections = compare(base, run, manifest, before, during)
    return ReportInputs(
        plant=plant,
        model_version=manifest.version,
        is_simulated=plant.is_simulated,
        title=run.title,
        scores=said,
        events=events,
        faults=run.faults,
        detections=detections,
        tags=_tag_series(during, plant),
        moments=at_alarms,
        gauges=manifest.gauges,
        counts=run.counts,
        read_by_offsets=run.read_by_offsets,
        seeds=run.seeds,
        machine=_machine(),
        duration_s=run.duration_s,
    )


def compare(
    base: ReportInputs,
    run: DemoRun,
    manifest: Manifest,
    before: Sequence[Observation],
    during: Sequence[Observation],
) -> list[Detection]:
    """Return how simpler methods did on the same run, with the same budget and alarm engine."""
    plant, calibration = run.place.plant, Calibration.load(run.model_dir)
    rows: list[Detection] = []

    def add(method: str, series: Iterable[Score], note: str) -> None:
        events = alarms_of(series, plant)
        judged = judge(
            ReportInputs(
                plant=plant,
                model_version=base.model_version,
                is_simulated=base.is_simulated,
                title=method,
                scores=base.scores,
                events=events,
                faults=base.faults,
            )
        )
        own = judged.as_detection()
        rows.append(Detection(method, own.detected, own.false_alarms_per_hour, note))

    add("This product, surprise only", base.scores, "all streams, forecasts left out")
    for stream in plant.streams if len(plant.streams) > 1 else ():
        series = alone(base.scores, stream.name, calibration)
        add(f"{stream.name} alone", series, "the members of this stream, its own threshold")
    if before and during:
        held_out = manifest.num_calibration_ticks / (
            manifest.num_calibration_ticks + manifest.num_train_ticks
        )
        chart = fit_pca_chart(tag_means(before, plant), plant, held_out=held_out)
        surprise_N = chart.surprise(tag_means(during, plant))
        by_tick = {o.tick: float(x) for o, x in zip(during, surprise_N, strict=True)}
        series = [s.model_copy(update={"surprise": by_tick.get(s.tick, 0.0)}) for s in base.scores]
        add("PCA T²/SPE", series, "telemetry only, 90 % of the variance")
    return rows


def telemetry_ticks(lake: Lake, plant: Plant, gate: Gate) -> list[Observation]:
    """Return the ticks of the telemetry alone: cheap, because no picture is decoded."""
    streams = tuple(s for s in plant.streams if isinstance(s, TelemetryStream))
    alarms = tuple(plant.alarms)
    only = plant.model_copy(update={"streams": streams, "alarms": alarms})
    return recorded_observations(lake, only, gate)


def _split(
    ticks: Sequence[Observation], test_start_ns: int, plant: Plant
) -> tuple[list[Observation], list[Observation]]:
    before = [o for o in ticks if tick_end_ns(o.tick, plant) <= test_start_ns]
    return before, [o for o in ticks if tick_end_ns(o.tick, plant) > test_start_ns]


def _tag_series(ticks: Sequence[Observation], plant: Plant) -> dict[str, Any]:
    if not ticks:
        return {}
    means_NG = tag_means(ticks, plant)
    times_N = np.array([tick_end_ns(o.tick, plant) for o in ticks], np.int64)
    return {tag.name: (times_N, means_NG[:, g]) for g, tag in enumerate(plant.measured)}


def _machine() -> dict[str, str]:
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
