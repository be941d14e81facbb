"""Whatever happens to broker and sender: every message arrives, in order, repeats apart."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.embedded_broker import EmbeddedBroker, EmbeddedPublisher, EmbeddedSource
from fusion.errors import BrokerUnavailableError, InputError, SettingsError, SpoolFullError
from fusion.schema import MAX_RECORD_BYTES, Message, TopicPartition
from fusion.stream.spool import MAX_BACKOFF_S, SpoolingPublisher
from fusion.stream.spool_log import SPOOL_GROUP, SPOOL_TOPIC
from tests.clocks import HandClock


class Remote:
    """A broker that answers, refuses, says nothing, or takes a part and forgets to say so."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.log: list[Message] = []
        self.state = "up"
        self.num_taken = 0
        self.bundle: Sequence[Message] | None = None
        self.largest_bundle = 0

    def send(self, messages: Sequence[Message]) -> None:
        assert self.bundle is None, "one bundle at once"
        self.bundle = messages
        self.largest_bundle = max(self.largest_bundle, sum(len(m.value) for m in messages))

    def finished(self, *, wait_s: float) -> bool:
        assert self.bundle is not None
        if self.state == "silent":
            self.clock.sleep(wait_s)
            return False
        bundle, self.bundle = self.bundle, None
        if self.state == "up":
            self.log += bundle
            return True
        if self.state == "forgetful":
            self.log += bundle[: self.num_taken]
        if self.state == "locked":
            raise SettingsError("the password must be the broker's")
        if self.state == "broken":
            raise RuntimeError("a mistake of ours")
        raise BrokerUnavailableError("away")

    def close(self) -> None:
        """A process that ends: what was under way may still arrive, whole or in part."""
        if self.bundle is not None:
            self.log += self.bundle[: self.num_taken]
            self.bundle = None


class CrashError(BaseException):
    """The process ends here: nothing can be done about it."""


class CrashingPublisher(EmbeddedPublisher):
    """Ends the process between the broker's acknowledgement and the local commit, when asked."""

    is_armed = False

    def publish(
        self, messages: Sequence[Message], *, commit: Mapping[TopicPartition, int] | None = None
    ) -> None:
        if commit and self.is_armed:
            raise CrashError
        super().publish(messages, commit=commit)


class Machine:
    """A disk, a broker elsewhere, and the process that sends."""

    def __init__(self, folder: Path, *, max_bytes: int = 10**9) -> None:
        self.path = folder / "spool.sqlite"
        self.max_bytes = max_bytes
        self.clock = HandClock()
        self.remote = Remote(self.clock)
        self.start()

    def start(self) -> None:
        broker = EmbeddedBroker(self.path)
        broker.create_topic(SPOOL_TOPIC)
        self.local = CrashingPublisher(broker, group=SPOOL_GROUP)
        self.spool = SpoolingPublisher(
            self.remote,
            local=self.local,
            local_source=EmbeddedSource(broker, [SPOOL_TOPIC], SPOOL_GROUP),
            trim=broker.delete_before,
            max_bytes=self.max_bytes,
            clock=self.clock,
        )

    def restart(self) -> None:
        self.spool.close()
        self.start()

    def publish(self, todo: list[Message]) -> None:
        """Publish ``todo``, and clear it when it was taken."""
        try:
            self.spool.publish(todo)
        except SpoolFullError:
            return
        except (SettingsError, RuntimeError):
            pass  # (it is kept all the same)
        todo.clear()

    def arrived(self) -> list[Message]:
        """Return what readers see: the first of every message."""
        seen: dict[bytes, Message] = {}
        for message in self.remote.log:
            seen.setdefault(message.value, message)
        return list(seen.values())


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.spool.close()


def make(number: int, *, num_bytes: int = 10, key: str = "k") -> Message:
    value = f"{number}".encode().ljust(num_bytes, b".")
    return Message(f"plant.{key}", key, value, {"seq": str(number), "spool": "mine"})


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 4)),
        st.tuples(st.just("publish"), st.integers(1, 4)),
        st.tuples(st.sampled_from(["up", "down", "silent", "locked", "broken"]), st.just(0)),
        st.tuples(st.just("forgetful"), st.integers(0, 5)),
        st.tuples(st.just("crash in commit"), st.just(0)),
        st.tuples(st.just("restart"), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.integers(1, 12)),
        st.tuples(st.just("flush"), st.integers(0, 3)),
    ),
    max_size=40,
)


