"""``fusion what-if``: what other set-points would lead to, before anybody turns a knob."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows.cli.plant import PlantFile, load_plant
from flows.lake import parse_moment
from flows.models import newest_model
from flows.settings import Settings
from flows.terminal import CONSOLE
from flows.what_if import WhatIf, as_json, open_what_if, parse_scenario, shown_tags
from flows.what_if_chart import write_fan_chart
from fusion.planning import Candidate, Goal, Search, parse_goal
from fusion.planning import what_if as compare
from fusion.plant import Tag
from fusion.schema.records import rfc3339
from fusion.wording import figure, percent

Wishes = Annotated[list[str] | None, typer.Option(help="A tag to lower, such as motor_current.")]


def what_if(
    plant_file: PlantFile,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE,…",
            help="A scenario: set-points to move now. Repeat it to compare several.",
        ),
    ] = None,
    search: Annotated[
        bool, typer.Option("--search", help="Also search for the plan that serves the goal best.")
    ] = False,
    minimise: Wishes = None,
    maximise: Annotated[list[str] | None, typer.Option(help="A tag to raise.")] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'TAG in A..B'",
            help="A band to keep; also 'TAG near V', 'TAG below V', 'TAG above V'. "
            "Any wish may end in x2, a weight.",
        ),
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="Such as 2026-11-25T10:00Z; default: the newest moment.")
    ] = None,
    moves: Annotated[
        list[float] | None,
        typer.Option("--move-at", help="Seconds from now at which a found plan may move; 0."),
    ] = None,
    show: Annotated[list[str] | None, typer.Option(help="One more tag to show.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Model version to ask; default: the newest one.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal plans.")] = 0,
    picture: Annotated[
        Path | None, typer.Option(help="Draw what is expected into this .png or .svg file.")
    ] = None,
    as_json_: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON instead.")
    ] = False,
) -> None:
    r"""Compare what other set-points would lead to, from the newest moment in the lake.

    It only advises: nothing is ever written to the plant. "No change" is always compared, box and
    rate limits of the set-points (limits and rate_limit_per_s in the plant file) are always kept,
    and a plan that leads where the model knows little says so.

    [bold]Example.[/bold] What does a lower tank cost or save, and is there something better?

        fusion what-if plants/rig.yaml --set level_setpoint=0.55 --search \
            --minimise motor_current --keep "tank_level in 0.5..0.7"

    Tags are counted in standard deviations of normal running and averaged over the time ahead; a
    band to keep costs ten times the square of the distance from it. The lowest cost is first.
    """
    plant, settings = load_plant(plant_file), Settings.load()
    wishes = {"minimise": minimise or [], "maximise": maximise or [], "keep": keep or []}
    is_goal_needed = search or any(wishes.values())
    goal = parse_goal(plant, **wishes) if is_goal_needed else Goal(())
    tags = shown_tags(plant, goal, show or [])
    scenarios = {text: parse_scenario(text) for text in sets or []}
    model_dir = model or newest_model(settings, plant)
    at_ns = None if at is None else parse_moment(at)
    moves_s = tuple(moves or [0.0])
    with open_what_if(plant, model_dir, settings, at_ns=at_ns, moves_s=moves_s) as asked:
        candidates = compare(
            asked.reader, goal, scenarios=scenarios, search=Search(seed=seed) if search else None
        )
    if picture is not None:
        write_fan_chart(picture, asked, candidates, tags)
    if as_json_:
        typer.echo(json.dumps(as_json(asked, goal, candidates), indent=1))
    else:
        _tell(asked, candidates, tags)
    if picture is not None:
        CONSOLE.print(f"[bold]open {picture}[/bold]")


def _tell(asked: WhatIf, candidates: Sequence[Candidate], tags: Sequence[tuple[int, Tag]]) -> None:
    simulated = "  SIMULATED" if asked.reader.plant.is_simulated else ""
    CONSOLE.print(
        f"[bold]{asked.reader.plant.address}[/bold] at {rfc3339(asked.t_end_ns)[:19]}Z, "
        f"model {asked.manifest.version}{simulated}"
    )
    CONSOLE.print(_plans(asked, candidates))
    for index, tag in tags:
        CONSOLE.print(_forecasts(asked, candidates, index, tag))
    if asked.absent:
        CONSOLE.print(f"[yellow]no data from {', '.join(asked.absent)} in the newest tick[/yellow]")
    CONSOLE.print("Advice only: nothing was written to the plant.")


def _plans(asked: WhatIf, candidates: Sequence[Candidate]) -> Table:
    """Return every plan, the best first, with "no change" marked."""
    table = Table(title="Plans, the best first")
    for heading in ("plan", "set-points now → then", "limits passed", "confidence", "cost"):
        table.add_column(heading, overflow="fold")
    stays = next(each for each in candidates if each.kind == "no change")
    for each in candidates:
        difference = "" if each is stays else f" ({each.cost - stays.cost:+.2f})"
        style = "dim" if each is stays else "bold" if each is candidates[0] else ""
        table.add_row(
            ("● " if each is stays else "  ") + each.name,
            _moves(asked, each),
            _limits(each),
            each.confidence.value,
            f"{each.cost:.2f}{difference}",
            style=style,
        )
    return table


def _moves(asked: WhatIf, each: Candidate) -> str:
    space = asked.reader.space
    lines: list[str] = []
    for column, name in enumerate(space.names):
        now, path_K = space.now_U[column], each.targets_KU[:, column]
        then = [
            figure(to) + ("" if at == 0 else f" at {at:g} s")
            for at, to in zip(space.moves_s, path_K, strict=True)
        ]
        is_moved = bool((abs(path_K - now) > 1e-9).any())
        lines.append(f"{name} {figure(now)}" + (f" → {', '.join(then)}" if is_moved else " stays"))
    return "\n".join(lines)


def _limits(each: Candidate) -> str:
    return "\n".join(
        f"{forecast.tag} {'above' if forecast.limit_side == 'high' else 'below'} "
        f"{figure(forecast.limit)}: {percent(forecast.p_cross)}"
        for forecast in each.limits
    )


def _forecasts(asked: WhatIf, candidates: Sequence[Candidate], index: int, tag: Tag) -> Table:
    """Return what is expected of one tag at each horizon, with the 90 % band."""
    table = Table(title=f"{tag.name} in {tag.unit}: expected, and the 90 % band")
    table.add_column("plan")
    for horizon_s in asked.horizons_s:
        table.add_column(f"in {horizon_s:g} s", justify="right")
    for each in candidates:
        cells = [
            f"{figure(m)} ({figure(low)} to {figure(high)})"
            for low, m, high in zip(
                each.low_HG[:, index], each.median_HG[:, index], each.high_HG[:, index], strict=True
            )
        ]
        table.add_row(("● " if each.kind == "no change" else "  ") + each.name, *cells)
    return table
