"""``fusion lake``: what is in the lake, and its upkeep."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer
from rich.table import Table

from flows import wiring
from flows.lake import Named, named_versions
from flows.settings import Settings
from flows.stopping import stop_on_signals
from flows.terminal import CONSOLE, progress_bar, shown
from fusion.errors import InputError
from fusion.plant import NANOSECONDS
from fusion.upkeep import LakeUpkeep, TopicHolding, Vacuum, format_lake_version

app = typer.Typer(
    no_args_is_help=True,
    help="Show what is in the lake; join its small files; remove old records and unneeded files.",
)
STOPPED = 130
MAX_SHOWN_NAMES = 3
Topics = Annotated[
    list[str] | None, typer.Argument(metavar="TOPIC", help="Instead of every topic.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def show(topics: Topics = None) -> None:
    """Show what the lake holds now; for named topics, by partition and by stream."""
    settings = Settings.load()
    lake = wiring.open_lake_upkeep(settings)
    holdings = [lake.holding(topic) for topic in _chosen(lake, topics)]
    if not holdings:
        CONSOLE.print(f"the lake {settings.lake_uri} holds nothing yet; `fusion ingest` fills it")
        return
    for table in map(_partition_table, holdings) if topics else [_topic_table(holdings)]:
        CONSOLE.print(table)
    for topic in topics or ():
        streams = ", ".join(
            f"{shown(name) or 'without a stream'} {count}"
            for name, count in lake.streams(topic).items()
        )
        CONSOLE.print(f"streams of {topic}: {streams}", markup=False, highlight=False)
    version = format_lake_version({each.topic: each.version for each in holdings})
    CONSOLE.print(f"as a data version: {version}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def versions(
    topic: Annotated[str, typer.Argument(help="A topic of the lake, as `show` names it.")],
    last: Annotated[int, typer.Option(help="Show the newest ones only.", min=1)] = 20,
) -> None:
    """Show the versions of a topic, newest first: what made them, what reads and names them."""
    settings = Settings.load()
    found = wiring.open_lake_upkeep(settings).versions(topic, last=last)
    named = named_versions(settings).get(topic, {})
    table = Table()
    for heading in ("version", "made (UTC)", "by", "records", "named by"):
        table.add_column(heading, overflow="fold")
    for each in found:
        table.add_row(
            f"{topic}@{each.version}",
            _time(each.t_ns),
            each.what,
            "cannot be read any more" if each.num_records is None else str(each.num_records),
            _names(named.get(each.version, ())),
        )
    CONSOLE.print(table)


@app.command()
def compact(
    topics: Topics = None,
    target_mb: Annotated[
        int, typer.Option(help="Size of the new files. One per partition is in a reader's memory.")
    ] = 32,
    dry_run: DryRun = False,
) -> None:
    """Write neighbouring small files anew as larger ones; no version reads differently.

    Appends and readers go on meanwhile. The old files stay until `vacuum`. Ctrl-C stops it after
    the file being written; what is done stays.
    """
    if target_mb < 1:
        raise InputError(f"files of at least 1 MB can be made, got --target-mb {target_mb}")
    lake = wiring.open_lake_upkeep(Settings.load())
    with stop_on_signals() as should_stop, progress_bar() as bar:
        for topic in _chosen(lake, topics):
            task = bar.add_task(topic, total=None, note="files joined")
            done = lake.compact(
                topic,
                target_bytes=target_mb * 1_000_000,
                is_dry_run=dry_run,
                on_step=lambda at, of, task=task: bar.update(task, completed=at, total=of),
                should_stop=should_stop,
            )
            bar.remove_task(task)
            CONSOLE.print(
                f"{topic}: {done.num_files_before} files {'would be ' if dry_run else ''}joined to "
                f"{done.num_files_after}, {done.num_bytes / 1e6:.1f} MB"
                if done.num_files_before
                else f"{topic}: nothing to join"
            )
            if done.is_stopped:
                CONSOLE.print("stopped; what is joined stays, and no record was touched")
                raise typer.Exit(STOPPED)


@app.command()
def expire(
    older_than_hours: Annotated[
        float, typer.Option(help="Age of the records, by the broker's time.", min=0)
    ],
    topics: Topics = None,
    everything: Annotated[bool, typer.Option("--all", help="Of every topic.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove old records from the newest version, for good: they are not ingested again.

    Versions from before still read them until `vacuum` removes their files.
    """
    if bool(topics) == everything:
        raise InputError(
            "what may expire must be said in one way, topics or --all; `fusion lake show` names "
            "the topics"
        )
    settings = Settings.load()
    lake = wiring.open_lake_upkeep(settings)
    now_ns = wiring.open_clock().now_ns()
    before_ns = now_ns - round(older_than_hours * 3600 * NANOSECONDS)
    older: list[str] = []
    for topic in _chosen(lake, topics):
        would = lake.expire(topic, before_ns=before_ns, is_dry_run=True)
        CONSOLE.print(
            f"{topic}: {would.num_records} records from before {_time(before_ns)} UTC, "
            f"{would.num_left} younger ones stay"
        )
        if would.num_records:
            older.append(topic)
    if dry_run or not older:
        return
    if not yes:
        typer.confirm("remove them?", abort=True)
    with progress_bar() as bar:
        for topic in older:
            task = bar.add_task(topic, total=None, note="files with younger records")
            done = lake.expire(
                topic,
                before_ns=before_ns,
                on_step=lambda at, of, task=task: bar.update(task, completed=at, total=of),
            )
            bar.remove_task(task)
            CONSOLE.print(f"{topic}: removed {done.num_records} records")


