"""``python -m benchmarks.stack``: run the whole stack, kill part after part, write the page.

Writes docs/benchmarks/stack.md, .json and .png. Ctrl-C ends everything that was started.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.broker import ROOT
from benchmarks.soak.product import train_quickly
from benchmarks.stack.layout import (
    Layout,
    Services,
    environment_of,
    make_layout,
    make_product,
    make_services,
)
from benchmarks.stack.page import page
from benchmarks.stack.parts import Part, Program, wait_until
from benchmarks.stack.picture import draw
from benchmarks.stack.reckoning import Reckoning, reckon
from benchmarks.stack.watch import Watch
from flows.settings import Settings
from fusion.plant import NANOSECONDS
from fusion.simulation import FAULTS

TRAIN_S = 400
AWAY_S = 5.0
EVERY_S = 5.0
FIRST_KILL, LAST_KILL = 0.2, 0.8
"""Of the run: before and after it the stack is left alone."""
LEAD_S = 15.0
"""From the order to the first record: simulating the first 10 s of ten rigs takes a while."""


@dataclass(frozen=True)
class Kill:
    """One part that was killed, in seconds since the first record."""

    part: str
    at_s: float
    back_s: float
    """When it answered again."""


def main() -> None:
    """Run what the command line asks for; exit status 1 when the verdict is no."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="fusion-stack-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # (PostgreSQL runs as somebody else, and must get through)
        said = _run(make_layout(folder, options.plants), options)
    text, is_passed = page(said)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "stack.json").write_text(json.dumps(said) + "\n", encoding="utf-8")
    draw(said, options.out / "stack.png")
    (options.out / "stack.md").write_text(text, encoding="utf-8")
    _say(f"{options.out / 'stack.md'} is written; {'passed' if is_passed else 'NOT passed'}")
    sys.exit(0 if is_passed else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stack")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--plants", type=int, default=10)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    return parser.parse_args()


def _run(layout: Layout, options: argparse.Namespace) -> dict[str, Any]:
    said: dict[str, Any] = {
        "minutes": options.minutes,
        "plants": options.plants,
        "machine": machine.describe(),
    }
    _say(f"training one model for {options.plants} plants that are alike")
    train_quickly_for(layout)
    services, database = make_services(layout)
    with contextlib.ExitStack() as running:
        for each in services.all():
            _start(each, running)
        url = database.new_database()
        environment = environment_of(layout, services.kafka.bootstrap, url)
        settings = settings_of(environment)
        product = make_product(layout, environment)
        for each in product.values():
            _start(each, running)
        scenarios = scenarios_of(options.plants, options.minutes * 60)
        progress = layout.folder / "sent.json"
        simulator = simulator_of(layout, environment, scenarios, progress)
        _start(simulator, running)
        watch = Watch(layout, scenarios[0]["t_start_ns"] / NANOSECONDS)
        kills = _kill_one_after_the_other(
            list(_victims(services, product)), options.minutes * 60, watch, services, product
        )
        _say("waiting until everything that was sent is scored")
        wait_until(simulator.has_ended, what="the end of the simulation", patience_s=180)
        sent = json.loads(progress.read_text(encoding="utf-8"))
        assert sent.get("is_done"), "the simulator must send everything; see its log"
        watch.until_read(patience_s=300)
        said |= {"samples": watch.samples(), "kills": [asdict(kill) for kill in kills]}
        said["firing"] = watch.fired()
        for name in ("live", "recorder", "ingest", "console"):
            product[name].stop()
        _say("reckoning: ledger, lake, journal, and the same records without any harm")
        reckoning: Reckoning = reckon(layout, settings, sent["sent"], scenarios)
        said["reckoning"] = asdict(reckoning)
    return said


def train_quickly_for(layout: Layout) -> None:
    """Put a model where every plant of the prefix finds it."""
    made = train_quickly(layout.plants[0], layout.folder / "learned", seconds=TRAIN_S)
    target = Settings(data_dir=layout.data).models_dir / layout.plants[0].prefix / made.name
    target.parent.mkdir(parents=True)
    made.rename(target)


def settings_of(environment: Mapping[str, str]) -> Settings:
    """Return the settings that the processes have."""
    prefix = "FUSION_"
    return Settings.model_validate(
        {
            name.removeprefix(prefix).lower(): value
            for name, value in environment.items()
            if name.startswith(prefix)
        }
    )


def scenarios_of(num_plants: int, duration_s: float) -> list[dict[str, Any]]:
    """Return what happens to each rig: one fault each, another one in another rig, at its time."""
    t_start_ns = time.time_ns() + round(LEAD_S * NANOSECONDS)
    names = list(FAULTS)
    return [
        {
            "duration_s": duration_s,
            "seed": 100 + number,
            "t_start_ns": t_start_ns,
            "faults": [
                {
                    "name": names[number % len(names)],
                    "onset_s": round(duration_s * (0.3 + 0.3 * number / num_plants), 1),
                    "end_s": round(duration_s * (0.5 + 0.3 * number / num_plants), 1),
                }
            ],
        }
        for number in range(num_plants)
    ]


def simulator_of(
    layout: Layout, environment: Mapping[str, str], scenarios: list[dict[str, Any]], progress: Path
) -> Program:
    """Return the process that sends what ``scenarios`` say, not started."""
    order = {
        "plant_files": [str(file) for file in layout.plant_files],
        "scenarios": scenarios,
        "progress": str(progress),
    }
    command = [sys.executable, "-m", "benchmarks.stack.simulator", json.dumps(order)]
    return Program("simulator", command, layout.log("simulator"), environment=environment)


def _victims(services: Services, product: Mapping[str, Program]) -> Iterator[Part]:
    yield product["live"]
    yield services.triton
    yield services.kafka
    yield product["ingest"]
    yield services.prefect
    yield services.postgres
    yield product["recorder"]
    yield product["console"]
    yield services.prometheus


def _kill_one_after_the_other(
    victims: list[Part],
    duration_s: float,
    watch: Watch,
    services: Services,
    product: Mapping[str, Program],
) -> list[Kill]:
    """Kill every part once, evenly over the middle of the run; return when the run is over."""
    every_s = duration_s * (LAST_KILL - FIRST_KILL) / len(victims)
    due = [(duration_s * FIRST_KILL + every_s * number, v) for number, v in enumerate(victims)]
    kills: list[Kill] = []
    parts = [*services.all(), *product.values()]
    while (now_s := watch.now_s()) < duration_s or due:  # (on a busy machine some come late)
        if due and now_s >= due[0][0]:
            _, victim = due.pop(0)
            at_s = watch.now_s()
            victim.kill()
            _say(f"{at_s:6.0f} s  {victim.name} is killed")
            time.sleep(AWAY_S)
            victim.start()
            kills.append(Kill(victim.name, round(at_s, 1), round(watch.now_s(), 1)))
            _say(f"{kills[-1].back_s:6.0f} s  {victim.name} answers again")
        # Some end by themselves when what they stand on is away, as a supervisor expects.
        for each in product.values():
            if each.has_ended():
                _say(f"{watch.now_s():6.0f} s  {each.name} ended by itself and is started again")
                each.start()
        watch.note_memory({each.name: each.memory_mb() for each in parts})
        _say(watch.told())
        time.sleep(EVERY_S)
    return kills


def _start(part: Part, running: contextlib.ExitStack) -> None:
    running.callback(part.stop)
    part.start()
    _say(f"{part.name} runs")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped; everything that was started has been ended", flush=True)
        sys.exit(130)
