"""A past that is too large for one answer is asked for in smaller parts, and not for ever."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

import connectors.opcua.history
from connectors.opcua import HistoryPatience, OpcUaSession
from connectors.opcua.bounding import HEADER, MAX_ANSWER_BYTES
from connectors.opcua.history import MAX_FAILURES
from fusion.errors import DeviceUnavailableError
from fusion.plant.devices import NodeSource, OpcUaDevice
from fusion.ports import Observed, Reading, Unusable
from tests.peers.opcua import OpcUaPeer
from tests.peers.peer import CLOCK, read_until
from tests.peers.spoiling import spoiling_way

pytestmark = pytest.mark.xdist_group("opcua")
REPORT_KB, NUM_REPORTS = 200, 40
"""Together twice what one answer may have."""
HISTORY_READ_RESPONSE = b"\x01\x00\x9b\x02"
"""Its type id, 667, in four bytes (Part 6, 5.2.2.9); before it come sizes and numbers."""
TYPE_AT = HEADER.size + 16
MOST_CONNECTIONS = 3 * MAX_FAILURES


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[OpcUaPeer]:
    made = OpcUaPeer(tmp_path, "asyncua", num_tags=2, history=True)
    made.start()
    yield made
    made.stop()


def with_reports(peer: OpcUaPeer) -> OpcUaDevice:
    """Return the device with the node of the reports first: the level's past comes behind it."""
    assert isinstance(peer.device, OpcUaDevice)
    (level,) = peer.device.nodes
    report = NodeSource.model_validate(
        level.model_dump() | {"node": "nsu=urn:tests:plc;s=Line1.Report", "tag": "report"}
    )
    return peer.device.model_copy(update={"nodes": (report, level)})


def read_on(
    device: OpcUaDevice, position: str, is_enough: Callable[[Sequence[Observed]], bool]
) -> tuple[list[Observed], int]:
    """Return what comes, over as many connections as it takes, and how many it took."""
    patience, found = HistoryPatience(), list[Observed]()
    for num_connections in range(1, MOST_CONNECTIONS):
        with (
            contextlib.suppress(DeviceUnavailableError),
            closing(OpcUaSession(device, position, clock=CLOCK, patience=patience)) as session,
        ):
            while not is_enough(found):
                found += session.read(timeout_s=0.2)
            return found, num_connections
    raise AssertionError(f"it never came to an end: {found[-3:]}")


def times_of(found: Sequence[Observed], tag: str) -> set[int]:
    return {each.t_source_ns for each in found if isinstance(each, Reading) and each.tag == tag}


def levels_of(found: Sequence[Observed]) -> list[float]:
    return [each.value for each in found if isinstance(each, Reading) and each.tag == "level"]


def position_after_a_first_value(peer: OpcUaPeer, device: OpcUaDevice) -> str:
    with closing(OpcUaSession(device, None, clock=CLOCK)) as session:
        peer.say(10.0)
        read_until(session, lambda found: any(each.value == 10.0 for each in found))
        return session.position()


def test_a_past_that_is_too_large_for_one_answer_comes_in_parts(peer: OpcUaPeer) -> None:
    device = with_reports(peer)
    position = position_after_a_first_value(peer, device)
    peer.server.tell(f"report {REPORT_KB} {NUM_REPORTS}")
    peer.say(20.0)
    found, num_connections = read_on(
        device, position, lambda found: len(times_of(found, "report")) >= NUM_REPORTS
    )
    assert num_connections == 3, "a thousand at once are too many, a hundred too, and ten are not"
    assert not [each for each in found if isinstance(each, Unusable)]


@pytest.mark.parametrize("stack", ["asyncua", "node-opcua"])
def test_a_past_of_more_values_than_are_asked_for_at_once_comes_whole(
    stack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a continuation point (node-opcua) and without one, although there is more (asyncua)."""
    peer = OpcUaPeer(tmp_path, stack, history=True)
    peer.start()
    try:
        assert isinstance(peer.device, OpcUaDevice)
        position = position_after_a_first_value(peer, peer.device)
        for value in range(50, 75):
            peer.say(float(value))
            time.sleep(0.05)  # (asyncua's own history would miss what is said too fast.)
        peer.say(20.0)
        monkeypatch.setattr(connectors.opcua.history, "VALUES_PER_REQUEST", 7)
        found, _ = read_on(peer.device, position, lambda found: 74.0 in levels_of(found))
    finally:
        peer.stop()
    values = [value for value in levels_of(found) if value >= 50]
    assert list(dict.fromkeys(values)) == [float(value) for value in range(50, 75)]


def test_a_past_that_always_ends_the_connection_is_left_out_with_a_reason(
    peer: OpcUaPeer,
) -> None:
    device = with_reports(peer)
    position = position_after_a_first_value(peer, device)
    peer.server.tell("report 1 1")
    peer.say(20.0)
    (port,) = re.findall(r":(\d+)/", device.endpoint)

    def promise_too_much(came: bytes) -> bytes:
        """Say of the history of the first node that it is longer than any answer may be."""
        is_history = came[TYPE_AT : TYPE_AT + 4] == HISTORY_READ_RESPONSE
        if is_history and b"xxxxxxxx" in came:
            return HEADER.pack(b"MSG", b"F", MAX_ANSWER_BYTES + 1) + came[HEADER.size :]
        return came

    with spoiling_way(int(port)) as way:
        way.spoil = promise_too_much
        through = device.model_copy(update={"endpoint": f"opc.tcp://127.0.0.1:{way.port}/plc"})
        found, num_connections = read_on(
            through,
            position,
            lambda found: 20.0 in levels_of(found) and "left out" in str(found),
        )
    assert num_connections == MAX_FAILURES + 1
    (left_out,) = [each for each in found if isinstance(each, Unusable)]
    assert "Line1.Report is left out" in left_out.why
    assert f"at most {MAX_ANSWER_BYTES} bytes" in left_out.why
