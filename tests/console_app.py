"""A console on a port of this machine, over the embedded broker, and alarms to put on it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import httpx
import numpy as np
import uvicorn
from argon2 import PasswordHasher
from fastapi import FastAPI

from console.accounts import Accounts
from console.app import create_app
from console.rights import Grant, Role
from flows import wiring
from flows.cli.plant import load_plant
from flows.console import open_ports
from flows.settings import Settings
from fusion.plant import Plant, StreamSender
from fusion.schema import AlarmEvent, AlarmState, Condition, Message, Score, TelemetryBatch
from tests.clocks import HandClock

ROOT = Path(__file__).parents[1]
PLANT = load_plant(ROOT / "plants" / "rig.yaml")
ADDRESS = str(PLANT.address)
SLUG = ADDRESS.replace("/", ".")
PASSWORD = "correct horse battery"


def alarm_state(name: str = "rig-abnormal", plant: str = ADDRESS, **changed: object) -> AlarmState:
    """Return a standing alarm that nobody has acknowledged, with what is ``changed``."""
    given: dict[str, object] = {
        "plant": plant,
        "name": name,
        "kind": "alarm",
        "finding": "surprise",
        "tag": None,
        "priority": "high",
        "condition": Condition.ACTIVE,
        "is_acknowledged": False,
        "revision": 1,
        "tick": 100,
        "since_ns": 1_767_225_600_000_000_000,
        "sentence": "Sound (microphone) deviates most (80 % of the surprise).",
    }
    return AlarmState.model_validate(given | changed)


def state_message(plant: Plant, state: AlarmState) -> Message:
    return Message(plant.topic("alarms"), f"state:{state.name}", state.model_dump_json().encode())


def event_message(plant: Plant, event: AlarmEvent) -> Message:
    return Message(plant.topic("alarm-events"), event.state.plant, event.model_dump_json().encode())


def score_message(plant: Plant, score: Score) -> Message:
    return Message(plant.topic("scores"), score.plant, score.model_dump_json().encode())


def level_message(sender: StreamSender, t_ns: int, level_m: float) -> Message:
    """Return one sample of the tank's level."""
    t_R_ns, zeros_RC = np.array([t_ns], np.int64), np.zeros((1, 1))
    batch = TelemetryBatch(
        "process",
        ("tank_level",),
        t_R_ns,
        t_R_ns,
        t_R_ns,
        np.full((1, 1), level_m),
        zeros_RC.astype(np.uint8),
        zeros_RC.astype(np.uint32),
    )
    return sender.message(batch)


@dataclass
class Served:
    """A console that runs, and what belongs to it."""

    base: str
    client: httpx.Client
    accounts: Accounts
    settings: Settings
    clock: HandClock
    app: FastAPI

    def pass_s(self, duration_s: float) -> None:
        """Let time pass, until the console has heard of the broker again."""
        self.clock.pass_s(duration_s)
        deadline = time.monotonic() + 20
        while self.app.state.reader.away_since_ns is not None:
            assert time.monotonic() < deadline, "the console hears nothing of its broker"
            time.sleep(0.01)

    def read_all(self) -> None:
        """Wait until its picture is whole: until then another one takes its place."""
        deadline = time.monotonic() + 20
        while not self.app.state.reader.picture.is_complete:
            assert time.monotonic() < deadline, "the topics were never read"
            time.sleep(0.01)

    def publish(self, *messages: Message) -> None:
        with contextlib.closing(wiring.open_publisher(self.settings)) as publisher:
            publisher.publish(messages)

    def person(self, name: str, role: Role, area: str = "") -> None:
        self.accounts.add_person(name, PASSWORD, [Grant(role, area)])

    def log_in(self, name: str, password: str = PASSWORD) -> int:
        """Return the status of the answer; the session is kept in the client."""
        self.client.cookies.clear()
        answer = self.client.post(
            "/login",
            data={"name": name, "password": password},
            headers={"Origin": self.base},
        )
        return answer.status_code

    def own_headers(self) -> dict[str, str]:
        """Return what the console's own page sends with a change."""
        secret = self.client.cookies.get("fusion_session") or ""
        session = self.accounts.session(secret)
        return {"Origin": self.base, "X-CSRF-Token": "" if session is None else session.csrf}

    def until(self, path: str, text: str) -> str:
        """Return the page once it has ``text``."""
        deadline = time.monotonic() + 20
        while text not in (page := self.client.get(path).text):
            assert time.monotonic() < deadline, f"{text!r} never came to {path}"
            time.sleep(0.05)
        return page


@contextlib.contextmanager
def served(
    folder: Path,
    plants: tuple[Plant, ...] = (PLANT,),
    settings: Settings | None = None,
    *,
    has_real_time: bool = False,
    people: str | None = None,
) -> Iterator[Served]:
    """Yield a console; its people and its broker are in ``folder`` where no others are given."""
    settings = settings or Settings(data_dir=folder)
    for plant in plants:
        # As `fusion live` does, before anybody publishes.
        wiring.prepare_topics(settings, plant)
    clock = HandClock()
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    people = people or f"sqlite:///{folder / 'people.sqlite'}"
    accounts = Accounts(people, clock, hasher=cheap)
    ports = open_ports(plants, settings)
    app = create_app(ports if has_real_time else replace(ports, clock=clock), accounts)
    with (
        # Tests let hours pass by hand: whether the broker is there is then asked at once.
        mock.patch("console.reader.PROBE_POLLS", 1),
        contextlib.closing(accounts),
        listening(app) as base,
        # (What needs a model imports PyTorch when it is first asked for.)
        httpx.Client(base_url=base, timeout=120) as client,
    ):
        yield Served(base, client, accounts, settings, clock, app)


@contextlib.contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """Yield where ``app`` answers."""
    config = uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the console did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
