"""``python -m benchmarks.observability``: CPU time of the live loop without and with being seen.

The same records are scored again and again, in turns: with nothing, with metrics that are also
asked for every second (ten times as often as usual), and with traces of 1 % on top. CPU time, not
wall time, so that what else runs disturbs little.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.soak.__main__ import PLANT_FILE
from benchmarks.soak.product import train_quickly
from benchmarks.soak.signals import soak_payloads
from flows import wiring
from flows.health import Health, serve_health
from flows.live import open_live, run_live
from flows.metrics.live import LiveMetrics
from flows.replay import replay
from flows.rollout_watch import Watched
from flows.settings import Settings
from flows.tracing import LiveTracer, SendTracer, open_tracer
from fusion.plant import Plant, parse_plant
from fusion.simulation import normal_scenario

WAYS = ("nothing", "metrics", "metrics and traces")


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.observability")
    parser.add_argument("--seconds", type=float, default=300.0, help="of plant time")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    plant = parse_plant(PLANT_FILE.read_text(encoding="utf-8"), origin=PLANT_FILE.name)
    took_s: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model_dir = train_quickly(plant, folder / "learned", seconds=300)
        for number in range(options.rounds):
            for way in WAYS:
                settings = Settings(data_dir=folder / f"{number}-{way}", traces=_nobody(way))
                _publish(plant, settings, options.seconds)
                num_ticks, cpu_s = _score(plant, model_dir, settings, way)
                took_s[way].append(cpu_s)
                print(f"{number} {way}: {num_ticks} ticks, {cpu_s:.2f} s", flush=True)
    print("| the live process | CPU s, median | beside nothing, median of pairs |\n|---|---|---|")
    for way in WAYS:
        pairs = [a / b for a, b in zip(took_s[way], took_s["nothing"], strict=True)]
        print(f"| {way} | {statistics.median(took_s[way]):.2f} | {statistics.median(pairs):.3f} |")


def _nobody(way: str) -> str:
    """Return a collector's address where nobody listens: sending fails, making spans is paid."""
    return "http://127.0.0.1:9/v1/traces" if "traces" in way else ""


def _publish(plant: Plant, settings: Settings, seconds: float) -> None:
    wiring.prepare_topics(settings, plant)
    scenario = normal_scenario(duration_s=seconds, seed=8, after_s=3_600)
    payloads = (payload for _, payload in soak_payloads(scenario, plant))
    with (
        open_tracer(settings, "bench") as tracer,
        contextlib.closing(wiring.open_publisher(settings)) as publisher,
    ):
        trace = tracer and SendTracer(tracer)
        clock = wiring.open_clock()
        replay(payloads, publisher, plant, speed=None, clock=clock, trace=trace)


def _score(plant: Plant, model_dir: Path, settings: Settings, way: str) -> tuple[int, float]:
    clock = wiring.open_clock()
    health = Health(clock)
    metrics = LiveMetrics(health.ready, clock.now_ns)
    with (
        open_tracer(settings, "live") as tracer,
        _asked(health, metrics) if "metrics" in way else contextlib.nullcontext(),
    ):
        traces = tracer and LiveTracer(tracer, [plant], clock)
        num_ticks = 0
        began_s = time.process_time()
        with open_live(
            [Watched(plant, model_dir)],
            settings,
            on_beat=health.beat,
            on_figures=metrics.figures if "metrics" in way else None,
            on_taken=traces and traces.taken,
        ) as live:
            for step in run_live(live, should_stop=lambda: False, may_end=lambda: True):
                num_ticks += len(step.scores)
                if "metrics" in way:
                    metrics.step(step)
                if traces is not None:
                    traces.step(step)
        return num_ticks, time.process_time() - began_s


@contextlib.contextmanager
def _asked(health: Health, metrics: LiveMetrics) -> Iterator[None]:
    """Ask for the metrics every second."""
    done = threading.Event()
    with serve_health(health, "127.0.0.1:0", metrics.registry) as address:

        def ask() -> None:
            while not done.wait(1.0):
                urllib.request.urlopen(f"http://{address}/metrics", timeout=10).close()

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            yield
        finally:
            done.set()
            asking.join()


if __name__ == "__main__":
    main()
