"""``python -m benchmarks.stack.upgrade OLD``: one release takes over from another.

OLD is a checkout of the release before, with its environment made (``make setup``). Two of its live
processes share some rigs through a real Apache Kafka. While records come, one after the other is
stopped and its place taken by this release: for a while both releases work side by side. At the end
the ledger is held against what was sent, and every score and alarm against those of a process of
this release that scored the same records in one go. Writes docs/benchmarks/upgrade.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.broker import ROOT
from benchmarks.stack.__main__ import scenarios_of, settings_of, simulator_of, train_quickly_for
from benchmarks.stack.layout import Layout, make_layout
from benchmarks.stack.parts import Kafka, Program, answers, fusion, wait_until
from benchmarks.stack.reckoning import reckon
from flows import wiring
from fusion.plant import NANOSECONDS
from tests.conftest import free_port

REPLICAS = ("1", "2")


def main() -> None:
    """Run it, write the page; exit status 1 when something was lost or came out otherwise."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="fusion-upgrade-") as name:
        said = _run(make_layout(Path(name), options.plants), options)
    text, is_passed = page(said)
    (options.out / "upgrade.md").write_text(text, encoding="utf-8")
    _say(f"{options.out / 'upgrade.md'} is written; {'passed' if is_passed else 'NOT passed'}")
    sys.exit(0 if is_passed else 1)


def page(said: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the page, and whether nothing was lost or came out otherwise."""
    found = said["reckoning"]
    outcomes = found["outcomes"]
    wanted = {
        "every record that was sent is on the broker": found["sent"] == found["on_broker"],
        "every one was scored": outcomes["scored"] == outcomes["read"] == found["sent"],
        "no tick was scored twice": found["num_scores_twice"] == 0,
        "the same ticks have scores as without an upgrade": found["num_scores_apart"] == 0,
        "the same alarms were raised": found["num_raised_apart"] == 0,
        "no link of the journal is broken": not found["broken_links"],
    }
    is_passed = all(wanted.values())
    rows = "\n".join(
        f"| {what} | {'yes' if holds else '**no**'} |" for what, holds in wanted.items()
    )
    steps = "\n".join(f"| {each['t_s']:.0f} s | {each['what']} |" for each in said["steps"])
    text = f"""# Upgrade while it runs

Written by `python -m benchmarks.stack.upgrade OLD`. {said["plants"]} **simulated** rigs send for
{said["minutes"]:g} minutes through a real Apache Kafka. Two live processes share them, first of
release {said["old"]}, then of {said["new"]}. The model is trained for seconds: good for running,
not for judging.

{machine.as_markdown(said["machine"])}

**Verdict: {"passed" if is_passed else "NOT passed"}.**

| must hold | holds |
|---|---|
{rows}

{found["sent"]:,} records sent: {", ".join(f"{n:,} {what}" for what, n in outcomes.items())}.
{found["num_scores"]:,} scores, the largest difference of a surprise
{found["max_surprise_apart"]:.2g}; {found["num_raised"]} alarms and advisories.

| when | what |
|---|---|
{steps}
"""
    return text, is_passed


def _run(layout: Layout, options: argparse.Namespace) -> dict[str, Any]:
    _say(f"training one model for {options.plants} plants that are alike")
    train_quickly_for(layout)
    kafka = Kafka(layout.folder / "kafka")
    duration_s = options.minutes * 60
    steps: list[dict[str, Any]] = []
    with contextlib.ExitStack() as running:
        running.callback(kafka.stop)
        kafka.start()
        environment = {
            "FUSION_BROKER": "kafka",
            "FUSION_KAFKA_BOOTSTRAP": kafka.bootstrap,
            "FUSION_DATA_DIR": str(layout.data),
        }
        settings = settings_of(environment)
        for plant in layout.plants:
            wiring.prepare_topics(settings, plant)
        old = {number: _live(layout, environment, number, options.old) for number in REPLICAS}
        new = {number: _live(layout, environment, number, ROOT) for number in REPLICAS}
        for each in (*new.values(), *old.values()):
            running.callback(each.stop)
        for each in old.values():
            each.start()
        scenarios = scenarios_of(options.plants, duration_s)
        t_start_s = scenarios[0]["t_start_ns"] / NANOSECONDS
        progress = layout.folder / "sent.json"
        simulator = simulator_of(layout, environment, scenarios, progress)
        running.callback(simulator.stop)
        simulator.start()

        def note(what: str) -> None:
            steps.append({"t_s": time.time() - t_start_s, "what": what})
            _say(f"{steps[-1]['t_s']:6.0f} s  {what}")

        note(f"two processes of {options.old_name} run")
        for number, share in zip(reversed(REPLICAS), (0.3, 0.6), strict=True):
            time.sleep(max(0.0, t_start_s + duration_s * share - time.time()))
            old[number].stop()
            note(f"process {number} of {options.old_name} is stopped")
            new[number].start()
            note(f"process {number} of this release runs")
        wait_until(
            simulator.has_ended, what="the end of the simulation", patience_s=duration_s + 180
        )
        note("everything is sent")
        time.sleep(5)
        for number, each in new.items():
            assert not each.has_ended(), f"live {number} must run; see its log"
            each.stop()
        sent = json.loads(progress.read_text(encoding="utf-8"))["sent"]
        _say("reckoning: ledger, journal, and the same records in one go")
        found = reckon(layout, settings, sent, scenarios)
    return {
        "plants": options.plants,
        "minutes": options.minutes,
        "old": options.old_name,
        "new": _commit(ROOT),
        "machine": machine.describe(),
        "steps": steps,
        "reckoning": asdict(found),
    }


def _live(layout: Layout, environment: Mapping[str, str], number: str, checkout: Path) -> Program:
    """Return the live process of a release, not started."""
    port = free_port()
    command = fusion("live", *map(str, layout.plant_files))
    return Program(
        f"live {number} of {checkout.name}",
        [str(checkout / ".venv" / "bin" / "python"), *command[1:]],
        layout.log(f"live-{checkout.name}-{number}"),
        environment={
            **environment,
            "FUSION_REPLICA": number,
            "FUSION_HEALTH_ADDRESS": f"127.0.0.1:{port}",
        },
        is_up=answers(f"http://127.0.0.1:{port}/health/live"),
        folder=checkout,
    )


def _commit(checkout: Path) -> str:
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=checkout,
        check=True,
        capture_output=True,
        text=True,
    )
    return said.stdout.strip()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stack.upgrade")
    parser.add_argument("old", type=Path, help="checkout of the release before, set up")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--plants", type=int, default=4)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    options = parser.parse_args()
    options.old = options.old.resolve()
    python = options.old / ".venv" / "bin" / "python"
    if not python.exists():
        parser.error(
            f"OLD must be a checkout with its environment, but there is no {python}; "
            "run `make setup` in it"
        )
    options.old_name = _commit(options.old)
    return options


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped; everything that was started has been ended", flush=True)
        sys.exit(130)
