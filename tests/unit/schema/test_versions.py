"""Released schemas stay as they are, and every version reads what every other one wrote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import avro.schema
import numpy as np
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import SchemaError
from fusion.schema import (
    AudioChunk,
    Envelope,
    Payload,
    TelemetryBatch,
    VideoFrame,
    WriterSchemas,
    decode_payload,
    encode,
)
from fusion.schema.versions import NEWEST, RELEASED, PayloadSchema, make_schema
from tests.unit.schema.made import batches, chunks, fields_of, frames, written

GOLDEN = Path(__file__).parent / "golden"
AVRO = Path(__file__).parents[3] / "fusion" / "schema" / "avro"
LOCKED = {
    "audio.v1.avsc": ("7c68b72d63a7d135", "eaab00c251477aa5"),
    "audio.v2.avsc": ("ff004f479b0436c9", "9909b07429dfac5b"),
    "telemetry.v1.avsc": ("96a7824e747b6eba", "a91e45cf75697570"),
    "video.v1.avsc": ("e5c71ad8bc6cd6f8", "0dc6953415714994"),
    "video.v2.avsc": ("c1c4de72afa02ed1", "4919d93199ef0672"),
}
"""Fingerprint of each released schema, and the beginning of its file's SHA-256."""

PAIRS = [(a, b) for a, b in permutations(RELEASED, 2) if a.ce_type == b.ce_type]
MADE = {"fusion.telemetry": batches(), "fusion.audio": chunks(), "fusion.video": frames()}
T_NS = 1_767_225_600_000_000_000


def label_pair(value: Any) -> str:
    return value.label if isinstance(value, PayloadSchema) else str(value)


def objections(*, reader: str, writer: str) -> Sequence[str]:
    """Return what Apache Avro has against reading with ``reader`` what ``writer`` wrote."""
    checker = ReaderWriterCompatibilityChecker()
    found = checker.get_compatibility(avro.schema.parse(reader), avro.schema.parse(writer))
    is_compatible = found.compatibility is SchemaCompatibilityType.compatible
    return [] if is_compatible else sorted(found.messages)


def released_until(last: PayloadSchema) -> list[PayloadSchema]:
    """Return the schemas of the product as it was when ``last`` was its newest."""
    return list(RELEASED[: RELEASED.index(last) + 1])


@pytest.mark.parametrize("name", sorted(LOCKED))
def test_a_released_schema_is_never_changed_nor_removed(name: str) -> None:
    modality, number, _ = name.split(".")
    known = {schema.label: schema.fingerprint for schema in RELEASED}
    file = AVRO / name
    now = hashlib.sha256(file.read_text().encode()).hexdigest()[:16] if file.is_file() else "gone"
    assert (known.get(f"fusion.{modality}.{number}"), now) == LOCKED[name], (
        f"{name} is released and must stay as it is, records on brokers and in lakes need it; "
        f"put it back and add the change as the next version of {modality}"
    )


def test_a_new_schema_is_locked() -> None:
    new = {file.name for file in AVRO.iterdir()} - set(LOCKED)
    assert new == set(), f"add {sorted(new)} to LOCKED: from its release on it must not change"


def test_versions_are_numbered_from_one_and_told_apart_by_their_fingerprints() -> None:
    for ce_type in NEWEST:
        own = [schema.label for schema in RELEASED if schema.ce_type == ce_type]
        assert own == [f"{ce_type}.v{number}" for number in range(1, len(own) + 1)]
    assert len({schema.header for schema in RELEASED}) == len(RELEASED)


@pytest.mark.parametrize("schema", RELEASED, ids=label_pair)
def test_the_fingerprint_is_that_of_apache_avro(schema: PayloadSchema) -> None:
    theirs = avro.schema.parse(schema.text).fingerprint("CRC-64-AVRO")
    assert schema.header == b"\xc3\x01" + theirs


@pytest.mark.parametrize(("reader", "writer"), PAIRS, ids=label_pair)
def test_apache_avro_finds_every_pair_of_versions_compatible(
    reader: PayloadSchema, writer: PayloadSchema
) -> None:
    assert objections(reader=reader.text, writer=writer.text) == []


def changed_schema(change: str) -> dict[str, Any]:
    """Return the newest schema of sound with one change that must not be released."""
    content = json.loads(NEWEST["fusion.audio"].text)
    fields = {field["name"]: field for field in content["fields"]}
    if change == "field removed":
        del fields["gain_db"]
    elif change == "type changed":
        fields["t_start_ns"]["type"] = "string"
    elif change == "type narrowed":
        fields["gain_db"]["type"] = "int"
    elif change == "field renamed":
        fields["gain_db"]["name"] = "gain"
    elif change == "encoding added":
        fields["encoding"]["type"]["symbols"].append("OPUS")
    elif change == "field without default":
        fields["new"] = {"name": "new", "type": "long"}
    return content | {"fields": list(fields.values())}


def is_both_ways(old: str, new: str) -> bool:
    return not objections(reader=old, writer=new) and not objections(reader=new, writer=old)


