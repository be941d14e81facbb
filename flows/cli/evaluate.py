"""``fusion evaluate``: the product on a public benchmark, by its official rules."""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.evaluation_page import Evaluation, as_json, as_markdown
from flows.learn import code_version
from flows.terminal import CONSOLE, progress_bar
from fusion.errors import InputError
from fusion.evaluation import PROTOCOLS
from fusion.evaluation.protocol import OURS, WHOLE, Figure, Protocol, Published, Summary
from fusion.training import Recipe, recipe_named

RECIPE = "standard"


def evaluate(
    protocol: Annotated[str, typer.Argument(help=f"One of {', '.join(PROTOCOLS)}.")],
    directory: Annotated[
        Path, typer.Argument(help="Folder of recordings; docs/evaluation.md shows the layout.")
    ],
    seeds: Annotated[int, typer.Option(min=1, help="How many trainings; spread needs 3.")] = 3,
    first_seed: Annotated[int, typer.Option(help="Seeds count up from here.")] = 0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Instead of the recipe's number; to try it out.")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads for training; fewer than cores if others work.")
    ] = os.cpu_count() or 1,
    out: Annotated[
        Path, typer.Option(help="Folder for the figures: one JSON and one page each time.")
    ] = Path("out/evaluations"),
) -> None:
    """Train and test on a benchmark by its official rules; print mean and spread over seeds.

    Every set gets the same recipe: only the tick and the list of channels differ. No test label is
    used for any choice. Beside our figures stand baselines measured in the same run and what was
    published for the whole set.

    Example: fusion evaluate tep ../shared/data --seeds 3
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"a protocol must be one of {sorted(PROTOCOLS)}, got {protocol!r}")
    if not directory.is_dir():
        raise InputError(f"the directory of recordings must exist, {directory} does not")
    chosen, recipe = PROTOCOLS[protocol], recipe_named(RECIPE, steps=steps, threads=threads)
    began_s = time.monotonic()

    def keep(figures: Sequence[Figure], unfinished: str | None) -> Evaluation:
        made = Evaluation(
            protocol=chosen.name,
            title=chosen.title,
            rules=chosen.rules,
            headline=chosen.headline,
            published=chosen.published,
            recipe=recipe.model_dump(mode="json"),
            machine=_machine(),
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
            minutes=(time.monotonic() - began_s) / 60,
            figures=tuple(figures),
            unfinished=unfinished,
        )
        out.mkdir(parents=True, exist_ok=True)
        for suffix, text in ((".json", as_json(made)), (".md", as_markdown(made))):
            beside = out / f"{chosen.name}{suffix}.part"
            beside.write_text(text, encoding="utf-8")
            beside.replace(out / f"{chosen.name}{suffix}")
        return made

    made = _measure(chosen, directory, range(first_seed, first_seed + seeds), recipe, keep)
    CONSOLE.print(_table(made.summaries(), chosen))
    CONSOLE.print(f"{made.minutes:.1f} min; figures of every part in {out / chosen.name}.md")


def _machine() -> str:
    """Return what it was measured with: never the machine's name or paths."""
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, torch "
        f"{version('torch')}, product {code_version()}"
    )


def _measure(
    protocol: Protocol,
    directory: Path,
    seeds: Sequence[int],
    recipe: Recipe,
    keep: Callable[[Sequence[Figure], str | None], Evaluation],
) -> Evaluation:
    """Return the evaluation; what is known so far is kept with every figure: it can take hours."""
    figures: list[Figure] = []
    with progress_bar() as bar:
        for number, seed in enumerate(seeds):
            task = bar.add_task(f"{protocol.name}, seed {seed}", total=100, note="")

            def say(what: str, done: float, task: int = task) -> None:
                bar.update(bar.tasks[task].id, completed=round(100 * done), note=escape(what))

            for each in protocol.run(directory, seed=seed, recipe=recipe, say=say):
                # What nothing was drawn for is the same with every seed: once is enough.
                if number == 0 or each.seed is not None:
                    figures.append(each)
                    keep(figures, f"seed {seed}, number {number + 1} of {len(seeds)}")
            bar.update(bar.tasks[task].id, completed=100, note="")
    return keep(figures, None)


def _table(summaries: Sequence[Summary], protocol: Protocol) -> Table:
    """Return the figures of the whole set: ours, baselines of the same run, then published ones."""
    whole = [s for s in summaries if s.part == WHOLE]
    metrics = list(dict.fromkeys([*protocol.headline, *(s.metric for s in whole)]))
    table = Table("method", *metrics, title=protocol.title)
    for method in dict.fromkeys(s.method for s in whole):
        shown = {s.metric: _shown(s) for s in whole if s.method == method}
        style = "bold" if method == OURS else ""
        table.add_row(escape(method), *(shown.get(metric, "") for metric in metrics), style=style)
    published: dict[str, list[Published]] = {}
    for each in protocol.published:
        published.setdefault(each.method, []).append(each)
    for method, known in published.items():
        shown = {each.metric: f"{each.value:.3f}" for each in known}
        cells = (shown.get(metric, "") for metric in metrics)
        table.add_row(escape(f"{method} (published, whole set)"), *cells, style="dim")
    return table


def _shown(summary: Summary) -> str:
    if summary.num_seeds == 1:
        return f"{summary.mean:.3f}"
    return f"{summary.mean:.3f} ± {summary.spread:.3f}"
