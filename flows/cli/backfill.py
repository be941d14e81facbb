"""``fusion backfill``: scores of what lies in the lake."""

from __future__ import annotations

import signal
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.backfill import BackfillReport, Progress, Wanted
from flows.cli.learn import quiet_prefect
from flows.cli.plant import PlantFile, load_plant
from flows.lake import parse_moment
from flows.models import newest_model
from flows.settings import Settings
from flows.terminal import CONSOLE, progress_bar


class RunnerName(StrEnum):
    """Where shards are worked on."""

    PROCESS = "process"
    RAY = "ray"


def backfill(
    plant_file: PlantFile,
    model: Annotated[
        Path | None, typer.Option(help="Model version to score with; default: the newest one.")
    ] = None,
    from_time: Annotated[
        str | None,
        typer.Option("--from", help="Event time, such as 2026-11-01T06:00Z; default: the first."),
    ] = None,
    until_time: Annotated[
        str | None, typer.Option("--until", help="Event time, not included; default: the last.")
    ] = None,
    shards: Annotated[
        int | None, typer.Option(help="Cut into about this many shards of equal work.", min=1)
    ] = None,
    shard_hours: Annotated[
        float, typer.Option(help="Hours of event time in a shard; not with --shards.", min=0.001)
    ] = 1.0,
    runner: Annotated[
        RunnerName, typer.Option(help="Processes of this machine, or Ray (an extra).")
    ] = RunnerName.PROCESS,
    workers: Annotated[
        int | None, typer.Option(help="Shards at a time; default: one for each core.", min=1)
    ] = None,
    data_version: Annotated[
        str | None, typer.Option(help="What the lake held then, from a manifest; default: now.")
    ] = None,
    with_open_ticks: Annotated[
        bool,
        typer.Option(
            "--with-open-ticks",
            help="Also score the ticks that a live process would still hold open at the end.",
        ),
    ] = False,
    afresh: Annotated[
        bool, typer.Option("--afresh", help="Use nothing that an earlier run has finished.")
    ] = False,
) -> None:
    """Score what the lake holds as the live process would have, and keep the scores in a table.

    Same windows, same scores, same alarm events, bit for bit on one machine; only the chances of
    an event head (docs/drift.md) are live's alone. Stop it with Ctrl-C, or kill it: the next run
    with the same options goes on with the shards that are not finished. Running it again replaces
    the same ticks; each is there once.
    """
    plant, settings = load_plant(plant_file), Settings.load()
    wanted = Wanted(
        model_dir=model or newest_model(settings, plant),
        from_ns=None if from_time is None else parse_moment(from_time),
        until_ns=None if until_time is None else parse_moment(until_time),
        num_shards=shards,
        shard_hours=shard_hours,
        data_version=data_version,
        with_open_ticks=with_open_ticks,
        is_afresh=afresh,
    )
    quiet_prefect()
    from flows.prefect_backfill import run_backfill  # noqa: PLC0415 starting Prefect takes seconds

    # As Ctrl-C: what was started ends too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with progress_bar() as bar:
        planning = bar.add_task("planning", total=None, note="records")
        scoring = bar.add_task("scoring", total=None, note="shards")

        def show(progress: Progress) -> None:
            bar.update(planning, total=progress.num_records, completed=progress.num_records_read)
            bar.update(
                scoring,
                total=progress.num_shards,
                completed=progress.num_judged,
                note=f"shards, {progress.num_ticks} ticks",
            )

        report = run_backfill(
            str(plant_file),
            wanted,
            runner=runner.value,
            num_workers=workers,
            settings=settings,
            on_progress=show,
        )
    _tell(report)


def _tell(report: BackfillReport) -> None:
    raised, cleared = report.transitions["raised"], report.transitions["cleared"]
    reused = f", {report.num_reused} finished before" if report.num_reused else ""
    CONSOLE.print(
        f"{report.num_ticks} ticks in {report.num_shards} shards{reused}: {report.num_windows} "
        f"scores, {raised} alarms raised, {cleared} cleared, in {report.duration_s:.1f} s "
        f"({report.num_ticks / report.duration_s:.0f} ticks/s)"
    )
    CONSOLE.print(
        f"model {report.model_version} on {report.data_version}\n"
        f"scores and alarm events: {report.findings_uri} (a Delta table)"
    )
