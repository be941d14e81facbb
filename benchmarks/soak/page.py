"""What a soak run showed, as a page to read; every statement is worked out from its JSON."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks import machine
from benchmarks.soak.traffic import DELAY_S
from benchmarks.soak.watch import theil_sen

WARM_UP = 0.3
"""The part of the run after which memory and lag are called steady."""
MAX_GROWTH = 0.05
"""Memory may grow by this part of itself in an hour of plant time."""
MAX_LAG_GROWTH = 1.5
"""The last third of the steady time may be this many times as far behind as the first third."""
SLACK_S = 0.5
"""... or this much wall time further behind: samples catch the publisher anywhere in its breath."""

INTRODUCTION = """\
# Soak test: {minutes:g} minutes of plant time at {speed:g} times real time

Written by `make soak`; every sample is in [soak.json](soak.json). The signals are **simulated**:
the product's own rig with a microphone (16 kHz) and a camera (160 x 120, 6 Hz), its 16 tags widened
to 140 at 10 Hz. They go through a real Apache Kafka into the real live process (`fusion live`) with
a model trained for seconds: good for running, not for judging. Some records are sent twice, some
come {delay} s of event time late, some are unreadable, so that there is something to account for.

{machine}
"""


@dataclass(frozen=True, slots=True)
class Line:
    """Memory over wall time after the warm-up."""

    mb: float
    mb_per_s: float
    t_s: float
    speed: float

    @property
    def mb_per_hour(self) -> float:
        """The slope for an hour of plant time."""
        return self.mb_per_s * 3600 / self.speed

    def at(self, t_s: float) -> float:
        """Return the line's MB at ``t_s``."""
        return self.mb + self.mb_per_s * (t_s - self.t_s)


def steady(said: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the samples after the warm-up, while records were being sent."""
    sending = [sample for sample in said["samples"] if sample["is_sending"]]
    return sending[round(WARM_UP * len(sending)) :]


def memory_line(said: dict[str, Any]) -> Line:
    """Return the line through the memory after the warm-up (Theil-Sen)."""
    samples = steady(said)
    t_s = [sample["t_s"] for sample in samples]
    mb = [sample["rss_mb"] for sample in samples]
    return Line(median(mb), theil_sen(t_s, mb), median(t_s), said["speed"])


def page(said: dict[str, Any]) -> tuple[str, bool]:
    """Return the page (Markdown), and whether everything on it held."""
    checks = [_memory(said), _lag(said), *_accounts(said)]
    rows = [
        f"| {what} | {'yes' if holds else '**no**'} | {figures} |"
        for what, holds, figures in checks
    ]
    is_passed = all(holds for _, holds, _ in checks)
    parts = [
        INTRODUCTION.format(
            minutes=said["plant_minutes"],
            speed=said["speed"],
            delay=DELAY_S,
            machine=machine.as_markdown(said["machine"]),
        ),
        f"**Verdict: {'passed' if is_passed else 'not passed'}.**",
        "",
        "| must hold | holds | figures |",
        "|---|---|---|",
        *rows,
        "",
        "![Memory, lag and delay over time](soak.png)",
        "",
        "The committed offset is that of the oldest record which a restart needs to rebuild the",
        "model's window, so lag never falls to nothing: it must stay level, not vanish.",
        "",
        _sent(said),
        _outcomes(said),
    ]
    return "\n".join(parts), is_passed


Check = tuple[str, bool, str]


def _memory(said: dict[str, Any]) -> Check:
    line = memory_line(said)
    bound = MAX_GROWTH * line.mb
    return (
        f"memory after warm-up ({WARM_UP:.0%} of the run) grows by at most {MAX_GROWTH:.0%} in an "
        "hour of plant time",
        line.mb_per_hour <= bound,
        f"{line.mb_per_hour:+.1f} MB an hour at {line.mb:.0f} MB; bound {bound:.1f} MB an hour",
    )


def _lag(said: dict[str, Any]) -> Check:
    behind = [s["behind_s"] for s in steady(said) if s["behind_s"] is not None]
    third = max(1, len(behind) // 3)
    first, last = (median(part) if part else 0.0 for part in (behind[:third], behind[-third:]))
    return (
        "scores keep pace: the last third of the steady time is not further behind than the first",
        bool(behind) and last <= max(MAX_LAG_GROWTH * first, first + SLACK_S * said["speed"]),
        f"median {first:.1f} s of plant time behind in the first third, {last:.1f} s in the last "
        f"({last / said['speed']:.2f} s of wall time)",
    )


def _accounts(said: dict[str, Any]) -> list[Check]:
    outcomes, sent = said["outcomes"].values(), said["sent"]
    total = {name: sum(each[name] for each in outcomes) for name in next(iter(outcomes))}
    ends = total["scored"] + total["late"] + total["duplicate"] + total["dead_lettered"]
    broker = sum(said["on_broker"].values())
    return [
        (
            "read = scored + late + duplicate + dead-lettered",
            total["read"] == ends and total["pending"] == 0,
            f"{total['read']:,} = {total['scored']:,} + {total['late']:,} + "
            f"{total['duplicate']:,} + {total['dead_lettered']:,}; pending {total['pending']:,}",
        ),
        (
            "every record on the broker was read, and every one that was sent is there",
            total["read"] == broker == sent["records"],
            f"sent {sent['records']:,}, on the broker {broker:,}, read {total['read']:,}",
        ),
        _equal("duplicates are those that were sent twice", total["duplicate"], sent, "repeated"),
        _equal("late ones are those that were held back", total["late"], sent, "delayed"),
        _equal("dead letters are the unreadable ones", total["dead_lettered"], sent, "broken"),
        (
            "the live process ran to the end and stopped when asked",
            said["live_exit_status"] == 0,
            f"exit status {said['live_exit_status']}",
        ),
    ]


def _equal(what: str, got: int, sent: dict[str, int], kind: str) -> Check:
    return what, got == sent.get(kind, 0), f"{got:,} of {sent.get(kind, 0):,}"


def _sent(said: dict[str, Any]) -> str:
    sent, last = said["sent"], said["samples"][-1]
    sending = [sample for sample in said["samples"] if sample["is_sending"]]
    wall_s = sending[-1]["t_s"] - sending[0]["t_s"]
    cpu = (sending[-1]["cpu_s"] - sending[0]["cpu_s"]) / wall_s
    return (
        f"Sent in {wall_s:,.0f} s: {sent['samples']:,} telemetry samples "
        f"({sent['samples'] / wall_s:,.0f} a second), {sent['camera']:,} frames, "
        f"{sent['microphone']:,} chunks of sound, {sent['records']:,} records in all. "
        f"{last['num_scores']:,} ticks were scored before the stop. The live process took "
        f"{cpu:.0%} of one core.\n"
    )


def _outcomes(said: dict[str, Any]) -> str:
    rows = [
        "| topic | on the broker | read | scored | late | duplicate | dead-lettered |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {topic} | {said['on_broker'][topic]:,} | {each['read']:,} | {each['scored']:,} | "
            f"{each['late']:,} | {each['duplicate']:,} | {each['dead_lettered']:,} |"
            for topic, each in said["outcomes"].items()
        ),
    ]
    return "\n".join([*rows, ""])
