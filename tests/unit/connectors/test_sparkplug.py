"""Sparkplug B as its specification says it, and payloads that another library encoded."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.mqtt import JsonRules, SparkplugHost
from connectors.mqtt.sparkplug_pb2 import Payload
from fusion.plant.devices import MqttJsonDevice, SparkplugDevice
from fusion.ports import Reading, Unusable
from fusion.schema import Quality
from tests.clocks import START_NS, HandClock

FOREIGN_BIRTH = bytes.fromhex(
    "0880d0eab6b73312120a0562645365711880d0eab6b7332008580312200a0a54616e6b2f4c6576656c100718fbd0"
    "eab6b733200a690000000000c0444012310a0c4d6f746f722f546f72717565100818fcd0eab6b73320024a100a07"
    "5175616c6974791205080318c0015086feffff0f12190a0a56616c76652f4f70656e100918fdd0eab6b733200b70"
    "011800"
)
"""By npm's sparkplug-payload 1.0.3: level 41.5, torque -250 (Int16), an open valve."""
FOREIGN_DATA = bytes.fromhex(
    "08e8d7eab6b7331216100718e9d7eab6b733200a28016900000000002045401222100818ead7eab6b73320024a0f0a"
    "075175616c6974791204080318005085feffff0f120d100918ebd7eab6b733200b38011801"
)
"""By the same: a historical level 42.25, torque -251 of quality 0, and a valve that is null."""
DEVICE = SparkplugDevice.model_validate(
    {
        "name": "nodes",
        "protocol": "sparkplug",
        "host": "broker",
        "group": "G",
        "rebirth_s": 10,
        "metrics": [
            {"stream": "s", "tag": "level", "node": "N", "metric": "Tank/Level"},
            {"stream": "s", "tag": "torque", "node": "N", "metric": "Motor/Torque"},
            {"stream": "s", "tag": "valve", "node": "N", "metric": "Valve/Open"},
            {"stream": "s", "tag": "door", "node": "N", "device": "D", "metric": "Door"},
        ],
    }
)


class Bench:
    def __init__(self) -> None:
        self.clock = HandClock()
        self.host = SparkplugHost(DEVICE, clock=self.clock)
        self.rebirths = len(self.host.on_connect())

    def say(self, kind: str, payload: bytes, device: str = "") -> list[Reading]:
        topic = f"spBv1.0/G/{kind}/N" + (f"/{device}" if device else "")
        found, answers = self.host.interpret(
            topic, payload, is_retained=False, t_receive_ns=self.clock.now_ns()
        )
        self.rebirths += len(answers)
        self.unusable = [each for each in found if isinstance(each, Unusable)]
        return [each for each in found if isinstance(each, Reading)]


def birth(seq: int = 0, birth_seq: int = 3) -> bytes:
    said = Payload(timestamp=1_767_225_600_000, seq=seq)
    said.metrics.add(name="bdSeq", datatype=8, long_value=birth_seq)
    said.metrics.add(name="Tank/Level", alias=7, datatype=10, double_value=1.0)
    return said.SerializeToString()


def data(seq: int, value: float = 2.0, alias: int = 7) -> bytes:
    said = Payload(timestamp=1_767_225_601_000, seq=seq)
    said.metrics.add(alias=alias, datatype=10, double_value=value)
    return said.SerializeToString()


def test_what_another_library_encoded_is_read() -> None:
    bench = Bench()
    level, torque, valve = bench.say("NBIRTH", FOREIGN_BIRTH)
    assert (level.tag, level.value, level.t_source_ns) == ("level", 41.5, 1_767_225_600_123 * 10**6)
    assert (torque.value, torque.quality) == (-250.0, Quality.GOOD)
    assert valve.value == 1.0
    level, torque, valve = bench.say("NDATA", FOREIGN_DATA)
    assert (level.value, level.quality) == (42.25, Quality.GOOD)
    assert (torque.value, torque.quality) == (-251.0, Quality.BAD)
    assert math.isnan(valve.value)
    assert valve.quality == Quality.BAD


