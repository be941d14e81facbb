"""``fusion dead-letters``: read what could not be used, and publish it again once mended."""

from __future__ import annotations

import datetime
from collections import Counter, deque
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from flows import wiring
from flows.cli.plant import PlantFile, load_plant
from flows.dead_letters import (
    DeadLetter,
    Verdict,
    judge,
    obstacle,
    read_dead_letter,
    read_dead_letters,
    replay_dead_letters,
)
from flows.gates import open_stored_gate
from flows.settings import Settings
from flows.terminal import CONSOLE, shown
from fusion.errors import DeadLetterReason, InputError

app = typer.Typer(
    no_args_is_help=True,
    help="List the records that could not be used, look at one, or publish them again.",
)
HEXDUMP_BYTES = 128
MAX_SHOWN_OBSTACLES = 20
Reason = Annotated[
    DeadLetterReason | None, typer.Option(help="Only those that were refused for this reason.")
]


@app.command("list")
def list_dead_letters(
    plant_file: PlantFile,
    reason: Reason = None,
    last: Annotated[int, typer.Option(help="Show the newest ones only.", min=1)] = 50,
) -> None:
    """Show the dead letters of a plant, oldest first, and how many there are by reason."""
    plant = load_plant(plant_file)
    counts: Counter[str] = Counter()
    num_replayed = 0
    newest: deque[tuple[str, ...]] = deque(maxlen=last)
    for found in read_dead_letters(plant, Settings.load()):
        counts[found.reason] += 1
        num_replayed += found.replayed_ns is not None
        if reason is None or found.reason == reason.value:
            newest.append(_row(found))
    if not counts:
        CONSOLE.print("there are no dead letters")
        return
    table = Table()
    for heading in ("at", "when (UTC)", "stream", "reason", "message", "came from", "replayed"):
        table.add_column(heading, overflow="fold")
    for row in newest:
        table.add_row(*(Text(shown(cell)) for cell in row))
    CONSOLE.print(table)
    by_reason = ", ".join(f"{shown(name)} {count}" for name, count in counts.most_common())
    CONSOLE.print(
        f"{counts.total()} dead letters ({by_reason}), {num_replayed} of them replayed",
        markup=False,
    )


@app.command()
def show(
    plant_file: PlantFile,
    offset: Annotated[int, typer.Argument(help="Its position, as `list` shows it under `at`.")],
) -> None:
    """Show all about one dead letter: why, its headers, its bytes, if it would be used now."""
    plant, settings = load_plant(plant_file), Settings.load()
    found = read_dead_letter(plant, settings, offset)
    for line in _describe(found):
        CONSOLE.print(line, markup=False, highlight=False)
    with open_stored_gate(plant, settings) as gate:
        why = obstacle(found, plant, gate, now_ns=wiring.open_clock().now_ns())
    verdict = "it would be used" if why is None else f"it would be refused again, {why.reason}: "
    CONSOLE.print(f"published now, {verdict}{'' if why is None else shown(str(why))}", markup=False)


@app.command()
def replay(
    plant_file: PlantFile,
    offsets: Annotated[
        list[int] | None, typer.Argument(metavar="[OFFSET]...", help="Positions, as `list` shows.")
    ] = None,
    reason: Reason = None,
    everything: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also those that would be refused again.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask when there are several.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
) -> None:
    """Publish refused records again, byte for byte, on the topic where they came from.

    Key, value and every header are as they came, with `replayed-from` beside them; only a header
    whose value is null gets an empty one.

    Those that would be refused again are left out, with the reason, and none is replayed twice. The
    live process answers as it does to any record: one whose tick is closed counts as late.
    """
    if (bool(offsets), reason is not None, everything).count(True) != 1:
        raise InputError(
            "what to replay must be said in one way: positions, --reason or --all; "
            "`fusion dead-letters list` shows what there is"
        )
    plant, settings = load_plant(plant_file), Settings.load()
    verdicts = judge(
        plant,
        settings,
        offsets=offsets or (),
        is_wanted=lambda found: everything or (reason is not None and found.reason == reason.value),
    )
    chosen = _choose(verdicts, force=force)
    if dry_run or not chosen:
        CONSOLE.print(f"{'would replay' if dry_run else 'replayed'} {len(chosen)} dead letters")
        return
    if len(chosen) > 1 and not yes:
        typer.confirm(f"publish {len(chosen)} records again?", abort=True)
    num_replayed = replay_dead_letters(plant, settings, chosen)
    CONSOLE.print(f"replayed {num_replayed} dead letters")


def _choose(verdicts: list[Verdict], *, force: bool) -> list[int]:
    """Return the positions to replay; say of the others why not."""
    chosen: list[int] = []
    left_out: list[str] = []
    for verdict in verdicts:
        if verdict.is_replayed:
            left_out.append(f"{verdict.offset}: replayed already")
        elif not verdict.is_replayable:
            left_out.append(f"{verdict.offset}: says no topic of this plant's senders")
        elif verdict.obstacle is not None and not force:
            left_out.append(f"{verdict.offset}: would be refused again, {shown(verdict.obstacle)}")
        else:
            chosen.append(verdict.offset)
    for line in left_out[:MAX_SHOWN_OBSTACLES]:
        CONSOLE.print(line, markup=False)
    if len(left_out) > MAX_SHOWN_OBSTACLES:
        CONSOLE.print(f"... and {len(left_out) - MAX_SHOWN_OBSTACLES} more are left out")
    return chosen


def _row(found: DeadLetter) -> tuple[str, ...]:
    return (
        str(found.offset),
        _time(found.letter.t_broker_ns),
        found.stream,
        found.reason,
        found.letter.headers.get("message", ""),
        _origin(found),
        "" if found.replayed_ns is None else _time(found.replayed_ns),
    )


def _describe(found: DeadLetter) -> Iterator[str]:
    letter = found.letter
    yield f"{letter.topic}/{letter.partition}/{letter.offset}, {_time(letter.t_broker_ns)} UTC"
    yield f"came from {shown(_origin(found))} with the key {shown(letter.key)!r}"
    yield f"{shown(found.reason)}: {shown(letter.headers.get('message', ''))}"
    if found.replayed_ns is not None:
        yield f"replayed {_time(found.replayed_ns)} UTC"
    yield "headers of the record:"
    headers = {} if found.refused is None else found.refused.headers
    yield from (f"  {shown(name)}: {shown(text)}" for name, text in sorted(headers.items()))
    yield f"{len(letter.value)} bytes:"
    yield from hexdump(letter.value[:HEXDUMP_BYTES])


def hexdump(content: bytes) -> list[str]:
    """Return lines of offset, sixteen bytes in hex, and what of them is ASCII.

    Example:
        >>> hexdump(bytes([0, 255]) + b"pump")
        ['  0000  00 ff 70 75 6d 70                                ..pump']
    """
    lines: list[str] = []
    for start in range(0, len(content), 16):
        row = content[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"  {start:04x}  {row.hex(' '):<47}  {text}")
    return lines


def _origin(found: DeadLetter) -> str:
    refused = found.refused
    return "unknown" if refused is None else f"{refused.topic}/{refused.partition}/{refused.offset}"


def _time(t_ns: int) -> str:
    moment = datetime.datetime.fromtimestamp(t_ns / 1e9, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S")
