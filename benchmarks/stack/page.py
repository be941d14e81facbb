"""The page of a run: the verdict first, then the figures that it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks import machine

MAX_SURPRISE_APART = 0.02
"""Both runs ask the same Triton, which batches otherwise the second time: the last bits differ."""
PARTS = 9


def verdicts(said: Mapping[str, Any]) -> dict[str, bool]:
    """Return what must hold, and whether it does."""
    reckoning = said["reckoning"]
    killed = {kill["part"] for kill in said["kills"]}
    outcomes = reckoning["outcomes"]
    used = outcomes["scored"] + outcomes["late"]
    return {
        f"every part was killed once and came back ({len(killed)} of {PARTS})": (
            len(killed) == PARTS
        ),
        f"every record that was sent is on the broker ({reckoning['sent']} sent)": (
            reckoning["on_broker"] - outcomes["duplicate"] == reckoning["sent"]
        ),
        f"every record on the broker was read ({reckoning['on_broker']}), none was lost": (
            outcomes["read"] == reckoning["on_broker"] and outcomes["lost"] == 0
        ),
        f"each counted once: {outcomes['scored']} scored, {outcomes['late']} late, "
        f"{outcomes['duplicate']} repeats of the spool, {outcomes['dead_lettered']} refused": (
            used == reckoning["sent"]
            and outcomes["dead_lettered"] == 0
            and outcomes["pending"] == 0
        ),
        f"the lake holds each record of the broker once ({reckoning['in_lake']})": (
            reckoning["in_lake"] == reckoning["on_broker"]
        ),
        f"no tick was scored twice ({reckoning['num_scores']} scores)": (
            reckoning["num_scores_twice"] == 0
        ),
        "the same ticks are scored as by a process that nobody killed, on the same records "
        f"(scores differ by at most {reckoning['max_surprise_apart']:.4f})": (
            reckoning["num_scores_apart"] == 0
            and reckoning["max_surprise_apart"] <= MAX_SURPRISE_APART
        ),
        f"the same alarms are raised as by that one ({reckoning['num_raised']}, "
        f"{reckoning['num_raised_apart']} apart)": reckoning["num_raised_apart"] == 0,
        f"the alarms' journal is one unbroken chain for each plant ({reckoning['journal_lines']} "
        f"lines), and PostgreSQL keeps all of it ({reckoning['journal_kept']})": (
            not reckoning["broken_links"]
            and reckoning["journal_kept"] == reckoning["journal_lines"]
        ),
    }


def page(said: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the page, and whether everything holds."""
    reckoning = said["reckoning"]
    held = verdicts(said)
    is_passed = all(held.values())
    lines = [
        "# The whole stack, one part after the other killed",
        "",
        f"`make stack` on one machine without containers: {said['plants']} simulated pump rigs in "
        f"real time for {said['minutes']:g} minutes, Apache Kafka, NVIDIA Triton, PostgreSQL, a "
        "Prefect server, Prometheus, and of the product `fusion live`, `ingest --every`, "
        "`console` and `alarms record --follow`. Every part is killed once with SIGKILL and "
        "started again 5 seconds later; a part of the product that ends by itself because "
        "something is away is started again, as a supervisor does.",
        "",
        machine.as_markdown(said["machine"]),
        "",
        f"**Verdict: {'passed' if is_passed else 'NOT passed'}.**",
        "",
        *(f"- {'✓' if is_so else '✗'} {what}" for what, is_so in held.items()),
        "",
        "![Lag, delay, latency and memory](stack.png)",
        "",
        "## What was killed",
        "",
        "| part | at s | answers again after s |",
        "|---|---|---|",
        *(
            f"| {k['part']} | {k['at_s']:.0f} | {k['back_s'] - k['at_s']:.0f} |"
            for k in said["kills"]
        ),
        "",
        "## Faults and alarms",
        "",
        "The model is trained for seconds, so this shows that the chain works, not how good a "
        "model can be ([evaluation](../evaluation.md)). Alarms and advisories count; from the "
        "onset of a fault, which then grows, to the first one.",
        "",
        "| plant | fault | first alarm after s | raised while well |",
        "|---|---|---|---|",
        *(_row(told) for told in reckoning["told"]),
        "",
        _said_by_prometheus(said),
        "",
    ]
    return "\n".join(lines), is_passed


def _row(told: Mapping[str, Any]) -> str:
    delay = "none" if told["delay_s"] is None else f"{told['delay_s']:.0f}"
    return f"| {told['plant']} | {told['fault']} | {delay} | {told['num_outside']} |"


def _said_by_prometheus(said: Mapping[str, Any]) -> str:
    def numbers(name: str) -> list[float]:
        series = said["samples"][name].values()
        return sorted(v for each in series for _, v in each if v == v)  # noqa: PLR0124 not NaN

    def middle(name: str) -> str:
        found = numbers(name)
        return f"{found[len(found) // 2]:.2f}" if found else "unknown"

    fired = ", ".join(said["firing"]) or "none"
    return (
        "By Prometheus, the middle of its samples: median latency of a score "
        f"{middle('p50_s')} s, 95 % {middle('p95_s')} s, {middle('scored_hz')} records scored a "
        f"second. Alerts that fired: {fired}."
    )