@pytest.mark.parametrize(
    "change",
    [
        "field removed",
        "type changed",
        "type narrowed",
        "field renamed",
        "encoding added",
        "field without default",
    ],
)
def test_an_incompatible_change_is_found_by_the_same_check(change: str) -> None:
    released = NEWEST["fusion.audio"].text
    assert is_both_ways(released, json.dumps(changed_schema("none")))
    assert not is_both_ways(released, json.dumps(changed_schema(change)))


@pytest.mark.parametrize("change", ["field removed", "type changed", "encoding added"])
def test_what_cannot_be_read_here_is_not_learnt(change: str) -> None:
    with pytest.raises(SchemaError):
        WriterSchemas().learn(json.dumps(changed_schema(change)).encode())


@pytest.mark.parametrize(("reader", "writer"), PAIRS, ids=label_pair)
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_every_version_reads_every_other_one(
    reader: PayloadSchema, writer: PayloadSchema, data: st.DataObject
) -> None:
    sent = fields_of(encode(data.draw(MADE[writer.ce_type])))
    schemas = WriterSchemas(released_until(reader))
    schemas.learn(writer.text.encode())
    got = schemas.read(reader.ce_type, written(writer, sent))
    in_writer = {field["name"] for field in writer.parsed["fields"]}
    for field in reader.parsed["fields"]:
        name = field["name"]
        assert got[name] == (sent[name] if name in in_writer else field["default"])
    assert len(got) == len(reader.parsed["fields"])


@pytest.mark.parametrize("schema", RELEASED, ids=label_pair)
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_payloads_of_every_version_decode(schema: PayloadSchema, data: st.DataObject) -> None:
    payload = data.draw(MADE[schema.ce_type])
    value = written(schema, fields_of(encode(payload)))
    back = decode(schema.ce_type, value)
    is_first = schema.label.endswith(".v1")
    assert type(back) is type(payload)
    if isinstance(payload, TelemetryBatch):
        assert isinstance(back, TelemetryBatch)
        assert back.values_RC.tobytes() == payload.values_RC.tobytes()
    elif isinstance(payload, AudioChunk):
        assert isinstance(back, AudioChunk)
        assert back.t_receive_ns == (0 if is_first else payload.t_receive_ns)
        assert back.t_start_ns == payload.t_start_ns
        assert back.samples_N.tolist() == payload.samples_N.tolist()
    else:
        assert isinstance(back, VideoFrame)
        assert back.t_receive_ns == (0 if is_first else payload.t_receive_ns)
        assert back.t_capture_ns == payload.t_capture_ns


def decode(ce_type: str, value: bytes) -> Payload:
    return decode_payload(Envelope("1", "t", ce_type, "a/b/c/d/e/f/sense", "", 0, "boot"), value)


def golden(name: str) -> bytes:
    return bytes.fromhex((GOLDEN / name).read_text())


def test_every_released_version_has_a_golden_record() -> None:
    kept = {".".join(file.name.split(".")[:2]) for file in GOLDEN.iterdir()}
    assert {f"fusion.{name}" for name in kept} == {schema.label for schema in RELEASED}


def test_golden_telemetry() -> None:
    back = decode("fusion.telemetry", golden("telemetry.v1.hex"))
    assert isinstance(back, TelemetryBatch)
    assert back.tags == ("level", "état")
    assert back.t_source_R_ns.tolist() == [T_NS, T_NS + 250_000_000]
    assert back.t_server_R_ns.tolist() == [T_NS + 1_000, T_NS + 250_001_000]
    assert back.t_receive_R_ns.tolist() == [T_NS + 2_000, T_NS + 250_002_000]
    assert np.array_equal(back.values_RC, [[0.5, np.nan], [-1.25, 1e300]], equal_nan=True)
    assert back.quality_RC.tolist() == [[0, 2], [1, 4]]
    assert back.status_RC.tolist() == [[0, 0x80340000], [0x40000000, 0]]


@pytest.mark.parametrize("encoding", ["flac", "pcm16"])
@pytest.mark.parametrize(("version", "t_receive_ns"), [(1, 0), (2, T_NS + 100_000_000)])
def test_golden_sound(version: int, t_receive_ns: int, encoding: str) -> None:
    back = decode("fusion.audio", golden(f"audio.v{version}.{encoding}.hex"))
    assert isinstance(back, AudioChunk)
    assert back.samples_N.tolist() == [-32_768, 0, 1, -1, 32_767] * 8
    assert (back.t_start_ns, back.sample_rate_hz, back.sample_index) == (T_NS, 16_000, 48_000)
    assert (back.gain_db, back.num_clipped, back.t_receive_ns) == (-3.5, 2, t_receive_ns)


@pytest.mark.parametrize(("version", "t_receive_ns"), [(1, 0), (2, T_NS + 100_000_000)])
def test_golden_picture(version: int, t_receive_ns: int) -> None:
    back = decode("fusion.video", golden(f"video.v{version}.hex"))
    assert isinstance(back, VideoFrame)
    assert (back.t_capture_ns, back.t_receive_ns) == (T_NS, t_receive_ns)
    assert back.pixels_HW3.shape == (6, 8, 3)
    assert np.abs(back.pixels_HW3.astype(int) - 90).max() <= 3


def test_a_schema_survives_its_own_text() -> None:
    for schema in RELEASED:
        assert make_schema(json.loads(schema.text), label=schema.label) == schema
