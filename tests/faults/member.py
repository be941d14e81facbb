"""One live process of the campaign: the product's own, with a place at which it kills itself.

Started by the campaign as a process of its own. ``SIGKILL`` cannot be caught, so what follows is
what a pulled plug leaves behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from connectors.embedded_broker import EmbeddedPublisher
from connectors.kafka_io import KafkaPublisher, KafkaSource
from connectors.kafka_io import source as kafka_source
from flows.cli.plant import load_plant
from flows.live import open_live, run_live
from flows.rollout_watch import Watched
from flows.settings import Settings
from fusion.errors import BrokerUnavailableError, FencedError
from fusion.schema import Record
from fusion.stream import live as stream_live
from fusion.stream.shard import Shard
from tests.faults.clocks import ClockStep, step_clock

assert torch.get_num_threads() >= 1, "imported here, so that forked members need not"

PLACES = ("poll", "decode", "score", "produce", "commit", "committed")
"""Where a member kills itself: after each of these, ``commit`` being *before* the commit."""
DONE, FENCED, AWAY = 0, 3, 4
ASK_EVERY_S = 0.4


@dataclass(frozen=True)
class Orders:
    """What one member does."""

    settings: Settings
    plant_files: Sequence[Path]
    model_dir: Path
    kill_after: str | None = None
    kill_at_call: int = 1
    is_patient: bool = False
    """Waits for a broker that is away, as ``fusion live`` does; else it ends."""
    num_shards: int = 0
    """Comes to its end only while it owns so many partition numbers: others may be dead."""
    leave_after_s: float | None = None
    max_poll_records: int = 500
    """Of one poll; few make many moments to die in."""
    say_every_s: float = 0.2
    clock_steps: Sequence[ClockStep] = ()
    """When, after its first record, the clock of its machine is set, and to what."""
    log: Path | None = None
    steps: Path | None = None
    """Gets a line, the time, for every committed transaction."""


def run(orders: Orders) -> None:
    """Watch until everything is read, the order to die comes true, or it is time to leave."""
    if orders.log is not None:
        log = os.open(orders.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
    if orders.clock_steps:
        _step_clock_at_work(orders.clock_steps)
    kafka_source.MAX_POLL_RECORDS = orders.max_poll_records
    stream_live.SAY_EVERY_S = orders.say_every_s
    if orders.kill_after is not None:
        _kill_after(orders.kill_after, orders.kill_at_call)
    watched = [Watched(load_plant(path), orders.model_dir) for path in orders.plant_files]
    leave_s = None if orders.leave_after_s is None else time.monotonic() + orders.leave_after_s

    def should_stop() -> bool:
        return leave_s is not None and time.monotonic() > leave_s

    try:
        if orders.is_patient:
            _watch_patiently(watched, orders, should_stop)
        else:
            _watch(watched, orders, should_stop)
    except FencedError as fenced:
        sys.stdout.write(f"{fenced}\n")
        sys.exit(FENCED)
    except BrokerUnavailableError as away:
        sys.stdout.write(f"{away}\n")
        sys.exit(AWAY)
    # Threads of clients that wait for a dead broker would hold up an ordinary exit.
    sys.stdout.flush()
    os._exit(DONE)


def _watch(watched: Sequence[Watched], orders: Orders, should_stop: Callable[[], bool]) -> None:
    with contextlib.ExitStack() as stack:
        live = stack.enter_context(open_live(watched, orders.settings))
        path = orders.steps or Path(os.devnull)
        steps = stack.enter_context(path.open("a", encoding="utf-8"))
        is_time = _EveryNowAndThen()

        def may_end() -> bool:
            return len(live.shards) >= orders.num_shards and is_time()

        for step in run_live(live, should_stop=should_stop, may_end=may_end):
            steps.write(f"{time.monotonic():.3f} {step.num_records} {len(step.scores)}\n")
            steps.flush()


class _EveryNowAndThen:
    """Whether it is time to ask the broker again whether everything is read; it costs a while."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def __call__(self) -> bool:
        now_s = time.monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + ASK_EVERY_S
        return True


def _watch_patiently(
    watched: Sequence[Watched], orders: Orders, should_stop: Callable[[], bool]
) -> None:
    """Go on across times without a broker, until everything is read."""
    while not should_stop():
        try:
            _watch(watched, orders, should_stop)
        except BrokerUnavailableError as away:
            sys.stdout.write(f"{time.monotonic():.1f} {away}\n")
            sys.stdout.flush()
            time.sleep(0.5)
        else:
            return


def _step_clock_at_work(steps: Sequence[ClockStep]) -> None:
    """Arrange that the clock is set while there is something to do, not while libraries load."""
    poll = KafkaSource.poll

    def first_poll(self: KafkaSource, *, timeout_s: float) -> list[Record]:
        records = poll(self, timeout_s=timeout_s)
        if records:
            KafkaSource.poll = poll
            step_clock(steps)
        return records

    KafkaSource.poll = first_poll


def _kill_after(place: str, at_call: int) -> None:
    """Arrange that this process kills itself after the ``at_call``-th call of ``place``."""
    targets: dict[str, list[tuple[type, str]]] = {
        "poll": [(KafkaSource, "poll")],
        "decode": [(Shard, "take")],
        "score": [(Shard, "work")],
        "produce": [(KafkaPublisher, "_send"), (EmbeddedPublisher, "_insert")],
        "commit": [(KafkaPublisher, "_send_offsets")],
        "committed": [(KafkaPublisher, "publish"), (EmbeddedPublisher, "publish")],
    }
    calls = 0
    for owner, name in targets[place]:
        original: Any = getattr(owner, name)

        @wraps(original)
        def then_die(*args: Any, _original: Any = original, **kwargs: Any) -> Any:
            nonlocal calls
            result = _original(*args, **kwargs)
            # Empty polls and turns without records are not worth a death.
            counts = place not in {"poll", "decode"} or bool(result) or bool(args[1:] and args[1])
            calls += counts
            if calls >= at_call:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, then_die)
