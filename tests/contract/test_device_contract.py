"""The laws of a connection to a device, the same for every protocol, each on its real peer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fusion.errors import DeviceUnavailableError
from fusion.ports import DeviceSession, TakesReceipts
from tests.peers.black_hole import black_hole
from tests.peers.folders import FolderPeer
from tests.peers.influx import InfluxPeer, InfluxServer
from tests.peers.mjpeg import MjpegPeer
from tests.peers.modbus import ModbusPeer
from tests.peers.mqtt import JsonPeer, Mosquitto, SparkplugPeer
from tests.peers.opcua import OpcUaPeer
from tests.peers.peer import PATIENCE_S, Peer, Seen, read_until, seen
from tests.peers.processes import ToldProcess
from tests.peers.rtsp import RtspPeer

TOLERANCE = 4.0
"""Of a value from 0 to 100: films and sound are compressed."""


@dataclass(frozen=True)
class Protocol:
    """One protocol's peer, and which laws it cannot break because it has nothing of the kind."""

    make: Callable[[Path], Peer]
    keeps: bool = False
    """Whether the peer keeps what it says while nobody is connected."""
    freezes: bool = False
    """Whether a connection to it can stay open and silent."""
    polls: bool = False
    """Whether it is asked what holds now, so that what held in between is not seen."""
    stamps: bool = False
    """Whether it says its own time with each value, and that clock can be set wrong here."""


def on_files(kind: str) -> Protocol:
    return Protocol(
        lambda folder: FolderPeer(folder, kind), keeps=True, stamps=kind in {"csv", "parquet"}
    )


def on_opcua(stack: str) -> Protocol:
    return Protocol(lambda folder: OpcUaPeer(folder, stack), freezes=True, stamps=True)


def on_rtsp(kind: str) -> Protocol:
    return Protocol(lambda folder: RtspPeer(folder, kind), freezes=True, polls=True)


PROTOCOLS = {
    "csv": on_files("csv"),
    "parquet": on_files("parquet"),
    "wav": on_files("wav"),
    "flac": on_files("flac"),
    "mp4": on_files("mp4"),
    "asyncua": on_opcua("asyncua"),
    "node-opcua": on_opcua("node-opcua"),
    "mqtt-json": Protocol(JsonPeer, freezes=True, stamps=True),
    "sparkplug": Protocol(SparkplugPeer, freezes=True, stamps=True),
    # (A historian is read by time: what is dated wrongly in it lies elsewhere.)
    "influxdb": Protocol(InfluxPeer, keeps=True, freezes=True),
    "modbus-tcp": Protocol(ModbusPeer, freezes=True, polls=True),
    "http-camera": Protocol(MjpegPeer, freezes=True, polls=True),
    "rtsp-camera": on_rtsp("camera"),
    "rtsp-sound": on_rtsp("sound"),
}


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.xdist_group("devices")) for name in PROTOCOLS]
)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    return PROTOCOLS[request.param]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Peer]]:
    """Servers that start slowly, once for all laws."""
    peers: dict[str, Peer] = {}
    yield peers
    for each in peers.values():
        each.stop()


@pytest.fixture
def peer(
    protocol: Protocol,
    request: pytest.FixtureRequest,
    running: dict[str, Peer],
    tmp_path: Path,
) -> Iterator[Peer]:
    """A peer that runs, and has said nothing but 0 yet."""
    if protocol.keeps:
        made = protocol.make(tmp_path)
        made.start()
        yield made
        made.stop()
        return
    name = request.node.callspec.params["protocol"]
    if name not in running:
        running[name] = protocol.make(request.getfixturevalue("tmp_path_factory").mktemp(name))
        running[name].start()
    running[name].say(0.0)
    yield running[name]


def has(*values: float) -> Callable[[list[Seen]], bool]:
    return lambda found: all(
        any(abs(each.value - value) <= TOLERANCE for each in found) for value in values
    )


@contextmanager
def opened(peer: Peer, position: str | None = None) -> Iterator[DeviceSession]:
    """A session, opened again while the peer is still coming up."""
    t_end_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            session = peer.open(position)
            break
        except DeviceUnavailableError:
            assert time.monotonic() < t_end_s
            time.sleep(0.2)
    with closing(session):
        yield session
        if isinstance(session, TakesReceipts):
            session.receipt()  # Or the next session would be told the same again.


def test_what_is_said_comes_with_its_times(peer: Peer, protocol: Protocol) -> None:
    with opened(peer) as session:
        began_ns = time.time_ns()
        peer.say(20.0)
        found = read_until(session, has(20.0)) if protocol.polls else []
        peer.say(60.0)
        found += read_until(session, has(60.0) if protocol.polls else has(20.0, 60.0))
        ended_ns = time.time_ns()
    (stream,) = peer.device.streams
    wanted = [each for each in found if has(20.0)([each]) or has(60.0)([each])]
    for each in wanted:
        assert each.stream == stream
        # A sound of 0.1 s begins when it is said; clocks of other processes are this machine's.
        assert began_ns - 10**8 <= each.t_source_ns <= ended_ns + 2 * 10**8
        assert began_ns <= each.t_receive_ns <= ended_ns
    assert [round(each.value, -1) for each in wanted][:1] == [20.0]


