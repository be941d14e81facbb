"""``fusion simulate | replay | live | alarms``: everything that touches the broker."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from flows import wiring
from flows.cli.plant import PlantFile, load_plant
from flows.cli.spool import drain, say_what_waits, waiting_note
from flows.drift_journal import NewestChecks
from flows.health import Health, serve_health
from flows.live import open_live, run_live, watch
from flows.logs import begin_service, tell, tell_lost, tell_refused
from flows.metrics.live import LiveMetrics
from flows.replay import ReplayReport
from flows.replay import replay as send
from flows.replay_payloads import load_replay
from flows.rollout_watch import RolloutWatch, Watched
from flows.schemas import publish_schemas
from flows.settings import Settings
from flows.stopping import stop_on_signals
from flows.terminal import CONSOLE, LiveTable, counts_table, progress_bar
from flows.tracing import LiveTracer, SendTracer, open_tracer
from fusion.alignment import Counts
from fusion.errors import BrokerUnavailableError, InferenceUnavailableError, InputError
from fusion.plant import NANOSECONDS, Plant
from fusion.schema import Lost, Payload, TopicPartition
from fusion.simulation import fault_campaign, normal_scenario, simulate, truth
from fusion.stream.figures import LiveFigures

Speed = Annotated[
    float | None,
    typer.Option(help="Times real time; without it as fast as the broker takes it.", min=0.001),
]


def simulate_rig(
    plant_file: PlantFile,
    minutes: Annotated[float, typer.Option(help="Length in event time.", min=0.1)] = 10.0,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal plants, byte for byte.")] = 0,
    faults: Annotated[
        bool, typer.Option("--faults", help="Inject every fault once; sets the length itself.")
    ] = False,
    after_minutes: Annotated[
        float, typer.Option(help="Start this much later in event time, to follow an earlier run.")
    ] = 0.0,
    truth_file: Annotated[
        Path | None, typer.Option(help="Write the injected faults to this JSON file.")
    ] = None,
    speed: Speed = None,
) -> None:
    """Publish a simulated pump rig: telemetry, sound and pictures of one machine.

    A simulation and nothing else: coupled differential equations, a synthesised microphone, drawn
    frames. Example: [bold]fusion simulate plants/rig.yaml --faults --seed 7[/bold]
    """
    plant = load_plant(plant_file)
    scenario = (
        fault_campaign(seed=seed, after_s=after_minutes * 60)
        if faults
        else normal_scenario(duration_s=minutes * 60, seed=seed, after_s=after_minutes * 60)
    )
    if truth_file is not None:
        truth_file.parent.mkdir(parents=True, exist_ok=True)
        truth_file.write_text(json.dumps(truth(scenario, plant), indent=2), encoding="utf-8")
    publish(
        simulate(scenario, plant),
        plant,
        speed,
        Settings.load(),
        source="simulator",
        duration_s=scenario.duration_s,
    )


def replay(
    plan_file: Annotated[
        Path,
        typer.Argument(
            metavar="PLAN",
            help="Which recording plays which stream, for example plants/replays/cnc_mill.yaml.",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="FUSION_SHARED_DATA",
            help="Folder of the recordings; needed where the plan names none of its own.",
        ),
    ] = None,
    speed: Speed = None,
) -> None:
    """Publish real recordings as if they happened now: parquet, CSV, FLAC, WAV, MP4, images.

    Example: [bold]fusion replay plants/replays/cnc_mill-unworn.yaml --speed 50[/bold]
    """
    played = load_replay(plan_file, data=data)
    publish(played.payloads(), played.plant, speed, Settings.load(), source="replay")


def publish(
    payloads: Iterable[Payload],
    plant: Plant,
    speed: float | None,
    settings: Settings,
    *,
    source: str,
    duration_s: float | None = None,
) -> ReplayReport:
    """Send ``payloads`` to the broker, with progress in plant time; Ctrl-C stops cleanly."""
    publisher = wiring.open_sender(settings, plant, source=source)
    with (
        contextlib.closing(publisher),
        open_tracer(settings, source) as tracer,
        progress_bar() as bar,
    ):
        publish_schemas(plant, publisher)
        total = None if duration_s is None else round(duration_s)
        task = bar.add_task(f"{source} → {plant.prefix}.*", total=total, note="s of plant time")
        began_ns: list[int] = []

        def show(report: ReplayReport) -> None:
            began_ns[:] = began_ns[:1] or [report.t_event_ns]
            passed_s = round((report.t_event_ns - began_ns[0]) / NANOSECONDS)
            bar.update(task, completed=passed_s, note=f"s of plant time{waiting_note(publisher)}")

        try:
            report = send(
                payloads,
                publisher,
                plant,
                source=source,
                speed=speed,
                clock=wiring.open_clock(),
                on_progress=show,
                trace=tracer and SendTracer(tracer),
            )
            if not report.is_interrupted:
                drain(publisher, bar)
        finally:
            say_what_waits(publisher)
    CONSOLE.print(
        f"published {sum(report.num_messages.values())} records, {report.num_bytes / 1e6:.1f} MB"
        + (" (stopped early; what was sent is whole)" if report.is_interrupted else "")
    )
    return report


def live(
    plant_files: Annotated[
        list[Path],
        typer.Argument(
            metavar="PLANT...", help="One or more plant files that share a prefix, and so topics."
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Model version to serve, with one plant. Default: the champion of `fusion "
            "models`, and the newest one before there is any."
        ),
    ] = None,
    until_caught_up: Annotated[
        bool, typer.Option("--until-caught-up", help="End when every record is read.")
    ] = False,
    skip_backlog: Annotated[
        bool,
        typer.Option("--skip-backlog", help="On the very first start, begin with what is new."),
    ] = False,
) -> None:
    """Watch plants: score every tick, raise alarms, show them as a live table.

    Everything is published too: scores, alarms, alarm-events, dead-letters. Stop with Ctrl-C, or
    kill it: the next start goes on where this one stopped, and nothing is lost or said twice.

    More processes with the same files and other names share the work, partition by partition:
    [bold]FUSION_REPLICA=2 fusion live pump-1.yaml pump-2.yaml[/bold]. It waits while the broker is
    away.
    """
    settings = Settings.load()
    begin_service(settings, "live")
    watched, rollout = _watched(plant_files, model, settings)
    clock = wiring.open_clock()
    health = Health(clock)
    newest_drift = NewestChecks(settings, [each.plant for each in watched])
    metrics = LiveMetrics(health.ready, clock.now_ns, newest_drift)

    def tell_away(away: BrokerUnavailableError, pause_s: float) -> None:
        health.away(str(away))
        tell("warning", f"trying again in {pause_s:.0f} s", str(away))

    def tell_paused(why: InferenceUnavailableError) -> None:
        health.away(str(why))
        tell("warning", "scoring waits, nothing is dropped", str(why))

    def tell_figures(figures: LiveFigures) -> None:
        health.figures(figures)
        metrics.figures(figures)

    with (
        stop_on_signals() as should_stop,
        serve_health(health, settings.health_address, metrics.registry),
        open_tracer(settings, "live") as tracer,
        LiveTable(watched[0].plant.prefix) as table,
    ):
        traces = tracer and LiveTracer(tracer, [each.plant for each in watched], clock)
        if until_caught_up:
            counts = _watch_to_end(
                watched,
                settings,
                should_stop,
                table,
                tell_lost,
                tell_paused,
                rollout,
                skip_backlog=skip_backlog,
            )
        else:
            counts: dict[TopicPartition, Counts] = {}
            for chain, step in watch(
                watched,
                settings,
                should_stop=should_stop,
                skip_backlog=skip_backlog,
                on_beat=health.beat,
                on_away=tell_away,
                on_lost=tell_lost,
                on_paused=tell_paused,
                on_figures=tell_figures if settings.health_address else None,
                on_taken=traces and traces.taken,
                rollout=rollout,
            ):
                metrics.step(step)
                tell_refused(step.refused)
                if traces is not None:
                    traces.step(step)
                table.show(step, chain)
                counts = chain.counts()
    CONSOLE.print(counts_table(counts))


def _watched(
    plant_files: list[Path], model: Path | None, settings: Settings
) -> tuple[list[Watched], RolloutWatch | None]:
    """Return who watches each plant, and what follows the journal of versions."""
    plants = [load_plant(path) for path in plant_files]
    if model is not None and len(plants) > 1:
        raise InputError(
            f"--model names the model of one plant, got {len(plants)} plants; leave it out to "
            "serve the newest model of each"
        )
    if model is not None:
        return [Watched(plants[0], model)], None
    rollout = RolloutWatch(plants, settings)
    return rollout.watched(), rollout


def _watch_to_end(
    watched: list[Watched],
    settings: Settings,
    should_stop: Callable[[], bool],
    table: LiveTable,
    on_lost: Callable[[Lost], None],
    on_paused: Callable[[InferenceUnavailableError], None],
    rollout: RolloutWatch | None,
    *,
    skip_backlog: bool,
) -> dict[TopicPartition, Counts]:
    with open_live(
        watched,
        settings,
        skip_backlog=skip_backlog,
        on_lost=on_lost,
        on_paused=on_paused,
        rollout=rollout,
    ) as chain:
        for step in run_live(chain, should_stop=should_stop, may_end=lambda: True):
            table.show(step, chain)
        return chain.counts()
