"""A machine whose clock is set while the product runs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from kafka.record.default_records import DefaultRecordBatchBuilder


class ClockStep(NamedTuple):
    """From ``after_s`` of its work on, the clock of a process's machine is ``offset_s`` ahead."""

    after_s: float
    offset_s: float


def step_clock(steps: Sequence[ClockStep]) -> None:
    """From now on let this process, its libraries too, read a clock that is set at ``steps``.

    As on a machine whose time service wakes up: time since the start of the machine
    (``time.monotonic``) goes on as ever.
    """
    began_s = time.monotonic()
    read_s, read_ns = time.time, time.time_ns

    def offset_s() -> float:
        age_s = time.monotonic() - began_s
        past = itertools.takewhile(lambda step: step.after_s <= age_s, steps)
        return next(iter(reversed(list(past))), ClockStep(0.0, 0.0)).offset_s

    def stepped_s() -> float:
        return read_s() + offset_s()

    def stepped_ns() -> int:
        return read_ns() + round(offset_s() * 1e9)

    time.time, time.time_ns = stepped_s, stepped_ns
    # The client has looked up the clock that stamps its messages before this process began.
    append: Any = DefaultRecordBatchBuilder.append
    assert read_s in append.__defaults__, "the client takes its time from elsewhere now"
    append.__defaults__ = tuple(
        stepped_s if default is read_s else default for default in append.__defaults__
    )