def test_nothing_said_is_nothing_read(peer: Peer) -> None:
    with opened(peer) as session:
        peer.say(30.0)
        read_until(session, has(30.0))
        position = session.position()
        assert not has(70.0)(seen(session.read(timeout_s=0.05)))
        assert isinstance(position, str)


def test_a_peer_that_is_not_there_is_unavailable(protocol: Protocol, tmp_path: Path) -> None:
    absent = protocol.make(tmp_path)
    with pytest.raises(DeviceUnavailableError) as raised:
        absent.open()
    assert absent.device.name in str(raised.value)


def test_a_peer_that_leaves_is_noticed_and_read_on_from(peer: Peer, protocol: Protocol) -> None:
    with opened(peer) as session:
        peer.say(20.0)
        read_until(session, has(20.0))
        position = session.position()
        peer.stop()
        with pytest.raises(DeviceUnavailableError):
            read_until(session, lambda _: False)
    peer.start()
    with opened(peer, position) as session:
        peer.say(80.0)
        found = read_until(session, has(80.0))
    if protocol.keeps:
        assert not has(20.0)(found), "it was read before that position"


def test_a_position_goes_on_where_it_was_taken(peer: Peer, protocol: Protocol) -> None:
    if not protocol.keeps:
        # Nothing is kept, so nothing may come twice either.
        with opened(peer) as session:
            peer.say(20.0)
            read_until(session, has(20.0))
            position = session.position()
        with opened(peer, position) as session:
            peer.say(50.0)
            read_until(session, has(50.0))
        return
    with opened(peer) as session:
        peer.say(20.0)
        read_until(session, has(20.0))
        position = session.position()
    peer.say(50.0)
    with opened(peer, position) as session:
        peer.say(80.0)
        found = read_until(session, has(50.0, 80.0))
    assert not has(20.0)(found)


def test_closing_twice_does_no_harm(peer: Peer) -> None:
    with opened(peer) as session:
        session.close()
        session.close()


def test_a_frozen_peer_is_noticed_and_neither_close_nor_open_hangs(
    peer: Peer, protocol: Protocol
) -> None:
    if not protocol.freezes:
        assert not hasattr(peer, "server")
        return
    server: ToldProcess | Mosquitto | InfluxServer = peer.server  # type: ignore[attr-defined]
    with opened(peer) as session:
        peer.say(20.0)
        read_until(session, has(20.0))
        server.freeze()
        try:
            with pytest.raises(DeviceUnavailableError):
                read_until(session, lambda _: False)
            session.close()
            with pytest.raises(DeviceUnavailableError):
                peer.open()
        finally:
            server.thaw()
    with opened(peer) as session:
        peer.say(70.0)
        read_until(session, has(70.0))


def test_a_black_hole_is_noticed_and_left_again(peer: Peer, protocol: Protocol) -> None:
    if not protocol.freezes:
        return  # A folder has no network.
    (port,) = {
        int(found)
        for found in re.findall(r"(?:127\.0\.0\.1:|port': )(\d+)", str(peer.device.model_dump()))
    }
    with opened(peer) as session:
        peer.say(20.0)
        read_until(session, has(20.0))
        with black_hole(port):
            with pytest.raises(DeviceUnavailableError):
                read_until(session, lambda _: False)
            session.close()
            with pytest.raises(DeviceUnavailableError):
                peer.open()
    with opened(peer) as session:
        peer.say(70.0)
        read_until(session, has(70.0))


def test_a_clock_that_jumps_is_told_as_it_is(peer: Peer, protocol: Protocol) -> None:
    """Both ways: what to do about it, is decided once for all protocols (alignment)."""
    if not protocol.stamps:
        assert not getattr(peer, "ahead_s", 0.0)
        return
    jumps = {20.0: 0.0, 40.0: 3_600.0, 60.0: -3_600.0, 80.0: 0.0}
    began_ns = time.time_ns()
    with opened(peer) as session:
        found: list[Seen] = []
        try:
            for value, ahead_s in jumps.items():
                peer.ahead_s = ahead_s  # type: ignore[attr-defined]
                peer.say(value)
                found += read_until(session, has(value))
        finally:
            peer.ahead_s = 0.0  # type: ignore[attr-defined]
    ended_ns = time.time_ns()
    for value, ahead_s in jumps.items():
        (said,) = [each for each in found if has(value)([each])]
        # (Sparkplug counts milliseconds.)
        assert began_ns - 10**6 <= said.t_source_ns - round(ahead_s * 1e9) <= ended_ns
        assert began_ns <= said.t_receive_ns <= ended_ns


def test_a_flood_comes_in_bounded_parts_and_in_order(peer: Peer) -> None:
    with opened(peer) as session:
        for value in range(30):
            peer.say(float(3 * value))
        found = read_until(session, has(87.0))
    assert len(found) <= 200
    times = [each.t_source_ns for each in found if each.t_source_ns > 0]
    assert times == sorted(times)
