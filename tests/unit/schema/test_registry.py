"""A writer's schema is learnt exactly when everything that it can write can be read here."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import BrokerUnavailableError, DeadLetterReason, RecordError, SchemaError
from fusion.schema import Message, Record, WriterSchemas, encode, schema_messages
from fusion.schema.registry import MAX_LEARNT
from fusion.schema.resolution import MAX_SCHEMA_BYTES
from fusion.schema.versions import NEWEST, PayloadSchema, make_schema
from tests.unit.schema.made import chunk, fields_of, frame, telemetry, written
from tests.unit.schema.test_versions import objections

AUDIO = "fusion.audio"
SYMBOLS = ("FLAC", "PCM16", "OPUS")
ASCII = st.text(st.characters(max_codepoint=127), max_size=8)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "bytes": ASCII.map(str.encode),
    "string": ASCII,
}
PRIMITIVES = st.sampled_from(sorted(VALUES))
UNIONS = st.lists(PRIMITIVES, min_size=1, max_size=3, unique=True)
ENCODINGS = st.lists(st.sampled_from(SYMBOLS), min_size=1, unique=True).map(
    lambda symbols: {"type": "enum", "name": "fusion.sound_encoding", "symbols": symbols}
)
ITEMS = PRIMITIVES.filter(lambda kind: kind != "null")
TYPES = st.one_of(
    PRIMITIVES,
    UNIONS,
    ITEMS.map(lambda kind: {"type": "array", "items": kind}),
    ITEMS.map(lambda kind: {"type": "map", "values": kind}),
)


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Return values that a writer of ``kind`` can write."""
    if isinstance(kind, str):
        return VALUES[kind]
    if isinstance(kind, list):
        return st.one_of([values_of(branch) for branch in kind])
    if kind["type"] == "enum":
        return st.sampled_from(kind["symbols"])
    if kind["type"] == "array":
        return st.lists(values_of(kind["items"]), max_size=3)
    return st.dictionaries(ASCII, values_of(kind["values"]), max_size=3)


@st.composite
def foreign_schemas(draw: st.DrawFn) -> dict[str, Any]:
    """Return a schema near one of ours: fields dropped, retyped, moved, others added."""
    content = json.loads(NEWEST[draw(st.sampled_from(sorted(NEWEST)))].text)
    fields: list[dict[str, Any]] = content["fields"]
    for number in range(draw(st.integers(0, 3))):
        field = draw(st.sampled_from(fields))
        kind = field["type"]
        is_enum = isinstance(kind, dict) and kind["type"] == "enum"
        change = draw(st.sampled_from(["drop", "retype", "widen", "add", "symbols"]))
        if change == "drop" and len(fields) > 1:
            fields.remove(field)
        elif change == "retype":
            field["type"] = draw(TYPES)
        elif change == "widen" and isinstance(kind, str):
            field["type"] = [kind]
        elif change == "symbols" and is_enum and kind["name"].endswith("sound_encoding"):
            field["type"] = draw(ENCODINGS)
        elif change == "add":
            fields.append({"name": f"extra_{number}", "type": draw(TYPES)})
        for each in fields:
            each.pop("default", None)
    return content | {"fields": draw(st.permutations(fields))}


def same(sent: Any, got: Any) -> bool:
    """Whether ``got`` is ``sent``, but for bytes that are read as text or the other way round."""
    if isinstance(sent, list):
        return len(sent) == len(got) and all(map(same, sent, got))
    if isinstance(sent, str | bytes) and type(sent) is not type(got):
        return sent == (got.encode() if isinstance(got, str) else got.decode())
    return bool(sent == got)


@settings(deadline=None, max_examples=400)
@given(foreign_schemas(), st.data())
def test_learnt_when_apache_avro_says_so_and_then_everything_written_is_read(
    content: dict[str, Any], data: st.DataObject
) -> None:
    writer = make_schema(content)
    reader = NEWEST[writer.ce_type]
    schemas = WriterSchemas()
    try:
        schemas.learn(json.dumps(content).encode())
    except SchemaError:
        assert objections(reader=reader.text, writer=json.dumps(content))
        return
    assert objections(reader=reader.text, writer=json.dumps(content)) == []
    sent = {field["name"]: data.draw(values_of(field["type"])) for field in content["fields"]}
    got = schemas.read(writer.ce_type, written(writer, sent))
    for field in reader.parsed["fields"]:
        name = field["name"]
        assert same(sent[name], got[name]) if name in sent else got[name] == field["default"]


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["record", AUDIO, "int", "enum"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "name", "fields", "items", "symbols", "size", "values"]),
            inner,
            max_size=5,
        )
    ),
)


@settings(deadline=None, max_examples=400)
@given(JSONS.map(json.dumps).map(str.encode) | st.binary(max_size=60))
def test_whatever_is_no_schema_is_refused_with_a_sentence(schema_json: bytes) -> None:
    with pytest.raises(SchemaError):
        WriterSchemas().learn(schema_json)


def audio_with(kind: Any, *, name: str = "extra") -> bytes:
    content = json.loads(NEWEST[AUDIO].text)
    content["fields"].append({"name": name, "type": kind})
    return json.dumps(content).encode()


NODE = {"type": "record", "name": "node", "fields": [{"name": "next", "type": ["null", "node"]}]}


