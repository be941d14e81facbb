"""A real testbed through the same chain: SKAB's water circulation, by the official protocol.

Everything is real here but the clock: the recording is replayed as fast as the broker takes it.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import polars as pl
from rich.table import Table

from flows.cli.learn import run_training
from flows.cli.stream import publish
from flows.demo.gather import DemoRun, report_inputs
from flows.demo.place import DemoPlace, make_place
from flows.demo.rig import ingest, watch
from flows.demo.story import Story
from flows.operate import alarm_events, scores
from flows.replay_payloads import Replay, load_replay
from flows.report.inputs import FaultTruth
from flows.report.page import write_report
from flows.terminal import CONSOLE
from fusion.alignment import tick_of
from fusion.evaluation.skab import TRAIN_ROWS, PointMetrics, point_metrics
from fusion.plant import NANOSECONDS, Plant
from fusion.schema import AlarmEvent


def run_skab_demo(
    plans: Path, folder: Path, data: Path, *, seed: int, steps: int | None
) -> tuple[Path, dict[str, PointMetrics]]:
    """Replay SKAB, train, watch, and return the report and the official metrics by method."""
    learned, tested = (
        load_replay(plans / f"skab-{part}.yaml", data=data) for part in ("train", "test")
    )
    plant_file = plans.parent / "skab.yaml"
    place = make_place(plant_file, folder, run=f"seed{seed}-{time.time_ns() // NANOSECONDS}")
    story = Story(7)
    with story.step("replay the training rows → broker"):
        publish(learned.payloads(), place.plant, None, place.settings, source="replay")
    with story.step("ingest (Prefect): broker → lake, each record once"):
        ingest(place)
    with story.step("train (Prefect): lake → JEPA → calibrated model"):
        made = run_training(str(place.plant_file), "standard", seed, steps, place.settings)
    # The official split trains and tests on rows of the same experiments: the tested rows take a
    # place of their own on the broker, as if the testbed had been run again.
    watched = make_place(place.plant_file, folder / "watched", run="watched")
    with story.step("replay every labelled experiment → broker"):
        publish(tested.payloads(), watched.plant, None, watched.settings, source="replay")
    with story.step("live: scores, alarms"):
        counts = watch(watched, Path(made))
    with story.step("official metrics"):
        metrics = official_metrics(watched, tested)
        CONSOLE.print(metrics_table(metrics))
    with story.step("report"):
        ingest(watched)
        truth = tested.truth()
        run = DemoRun(
            place=watched,
            model_dir=Path(made),
            title="SKAB, a real water circulation testbed, replayed",
            faults=labelled_intervals(truth),
            test_start_ns=0,
            counts=counts,
            seeds={"training": seed},
            duration_s=story.durations_s,
        )
        return write_report(report_inputs(run), watched.report_file), metrics


def official_metrics(place: DemoPlace, tested: Replay) -> dict[str, PointMetrics]:
    """Return F1, false and missed alarms over the official test rows, by method."""
    rows = tested.truth().filter(pl.col("row") >= TRAIN_ROWS)
    is_anomaly_N = rows["anomaly"].to_numpy() == 1
    ticks_N = [tick_of(t_ns, place.plant) for t_ns in rows["t_event_ns"].to_list()]
    surprise = {score.tick: score.surprise for score in scores(place.plant, place.settings)}
    standing = standing_ticks(alarm_events(place.plant, place.settings), place.plant)
    return {
        "always alarm": point_metrics(is_anomaly_N, np.ones(len(ticks_N), bool)),
        "surprise at its threshold, per row": point_metrics(
            is_anomaly_N, np.array([surprise.get(tick, 0.0) >= 1 for tick in ticks_N])
        ),
        "alarm standing (with its delays)": point_metrics(
            is_anomaly_N, np.array([tick in standing for tick in ticks_N])
        ),
    }


def standing_ticks(events: list[AlarmEvent], plant: Plant) -> set[int]:
    """Return the ticks at whose end an alarm on surprise stood."""
    standing: set[int] = set()
    raised_ns: int | None = None
    for event in events:
        if event.state.finding != "surprise":
            continue
        if event.transition == "raised":
            raised_ns = event.t_ns
        elif event.transition == "cleared" and raised_ns is not None:
            standing |= set(range(raised_ns // plant.tick_ns - 1, event.t_ns // plant.tick_ns))
            raised_ns = None
    return standing


def labelled_intervals(truth: pl.DataFrame) -> list[FaultTruth]:
    """Return the stretches that the recording's authors labelled as anomalous."""
    intervals: list[FaultTruth] = []
    for (segment,), rows in truth.group_by("segment", maintain_order=True):
        is_anomaly = np.concatenate([[0], rows["anomaly"].to_numpy(), [0]])
        edges = np.flatnonzero(np.diff(is_anomaly))
        t_ns = rows["t_event_ns"].to_list()
        for number, (begin, end) in enumerate(zip(edges[::2], edges[1::2], strict=True), start=1):
            intervals.append(
                FaultTruth(
                    name=f"{segment}-{number}",
                    title=f"{segment}, labelled interval {number}",
                    onset_ns=t_ns[begin],
                    end_ns=t_ns[end - 1],
                )
            )
    return intervals


def metrics_table(metrics: dict[str, PointMetrics]) -> Table:
    """Return the metrics as a table; always-alarm stands beside, because its F1 is not low."""
    table = Table(title="SKAB, official protocol (micro-averaged over the test rows)")
    for heading in ("method", "F1", "false-alarm rate", "missed-alarm rate", "rows"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for method, metric in metrics.items():
        table.add_row(
            method,
            f"{metric.f1:.3f}",
            f"{metric.false_alarm_rate:.1%}",
            f"{metric.missed_alarm_rate:.1%}",
            str(metric.num_rows),
        )
    return table
