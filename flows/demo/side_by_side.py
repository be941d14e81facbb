"""Real sound, real pictures and real telemetry of three machines on one clock: a pipeline test.

Nothing connects the three machines, so its alarms say nothing about physics, and the report's
title says so.
"""

from __future__ import annotations

import time
from pathlib import Path

from flows.cli.learn import run_training
from flows.cli.stream import publish
from flows.demo.gather import DemoRun, report_inputs
from flows.demo.place import make_place
from flows.demo.rig import ingest, watch
from flows.demo.story import Story
from flows.replay_payloads import load_replay
from flows.report.inputs import FaultTruth
from flows.report.page import write_report
from fusion.plant import NANOSECONDS

TITLE = "Three unrelated machines on one clock (a test of the pipeline, not of the physics)"


def run_side_by_side_demo(
    plans: Path, folder: Path, data: Path, *, seed: int, steps: int | None
) -> Path:
    """Learn from the normal recordings, watch the abnormal ones, and return the report."""
    normal, abnormal = (
        load_replay(plans / f"sidebyside-{part}.yaml", data=data) for part in ("normal", "abnormal")
    )
    run_name = f"seed{seed}-{time.time_ns() // NANOSECONDS}"
    place = make_place(plans.parent / "sidebyside.yaml", folder, run=run_name)
    story = Story(6)
    with story.step("replay the normal recordings → broker"):
        publish(normal.payloads(), place.plant, None, place.settings, source="replay")
    with story.step("ingest (Prefect): broker → lake, each record once"):
        ingest(place)
    with story.step("train (Prefect): lake → JEPA → calibrated model"):
        made = run_training(str(place.plant_file), "standard", seed, steps, place.settings)
    with story.step("replay the abnormal recordings → broker"):
        publish(abnormal.payloads(), place.plant, None, place.settings, source="replay")
    with story.step("live: scores, alarms"):
        counts = watch(place, Path(made))
        ingest(place)
    with story.step("report"):
        assert abnormal.plan.start is not None, "the plan names its start"
        assert abnormal.plan.duration_s is not None, "the plan names its length"
        start_ns = round(abnormal.plan.start.timestamp()) * NANOSECONDS
        replayed = FaultTruth(
            name="abnormal-recordings",
            title="Abnormal recordings replayed",
            onset_ns=start_ns,
            end_ns=start_ns + round(abnormal.plan.duration_s * NANOSECONDS),
        )
        run = DemoRun(
            place=place,
            model_dir=Path(made),
            title=TITLE,
            faults=[replayed],
            test_start_ns=start_ns,
            counts=counts,
            seeds={"training": seed},
            duration_s=story.durations_s,
        )
        return write_report(report_inputs(run), place.report_file)
