"""Many tabs, many updates: how late each is shown, and what that costs.

    python -m benchmarks.console --tabs 200 --updates-per-s 500 --seconds 20

The console runs in a process of its own over the embedded broker; tabs are bare connections that
read the stream of the list of alarms. Delay: from just before an update is published to when a tab
has read the row. Updates that a newer one of the same alarm overtakes inside the pace of the stream
are, by design, never sent; they are counted as overtaken.
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
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil

from benchmarks.console.serving import serve
from benchmarks.machine import describe
from console.accounts import Accounts
from console.rights import Grant, Role
from flows import wiring
from flows.cli.plant import load_plant
from flows.settings import Settings
from fusion.plant import Plant
from fusion.schema import AlarmState, Condition, Message

PLANT_FILE = Path(__file__).parents[2] / "plants" / "rig.yaml"
NUM_ALARMS = 300
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
    """Rows that tabs have read."""
    delay_p50: float
    delay_p99: float
    delay_max: float
    overtaken_share: float
    server_mb: float
    server_mb_before: float
    server_cores: float
    num_wrong_counts: int
    """Tabs whose counts still differ from what was published half a minute after the last."""


class Tab:
    """One browser's stream."""

    def __init__(self) -> None:
        self.delays_ms: list[float] = []
        self.counts: dict[str, int] = {}
        self.is_first = True

    async def read(self, port: int, cookie: str) -> None:
        """Read until it is cancelled or the console ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
        asked = f"GET /stream?rows=1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookie}"
        writer.write(f"{asked}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                if line.startswith(b"data: "):
                    self._take(line)
        writer.close()

    def _take(self, line: bytes) -> None:
        now_ns = time.time_ns()
        if not self.is_first:
            self.delays_ms += [(now_ns - int(s)) / 1e6 for s in _STAMP.findall(line)]
        self.is_first = False
        counted = line.partition(b'"counts": ')[2].partition(b"}")[0] + b"}"
        self.counts = json.loads(counted)


def main() -> None:
    """Measure, and print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tabs", type=int, default=200)
    parser.add_argument("--updates-per-s", type=float, default=500)
    parser.add_argument("--seconds", type=float, default=20)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), chosen.tabs, chosen.updates_per_s, chosen.seconds)
    print(json.dumps({"machine": describe(), **asdict(result)}, indent=1))


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
    return Result(
        tabs=num_tabs,
        updates_per_s=num_sent / seconds,
        seconds=seconds,
        num_rows=len(delays_ms),
        delay_p50=round(float(np.percentile(delays_ms, 50)), 1),
        delay_p99=round(float(np.percentile(delays_ms, 99)), 1),
        delay_max=round(float(delays_ms.max()), 1),
        overtaken_share=round(1 - len(delays_ms) / (num_sent * num_tabs), 3),
        server_mb=round(after_mb, 1),
        server_mb_before=round(before_mb, 1),
        server_cores=round(cores, 2),
        num_wrong_counts=sum(tab.counts["unacknowledged"] != wanted for tab in tabs),
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
    tabs = [Tab() for _ in range(num_tabs)]
    reading = [asyncio.create_task(tab.read(port, cookie)) for tab in tabs]
    while any(tab.is_first for tab in tabs):
        await asyncio.sleep(0.1)
    last, num_sent = await asyncio.to_thread(_publish, plant, settings, updates_per_s, seconds)
    wanted = sum(not state.is_acknowledged for state in last.values())
    for _ in range(300):  # a tab that is late is not wrong: its delay says how late
        if all(tab.counts["unacknowledged"] == wanted for tab in tabs):
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