def test_births_are_asked_for_at_once_and_then_only_now_and_then() -> None:
    bench = Bench()
    assert bench.rebirths == 1
    for seq in range(5):
        assert bench.say("NDATA", data(seq)) == []
    assert bench.rebirths == 1
    bench.clock.pass_s(11)
    bench.say("NDATA", data(5))
    assert bench.rebirths == 2


def test_sequence_numbers_go_round_and_a_gap_is_told_and_asks_for_births() -> None:
    bench = Bench()
    bench.say("NBIRTH", birth())
    for number in range(1, 600):
        assert len(bench.say("NDATA", data(number % 256))) == 1
    assert bench.rebirths == 1
    assert bench.say("NDATA", data(601 % 256)) == []
    assert "a message is missing" in bench.unusable[0].why
    assert bench.rebirths == 2


def test_a_death_makes_every_tag_stale_unless_it_is_of_an_earlier_session() -> None:
    bench = Bench()
    bench.say("NBIRTH", birth(birth_seq=4))
    old, own = Payload(), Payload()
    old.metrics.add(name="bdSeq", datatype=8, long_value=3)
    own.metrics.add(name="bdSeq", datatype=8, long_value=4)
    assert bench.say("NDEATH", old.SerializeToString()) == []
    stale = bench.say("NDEATH", own.SerializeToString())
    assert {(each.tag, each.quality) for each in stale} == {
        (tag, Quality.STALE) for tag in ("level", "torque", "valve", "door")
    }
    assert bench.say("NDATA", data(1)) == []


def test_a_device_dies_alone() -> None:
    bench = Bench()
    bench.say("NBIRTH", birth())
    born = Payload(timestamp=1_767_225_600_000, seq=1)
    born.metrics.add(name="Door", alias=1, datatype=11, boolean_value=True)
    assert [each.value for each in bench.say("DBIRTH", born.SerializeToString(), "D")] == [1.0]
    died = Payload(timestamp=1_767_225_600_000, seq=2).SerializeToString()
    assert [each.tag for each in bench.say("DDEATH", died, "D")] == ["door"]
    assert len(bench.say("NDATA", data(3))) == 1


def test_devices_that_nobody_asked_for_are_not_remembered() -> None:
    bench = Bench()
    bench.say("NBIRTH", birth())
    for number in range(1, 200):
        born = Payload(timestamp=1_767_225_600_000, seq=number)
        born.metrics.add(name="Door", alias=1, datatype=11, boolean_value=True)
        assert bench.say("DBIRTH", born.SerializeToString(), f"invented{number}") == []
    assert set(bench.host._nodes["N"].names) == {""}
    asked = bench.rebirths
    assert bench.say("DDATA", data(200), "invented9") == []
    assert [each.value for each in bench.say("NDATA", data(201))] == [2.0]
    assert bench.rebirths == asked


def test_an_unknown_alias_asks_for_births() -> None:
    bench = Bench()
    bench.say("NBIRTH", birth())
    assert bench.say("NDATA", data(1, alias=99)) == []
    assert bench.rebirths == 2


def test_what_holds_is_told_by_the_nodes_clock() -> None:
    bench = Bench()
    bench.clock.t_ns = 1_767_225_600_000 * 10**6 + 3_600 * 10**9
    bench.say("NBIRTH", birth())
    held_ns = bench.host.holds_until_ns(bench.clock.now_ns() + 10**9)
    assert held_ns == 1_767_225_600_000 * 10**6 + 10**9


def test_one_year_that_cannot_be_does_not_date_what_others_hold() -> None:
    bench = Bench()
    bench.clock.t_ns = 1_767_225_600_000 * 10**6
    bench.say("NBIRTH", birth())
    strange = Payload(timestamp=3_900_000_000_000, seq=1)
    strange.metrics.add(alias=7, datatype=10, double_value=2.0)
    bench.say("NDATA", strange.SerializeToString())
    assert bench.host.holds_until_ns(bench.clock.now_ns()) == bench.clock.now_ns()


