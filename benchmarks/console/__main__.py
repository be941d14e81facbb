"""Many tabs, many updates: how late each is shown, and what that costs.

    python -m benchmarks.console --tabs 200 --updates-per-s 500 --seconds 20

The console runs in a process of its own over the embedded broker; tabs are bare connections that
read the stream of the list of alarms. Delay: from just before an update is published to when a tab
has read the row. Updates that a newer one of the same alarm overtakes inside the pace of the stream
are, by design, never sent; they are counted as overtaken.

All tabs live in one process: it reads everything, and looks for rows in what every tenth tab gets,
so that the load does not measure itself. What each tab counts at the end is looked at in all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import re
import socket
import tempfile
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.console.serving import serve
from benchmarks.machine import as_markdown, describe
from console.accounts import Accounts
from console.rights import Grant, Role
from flows import wiring
from flows.cli.plant import load_plant
from flows.settings import Settings
from fusion.plant import Plant
from fusion.schema import AlarmState, Condition, Message

PLANT_FILE = Path(__file__).parents[2] / "plants" / "rig.yaml"
NUM_ALARMS = 300
LOOKED_AT = 10
"""Of so many tabs one is looked at."""
BURSTS_PER_S = 20
PASSWORD = "bench bench bench"
_STAMP = re.compile(rb'data-since=\\"(\d+)\\"')


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured; delays in ms, memory in MB."""

    tabs: int
    updates_per_s: float
    seconds: float
    num_rows: int
    """Rows in what the tabs that are looked at have read."""
    delay_p50: float
    delay_p99: float
    delay_max: float
    overtaken_share: float
    server_mb: float
    server_mb_before: float
    server_cores: float
    mb_per_s: float
    """Sent to all tabs together."""
    num_wrong_counts: int
    """Tabs whose counts still differ from what was published half a minute after the last."""


class Tab:
    """One browser's stream."""

    def __init__(self, *, is_looked_at: bool) -> None:
        self.delays_ms: list[float] = []
        self.is_first = True
        self.num_bytes = 0
        self._is_looked_at = is_looked_at
        self._last = b""

    @property
    def num_unacknowledged(self) -> int:
        """What the tab counts now."""
        counted = self._last.partition(b'"counts": ')[2].partition(b"}")[0] + b"}"
        return json.loads(counted)["unacknowledged"]

    async def read(self, port: int, cookie: str) -> None:
        """Read until it is cancelled or the console ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
        asked = f"GET /stream?rows=1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookie}"
        writer.write(f"{asked}\r\nAccept-Encoding: gzip\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"content-encoding: gzip" in head.lower(), head
            inflate, text = zlib.decompressobj(wbits=31), b""
            while size := int(await reader.readline(), 16):
                chunk = (await reader.readexactly(size + 2))[:-2]
                self.num_bytes += size
                text += inflate.decompress(chunk)
                *whole, text = text.split(b"\n\n")
                for message in whole:
                    self._take(message)
        writer.close()

    def _take(self, line: bytes) -> None:
        now_ns = time.time_ns()
        if self._is_looked_at and not self.is_first:
            self.delays_ms += [(now_ns - int(s)) / 1e6 for s in _STAMP.findall(line)]
        self.is_first = False
        self._last = line


def main() -> None:
    """Measure; print the result as JSON, and write the page where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tabs", type=int, default=200)
    parser.add_argument("--updates-per-s", type=float, default=500)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--out", type=Path, help="page (Markdown) to write, with JSON beside it")
    chosen = parser.parse_args()
    machine = describe()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), chosen.tabs, chosen.updates_per_s, chosen.seconds)
    text = json.dumps({"machine": machine, **asdict(result)}, indent=1)
    print(text)
    if chosen.out is not None:
        chosen.out.write_text(as_page(machine, result), encoding="utf-8")
        chosen.out.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def as_page(machine: dict[str, Any], found: Result) -> str:
    """Return the page of docs/benchmarks."""
    return f"""# How many tabs one console bears

Written by `make bench-console`; the figures are in [console.json](console.json).

{as_markdown(machine)}

{found.tabs} tabs read the list of alarms while {found.updates_per_s:g} updates a second of
{NUM_ALARMS} alarms are published for {found.seconds:g} s. Console, embedded broker, the sender and
all tabs share the cores. Delay: from just before an update is published to when a tab has read its
row.

| figure | value |
|---|---|
| delay, median | {found.delay_p50:.0f} ms |
| delay, p99 | {found.delay_p99:.0f} ms |
| delay, longest | {found.delay_max:.0f} ms |
| rows looked at (every tenth tab) | {found.num_rows:,} |
| updates overtaken by a newer one of the same alarm | {found.overtaken_share:.0%} |
| sent to all tabs together | {found.mb_per_s:.0f} MB/s |
| the console's share of a core | {found.server_cores:.2f} |
| its memory, before and after | {found.server_mb_before:.0f} MB, {found.server_mb:.0f} MB |
| tabs with a wrong count at the end | {found.num_wrong_counts} |

At most every 0.2 s a tab is told something; an update that is overtaken by then is never sent.
"""


