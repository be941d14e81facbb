"""What ends a connection while the past is read is held against a node only where it must be."""

# pyright: reportPrivateImportUsage=false, reportArgumentType=false
# (asyncua exports nothing by name, and its types are those of the wire.)

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from asyncua import ua

from connectors.opcua.history import MAX_FAILURES, HistoryPatience, HistoryReader
from connectors.opcua.values import datetime_of
from fusion.plant import NANOSECONDS
from fusion.plant.devices import NodeSource, OpcUaDevice
from fusion.ports import Observed, Reading, Unusable
from tests.clocks import START_NS, HandClock

NODES = ("ns=2;s=a", "ns=2;s=b")
SOURCES = tuple(NodeSource(node=node, stream="process", tag=node[-1]) for node in NODES)
DEVICE = OpcUaDevice(
    name="plc", protocol="opcua", endpoint="opc.tcp://127.0.0.1:1/plc", nodes=SOURCES
)
SINCE_NS = START_NS - 600 * NANOSECONDS


class Bound:
    broken: ConnectionError | None = None


class Server:
    """A client whose server keeps ``times_ns`` of each node; ``before`` sees each request.

    With ``gives_bound`` it gives the value before the start too, though nobody asks for it.
    """

    def __init__(self, times_ns: Sequence[int], *, gives_bound: bool = False) -> None:
        self.bound = Bound()
        self.before: Callable[[str, ua.ReadRawModifiedDetails], None] = lambda *_: None
        self._times_ns = times_ns
        self._gives_bound = gives_bound

    def get_node(self, node_id: ua.NodeId) -> Node:
        return Node(self, node_id)

    def answer(self, details: ua.ReadRawModifiedDetails) -> ua.HistoryReadResult:
        start = details.StartTime
        times = [datetime_of(each) for each in self._times_ns]
        found = [each for each in times if each >= start]
        if self._gives_bound:
            found = [each for each in times if each < start][-1:] + found
        values = [
            ua.DataValue(ua.Variant(1.0), SourceTimestamp=each)
            for each in found[: details.NumValuesPerNode]
        ]
        result = ua.HistoryReadResult()
        result.HistoryData = ua.HistoryData(DataValues=values)
        return result


class Node:
    def __init__(self, server: Server, node_id: ua.NodeId) -> None:
        self._server = server
        self._node_id = node_id

    async def history_read(
        self, details: ua.ReadRawModifiedDetails, _point: bytes | None
    ) -> ua.HistoryReadResult:
        self._server.before(str(self._node_id.Identifier), details)
        return self._server.answer(details)


def connected(server: Server, patience: HistoryPatience) -> HistoryReader:
    since_ns = {"process": SINCE_NS}
    node_ids = [ua.NodeId.from_string(node) for node in NODES]
    return HistoryReader(
        server,  # type: ignore[arg-type]
        DEVICE,
        SOURCES,
        node_ids,
        since_ns,
        clock=HandClock(),
        patience=patience,
    )


def read_whole(reader: HistoryReader) -> list[Observed]:
    found: list[Observed] = []
    while not reader.is_done:
        found += asyncio.run(reader.next())
    return found


def tags_of(found: Sequence[Observed]) -> list[str]:
    assert not [each for each in found if isinstance(each, Unusable)], found
    return [each.tag for each in found if isinstance(each, Reading)]


def fail(with_what: Exception) -> Callable[..., None]:
    def before(*_: object) -> None:
        raise with_what

    return before


@pytest.mark.parametrize("failed", [ConnectionError("closed"), TimeoutError()])
def test_a_network_that_fails_now_and_then_takes_no_nodes_past(failed: Exception) -> None:
    patience, server = HistoryPatience(), Server([SINCE_NS + NANOSECONDS])
    for _ in range(2 * MAX_FAILURES):
        server.before = fail(failed)
        with pytest.raises(type(failed)):
            read_whole(connected(server, patience))
        server.before = lambda *_: None
        assert tags_of(read_whole(connected(server, patience))) == ["a", "b"]


def test_a_loss_somewhere_else_each_time_is_nobodys_failure() -> None:
    num_values = 5_500
    patience = HistoryPatience()
    server = Server([SINCE_NS + (1 + n) * 1_000_000 for n in range(num_values)])
    for num_good in range(1, 6):
        reader = connected(server, patience)
        for _ in range(num_good):
            asyncio.run(reader.next())
        server.before = fail(ConnectionError("closed"))
        with pytest.raises(ConnectionError):
            asyncio.run(reader.next())
        server.before = lambda *_: None
        assert patience.num_values(NODES[0]) == 1_000
    assert len(tags_of(read_whole(connected(server, patience)))) == 2 * num_values


def until_done(server: Server, patience: HistoryPatience) -> tuple[list[Observed], int]:
    """Return what the connection gives that comes to the end, and how many it took."""
    for num_connections in range(1, 50):
        server.bound = Bound()
        try:
            return read_whole(connected(server, patience)), num_connections
        except OSError:
            continue
    raise AssertionError("it never came to an end")


def test_a_server_that_always_hangs_over_one_request_is_not_asked_for_ever() -> None:
    patience, server = HistoryPatience(), Server([SINCE_NS + NANOSECONDS])

    def hang(node: str, _details: object) -> None:
        if node == "a":
            raise TimeoutError

    server.before = hang
    found, num_connections = until_done(server, patience)
    assert num_connections == MAX_FAILURES + 2, "the first time, it may have been the network"
    left_out, reading = found
    assert isinstance(left_out, Unusable)
    assert "TimeoutError" in left_out.why
    assert isinstance(reading, Reading)
    assert reading.tag == "b"


def test_two_nodes_whose_past_is_too_large_do_not_undo_what_was_learnt() -> None:
    patience = HistoryPatience()
    server = Server([SINCE_NS + (1 + n) * NANOSECONDS for n in range(50)])

    def break_the_bound(_node: str, details: ua.ReadRawModifiedDetails) -> None:
        if details.NumValuesPerNode > 10:
            server.bound.broken = ConnectionError("an answer must have at most")
            raise ConnectionError("Connection is closed")

    server.before = break_the_bound
    found, num_connections = until_done(server, patience)
    assert len(tags_of(found)) == 100
    assert num_connections == 5, "for each node a thousand at once are too many, and a hundred"
    assert patience.num_values(NODES[0]) == 1_000, "the next gap may be a short one"


def test_the_value_before_the_start_does_not_hide_what_is_behind_it() -> None:
    """Also where as little is asked for at once as ever."""
    patience = HistoryPatience()
    for _ in range(MAX_FAILURES - 1):
        for node in NODES:
            patience.note_too_much(node, ConnectionError("too much"))
    times_ns = [SINCE_NS - NANOSECONDS, *(SINCE_NS + n * NANOSECONDS for n in range(1, 6))]
    found = read_whole(connected(Server(times_ns, gives_bound=True), patience))
    assert tags_of(found) == ["a"] * 5 + ["b"] * 5


def test_an_answer_that_is_full_of_what_nobody_asked_for_is_told() -> None:
    class Deaf(Server):
        def answer(self, details: ua.ReadRawModifiedDetails) -> ua.HistoryReadResult:
            details.StartTime = datetime_of(0)
            return super().answer(details)

    deaf = Deaf([SINCE_NS - (2_000 - n) * NANOSECONDS for n in range(1_500)])
    told = read_whole(connected(deaf, HistoryPatience()))
    assert [type(each) for each in told] == [Unusable, Unusable]
    assert "from before" in str(told)
