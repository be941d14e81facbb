"""What the edge reads, as a page; every statement is worked out from its JSON."""

from __future__ import annotations

from typing import Any

from benchmarks import machine

INTRODUCTION = """\
# How much one edge machine reads

Written by `make bench-edge`; all figures are in [edge.json](edge.json). The real `fusion edge run`
reads real peers and sends into a real Apache Kafka, all on the same cores, one part after another.
What the peers say is **simulated**: tags that all change every second, cameras that show a moving
test picture, microphones that hear pink noise. Values are numbered, so that each that arrives is
known to be the one that was sent; frames and samples are counted by their own times, and a frame or
chunk of each stream more or less is the window's edge. Nothing is counted until all has run for six
seconds.

{machine}
"""


def page(said: dict[str, Any]) -> str:
    """Return the page (Markdown)."""
    parts = said["parts"].values()
    return "\n".join(
        [
            INTRODUCTION.format(machine=machine.as_markdown(said["machine"])),
            "## What arrived",
            "",
            "| part | sent | arrived | missing | again | a second | delay p50, p99, ms |",
            "|---|---|---|---|---|---|---|",
            *(_arrived(part) for part in parts),
            "",
            "*Delay* is the broker's own stamp on a record less the newest event time in it.",
            "",
            "| part | measured | commit | load averages before |",
            "|---|---|---|---|",
            *(_measured(part) for part in parts),
            "",
            "## What it costs",
            "",
            "Cores are CPU seconds for a second; memory is the highest proportional set size.",
            "",
            "| part | edge: processes | cores | MB | peers: cores | MB | Kafka: cores | MB |",
            "|---|---|---|---|---|---|---|---|",
            *(_costs(part) for part in parts),
            "",
            "## What limits it",
            "",
            *(_limit(part) for part in parts),
            "",
            "Where a device's busiest process spends its time (py-spy, after the counted window):",
            "",
            *(line for part in parts for line in _profile(part)),
        ]
    )


def _arrived(part: dict[str, Any]) -> str:
    missing = part["num_sent"] - part["num_units"]
    delay = part["delay_ms"]
    return (
        f"| {part['title']} | {part['num_sent']:,} {part['unit']} | {part['num_units']:,} | "
        f"{missing:,} | {part['num_repeated']:,} | {part['num_units'] / part['wall_s']:,.0f} | "
        f"{delay['50']:,.0f}, {delay['99']:,.0f} |"
    )


def _measured(part: dict[str, Any]) -> str:
    on = part["machine"]
    loads = ", ".join(f"{load:g}" for load in on["load_before"])
    return f"| {part['title']} | {on['date']} | {on['commit']} | {loads} |"


def _costs(part: dict[str, Any]) -> str:
    edge, peers, broker = (part["used"][group] for group in ("edge", "peers", "broker"))
    return (
        f"| {part['title']} | {edge['num_processes']} | {edge['cores']:.2f} | "
        f"{edge['memory_mb']:,} | {peers['cores']:.2f} | {peers['memory_mb']:,} | "
        f"{broker['cores']:.2f} | {broker['memory_mb']:,} |"
    )


def _limit(part: dict[str, Any]) -> str:
    edge = part["used"]["edge"]["cores"]
    total = sum(group["cores"] for group in part["used"].values())
    per_core = part["num_units"] / part["wall_s"] / max(edge, 1e-3)
    busy = part["used"]["edge"].get("busiest_cores")
    one = "" if busy is None else f" The busiest device's process takes {busy:.2f} of one core."
    return (
        f"- **{part['title']}**: one core of the edge would read {per_core:,.0f} {part['unit']} a "
        f"second at this cost; edge, peers and Kafka together take {total:.2f} cores.{one}"
    )


def _profile(part: dict[str, Any]) -> list[str]:
    if not part["profile"]:
        return [f"**{part['title']}**: py-spy may not look at processes here.", ""]
    rows = [f"| {share:.0%} | {where} |" for where, share in part["profile"].items()]
    return [f"**{part['title']}**", "", "| share | where |", "|---|---|", *rows, ""]