def measure(folder: Path, num_tabs: int, updates_per_s: float, seconds: float) -> Result:
    """Return what ``num_tabs`` tabs of one console saw of so many updates."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(data_dir=folder, console_address=f"127.0.0.1:{port}")
    plant = load_plant(PLANT_FILE)
    wiring.prepare_topics(settings, plant)
    with contextlib.closing(
        Accounts(settings.console_database_url, wiring.open_clock())
    ) as accounts:
        accounts.add_person("bench", PASSWORD, [Grant(Role.OPERATOR)])
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(plant, settings))
    process.start()
    try:
        cookie = _log_in(port)
        server = psutil.Process(process.pid)
        before_mb, before = server.memory_info().rss / 1e6, server.cpu_times()
        begun_s = time.monotonic()
        tabs, last, num_sent = asyncio.run(
            _load(plant, settings, port, cookie, num_tabs, updates_per_s, seconds)
        )
        after = server.cpu_times()
        passed_s = time.monotonic() - begun_s
        cores = (after.user + after.system - before.user - before.system) / passed_s
        after_mb = server.memory_info().rss / 1e6
    finally:
        process.terminate()
        process.join()
    delays_ms = np.concatenate([tab.delays_ms for tab in tabs])
    wanted = sum(not state.is_acknowledged for state in last.values())
    num_looked_at = len(tabs[::LOOKED_AT])
    return Result(
        tabs=num_tabs,
        updates_per_s=num_sent / seconds,
        seconds=seconds,
        num_rows=len(delays_ms),
        delay_p50=round(float(np.percentile(delays_ms, 50)), 1),
        delay_p99=round(float(np.percentile(delays_ms, 99)), 1),
        delay_max=round(float(delays_ms.max()), 1),
        overtaken_share=round(1 - len(delays_ms) / (num_sent * num_looked_at), 3),
        server_mb=round(after_mb, 1),
        server_mb_before=round(before_mb, 1),
        server_cores=round(cores, 2),
        mb_per_s=round(sum(tab.num_bytes for tab in tabs) / 1e6 / passed_s, 1),
        num_wrong_counts=sum(tab.num_unacknowledged != wanted for tab in tabs),
    )


def _log_in(port: int) -> str:
    base = f"http://127.0.0.1:{port}"
    for _ in range(600):
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.post(
                f"{base}/login",
                data={"name": "bench", "password": PASSWORD},
                headers={"Origin": base},
            )
            return answer.headers["set-cookie"].partition(";")[0]
        time.sleep(0.2)
    raise SystemExit("the console did not start within two minutes")


async def _load(  # noqa: PLR0917 everything that the load is made of
    plant: Plant,
    settings: Settings,
    port: int,
    cookie: str,
    num_tabs: int,
    updates_per_s: float,
    seconds: float,
) -> tuple[list[Tab], dict[str, AlarmState], int]:
    tabs = [Tab(is_looked_at=number % LOOKED_AT == 0) for number in range(num_tabs)]
    reading = [asyncio.create_task(tab.read(port, cookie)) for tab in tabs]
    while any(tab.is_first for tab in tabs):
        await asyncio.sleep(0.1)
    last, num_sent = await asyncio.to_thread(_publish, plant, settings, updates_per_s, seconds)
    wanted = sum(not state.is_acknowledged for state in last.values())
    for _ in range(300):  # a tab that is late is not wrong: its delay says how late
        if all(tab.num_unacknowledged == wanted for tab in tabs):
            break
        await asyncio.sleep(0.1)
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    return tabs, last, num_sent


def _publish(
    plant: Plant, settings: Settings, updates_per_s: float, seconds: float
) -> tuple[dict[str, AlarmState], int]:
    last: dict[str, AlarmState] = {}
    num_sent, begun_s = 0, time.monotonic()
    rng = np.random.default_rng(0)
    with contextlib.closing(wiring.open_publisher(settings)) as publisher:
        for burst in range(round(seconds * BURSTS_PER_S)):
            time.sleep(max(0.0, begun_s + burst / BURSTS_PER_S - time.monotonic()))
            messages: list[Message] = []
            for _ in range(round(updates_per_s / BURSTS_PER_S)):
                state = _state(plant, num_sent, is_acknowledged=bool(rng.random() < 0.5))
                last[state.name] = state
                key, body = f"state:{state.plant}:{state.name}", state.model_dump_json().encode()
                messages.append(Message(plant.topic("alarms"), key, body))
                num_sent += 1
            publisher.publish(messages)
    return last, num_sent


def _state(plant: Plant, number: int, *, is_acknowledged: bool) -> AlarmState:
    return AlarmState(
        plant=str(plant.address),
        name=f"alarm-{number % NUM_ALARMS}",
        kind="alarm",
        finding="surprise",
        tag=None,
        priority="medium",
        condition=Condition.ACTIVE,
        is_acknowledged=is_acknowledged,
        revision=number,
        tick=number,
        since_ns=time.time_ns(),
        sentence="Sound (microphone) deviates most (80 % of the surprise).",
    )


if __name__ == "__main__":
    main()
