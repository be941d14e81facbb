"""Register maps: as few requests as the protocol allows, and numbers in every order of bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.modbus import MAX_BITS, MAX_REGISTERS, ModbusSession, decode, plan_blocks
from fusion.plant.devices import ModbusDevice, RegisterSource
from fusion.ports import Reading
from fusion.schema import Quality
from tests.peers.modbus import ModbusPeer
from tests.peers.peer import CLOCK

FORMATS = {"int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q"}


def source(tag: str = "t", **told: object) -> RegisterSource:
    return RegisterSource.model_validate({"stream": "s", "tag": tag, "address": 0} | told)


@given(
    kind=st.sampled_from(sorted(FORMATS)),
    word_order=st.sampled_from(["big", "little"]),
    byte_order=st.sampled_from(["big", "little"]),
    raw=st.integers(0, 2**64 - 1),
)
def test_every_order_of_bytes_is_undone(
    kind: str, word_order: str, byte_order: str, raw: int
) -> None:
    size = struct.calcsize(FORMATS[kind])
    packed = raw.to_bytes(8, "big")[-size:]
    (wanted,) = struct.unpack(f">{FORMATS[kind]}", packed)
    words = [packed[at : at + 2] for at in range(0, size, 2)]
    if word_order == "little":
        words.reverse()
    registers = [int.from_bytes(word, byte_order) for word in words]  # type: ignore[arg-type]
    told = source(type=kind, word_order=word_order, byte_order=byte_order)
    assert decode(told, registers) == float(wanted)


registers = st.builds(
    lambda table, address, kind: source(table=table, address=address, type=kind),
    st.sampled_from(["holding", "input", "coil", "discrete"]),
    st.integers(0, 3_000),
    st.sampled_from(["uint16", "float32", "float64"]),
)


@given(st.lists(registers, min_size=1, max_size=60), st.integers(0, 120))
def test_requests_cover_everything_and_stay_legal(some: list[RegisterSource], gap: int) -> None:
    blocks = plan_blocks(some, max_gap=gap)
    assert sorted(each.address for block in blocks for each in block.sources) == sorted(
        each.address for each in some
    )
    for block in blocks:
        assert block.count <= (MAX_BITS if block.table in {"coil", "discrete"} else MAX_REGISTERS)
        for each in block.sources:
            assert each.table == block.table
            assert block.start <= each.address
            assert each.address + each.num_addresses <= block.start + block.count


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModbusPeer]:
    made = ModbusPeer(tmp_path_factory.mktemp("modbus"))
    made.start()
    yield made
    made.stop()


def read_once(peer: ModbusPeer, *sources: RegisterSource) -> dict[str, Reading]:
    assert isinstance(peer.device, ModbusDevice)
    device = peer.device.model_copy(update={"registers": sources, "max_gap": 0})
    session = ModbusSession(device, clock=CLOCK)
    try:
        found = session.read(timeout_s=1.0)
    finally:
        session.close()
    return {each.tag: each for each in found if isinstance(each, Reading)}


@pytest.mark.xdist_group("devices")
def test_all_tables_of_a_real_server(peer: ModbusPeer) -> None:
    found = read_once(
        peer,
        source("signed", table="input", address=0, type="int16"),
        source("bit", table="input", address=2, bit=9),
        source("coil", table="coil", address=2),
        source("input", table="discrete", address=1),
    )
    values = {tag: (each.value, each.quality) for tag, each in found.items()}
    assert values == {
        "signed": (-2.0, Quality.GOOD),
        "bit": (1.0, Quality.GOOD),
        "coil": (1.0, Quality.GOOD),
        "input": (1.0, Quality.GOOD),
    }


@pytest.mark.xdist_group("devices")
def test_an_address_that_is_not_there_is_bad_alone(peer: ModbusPeer) -> None:
    found = read_once(peer, source("there", address=100), source("absent", address=9_000))
    assert found["there"].quality == Quality.GOOD
    assert (found["absent"].quality, found["absent"].status) == (Quality.BAD, 2)