@given(steps=STEPS, max_bytes=st.sampled_from([900, 10**9]))
@settings(max_examples=100, deadline=None)
def test_every_message_arrives_in_order(steps: list[tuple[str, int]], max_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder), max_bytes=max_bytes)
        todo: list[Message] = []
        num_made = 0

        for what, number in steps:
            try:
                if what == "publish":
                    keys = [f"key{n % 2}" for n in range(num_made, num_made + number)]
                    todo += [make(num_made + n, key=key) for n, key in enumerate(keys)]
                    num_made += number
                    machine.publish(todo)
                elif what in {"up", "down", "silent", "forgetful", "locked", "broken"}:
                    machine.remote.state, machine.remote.num_taken = what, number
                elif what == "crash in commit":
                    machine.local.is_armed = True
                elif what == "restart":
                    machine.remote.num_taken = number
                    machine.restart()
                elif what == "wait":
                    machine.clock.sleep(number)
                else:
                    with contextlib.suppress(SettingsError, RuntimeError):
                        machine.spool.flush(number)
            except CrashError:
                machine.restart()
            assert 0 <= machine.spool.waiting_bytes <= max_bytes

        machine.remote.state = "up"
        machine.local.is_armed = False
        with contextlib.suppress(SettingsError, RuntimeError):
            machine.spool.flush(0)  # (a bundle that had failed before)
        assert machine.spool.flush(60)
        # What found no room is tried again, after the longest backoff.
        machine.clock.sleep(MAX_BACKOFF_S)
        machine.publish(todo)
        assert not todo
        assert machine.spool.flush(60)
        assert machine.spool.waiting_records == machine.spool.waiting_bytes == 0
        machine.restart()
        assert machine.spool.waiting_records == 0
        machine.spool.close()
        assert machine.arrived() == [make(n, key=m.key) for n, m in enumerate(machine.arrived())]
        assert len(machine.arrived()) == num_made


def test_while_the_broker_answers_nothing_is_written_or_repeated(machine: Machine) -> None:
    sent = [make(n) for n in range(20)]
    for message in sent:
        machine.spool.publish([message])
    assert machine.remote.log == sent
    with contextlib.closing(EmbeddedSource(EmbeddedBroker(machine.path), [SPOOL_TOPIC], "x")) as s:
        assert set(s.end_offsets().values()) == {0}


@pytest.mark.parametrize(("state", "error"), [("locked", SettingsError), ("broken", RuntimeError)])
def test_what_a_person_has_to_mend_is_said_and_costs_no_message(
    machine: Machine, state: str, error: type[Exception]
) -> None:
    machine.remote.state = state
    num_told = 0
    for number in range(100):
        try:
            machine.spool.publish([make(number)])
        except error:
            num_told += 1
        assert machine.spool.waiting_records == number + 1
        machine.clock.sleep(0.1)
    assert 2 <= num_told < 20, "it is said when it is tried, and tried ever less often"
    assert isinstance(machine.spool.last_error, error)
    machine.restart()
    assert machine.spool.waiting_records == 100
    machine.remote.state = "up"
    assert machine.spool.flush(60)
    assert [m.headers["seq"] for m in machine.remote.log] == [str(n) for n in range(100)]
    assert machine.spool.last_error is None


def test_a_full_spool_says_so_also_when_something_else_is_wrong(tmp_path: Path) -> None:
    machine = Machine(tmp_path, max_bytes=100)
    machine.remote.state = "locked"
    with pytest.raises(SpoolFullError, match="the password must be") as full:
        machine.spool.publish([make(0, num_bytes=400)])
    assert isinstance(full.value.__context__, SettingsError)
    machine.spool.close()


def test_a_slow_answer_is_not_sent_twice(machine: Machine) -> None:
    machine.remote.state = "silent"
    sent = [make(n) for n in range(5)]
    for message in sent:
        machine.spool.publish([message])
    assert machine.spool.waiting_records == 5
    machine.remote.state = "up"
    assert machine.spool.flush(1)
    assert machine.remote.log == sent


