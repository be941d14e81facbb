"""``fusion drift check | records | feedback``: does the model still fit its plant?"""

from __future__ import annotations

import datetime
from typing import Annotated

import typer
from rich.table import Table

from flows.cli.learn import quiet_prefect
from flows.cli.plant import PlantFile, load_plant
from flows.drift import champion_of
from flows.drift_journal import drift_history
from flows.feedback import refit_event_head, told_episodes
from flows.lake import parse_moment
from flows.settings import Settings
from flows.terminal import CONSOLE
from fusion.plant import NANOSECONDS
from fusion.retraining.drift import DriftLimits
from fusion.retraining.labels import precision_of
from fusion.retraining.records import DriftFinding, DriftRecord

app = typer.Typer(
    no_args_is_help=True,
    help="Does the model in service still fit its plant? Checks, what they found, and what "
    "operators said.\n\n"
    "Four things are tested: what the encoder makes of each stream, how well the predictor "
    "predicts, how often the alarm threshold is passed, and how many alarms operators call a "
    "nuisance. All of a check share one chance of a false alarm; what is certain but too small to "
    "matter is no drift (docs/drift.md).",
)


@app.command("check")
def check(
    plant_file: PlantFile,
    hours: Annotated[
        float, typer.Option(help="How far back from the newest record of the lake.", min=0.01)
    ] = 6.0,
    until_time: Annotated[
        str | None,
        typer.Option("--until", help="Event time, such as 2026-11-01T06:00Z; default: the newest."),
    ] = None,
    level: Annotated[
        float, typer.Option(help="Chance that a check finds drift where there is none.", min=1e-4)
    ] = DriftLimits().level,
) -> None:
    """Look at the lake's newest hours through the champion, say what drifts, and keep it.

    Each test needs some blocks of time that know nothing of one another; where there are fewer it
    says so, and finds nothing. The first check of a version also reads what it was calibrated on.

    Example: [bold]fusion drift check plants/rig.yaml --hours 2[/bold]
    """
    load_plant(plant_file)
    quiet_prefect()
    from flows.prefect_drift import watch_drift  # noqa: PLC0415 starting Prefect takes seconds

    record = watch_drift(
        str(plant_file),
        hours * 3600,
        until_ns=None if until_time is None else parse_moment(until_time),
        limits=DriftLimits(level=level),
        settings=Settings.load(),
    )
    _tell(record)


@app.command("records")
def records(
    plant_file: PlantFile,
    last: Annotated[int, typer.Option(help="So many of the newest.", min=1)] = 20,
) -> None:
    """Show the checks that were kept, and the retrainings that answered them.

    Example: [bold]fusion drift records plants/rig.yaml --last 5[/bold]
    """
    history = drift_history(Settings.load(), load_plant(plant_file))
    if not history.records:
        CONSOLE.print("nothing was checked yet; `fusion drift check` does it")
        return
    table = Table("checked", "period until", "minutes", "model", "drift")
    for each in history.records[-last:]:
        minutes = (each.until_ns - each.from_ns) / NANOSECONDS / 60
        kinds = ", ".join(f"{found.kind} of {found.about}" for found in each.drifts)
        table.add_row(
            _moment(each.t_ns),
            _moment(each.until_ns),
            f"{minutes:.0f}",
            each.model_version,
            kinds or "none",
        )
    CONSOLE.print(table)
    for each in history.retrainings[-last:]:
        state = "goes on" if each.is_open else each.how
        CONSOLE.print(
            f"{_moment(each.t_ns)} retraining {each.id}: {state}; {each.why}",
            highlight=False,
            markup=False,
        )


@app.command("feedback")
def feedback(
    plant_file: PlantFile,
    is_refitted: Annotated[
        bool, typer.Option("--refit", help="Fit the champion's event head now; takes minutes.")
    ] = False,
) -> None:
    """Show how many alarms of each definition were useful, by what operators said of them.

    `fusion alarms verdict` says it. The share comes with where it lies with 95 % confidence. With
    --refit the champion learns from it how likely the next useful alarm is, as the flow
    `refit-events` lets it by its schedule: docs/drift.md.

    Example: [bold]fusion drift feedback plants/rig.yaml --refit[/bold]
    """
    plant, settings = load_plant(plant_file), Settings.load()
    table = Table("alarm", "useful", "nuisance", "nobody said", "precision")
    for each in precision_of(told_episodes(plant, settings)):
        low, high = each.between
        share = "–" if each.share is None else f"{each.share:.0%} ({low:.0%} to {high:.0%})"
        table.add_row(
            each.name, str(each.num_useful), str(each.num_nuisance), str(each.num_unjudged), share
        )
    if table.row_count:
        CONSOLE.print(table)
    else:
        CONSOLE.print("no alarm was raised yet, or the broker and the history hold none")
    if is_refitted:
        report = refit_event_head(plant, settings, champion_of(plant, settings))
        CONSOLE.print(report.sentence, highlight=False, markup=False)


def _tell(record: DriftRecord) -> None:
    table = Table("test", "of", "p", "needed", "size", "matters from", "drift")
    for each in record.findings:
        table.add_row(
            each.kind,
            each.about,
            _number(each.p_value, "{:.2g}"),
            f"{each.level:.2g}",
            _number(each.effect, "{:.3g}"),
            f"{each.min_effect:g}",
            _answer(each),
        )
    CONSOLE.print(table)
    for each in record.findings:
        CONSOLE.print(each.sentence, highlight=False, markup=False)
    verdict = "drifts" if record.is_drift else "shows no drift"
    CONSOLE.print(
        f"[bold]model {record.model_version} {verdict}[/bold] in {record.num_ticks} ticks until "
        f"{_moment(record.until_ns)} ({record.duration_s:.1f} s; kept as {record.id})"
    )


def _answer(finding: DriftFinding) -> str:
    if finding.p_value is None:
        return "cannot be said"
    return "[bold red]yes[/bold red]" if finding.is_drift else "no"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _moment(t_ns: int) -> str:
    moment = datetime.datetime.fromtimestamp(t_ns / NANOSECONDS, datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}"
