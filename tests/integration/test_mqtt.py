"""What a broker was given with QoS 1 comes, however the connection to it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import connectors.mqtt.session
from fusion.errors import DeviceUnavailableError
from fusion.schema import Quality
from tests.peers.mqtt import JsonPeer, SparkplugPeer
from tests.peers.peer import PATIENCE_S, read_until, seen

pytestmark = pytest.mark.xdist_group("devices")
NUM_SAID = 60
"""Several times what mosquitto has under way at once."""


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[JsonPeer]:
    made = JsonPeer(tmp_path)
    made.start()
    yield made
    made.stop()


def test_what_arrived_and_was_not_taken_comes_to_the_next_session(
    peer: JsonPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(peer.open()):
        pass  # From now on the broker keeps what is said.
    for value in range(NUM_SAID):
        peer.say(float(value))
    monkeypatch.setattr(connectors.mqtt.session, "MAX_PER_READ", 3)
    found: list[float] = []
    while NUM_SAID - 1 not in found:
        with closing(peer.open()) as session:
            found += [each.value for each in read_until(session, bool)]
    # (At least once, says QoS 1: an acknowledgement that is lost on the way brings it again.)
    assert list(dict.fromkeys(found)) == [float(value) for value in range(NUM_SAID)]


def test_what_came_before_the_connection_broke_is_given_out_first(
    peer: JsonPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(peer.open()) as session:
        peer.say(20.0)
        take = session._take

        async def take_and_break(message: object, found: list[object]) -> None:
            await take(message, found)  # type: ignore[arg-type]
            raise OSError("broken while taking")

        monkeypatch.setattr(session, "_take", take_and_break)
        assert [each.value for each in read_until(session, bool, patience_s=PATIENCE_S)] == [20.0]
        with pytest.raises(DeviceUnavailableError, match="broken while taking"):
            seen(session.read(timeout_s=0.1))


def test_a_quality_that_is_not_good_comes_through_the_broker(peer: JsonPeer) -> None:
    with closing(peer.open()) as session:
        peer.say(20.0, is_ok=False)
        peer.say(30.0)
        found = read_until(session, lambda found: len(found) >= 2)
    assert [each.quality for each in found] == [Quality.BAD, Quality.GOOD]


def test_a_sparkplug_nodes_bad_quality_and_its_death_come_through_the_broker(
    tmp_path: Path,
) -> None:
    node = SparkplugPeer(tmp_path)
    node.start()
    try:
        with closing(node.open()) as session:
            read_until(session, bool)
            for code in (0, 500, 192):
                node.say(20.0, quality=code)
            # (A busy machine may ask the node to be born twice: that value is another one.)
            found = read_until(session, lambda found: sum(f.value == 20.0 for f in found) >= 3)
            said = [each.quality for each in found if each.value == 20.0]
            assert said == [Quality.BAD, Quality.STALE, Quality.GOOD]
            node.die()
            (last,) = read_until(session, bool)
            assert last.quality is Quality.STALE
    finally:
        node.stop()