def test_a_message_that_found_no_room_takes_none_of_another_with_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path, max_bytes=500)
    machine.remote.state = "silent"
    with pytest.raises(SpoolFullError, match="at most 0 MB may wait"):
        machine.spool.publish([make(0, num_bytes=400)])
    machine.spool.publish([make(1)])
    machine.remote.state = "up"
    assert machine.spool.flush(1)
    assert [m.headers["seq"] for m in machine.remote.log] == ["0", "1"]
    machine.spool.close()


def test_attempts_are_spread_ever_wider(machine: Machine) -> None:
    machine.remote.state = "down"
    attempts: list[int] = []
    count = machine.remote.send

    def counted(messages: Sequence[Message]) -> None:
        attempts.append(machine.clock.t_ns)
        count(messages)

    machine.remote.send = counted  # type: ignore[method-assign]
    for number in range(600):
        machine.spool.publish([make(number)])
        machine.clock.sleep(0.1)
    pauses = [(later - before) / 1e9 for before, later in itertools.pairwise(attempts)]
    assert len(attempts) < 20
    assert pauses[0] < 1 < pauses[4]
    assert max(pauses) <= MAX_BACKOFF_S + 0.1
    assert len({round(pause, 3) for pause in pauses[5:]}) > 1


@pytest.mark.parametrize("step_s", [-3_600, 3_600])
def test_a_clock_that_is_set_changes_no_pause_between_attempts(
    machine: Machine, step_s: float
) -> None:
    machine.remote.state = "down"
    attempts: list[int] = []
    send = machine.remote.send

    def counted(messages: Sequence[Message]) -> None:
        attempts.append(machine.clock.monotonic_ns())
        send(messages)

    machine.remote.send = counted  # type: ignore[method-assign]
    for number in range(600):
        if number in {100, 400}:
            machine.clock.set_s(step_s if number == 100 else -step_s)
        machine.spool.publish([make(number)])
        machine.clock.sleep(0.1)
    pauses = [(later - before) / 1e9 for before, later in itertools.pairwise(attempts)]
    assert max(pauses) <= MAX_BACKOFF_S + 0.1
    assert min(pauses[5:]) >= MAX_BACKOFF_S / 2


def test_bundles_are_bounded_and_small_after_failures(machine: Machine) -> None:
    machine.remote.state = "down"
    for number in range(40):
        machine.spool.publish([make(number, num_bytes=500_000)])
    machine.clock.sleep(60)
    machine.remote.largest_bundle = 0
    machine.remote.state = "up"
    assert machine.spool.flush(0) is False
    first = machine.remote.largest_bundle
    assert machine.spool.flush(60)
    assert first <= 1_000_000
    assert machine.remote.largest_bundle <= 4 * 1024 * 1024
    assert len(machine.arrived()) == 40


def test_what_no_broker_would_take_is_refused_at_the_door(machine: Machine) -> None:
    with pytest.raises(InputError, match="at most 4194304 bytes"):
        machine.spool.publish([make(0), make(1, num_bytes=MAX_RECORD_BYTES + 1)])
    assert machine.remote.log == []


def test_a_full_disk_says_so_and_sends_what_it_has(small_disk: Path) -> None:
    machine = Machine(small_disk)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 * 1024 * 1024))
    machine.remote.state = "down"
    num_kept = 0
    with contextlib.suppress(SpoolFullError):
        while True:
            machine.spool.publish([make(num_kept, num_bytes=50_000)])
            num_kept += 1
    with pytest.raises(SpoolFullError, match="must fit on the disk"):
        machine.spool.publish([make(num_kept, num_bytes=50_000)])
    assert num_kept > 10
    machine.remote.state = "up"
    assert machine.spool.flush(60)
    ballast.unlink()
    machine.restart()
    machine.spool.publish([make(num_kept, num_bytes=50_000)])
    assert machine.spool.flush(60)
    assert [int(m.headers["seq"]) for m in machine.arrived()] == list(range(num_kept + 1))
    machine.spool.close()
