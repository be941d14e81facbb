"""``fusion alarms notify``: told at once, across restarts, and never of what somebody answered."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import wiring
from flows.notify import load_notifications, notify_people, try_channels
from flows.settings import Settings
from fusion.errors import InputError, NotifierUnavailableError, SettingsError
from fusion.ports import Notice
from fusion.schema import AlarmEvent, Message
from tests.unit.alarms.plants import PLANT, Driver

FILE = """
channels:
  phone: {kind: webhook, url_from: SHIFT_URL, secret_from: SHIFT_SECRET}
  boss: {kind: email, host: mail.example, sender: f@example.org, recipients: [b@example.org]}
routes:
  - {name: shift, channel: phone, priorities: [medium, high]}
  - {name: copy, channel: boss, priorities: [medium, high]}
"""


class Channel:
    """Takes notices, unless it is away."""

    def __init__(self, *, is_away: bool = False) -> None:
        self.is_away, self.took = is_away, list[Notice]()
        self.waits_for: threading.Event | None = None
        self.has_taken = threading.Event()

    def notify(self, notice: Notice) -> None:
        if self.waits_for is not None and not self.waits_for.wait(10):
            raise NotifierUnavailableError("no answer for ten seconds")
        if self.is_away:
            raise NotifierUnavailableError("nobody there")
        self.took.append(notice)
        self.has_taken.set()

    @property
    def names(self) -> list[str]:
        return [notice.name for notice in self.took]


class Plant:
    """A journal on the embedded broker, and people who are told of it."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder)
        wiring.prepare_topics(self.settings, PLANT)
        path = folder / "notify.yaml"
        path.write_text(FILE, encoding="utf-8")
        self.file = load_notifications(path)
        self.phone, self.boss = Channel(), Channel()
        self.said: list[str] = []

    def journal(self, events: list[AlarmEvent]) -> None:
        topic = PLANT.topic("alarm-events")
        lines = [Message(topic, e.state.plant, e.model_dump_json().encode()) for e in events]
        with contextlib.closing(wiring.open_publisher(self.settings)) as publisher:
            publisher.publish(lines)

    def notify(self, num_steps: int = 3, should_stop: Callable[[], bool] | None = None) -> None:
        left = iter([False] * num_steps)
        notify_people(
            PLANT,
            self.settings,
            self.file,
            {"phone": self.phone, "boss": self.boss},
            should_stop=should_stop or (lambda: next(left, True)),
            say=self.said.append,
        )


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


def test_people_are_told_once_across_restarts(plant: Plant) -> None:
    driver = Driver()
    driver.run()
    plant.journal(driver.run(level=9.5))
    plant.notify()
    plant.notify()
    assert plant.phone.names == plant.boss.names == ["full"]
    plant.journal(driver.run(oil=90, level=9.5))
    plant.notify()
    assert plant.phone.names == ["full", "hot"]


def test_what_was_answered_before_the_start_is_not_told(plant: Plant) -> None:
    driver = Driver()
    driver.run()
    events = driver.run(oil=90, level=9.5)
    plant.journal([*events, driver.command("full", "acknowledge")])
    plant.notify()
    assert plant.phone.names == ["hot"]
    assert any("full: answered" in words for words in plant.said)


def test_a_channel_that_is_away_keeps_nobody_else_waiting_and_loses_nothing(plant: Plant) -> None:
    driver = Driver()
    driver.run()
    plant.journal(driver.run(level=9.5))
    plant.phone.is_away = True
    plant.notify()
    assert (plant.phone.names, plant.boss.names) == ([], ["full"])
    plant.phone.is_away = False
    plant.notify()  # (a new process)
    assert (plant.phone.names, plant.boss.names) == (["full"], ["full"])


def test_a_channel_that_does_not_answer_keeps_nobody_else_waiting(plant: Plant) -> None:
    """It says so after ten seconds: by then the other one must have been told."""
    driver = Driver()
    driver.run()
    plant.journal(driver.run(level=9.5))
    plant.phone.waits_for = plant.boss.has_taken
    plant.notify()
    assert (plant.phone.names, plant.boss.names) == (["full"], ["full"])
    plant.notify()  # (a new process)
    assert plant.phone.names == ["full"], "what it took at last is kept"


def test_a_line_that_nobody_can_read_is_said_and_passed(plant: Plant) -> None:
    driver = Driver()
    driver.run()
    topic = PLANT.topic("alarm-events")
    with contextlib.closing(wiring.open_publisher(plant.settings)) as publisher:
        publisher.publish([Message(topic, str(PLANT.address), b"{")])
    plant.journal(driver.run(level=9.5))
    plant.notify()
    assert plant.phone.names == ["full"]
    assert any("cannot be read" in words for words in plant.said)


def test_only_one_process_tells_people(plant: Plant) -> None:
    def ask_twice() -> bool:
        with pytest.raises(InputError, match="only one process"):
            plant.notify()
        return True

    plant.notify(should_stop=ask_twice)


def test_a_snapshot_that_is_none_is_explained(plant: Plant) -> None:
    (plant.settings.data_dir / "notify-p.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="remove it"):
        plant.notify()


def test_a_test_says_who_did_not_take_it() -> None:
    phone, boss = Channel(), Channel(is_away=True)
    said: list[str] = []
    assert not try_channels({"phone": phone, "boss": boss}, t_ns=1, say=said.append)
    assert said == ["phone took it", "boss did not: nobody there"]


def test_secrets_come_from_the_environment_and_are_never_shown(plant: Plant) -> None:
    with pytest.raises(SettingsError, match="SHIFT_SECRET must be set"):
        wiring.open_notifiers(plant.file.channels, {"SHIFT_URL": "https://h/hunter2"})
    with pytest.raises(SettingsError) as told:
        wiring.open_notifiers(plant.file.channels, {"SHIFT_URL": "hunter2", "SHIFT_SECRET": "s"})
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("channel: boss", "channel: bos", "channels of this file"),
        ("name: copy", "name: shift", "a name of its own"),
        ("channel: phone, p", "channel: phone, escalate_to: boss, p", "belong together"),
        ("url_from: SHIFT_URL", "url_from: FUSION_URL", "taken for a setting"),
        ("host: mail.example", "host: m, username: u, password_from: P, security: plain", "open"),
        ("kind: webhook", "kind: pigeon", "webhook"),
        ("routes:", "routes: [", "must be YAML"),
    ],
)
def test_every_mistake_is_explained(tmp_path: Path, old: str, new: str, why: str) -> None:
    path = tmp_path / "notify.yaml"
    path.write_text(FILE.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=why):
        load_notifications(path)
