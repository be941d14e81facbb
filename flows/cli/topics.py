"""``fusion topics``: create a plant's topics, hold those that exist to the plant file."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from flows import wiring
from flows.cli.plant import PlantFile, load_plant
from flows.settings import Settings
from flows.terminal import CONSOLE
from fusion.plant import TopicPlan, differences, plan_topics, topics_of
from fusion.plant.topics import policy_text, retention_text

app = typer.Typer(
    no_args_is_help=True, help="Create the topics of a plant, or compare them with its file."
)


@app.command()
def show(plant_file: PlantFile) -> None:
    """Show every topic of the plant: what it must be, and whether the broker has it so.

    Exit status 2 when a topic differs; one that is missing is created by the next command.
    """
    plant = load_plant(plant_file)
    wanted, found = topics_of(plant), wiring.found_topics(Settings.load(), plant)
    table = Table()
    for heading in ("topic", "partitions", "clean-up", "retention", "state"):
        table.add_column(heading, overflow="fold")
    for topic, spec in wanted.items():
        if topic not in found:
            state = "[yellow]missing[/yellow]"
        elif differing := differences(spec, found[topic]):
            state = f"[red]differs: {'; '.join(map(str, differing))}[/red]"
        else:
            state = "right"
        table.add_row(topic, str(spec.partitions), policy_text(spec), retention_text(spec), state)
    CONSOLE.print(table)
    plan_topics(wanted, found, update_configs=False)


@app.command()
def apply(
    plant_file: PlantFile,
    update: Annotated[
        bool,
        typer.Option("--update", help="Alter retention and largest message where they differ."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
) -> None:
    """Create the plant's topics that are missing, and verify the others.

    Exit status 2 when a topic differs in what must not change, or without --update at all.
    Shorter retention lets the broker delete older records at once: dry-run it first.
    """
    plant, settings = load_plant(plant_file), Settings.load()
    if dry_run:
        found = wiring.found_topics(settings, plant)
        _say(plan_topics(topics_of(plant), found, update_configs=update), done="would be ")
        return
    _say(wiring.prepare_topics(settings, plant, update_configs=update), done="")


def _say(plan: TopicPlan, *, done: str) -> None:
    for topic, spec in plan.missing.items():
        CONSOLE.print(
            f"{topic} {done}created: {spec.partitions} partition(s), {policy_text(spec)}, "
            f"{retention_text(spec)}"
        )
    for topic, spec in plan.altered.items():
        CONSOLE.print(f"{topic} {done}altered: retention {retention_text(spec)}")
    if not plan.missing and not plan.altered:
        CONSOLE.print("every topic is right; nothing to do")
