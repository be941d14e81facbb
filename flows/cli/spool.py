"""``fusion spool show | send``: what waits on this machine because the broker was away."""

from __future__ import annotations

import contextlib
import datetime

import typer
from rich.progress import Progress
from rich.table import Table

from flows import wiring
from flows.settings import Settings
from flows.spool_files import spool_names
from flows.terminal import CONSOLE, progress_bar
from fusion.errors import BrokerUnavailableError, ObjectStoreUnavailableError
from fusion.ports import Publisher
from fusion.stream.spool import SpoolingPublisher

REFRESH_S = 0.5

app = typer.Typer(
    no_args_is_help=True, help="What waits on this machine because Kafka was away: show, send."
)


@app.command("show")
def show() -> None:
    """Show what waits for the broker, also while a sender runs. The next run sends it first."""
    settings = Settings.load()
    names = spool_names(settings)
    if not names:
        CONSOLE.print(f"no sender ever had to wait; spools would lie in {settings.spool_folder}")
        return
    table = Table("sender", "records", "MB", "oldest (UTC)")
    for name in names:
        num_records, num_bytes, oldest_ns = 0, 0, None
        with contextlib.closing(wiring.open_spool_source(settings, name)) as source:
            while records := source.poll(timeout_s=0):
                oldest_ns = oldest_ns or records[0].t_broker_ns
                num_records += len(records)
                num_bytes += sum(len(record.value) for record in records)
        table.add_row(name, str(num_records), f"{num_bytes / 1e6:.1f}", _utc(oldest_ns))
    CONSOLE.print(f"spools in {settings.spool_folder}:", table)


@app.command("send")
def send() -> None:
    """Send what waits to the broker and exit. Ctrl-C leaves the rest on disk."""
    settings = Settings.load()
    for name in spool_names(settings):
        with contextlib.closing(wiring.open_spool(settings, name)) as sender, progress_bar() as bar:
            CONSOLE.print(f"{name}: {sender.waiting_records} records wait")
            drain(sender, bar)


def drain(sender: Publisher, bar: Progress) -> None:
    """Return once everything that ``sender`` has taken is on the broker; Ctrl-C leaves the rest."""
    if not isinstance(sender, SpoolingPublisher) or sender.flush(0):
        return
    total = sender.waiting_records
    task = bar.add_task("waiting → broker", total=total, note="")
    try:
        while not sender.flush(REFRESH_S):
            note = f"records{waiting_note(sender)}; Ctrl-C leaves them on disk"
            bar.update(task, completed=total - sender.waiting_records, note=note)
    except KeyboardInterrupt:
        say_what_waits(sender)
        raise
    bar.update(task, completed=total, note="records, all on the broker")


def waiting_note(sender: Publisher) -> str:
    """Return how much waits on disk and why, for a progress line; empty when nothing does."""
    if not isinstance(sender, SpoolingPublisher) or not sender.waiting_records:
        return ""
    why = "being sent" if sender.last_error is None else "somebody has to mend something"
    if isinstance(sender.last_error, BrokerUnavailableError):
        why = "the broker is away"
    if isinstance(sender.last_error, ObjectStoreUnavailableError):
        why = "the object store is away"
    return f", {sender.waiting_bytes / 1e6:.1f} MB wait on disk ({why})"


def say_what_waits(sender: Publisher) -> None:
    """Tell a person what is still on disk, why, and how it goes on."""
    if not isinstance(sender, SpoolingPublisher) or not sender.waiting_records:
        return
    CONSOLE.print(
        f"{sender.waiting_records} records, {sender.waiting_bytes / 1e6:.1f} MB, wait on disk; the "
        "next run, or `fusion spool send`, sends them first"
        + (f"\n{sender.last_error}" if sender.last_error else ""),
        markup=False,
    )


def _utc(t_ns: int | None) -> str:
    if t_ns is None:
        return ""
    return datetime.datetime.fromtimestamp(t_ns / 1e9, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
