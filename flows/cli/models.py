"""``fusion models list | show | compare | promote | rollback``: which version watches a plant."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows.cli import signing
from flows.cli.model_tables import (
    manifest_table,
    manifests_table,
    seen_table,
    step_line,
    versions_table,
)
from flows.cli.plant import PlantFile, load_plant
from flows.models import models_of
from flows.registry import follow_journal, where_from
from flows.rollout import CANARY_SHARE, model_named, promote, rollback
from flows.rollout_journal import journal_of
from flows.rollout_seen import read_seen
from flows.settings import Settings
from flows.terminal import CONSOLE
from fusion.errors import InputError, TrackingUnavailableError
from fusion.manifest import load_manifest
from fusion.plant import Plant
from fusion.rollout.states import Entry

ME = getpass.getuser()

app = typer.Typer(
    no_args_is_help=True,
    help="Model versions of a plant: list, show, compare, promote one, roll it back.\n\n"
    "A new version is loaded beside the one in service, probed against its golden windows, runs in "
    "shadow, then as a canary on some of the assets, then as the champion. `fusion live` takes a "
    "version back by itself when it breaks a rule (docs/serving.md).",
)

Version = Annotated[str, typer.Argument(help="A version, as `fusion models list` names it.")]
Who = Annotated[str, typer.Option(help="Your name, for the journal.")]
Why = Annotated[str, typer.Option(help="Your reason, for the journal.", prompt=True)]


@app.command("list")
def list_models(plant_file: PlantFile) -> None:
    """Show every version of the plant, what it does now, and the last steps of the journal."""
    plant, settings = load_plant(plant_file), Settings.load()
    journal = journal_of(settings, plant)
    state, entries = journal.state(), journal.entries()
    manifests = [load_manifest(path) for path in models_of(settings, plant)]
    CONSOLE.print(versions_table(manifests, state, entries))
    CONSOLE.print(state.told())
    _tell(entries[-5:])


@app.command()
def show(plant_file: PlantFile, version: Version) -> None:
    """Show what a version is, where it came from, and every step that it took.

    From the version that an alarm names one gets to the run that made it, the version of the lake
    that it was made of, and the plant file as it was then.
    """
    plant, settings = load_plant(plant_file), Settings.load()
    manifest = load_manifest(model_named(settings, plant, version))
    CONSOLE.print(manifest_table(manifest))
    _show_chain(settings, plant, version)
    _tell([e for e in journal_of(settings, plant).entries() if e.version == version])


@app.command()
def compare(
    plant_file: PlantFile,
    version: Version,
    other: Annotated[
        str | None, typer.Argument(help="Another version; default: the champion.")
    ] = None,
) -> None:
    """Show two versions side by side: what they are, and what both did on the stream.

    A live process tells the second every few seconds, for each role in which one was beside the
    other: shadow, canary, champion.
    """
    plant, settings = load_plant(plant_file), Settings.load()
    journal = journal_of(settings, plant)
    beside = other or journal.state().champion
    if beside is None or beside == version:
        why = "there is no champion yet" if beside is None else "it is the champion"
        raise InputError(f"{version} must be compared with another version ({why}); name one")
    names = (version, beside)
    manifests = [load_manifest(model_named(settings, plant, name)) for name in names]
    CONSOLE.print(manifests_table(manifests))
    entries = {entry.revision: entry for entry in journal.entries()}
    told = [each for each in read_seen(settings, plant) if set(names) <= each.seen.keys()]
    for each in told:
        CONSOLE.print(seen_table(each, names, entries))
    if not told:
        CONSOLE.print("they have not scored the same stream yet: `fusion models promote`")
    _tell([entry for entry in entries.values() if entry.version == version][-3:])


@app.command("promote")
def promote_version(
    plant_file: Annotated[
        list[Path], typer.Argument(metavar="PLANT...", help="All plant files of the prefix.")
    ],
    version: Annotated[str, typer.Option(help="As `fusion models list` names it.")],
    why: Why,
    who: Who = ME,
    share: Annotated[
        float, typer.Option(help="Share of the assets for a canary.", min=0.0, max=1.0)
    ] = CANARY_SHARE,
    to_champion: Annotated[
        bool, typer.Option("--to-champion", help="From shadow into service at once.")
    ] = False,
) -> None:
    """Take a version one stage further: into shadow, then canary, then champion.

    A version whose manifest does not match the plant, or that does not answer its golden windows,
    is refused. `fusion live` follows within about a second, and no window is lost or scored twice.

    Example: [bold]fusion models promote plants/rig.yaml --version 20261126T101500-standard --why
    "skill 0.1 better"[/bold]
    """
    plants = [load_plant(path) for path in plant_file]
    state = promote(
        Settings.load(), plants, version, who=who, why=why, share=share, to_champion=to_champion
    )
    CONSOLE.print(state.told())
    _tell_registry(Settings.load(), plants[0])


@app.command("rollback")
def rollback_version(plant_file: PlantFile, why: Why, who: Who = ME) -> None:
    """Take the challenger back; without one, the champion of late: the former one serves again."""
    settings, plant = Settings.load(), load_plant(plant_file)
    CONSOLE.print(rollback(settings, plant, who=who, why=why).told())
    _tell_registry(settings, plant)


def _tell_registry(settings: Settings, plant: Plant) -> None:
    """Let MLflow's aliases follow; the journal holds, whatever becomes of them."""
    try:
        follow_journal(settings, plant)
    except TrackingUnavailableError as away:
        CONSOLE.print(f"the registry will follow later (flow advance-rollout): {away}")


def _show_chain(settings: Settings, plant: Plant, version: str) -> None:
    """Show model → run → data → plant file, as far as each is kept."""
    chain = Table("model", version, show_header=True)
    manifest = load_manifest(model_named(settings, plant, version))
    try:
        made = where_from(settings, plant, version)
    except TrackingUnavailableError as away:
        CONSOLE.print(f"who made it cannot be asked now: {away}")
        made = None
    if made is not None:
        aliases = f" ({', '.join(made.aliases)})" if made.aliases else ""
        chain.add_row("run in MLflow", f"{made.run_id} {made.run_name} {made.status}{aliases}")
        for name in ("reason", "gate", "examination", "retraining"):
            if name in made.tags:
                chain.add_row(name, made.tags[name])
    chain.add_row("data version", manifest.data_version)
    chain.add_row("code version", manifest.code_version)
    if made is not None and "plant_file" in made.tags:
        sha = made.tags.get("plant_file_sha256", "")
        told = f"{made.tags['plant_file']} (sha256 {sha[:12]}…; kept in the run: asked/plant.yaml)"
        chain.add_row("plant file", told)
    is_same = manifest.plant_fingerprint == plant.fingerprint()
    now = "as it is now" if is_same else "it was changed since"
    chain.add_row("plant fingerprint", f"{manifest.plant_fingerprint[:12]}… ({now})")
    CONSOLE.print(chain)


def _tell(entries: Sequence[Entry]) -> None:
    for entry in entries:
        CONSOLE.print(step_line(entry), highlight=False, markup=False)


app.command("keygen")(signing.keygen)
app.command("sign")(signing.sign)
app.command("verify")(signing.verify)
