"""Everything that operators stand in front of, real: Kafka, rig, live process, console, browser."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml
from playwright.sync_api import Browser

from flows import wiring
from flows.cli.plant import load_plant
from flows.ingest import ingest_once
from flows.operate import alarm_events
from flows.rollout import promote
from flows.settings import Settings
from fusion.plant import Plant
from fusion.schema import AlarmEvent, Record
from fusion.stream.reading import read_to_end
from tests.browsing import Kafka, Seat, own_kafka
from tests.conftest import ROOT, free_port
from tests.e2e.operators.rig import PERIOD_S
from tests.e2e.versions import add_version

PASSWORD = "a battery and a staple"
PATIENCE_S = 120.0
START_PATIENCE_S = 300.0
"""Three processes that import torch, on a machine that may have other work too."""
VALVE_AT = (46, 52, 58)
"""The rig's valve swings through these all the time: alarms that come whatever the model says."""
THRESHOLD = 1.28
"""Of the quickly trained model's own, which calm running passes by 16 % and the fault by 41 %."""
_FIRST_PASSWORD = re.compile(r"with the password\s+(\S+)")


@dataclass(frozen=True)
class Stack:
    """A plant that runs, and its console."""

    base: str
    plant: Plant
    settings: Settings
    kafka: Kafka
    admin_password: str
    """As the console printed it at its first start."""
    plant_file: Path
    environment: Mapping[str, str]
    """Settings of every process."""

    @property
    def alarm(self) -> str:
        """The path of the alarm that the model raises while the camera is aside."""
        return f"/alarms/{str(self.plant.address).replace('/', '.')}:rig-abnormal"

    @property
    def asset(self) -> str:
        return f"/plants/{str(self.plant.address).replace('/', '.')}"

    def records(self, kind: str) -> list[Record]:
        """Return all that the topic holds."""
        source = wiring.open_source(self.settings, (self.plant.topic(kind),), "looks")
        with contextlib.closing(source):
            return list(read_to_end(source))

    def events(self) -> list[AlarmEvent]:
        return alarm_events(self.plant, self.settings)

    def until(
        self, what: str, is_so: Callable[[], bool], *, patience_s: float = PATIENCE_S
    ) -> None:
        """Wait until ``is_so``; ``what`` says what that would be."""
        deadline = time.monotonic() + patience_s
        while not is_so():
            assert time.monotonic() < deadline, f"within {patience_s:g} s it must be so: {what}"
            time.sleep(0.5)

    def hire(self, browser: Browser) -> None:
        """Let the administrator of the first start add everybody else, on the page for it."""
        context = browser.new_context()
        seat = Seat(context.new_page(), self.base)
        seat.log_in("admin", self.admin_password)
        for name, role in (("olga", "operator"), ("oscar", "operator"), ("ada", "admin")):
            seat.go("/access")
            form = seat.page.locator("form[hx-post='/access/people']:has([name=password])")
            form.locator("[name=name]").fill(name)
            form.locator("[name=password]").fill(PASSWORD)
            form.locator("[name=role]").select_option(role)
            form.locator("button.main").click()
            seat.shows("#main", name)
        context.close()


def write_plant(folder: Path, prefix: str) -> Path:
    """Write the rig's plant file with another prefix, delays of a test, and limits on the valve."""
    content = yaml.safe_load((ROOT / "plants" / "rig.yaml").read_text())
    content["prefix"] = prefix
    for alarm in content["alarms"]:
        alarm |= {"on_delay_s": 1, "off_delay_s": 5}
    content["alarms"] += [
        {
            "name": f"valve-beyond-{at}",
            "finding": "limit",
            "tag": "valve_position",
            "side": "high",
            "on_at": at,
            "off_at": at - 3,
            "on_delay_s": 0.5,
            "off_delay_s": 2,
            "priority": "low",
            "cause": "The level controller opens the valve.",
            "consequence": "More flows out.",
            "action": "Look at the level.",
            "time_to_respond_s": 600,
        }
        for at in VALVE_AT
    ]
    path = folder / f"{prefix}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def wait_for_alarm(seat: Seat, stack: Stack) -> None:
    """Stand in front of an alarm of the model that nobody has answered."""
    seat.go(stack.alarm)
    shown = seat.page.locator("#state .shown").first
    deadline = time.monotonic() + PERIOD_S + PATIENCE_S
    while "Unacknowledged" not in (shown.text_content() or ""):
        assert time.monotonic() < deadline, f"the camera was knocked, but {shown.text_content()}"
        seat.page.wait_for_timeout(200)


@contextlib.contextmanager
def running_stack(folder: Path, model_dir: Path) -> Iterator[Stack]:
    """Yield everything, each part a process as people start it; two versions of the model serve."""
    (folder / "kafka").mkdir()
    plant_file = write_plant(folder, "seen")
    plant = load_plant(plant_file)
    with contextlib.ExitStack() as stack:
        kafka = stack.enter_context(own_kafka(folder / "kafka"))
        settings = Settings(data_dir=folder, broker="kafka", kafka_bootstrap=kafka.bootstrap)
        base = f"127.0.0.1:{free_port()}"
        environment = {
            "FUSION_DATA_DIR": str(folder),
            "FUSION_BROKER": "kafka",
            "FUSION_KAFKA_BOOTSTRAP": kafka.bootstrap,
            "FUSION_CONSOLE_ADDRESS": base,
            "COLUMNS": "200",
        }

        def start(name: str, *arguments: str) -> Path:
            said = folder / f"{name}.log"
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env=os.environ | environment,
                cwd=ROOT,
                stdout=stack.enter_context(said.open("w")),
                stderr=subprocess.STDOUT,
            )
            stack.callback(_end, process)
            return said

        wiring.prepare_topics(settings, plant)
        for version in ("v1", "v2"):
            add_version(settings, plant, version, model_dir, threshold=THRESHOLD)
            promote(settings, [plant], version, who="test", why="to be seen side by side")
        start("rig", "tests.e2e.operators.rig", str(plant_file))
        live_log = start("live", "flows.cli", "live", str(plant_file))
        console_log = start("console", "flows.cli", "console", str(plant_file))
        _until_it_answers(f"http://{base}/login", console_log)
        found = _FIRST_PASSWORD.search(console_log.read_text())
        assert found is not None, console_log.read_text()
        running = Stack(
            f"http://{base}", plant, settings, kafka, found.group(1), plant_file, environment
        )
        running.until(
            f"the live process scores; it said {live_log.read_text()}",
            lambda: bool(running.records("scores")),
            patience_s=START_PATIENCE_S,
        )
        _ingest(running)
        yield running


def _ingest(stack: Stack) -> None:
    lake = wiring.open_lake(stack.settings)
    source = wiring.open_source(stack.settings, stack.plant.sense_topics, "ingest")
    with contextlib.closing(source):
        assert ingest_once(source, lake, clock=wiring.open_clock()).is_complete


def _until_it_answers(url: str, said: Path) -> None:
    deadline = time.monotonic() + START_PATIENCE_S
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        assert time.monotonic() < deadline, f"no console at {url}: {said.read_text()}"
        time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