@app.command()
def vacuum(
    topics: Topics = None,
    keep_hours: Annotated[
        int, typer.Option(help="Every version of the last hours stays readable.", min=1)
    ] = 7 * 24,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Versions that stay too, such as rig.audio@3; those of models do."),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove files from the disk that only old versions need, and those that a crash has left.

    Versions that a model's manifest or --keep names stay readable, and so do younger ones.
    """
    settings = Settings.load()
    lake = wiring.open_lake_upkeep(settings)
    named = named_versions(settings, keep or ())
    chosen = _chosen(lake, topics)
    would = [
        lake.vacuum(
            topic, keep_hours=keep_hours, named=tuple(named.get(topic, ())), is_dry_run=True
        )
        for topic in chosen
    ]
    for topic, each in zip(chosen, would, strict=True):
        CONSOLE.print(
            f"{topic}: {each.num_files} files, {each.num_bytes / 1e6:.1f} MB, that nothing needs"
        )
        _say_kept(topic, each, named.get(topic, {}), keep_hours)
    unneeded = [topic for topic, each in zip(chosen, would, strict=True) if each.num_files]
    if dry_run or not unneeded:
        return
    if not yes:
        typer.confirm("remove them?", abort=True)
    for topic in unneeded:
        with CONSOLE.status(f"{topic}: removing files"):
            done = lake.vacuum(topic, keep_hours=keep_hours, named=tuple(named.get(topic, ())))
        CONSOLE.print(f"{topic}: removed {done.num_files} files, {done.num_bytes / 1e6:.1f} MB")


def _chosen(lake: LakeUpkeep, topics: Sequence[str] | None) -> list[str]:
    return list(dict.fromkeys(topics)) if topics else lake.topics()


def _topic_table(holdings: Iterable[TopicHolding]) -> Table:
    table = _table("topic", "records", "MB", "files", "missing")
    for each in holdings:
        parts = each.partitions
        table.add_row(
            each.topic,
            str(sum(part.num_records for part in parts)),
            f"{sum(part.num_bytes for part in parts) / 1e6:.1f}",
            str(sum(part.num_files for part in parts)),
            str(sum(part.num_missing for part in parts)),
            _time(min((p.t_first_ns for p in parts if p.t_first_ns is not None), default=None)),
            _time(max((p.t_last_ns for p in parts if p.t_last_ns is not None), default=None)),
        )
    return table


def _partition_table(holding: TopicHolding) -> Table:
    table = _table("part", "records", "MB", "files", "offsets", "missing")
    table.title = holding.topic
    for part in holding.partitions:
        table.add_row(
            str(part.partition),
            str(part.num_records),
            f"{part.num_bytes / 1e6:.1f}",
            str(part.num_files),
            f"none, {part.next_offset} is next"
            if part.first_offset is None
            else f"{part.first_offset} to {part.last_offset}",
            str(part.num_missing),
            _time(part.t_first_ns),
            _time(part.t_last_ns),
        )
    return table


def _table(*headings: str) -> Table:
    table = Table()
    for number, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", justify="right" if number else "left")
    for heading in ("oldest (UTC)", "newest (UTC)"):
        table.add_column(heading, overflow="fold", min_width=len("2026-11-25"))
    return table


def _say_kept(topic: str, found: Vacuum, named: Named, keep_hours: int) -> None:
    lines = [f"kept: {topic}@{found.oldest_kept} and later, the last {keep_hours} hours"]
    lines += [f"kept: {topic}@{n}, {_names(named[n])}" for n in found.named_kept]
    lines += [
        f"not known: {topic}@{n}, {_names(named[n])}; this lake never had it"
        for n in found.named_unknown
    ]
    for line in lines:
        CONSOLE.print(f"  {line}", markup=False, highlight=False)


def _names(names: Sequence[str]) -> str:
    more = len(names) - MAX_SHOWN_NAMES
    return ", ".join(names[:MAX_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def _time(t_ns: int | None) -> str:
    if t_ns is None:
        return ""
    moment = datetime.datetime.fromtimestamp(t_ns / 1e9, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S")
