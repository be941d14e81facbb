"""The page of a run: every row, and the two ratios that the product is held to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.inference.measuring import Measured
from benchmarks.machine import as_markdown

LOCAL, SERVED, UNBATCHED = "ONNX Runtime in process", "Triton", "Triton without batching"
EACH = "Triton, a request each"
MAX_EXTRA_MS = 2.0
MIN_GAIN = 3.0


def as_page(machine: dict[str, Any], found: Sequence[Measured], *, seconds: float) -> str:
    """Return the page in Markdown."""
    rows = "\n".join(
        f"| {each.contestant} | {each.concurrency} | {each.windows_per_s:.1f} | "
        f"{each.p50_ms:.1f} | {each.p95_ms:.1f} | {each.p99_ms:.1f} | {each.num_failed} |"
        for each in found
    )
    return f"""# Inference

Written by `make bench-inference`. {as_markdown(machine)}

A window is one tick encoded and one prediction made, of the standard model for the simulated
rig. *At once* is the number of plants that ask, each for one window after another; {seconds:g} s
are counted after a second of warm-up. Client and server share the cores. *Triton* is as `fusion
live` asks: what the threads of one client ask while a request is under way goes into its next
request; so it is with shared memory and with two instances of each network. *A request each* leaves
all batching to the server. *Bounded*: a request each, and the server's own queue has a bound with
REJECT.

| contestant | at once | windows/s | p50 ms | p95 ms | p99 ms | failed |
|---|---|---|---|---|---|---|
{rows}
{_failures(found)}
{_held_to(found)}
"""


def _failures(found: Sequence[Measured]) -> str:
    said = [
        f"{each.contestant}, {each.concurrency} at once, failed with: {each.last_failure}"
        for each in found
        if each.num_failed
    ]
    return "".join(f"\n{line}\n" for line in said)


def _held_to(found: Sequence[Measured]) -> str:
    by = {(each.contestant, each.concurrency): each for each in found}
    local, triton = by[LOCAL, 1], by[SERVED, 1]
    extra_ms = triton.p50_ms - local.p50_ms
    rows = by[f"{LOCAL}, 16 rows", 1].windows_per_s / local.windows_per_s
    many, alone = by[SERVED, 16], by[UNBATCHED, 16]
    gain, over_alone = (many.windows_per_s / each.windows_per_s for each in (triton, alone))
    server_alone = by[EACH, 16].windows_per_s / by[EACH, 1].windows_per_s
    return (
        f"- Through Triton a window takes {extra_ms:.1f} ms longer than in process (median, one "
        f"plant); the aim is {MAX_EXTRA_MS:g} ms: {_said(extra_ms <= MAX_EXTRA_MS)}.\n"
        f"- With 16 plants Triton scores {gain:.1f} times the windows of one plant, as `fusion "
        f"live` asks; the aim is {MIN_GAIN:g}: {_said(gain >= MIN_GAIN)}. Left to the server's own "
        f"batching it would be {server_alone:.1f} times: {_said(server_alone >= MIN_GAIN)}.\n"
        f"- 16 plants get {over_alone:.1f} times the windows that they get without any batching.\n"
        f"- In process, 16 rows in one call give {rows:.1f} times the windows of one row: the rest "
        "of a batch's gain is saved on the way, not in the network."
    )


def _said(is_held: bool) -> str:  # noqa: FBT001 what is said of it
    return "held" if is_held else "**missed**"