def test_a_metric_without_name_and_alias_is_not_that_of_alias_0() -> None:
    bench = Bench()
    born = Payload(timestamp=1_767_225_600_000, seq=0)
    born.metrics.add(name="Tank/Level", alias=0, datatype=10, double_value=1.0)
    bench.say("NBIRTH", born.SerializeToString())
    nameless = Payload(timestamp=1_767_225_601_000, seq=1)
    nameless.metrics.add(datatype=10, double_value=99.0)
    assert bench.say("NDATA", nameless.SerializeToString()) == []


@settings(deadline=None)
@given(payload=st.binary(max_size=400), kind=st.sampled_from(["NBIRTH", "NDATA", "NDEATH"]))
def test_no_bytes_break_it(payload: bytes, kind: str) -> None:
    bench = Bench()
    bench.say("NBIRTH", birth())
    for each in bench.say(kind, payload):
        assert isinstance(each.value, float)


@settings(deadline=None)
@given(cut=st.integers(0, 200), at=st.integers(0, 180), byte=st.integers(0, 255))
def test_no_damage_to_a_real_payload_breaks_it(cut: int, at: int, byte: int) -> None:
    damaged = bytearray(FOREIGN_BIRTH[:cut] or b"\0")
    damaged[at % len(damaged)] = byte
    Bench().say("NBIRTH", bytes(damaged))


def test_the_generated_messages_are_those_of_the_proto_file(tmp_path: Path) -> None:
    import connectors.mqtt.sparkplug as host

    folder = Path(host.__file__).parent
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"--python_out={tmp_path}"]
    subprocess.run([*command, str(folder / "sparkplug.proto")], check=True)
    fresh = (tmp_path / "sparkplug_pb2.py").read_text()
    assert fresh == (folder / "sparkplug_pb2.py").read_text()


RULES = MqttJsonDevice.model_validate(
    {
        "name": "json",
        "protocol": "mqtt-json",
        "host": "broker",
        "rules": [
            {
                "topic": "line/+/v",
                "time": "t",
                "time_unit": "ms",
                "quality": "q",
                "values": [{"stream": "s", "tag": "a", "path": "d.0.v"}],
            },
            {"topic": "plain", "values": [{"stream": "s", "tag": "b", "path": ""}]},
        ],
    }
)


def by_rules(topic: str, payload: bytes, *, is_retained: bool = False) -> list[object]:
    found, _ = JsonRules(RULES).interpret(
        topic, payload, is_retained=is_retained, t_receive_ns=START_NS
    )
    return list(found)


def test_rules_find_value_time_and_quality() -> None:
    said = b'{"t": 1767225600123, "q": "good", "d": [{"v": 1.5}]}'
    (reading,) = by_rules("line/3/v", said)
    assert reading == Reading(
        "s", "a", 1.5, Quality.GOOD, 1_767_225_600_123 * 10**6, 1_767_225_600_123 * 10**6, START_NS
    )
    (bad,) = by_rules("line/3/v", said.replace(b'"good"', b'"sensor broken"'))
    assert isinstance(bad, Reading)
    assert bad.quality == Quality.BAD
    assert by_rules("other", said) == []


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"t": true, "d": []}', b'{"t": 1e400}', b"{}"],
)
def test_what_cannot_be_read_is_told(payload: bytes) -> None:
    (told,) = by_rules("line/3/v", payload)
    assert isinstance(told, Unusable)


def test_a_retained_value_without_a_time_is_stale() -> None:
    (fresh,), (kept,) = by_rules("plain", b"4.5"), by_rules("plain", b"4.5", is_retained=True)
    assert isinstance(fresh, Reading)
    assert isinstance(kept, Reading)
    assert (fresh.quality, kept.quality) == (Quality.GOOD, Quality.STALE)


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
def test_no_payload_breaks_the_rules(payload: bytes) -> None:
    for topic in ("line/3/v", "plain"):
        for each in by_rules(topic, payload):
            assert isinstance(each, Reading | Unusable)
