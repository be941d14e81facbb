"""Commands while the broker fails: each arrives, under one id, and whoever asked is told."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from console import commands
from console.commands import Asked, Begun, Commands
from console.picture import Shown
from console.ports import Ports
from flows.console import open_ports
from flows.settings import Settings
from fusion.errors import BrokerUnavailableError, InputError
from fusion.schema import AlarmCommand, Message, TopicPartition
from tests.console_app import PLANT, alarm_state

SHOWN = Shown(alarm_state(), 1)


@dataclass
class Broker:
    """A broker that is away when told so, and sometimes loses its answer but not the message."""

    is_away: bool = False
    loses_answers: int = 0
    refuses: str = ""
    has: list[AlarmCommand] = field(default_factory=list[AlarmCommand])

    def publish(
        self, messages: Sequence[Message], *, commit: Mapping[TopicPartition, int] | None = None
    ) -> None:
        assert commit is None
        if self.is_away:
            raise BrokerUnavailableError("away")
        asked = [AlarmCommand.model_validate_json(message.value) for message in messages]
        if any(self.refuses and self.refuses in command.note for command in asked):
            raise InputError("not that")
        self.has += asked
        if self.loses_answers:
            self.loses_answers -= 1
            raise BrokerUnavailableError("no answer")

    def close(self) -> None:
        """Free nothing."""


@pytest.fixture
def ports(tmp_path: Path) -> Ports:
    return open_ports([PLANT], Settings(data_dir=tmp_path))


@contextlib.contextmanager
def sending(ports: Ports, broker: Broker) -> Iterator[Commands]:
    sender = Commands(replace(ports, open_publisher=lambda: broker))
    try:
        yield sender
    finally:
        sender.close()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "PATIENCE_S", 0.2)
    monkeypatch.setattr(commands, "PAUSE_S", 0.01)


def ask(sender: Commands, note: str, who: str = "olga") -> Begun:
    return sender.ask(SHOWN, Asked(action="comment", revision=1, note=note), who=who)


def until_sent(sender: Commands) -> None:
    for _ in range(500):
        if not sender.num_waiting("olga"):
            return
        threading.Event().wait(0.01)
    raise AssertionError("something waits still")


def test_what_was_on_its_way_is_sent_when_the_broker_is_back(ports: Ports) -> None:
    broker = Broker()
    with sending(ports, broker) as sender:
        assert ask(sender, "before").is_sent
        broker.is_away = True
        waiting = [ask(sender, f"meanwhile {n}") for n in range(3)]
        assert not any(each.is_sent for each in waiting)
        assert (sender.num_waiting("olga"), sender.num_waiting("oscar")) == (3, 0)
        broker.is_away = False
        until_sent(sender)
    assert [each.note for each in broker.has] == ["before", *(f"meanwhile {n}" for n in range(3))]


def test_an_answer_that_was_lost_repeats_the_id_and_never_the_command(ports: Ports) -> None:
    """The live process does each id once (``test_laws.py`` of the alarms)."""
    broker = Broker(loses_answers=2)
    with sending(ports, broker) as sender:
        assert ask(sender, "once").is_sent
    assert len(broker.has) == 3
    assert len({each.id for each in broker.has}) == 1


def test_many_at_once_all_arrive(ports: Ports) -> None:
    broker = Broker(loses_answers=5)
    with sending(ports, broker) as sender, ThreadPoolExecutor(16) as people:
        begun = list(people.map(lambda n: ask(sender, f"{n}"), range(100)))
        until_sent(sender)
    assert {each.command.id for each in begun} == {each.id for each in broker.has}


def test_what_the_broker_does_not_take_is_said_and_holds_up_nobody(ports: Ports) -> None:
    with sending(ports, Broker(refuses="wrong")) as sender:
        with pytest.raises(InputError, match="not that"):
            ask(sender, "wrong")
        assert ask(sender, "right").is_sent


def test_no_more_wait_than_may(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_WAITING", 2)
    broker = Broker(is_away=True)
    with sending(ports, broker) as sender:
        assert not ask(sender, "one").is_sent
        assert not ask(sender, "two").is_sent
        with pytest.raises(BrokerUnavailableError, match="nothing was sent"):
            ask(sender, "three")
        broker.is_away = False
        until_sent(sender)
    assert [each.note for each in broker.has] == ["one", "two"]
