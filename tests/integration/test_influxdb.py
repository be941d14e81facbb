"""An InfluxDB is read on after an outage: every row once, in order, in bounded parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import connectors.influxdb
from fusion.errors import DeviceUnavailableError, InputError
from fusion.plant.devices import InfluxDevice
from fusion.schema import Quality
from tests.peers.influx import InfluxPeer
from tests.peers.peer import read_until

pytestmark = pytest.mark.xdist_group("devices")


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[InfluxPeer]:
    made = InfluxPeer(tmp_path)
    made.start()
    yield made
    made.stop()


def test_what_was_written_in_an_outage_is_caught_up_in_parts(
    peer: InfluxPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connectors.influxdb, "ROWS_PER_QUERY", 7)
    with closing(peer.open()) as session:
        peer.say(0.0)
        read_until(session, bool)
        position = session.position()
        peer.stop()
        with pytest.raises(DeviceUnavailableError):
            read_until(session, lambda _: False)
    peer.start()
    for value in range(1, 41):
        peer.say(float(value))
    with closing(peer.open(position)) as session:
        found = read_until(session, lambda found: len(found) >= 40)
        assert not session.read(timeout_s=0.1)
    assert [each.value for each in found] == [float(value) for value in range(1, 41)]
    times = [each.t_source_ns for each in found]
    assert times == sorted(times)


def test_what_is_no_number_is_bad(peer: InfluxPeer) -> None:
    with closing(peer.open()) as session:
        peer.say_field('"a text"')
        (found,) = read_until(session, bool)
    assert found.quality is Quality.BAD


def test_a_database_that_is_not_there_is_explained(peer: InfluxPeer) -> None:
    assert isinstance(peer.device, InfluxDevice)
    peer.device = peer.device.model_copy(update={"database": "other"})
    with pytest.raises(InputError, match="database not found"), closing(peer.open()) as session:
        read_until(session, lambda _: False, patience_s=2)


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"null", b'{"results": 1}', b'{"results": [{"series": [{"values": 3}]}]}', b"["],
)
def test_answers_of_something_else_are_no_connection(
    peer: InfluxPeer, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(peer.open()) as session:
        monkeypatch.setattr("requests.Response.iter_content", lambda _self, _size: iter([answer]))
        with pytest.raises(DeviceUnavailableError, match="must be reached"):
            session.read(timeout_s=0.1)


def test_an_endless_answer_is_given_up(peer: InfluxPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connectors.influxdb, "MAX_ANSWER_BYTES", 10)
    with pytest.raises(DeviceUnavailableError):
        peer.open()
