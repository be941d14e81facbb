"""The demo of the whole chain on the simulated rig: learn, watch ten faults, explain them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from flows.cli.learn import quiet_prefect, run_training
from flows.cli.stream import publish
from flows.demo.gather import DemoRun, report_inputs
from flows.demo.place import DemoPlace, make_place
from flows.demo.story import Story
from flows.live import open_live, run_live
from flows.report.inputs import faults_from_truth
from flows.report.page import write_report
from flows.rollout_watch import Watched
from flows.settings import Settings
from flows.stopping import stop_on_signals
from flows.terminal import CONSOLE, LiveTable, counts_table
from fusion.alignment import Counts
from fusion.errors import FusionError
from fusion.plant import NANOSECONDS
from fusion.simulation import fault_campaign, normal_scenario, simulate, truth

SETTLE_MINUTES = 5.0


def run_rig_demo(
    plant_file: Path,
    folder: Path,
    *,
    seed: int,
    normal_minutes: float,
    steps: int | None,
    with_console: bool = False,
) -> Path:
    """Run the chain on the simulated rig and return its report.

    With a console it returns when somebody has ended that with Ctrl-C.
    """
    place = make_place(plant_file, folder, run=f"seed{seed}-{time.time_ns() // NANOSECONDS}")
    story = Story(6)
    after_s = (normal_minutes + SETTLE_MINUTES) * 60
    campaign = fault_campaign(seed=seed + 1, after_s=after_s)
    with story.step(f"simulate {normal_minutes:g} min of normal running → broker"):
        scenario = normal_scenario(duration_s=normal_minutes * 60, seed=seed)
        publish(
            simulate(scenario, place.plant),
            place.plant,
            None,
            place.settings,
            source="simulator",
            duration_s=scenario.duration_s,
        )
    with story.step("ingest (Prefect): broker → lake, each record once"):
        ingest(place)
    with story.step("train (Prefect): lake → JEPA → calibrated model"):
        made = run_training(str(place.plant_file), "standard", seed, steps, place.settings)
        model_dir = Path(made)
    with console_beside(place) if with_console else contextlib.nullcontext():
        with story.step("live: faults are injected, alarms are raised"):
            place.truth_file.write_text(
                json.dumps(truth(campaign, place.plant), indent=2), encoding="utf-8"
            )
            counts = watch(
                place, model_dir, start_plant=lambda: _start_plant(place, seed + 1, after_s)
            )
        with story.step("ingest (Prefect): what was watched → lake"):
            ingest(place)
        with story.step("report"):
            faults = faults_from_truth(json.loads(place.truth_file.read_text(encoding="utf-8")))
            run = DemoRun(
                place=place,
                model_dir=model_dir,
                title="Simulated pump rig",
                faults=faults,
                test_start_ns=campaign.t_start_ns,
                counts=counts,
                seeds={"normal running and training": seed, "faults": seed + 1},
                duration_s=story.durations_s,
            )
            report = write_report(report_inputs(run), place.report_file)
        if with_console:
            CONSOLE.print(f"[bold]open {report}[/bold]")
    return report


def ingest(place: DemoPlace) -> None:
    """Run the ingest flow once."""
    quiet_prefect()
    from flows.prefect_ingest import ingest as flow  # noqa: PLC0415 starting Prefect takes seconds

    num_stored = flow(str(place.plant_file), settings=place.settings)
    CONSOLE.print(f"{num_stored} new records are in the lake")


def watch(
    place: DemoPlace,
    model_dir: Path,
    *,
    start_plant: Callable[[], subprocess.Popen[bytes]] | None = None,
) -> dict[str, Counts]:
    """Run the live process until every record is read, and return what became of each.

    ``start_plant`` is called once the process watches: it sees what the plant sends from then on.
    """
    with (
        stop_on_signals() as should_stop,
        open_live(
            [Watched(place.plant, model_dir)],
            place.settings,
            skip_backlog=start_plant is not None,
        ) as live,
        LiveTable(place.plant.prefix) as table,
    ):
        plant_runs = None if start_plant is None else start_plant()
        for step in run_live(
            live,
            should_stop=should_stop,
            may_end=lambda: plant_runs is None or plant_runs.poll() is not None,
        ):
            table.show(step, live)
        counts = live.counts()
    CONSOLE.print(counts_table(counts))
    if plant_runs is not None:
        _end_plant(plant_runs, is_stopped=should_stop())
    if should_stop():
        raise KeyboardInterrupt
    return {f"{part.topic}/{part.partition}": each for part, each in counts.items()}


@contextlib.contextmanager
def console_beside(place: DemoPlace) -> Iterator[None]:
    """Serve the operators' pages meanwhile, and afterwards until Ctrl-C."""
    command = [sys.executable, "-m", "flows.cli", "console", str(place.plant_file)]
    serving = subprocess.Popen(command, env=_environment(place.settings))
    try:
        yield
        CONSOLE.print("the console goes on; Ctrl-C ends it")
        with contextlib.suppress(KeyboardInterrupt):
            serving.wait()
    finally:
        serving.terminate()
        serving.wait()


def _end_plant(plant_runs: subprocess.Popen[bytes], *, is_stopped: bool) -> None:
    if is_stopped:
        plant_runs.terminate()
    if plant_runs.wait() != 0 and not is_stopped:
        raise FusionError(
            f"the simulated plant must run to its end, but its process ended with exit status "
            f"{plant_runs.returncode}; run `fusion simulate` by hand to see why"
        )


def _start_plant(place: DemoPlace, seed: int, after_s: float) -> subprocess.Popen[bytes]:
    """Start the simulated plant as a process of its own, as plants are."""
    settings = place.settings
    command = [
        sys.executable,
        "-m",
        "flows.cli",
        "simulate",
        str(place.plant_file),
        "--faults",
        "--seed",
        str(seed),
        "--after-minutes",
        str(after_s / 60),
    ]
    return subprocess.Popen(command, env=_environment(settings), stderr=subprocess.DEVNULL)


def _environment(settings: Settings) -> dict[str, str]:
    return os.environ | {
        "FUSION_DATA_DIR": str(settings.data_dir),
        "FUSION_BROKER": settings.broker,
        "FUSION_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
    }
