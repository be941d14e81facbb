"""The carrier waits in its sender's place, one bundle at once, and opens the broker anew."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence

import pytest

from flows.carrier import BackgroundCarrier
from fusion.errors import BrokerUnavailableError, InputError
from fusion.schema import Message, TopicPartition

LONG_S = 30.0


class Slow:
    """A publisher that answers when it is let go, with an error when it has one."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.error: Exception | None = None
        self.num_opened = 0
        self.num_closed = 0
        self.log: list[Message] = []

    def open(self) -> Slow:
        self.num_opened += 1
        return self

    def publish(
        self, messages: Sequence[Message], *, commit: Mapping[TopicPartition, int] | None = None
    ) -> None:
        assert commit is None
        assert self.may_answer.wait(LONG_S)
        if self.error is not None:
            raise self.error
        self.log += messages

    def close(self) -> None:
        self.num_closed += 1
        if self.error is not None:
            raise RuntimeError("it does not even close")


@pytest.fixture
def remote() -> Slow:
    return Slow()


@pytest.fixture
def carrier(remote: Slow) -> Iterator[BackgroundCarrier]:
    with contextlib.closing(BackgroundCarrier(remote.open)) as made:
        yield made
        remote.may_answer.set()


ONE = [Message("t", "k", b"1")]


def test_a_broker_that_says_nothing_holds_up_nobody(
    carrier: BackgroundCarrier, remote: Slow
) -> None:
    carrier.send(ONE)
    assert not carrier.finished(wait_s=0.05)
    assert not carrier.finished(wait_s=0)
    remote.may_answer.set()
    assert carrier.finished(wait_s=LONG_S)
    assert remote.log == ONE


def test_after_a_failure_the_broker_is_opened_anew(
    carrier: BackgroundCarrier, remote: Slow
) -> None:
    remote.may_answer.set()
    remote.error = BrokerUnavailableError("away")
    for _ in range(2):
        carrier.send(ONE)
        with pytest.raises(BrokerUnavailableError, match="away"):
            carrier.finished(wait_s=LONG_S)
    remote.error = None
    for _ in range(3):
        carrier.send(ONE)
        assert carrier.finished(wait_s=LONG_S)
    carrier.close()
    assert remote.log == ONE * 3
    assert remote.num_opened == remote.num_closed == 3


def test_what_a_person_must_mend_reaches_the_sender(
    carrier: BackgroundCarrier, remote: Slow
) -> None:
    remote.may_answer.set()
    remote.error = InputError("mend me")
    carrier.send(ONE)
    with pytest.raises(InputError, match="mend me"):
        carrier.finished(wait_s=LONG_S)
