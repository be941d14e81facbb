"""``fusion alarms``: see the alarms and their journal, answer them, hide them, judge them."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from flows import wiring
from flows.alarm_history import record_journal
from flows.cli.plant import PlantFile, load_plant
from flows.notify import load_notifications, notify_people, try_channels
from flows.operate import alarm_states, ask, command, journal
from flows.settings import Settings
from flows.stopping import stop_on_signals
from flows.terminal import CONSOLE, alarm_table, event_line, shown
from fusion.alarms.kpis import TARGETS, Kpis, kpis_of
from fusion.plant import NANOSECONDS
from fusion.schema import ShownState
from fusion.schema.alarms import Action

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "See the alarms, answer them, hide them for a while, say what they were worth.\n\n"
        "Commands go to the live process, which accepts or refuses each and journals it. States "
        "and rules: docs/alarms.md."
    ),
)
Name = Annotated[str, typer.Argument(help="The alarm, as `fusion alarms list` names it.")]
Who = Annotated[str, typer.Option(help="Your name, for the journal.", prompt=True)]
Reason = Annotated[str, typer.Option(help="Why, for the journal.", prompt=True)]


@app.command("list")
def list_alarms(
    plant_file: PlantFile,
    every: Annotated[bool, typer.Option("--all", help="Also those that are at rest.")] = False,
) -> None:
    """Show the alarms that need eyes, and those that are hidden; the most urgent first."""
    states = alarm_states(load_plant(plant_file), Settings.load())
    if not states:
        CONSOLE.print("no alarm is known yet; is `fusion live` running?")
        return
    told = [s for s in states.values() if every or s.shown is not ShownState.NORMAL]
    CONSOLE.print(alarm_table(told))
    if len(told) < len(states):
        CONSOLE.print(f"{len(states) - len(told)} more are normal (--all shows them)")


@app.command("ack")
def acknowledge(plant_file: PlantFile, name: Name, who: Who) -> None:
    """Say that you have seen an alarm."""
    _ask(plant_file, name, "acknowledge", who)


@app.command()
def reset(plant_file: PlantFile, name: Name, who: Who) -> None:
    """Let go of a latched alarm that has cleared and is acknowledged."""
    _ask(plant_file, name, "reset", who)


@app.command()
def shelve(
    plant_file: PlantFile,
    name: Name,
    minutes: Annotated[float, typer.Option(help="For how long, at most a day.", prompt=True)],
    reason: Reason,
    who: Who,
    one_shot: Annotated[
        bool, typer.Option("--one-shot", help="Until it clears, if that is sooner.")
    ] = False,
) -> None:
    """Hide an alarm for a while. It comes back by itself."""
    told = {"duration_s": minutes * 60, "note": reason, "is_one_shot": one_shot}
    _ask(plant_file, name, "shelve", who, **told)


@app.command()
def unshelve(plant_file: PlantFile, name: Name, who: Who) -> None:
    """Show a shelved alarm again."""
    _ask(plant_file, name, "unshelve", who)


@app.command()
def remove(
    plant_file: PlantFile,
    name: Name,
    hours: Annotated[float, typer.Option(help="For how long, at most 30 days.", prompt=True)],
    reason: Reason,
    who: Who,
) -> None:
    """Take an alarm out of service, while it is mended."""
    told = {"duration_s": hours * 3600, "note": reason}
    _ask(plant_file, name, "remove-from-service", who, **told)


@app.command("return")
def return_to_service(plant_file: PlantFile, name: Name, who: Who) -> None:
    """Take an alarm back into service."""
    _ask(plant_file, name, "return-to-service", who)


@app.command()
def comment(
    plant_file: PlantFile,
    name: Name,
    text: Annotated[str, typer.Option(help="What others should know.", prompt=True)],
    who: Who,
) -> None:
    """Write a word about an alarm into the journal."""
    _ask(plant_file, name, "comment", who, note=text)


@app.command()
def verdict(
    plant_file: PlantFile,
    name: Name,
    judgement: Annotated[
        Literal["useful", "nuisance", "none"],
        typer.Argument(help="What the alarm was worth; none takes a verdict back."),
    ],
    who: Who,
    note: Annotated[str, typer.Option(help="What it was, for whoever sees the next.")] = "",
    episode: Annotated[
        str | None, typer.Option(help="Which one, as the journal names it; default: the last.")
    ] = None,
) -> None:
    """Say what an alarm was worth: one that repeats a nuisance is lowered, and says so."""
    states = alarm_states(load_plant(plant_file), Settings.load())
    told = {
        "episode": episode or (states[name].episode if name in states else None),
        "judgement": None if judgement == "none" else judgement,
        "note": note,
    }
    _ask(plant_file, name, "judge", who, **told)


@app.command("journal")
def show_journal(
    plant_file: PlantFile,
    last: Annotated[int, typer.Option(min=1, help="So many lines from the end.")] = 40,
    name: Annotated[str | None, typer.Option(help="Of one alarm only.")] = None,
) -> None:
    """Show what happened, and whether anybody altered it since."""
    events, broken = journal(load_plant(plant_file), Settings.load())
    told = [event for event in events if name is None or event.state.name == name]
    for event in told[-last:]:
        CONSOLE.print(event_line(event))
    if broken:
        CONSOLE.print(f"[bold red]the chain is broken:[/bold red] {escape('; '.join(broken[:5]))}")
        raise typer.Exit(2)
    CONSOLE.print(f"{len(events)} lines; the chain is whole")


@app.command()
def kpis(
    plant_file: PlantFile,
    hours: Annotated[float, typer.Option(min=0.1, help="Up to now, plant time.")] = 24 * 30,
    operators: Annotated[int, typer.Option(min=1, help="How many people watch.")] = 1,
) -> None:
    """Show how well the alarms serve their operators, beside what ISA-18.2 asks for."""
    events, _ = journal(load_plant(plant_file), Settings.load())
    if not events:
        CONSOLE.print("the journal is empty; is `fusion live` running?")
        return
    end_ns = max(event.t_ns for event in events) + 1
    begin_ns = max(end_ns - round(hours * 3600 * NANOSECONDS), min(e.t_ns for e in events))
    figures = kpis_of(events, start_ns=begin_ns, end_ns=end_ns, num_operators=operators)
    CONSOLE.print(_kpi_table(figures))


@app.command()
def record(
    plant_file: PlantFile,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until Ctrl-C; else end when all is kept.")
    ] = False,
) -> None:
    """Keep the journal for years, in the database that FUSION_ALARM_HISTORY_URL names.

    It may be run again and again, and stopped at any time: a line is kept once.
    """
    plant, settings = load_plant(plant_file), Settings.load()
    num_kept = 0
    with stop_on_signals() as should_stop:
        for num_new in record_journal(plant, settings, should_stop=should_stop, follow=follow):
            num_kept += num_new
            if num_new and follow:
                CONSOLE.print(f"kept {num_kept} lines")
    CONSOLE.print(f"kept {num_kept} new lines")


@app.command()
def notify(
    plant_file: PlantFile,
    routes: Annotated[
        Path, typer.Option(metavar="FILE", help="Channels and routes: docs/alarms.md.")
    ],
    is_test: Annotated[
        bool, typer.Option("--test", help="Send a test to every channel, and end.")
    ] = False,
) -> None:
    """Tell people away from the screen, until Ctrl-C: by webhook and by mail.

    One process for all plants of a prefix. It goes on where it was, and says what was handed over.
    Secrets stand in environment variables that the file names. Try it: --test.
    """
    plant, settings = load_plant(plant_file), Settings.load()
    notifications = load_notifications(routes)
    notifiers = wiring.open_notifiers(notifications.channels, os.environ)

    def say(words: str) -> None:
        CONSOLE.print(escape(shown(words)))

    if is_test:
        if not try_channels(notifiers, t_ns=wiring.open_clock().now_ns(), say=say):
            raise typer.Exit(2)
        return
    with stop_on_signals() as should_stop:
        notify_people(plant, settings, notifications, notifiers, should_stop=should_stop, say=say)


def _ask(plant_file: Path, name: str, action: Action, who: str, **told: Any) -> None:
    plant, settings = load_plant(plant_file), Settings.load()
    asked = command(plant, settings, name=name, action=action, who=who, **told)
    answer = ask(plant, settings, asked)
    if answer is None:
        CONSOLE.print(
            "[yellow]no answer yet:[/yellow] the command waits on the broker until `fusion live` "
            f"reads it; `fusion alarms journal {plant_file}` shows the answer then"
        )
        raise typer.Exit(75)
    if not answer.is_accepted:
        CONSOLE.print(f"[bold red]refused:[/bold red] {escape(shown(answer.why))}")
        raise typer.Exit(2)
    assert answer.state is not None, "what was accepted has a state"
    state = answer.state
    CONSOLE.print(f"accepted: {state.name} is {state.shown.value} (revision {state.revision})")
    for override in state.overrides:
        if override.until_ns is not None:
            at = datetime.datetime.fromtimestamp(override.until_ns / NANOSECONDS, datetime.UTC)
            CONSOLE.print(f"{override.kind} until {at:%Y-%m-%d %H:%M:%S} UTC, plant time")


def _kpi_table(figures: Kpis) -> Table:
    table = Table(title=f"Alarms in {figures.hours:.1f} h of plant time")
    for heading in ("figure", "here", "ISA-18.2 asks for"):
        table.add_column(heading, overflow="fold")
    shares = " / ".join(f"{figures.priority_shares[p]:.0%}" for p in ("low", "medium", "high"))
    here = {
        "alarms": str(figures.num_alarms),
        "alarms per operator hour": f"{figures.per_operator_hour:.2f}",
        "time in flood": f"{figures.flood_share:.1%}",
        "most alarms in 10 minutes": str(figures.most_in_ten_minutes),
        "standing now": ", ".join(figures.standing) or "none",
        "stale": ", ".join(figures.stale) or "none",
        "chattering": ", ".join(f"{n} ({c})" for n, c in figures.chattering.items()) or "none",
        "ten most frequent": f"{figures.top_ten_share:.0%}",
        "priorities low / medium / high": shares,
        "time to acknowledge, median": _seconds(figures.median_ack_s),
        "time to acknowledge, 95 %": _seconds(figures.p95_ack_s),
        "unacknowledged": str(figures.num_unacknowledged),
        "shelved": str(figures.num_shelved),
        "commands refused": str(figures.num_refused),
    }
    for figure, value in here.items():
        table.add_row(figure, shown(value), TARGETS.get(figure, ""))
    return table


def _seconds(value_s: float | None) -> str:
    return "none was" if value_s is None else f"{value_s:.1f} s"