@pytest.mark.parametrize(
    ("schema_json", "why"),
    [
        (audio_with(NODE), "records inside and items of no bytes are not read"),
        (audio_with(["null", AUDIO]), "records inside and items of no bytes are not read"),
        (audio_with({"type": "array", "items": "null"}), "items of no bytes are not read"),
        (
            audio_with({"type": "array", "items": {"type": "fixed", "name": "nothing", "size": 0}}),
            "items of no bytes are not read",
        ),
        (audio_with("long", name="gain_db"), "name each field once"),
        (b"[" * 30_000 + b"]" * 30_000, "RecursionError"),
        (b" " * (MAX_SCHEMA_BYTES + 1), f"not be larger than {MAX_SCHEMA_BYTES} bytes"),
        (b'{"type": "record", "name": "fusion.smell", "fields": []}', "must be named one of"),
        (b'{"type": "enum", "name": "fusion.audio", "symbols": ["A"]}', "must be an Avro record"),
    ],
)
def test_what_could_do_harm_or_is_not_ours_is_refused(schema_json: bytes, why: str) -> None:
    with pytest.raises(SchemaError) as caught:
        WriterSchemas().learn(schema_json)
    assert why in str(caught.value)


def test_a_logical_type_of_the_writer_changes_no_value() -> None:
    content = json.loads(NEWEST["fusion.video"].text)
    content["fields"][0]["type"] = {"type": "long", "logicalType": "timestamp-millis"}
    content["fields"].append({"name": "extra", "type": "string"})
    writer = make_schema(json.loads(json.dumps(content).replace("logicalType", "ignored")))
    schemas = WriterSchemas()
    assert schemas.learn(json.dumps(content).encode()) == writer.fingerprint
    value = written(writer, fields_of(encode(frame())) | {"extra": "x"})
    assert schemas.read("fusion.video", value)["t_capture_ns"] == frame().t_capture_ns


def test_one_process_learns_a_bounded_number_of_schemas() -> None:
    schemas = WriterSchemas()
    for number in range(MAX_LEARNT):
        schemas.learn(audio_with("long", name=f"extra_{number}"))
    schemas.learn(audio_with("long", name="extra_0"))
    with pytest.raises(SchemaError, match=f"not learn more than {MAX_LEARNT}"):
        schemas.learn(audio_with("long"))


def future() -> PayloadSchema:
    content = json.loads(NEWEST["fusion.video"].text)
    content["fields"].append({"name": "exposure_s", "type": "double", "default": 0.0})
    return make_schema(content)


def on_topic(*messages: Message) -> list[Record]:
    return [
        Record(each.topic, 0, offset, each.key, each.value, each.headers, 1)
        for offset, each in enumerate(messages)
    ]


VALUE = written(future(), fields_of(encode(frame())) | {"exposure_s": 0.5})


def refusal(schemas: WriterSchemas) -> str:
    with pytest.raises(RecordError) as caught:
        schemas.read("fusion.video", VALUE)
    assert caught.value.reason is DeadLetterReason.UNKNOWN_SCHEMA
    return str(caught.value)


def test_an_unknown_fingerprint_is_looked_up_once_and_then_known() -> None:
    asked: list[str] = []

    def look_up(fingerprint: str) -> list[Record]:
        asked.append(fingerprint)
        return on_topic(*schema_messages("p.schemas", [future()]))

    schemas = WriterSchemas(look_up=look_up)
    for _ in range(3):
        assert schemas.read("fusion.video", VALUE) == fields_of(encode(frame()))
    assert asked == [future().fingerprint]


def test_a_failed_look_up_does_not_refuse_the_record() -> None:
    def look_up(_: str) -> list[Record]:
        raise BrokerUnavailableError("gone")

    with pytest.raises(BrokerUnavailableError):
        WriterSchemas(look_up=look_up).read("fusion.video", VALUE)


def test_a_refused_schema_is_said_of_the_records_written_with_it() -> None:
    content = json.loads(NEWEST["fusion.video"].text)
    content["fields"] = content["fields"][1:]
    bad = make_schema(content)
    schemas = WriterSchemas()
    refused = schemas.learn_from(on_topic(*schema_messages("p.schemas", [bad])))
    assert list(refused) == [bad.fingerprint]
    with pytest.raises(RecordError, match="must write field 't_capture_ns'") as caught:
        schemas.read("fusion.video", bad.header + b"x")
    assert caught.value.reason is DeadLetterReason.UNKNOWN_SCHEMA


def test_one_bad_message_does_not_hide_the_others() -> None:
    (good,) = schema_messages("p.schemas", [future()])
    schemas = WriterSchemas()
    assert future().fingerprint in refusal(schemas)
    refused = schemas.learn_from(
        on_topic(
            Message("p.schemas", "no-json", b"{"),
            Message("p.schemas", "deleted", b""),
            Message("p.schemas", "wrong-key", good.value),
            good,
        )
    )
    assert sorted(refused) == ["no-json", "wrong-key"]
    assert future().fingerprint in refused["wrong-key"]
    assert schemas.read("fusion.video", VALUE)["t_capture_ns"] == frame().t_capture_ns


def test_a_sender_publishes_what_it_writes_with() -> None:
    published = {message.key: message for message in schema_messages("p.schemas")}
    payloads = (telemetry(), chunk(np.zeros(9, np.int16)), frame())
    assert {encode(payload)[2:10].hex() for payload in payloads} == set(published)
    assert WriterSchemas([]).learn_from(on_topic(*published.values())).keys() == published.keys()
    assert WriterSchemas().learn_from(on_topic(*published.values())) == {}
