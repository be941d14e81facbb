"""The page of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.machine import as_markdown

MAX_P99_MS = 250.0


def as_page(machine: dict[str, Any], found: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    rows = "\n".join(
        f"| {name} | {each['num']} | {each['p50_ms']:.0f} | {each['p95_ms']:.0f} | "
        f"{each['p99_ms']:.0f} | {each['max_ms']:.0f} |"
        for name, each in (("score", found["scores"]), ("alarm event", found["alarms"]))
        if each is not None
    )
    cores = ", ".join(f"{name} {share:.2f}" for name, share in found["cores"].items())
    verdicts = "; ".join(
        f"{name} {each['p99_ms']:.0f} ms, {_verdict(each['p99_ms'])}"
        for name, each in (("alarm events", found["alarms"]), ("scores", found["scores"]))
        if each is not None
    )
    networks = "on a real Triton" if found["inference"] == "triton" else "in its process"
    return f"""# From the plant to the alarm

Written by `make bench-latency`. {as_markdown(machine)}

{found["plants"]} simulated rigs (telemetry, sound, video) send in real time for
{found["seconds"]:g} s to a real Apache Kafka; one `fusion live` watches all of them, and its
networks run {networks} ({found["num_parameters"]:,} parameters, windows of
{found["window_ticks"]} ticks). Senders, broker, networks, the live process and the reader share the
cores.

The clock of a tick starts when the record is handed to the sender's client that moves the last
stream's watermark over the tick's end, and stops when another process, which reads committed
records only, has the tick's score, or the alarm's event. So it holds the way to the broker,
alignment, features, both networks, scoring, alarms, the transaction, and the way to the reader. The
first 20 s are left out.

| in hand | number | p50 ms | p95 ms | p99 ms | highest ms |
|---|---|---|---|---|---|
{rows}

Cores taken: {cores}. The aim is a p99 below {MAX_P99_MS:g} ms from the watermark to the alarm:
{verdicts}.
An alarm is published at once; scores that raise none wait for company, a tenth of a second at most.
"""


def _verdict(p99_ms: float) -> str:
    return "held" if p99_ms < MAX_P99_MS else "**missed**"
