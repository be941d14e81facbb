"""Dead letters come back byte for byte, each once, and only where a sender could have put them."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner, Result

from connectors.delta_lake import DeltaLake
from flows import wiring
from flows.cli import app
from flows.dead_letters import judge, read_dead_letters, replay_dead_letters
from flows.settings import Settings
from flows.terminal import CONSOLE, shown
from fusion.alignment import admit, dead_letter, refused_record
from fusion.errors import (
    DeadLetterReason,
    InputError,
    ObjectStoreUnavailableError,
    RecordError,
)
from fusion.plant import NANOSECONDS, Plant, StreamSender, parse_plant
from fusion.schema import AlarmCommand, Message, Record, VideoFrame, WireForm, schema_messages
from fusion.schema.versions import NEWEST, make_schema
from fusion.stream.claims import Claim
from fusion.stream.reading import read_to_end
from tests.unit.schema.made import fields_of, written

PLANT_FILE = """
prefix: lettered
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
streams:
  - {name: eye, modality: video, rate_hz: 2, width_px: 16, height_px: 16}
"""
PLANT: Plant = parse_plant(PLANT_FILE, origin="lettered.yaml")
BYTES = "\udcff\udc80 \x1b[31m"
"""What a header of bytes 0xff, 0x80 and an escape sequence is decoded to."""

texts = st.binary(max_size=12).map(lambda raw: raw.decode(errors="surrogateescape"))
names = st.sampled_from(["topic", "-topic", "--offset", "partition", "original-x", "reason"])


@given(
    value=st.binary(max_size=50),
    headers=st.dictionaries(names | texts, texts, max_size=8),
    partition=st.integers(0, 9),
    offset=st.integers(0, 2**62),
    form=st.none()
    | st.builds(
        WireForm,
        st.lists(st.tuples(names | texts, texts), max_size=8).map(tuple),
        st.booleans(),
        st.booleans(),
    ),
)
def test_a_dead_letter_keeps_the_whole_record(
    *, value: bytes, headers: dict[str, str], partition: int, offset: int, form: WireForm | None
) -> None:
    record = Record(
        "lettered.video", partition, offset, "key", value, headers, t_broker_ns=5, form=form
    )
    sent = dead_letter(record, RecordError(DeadLetterReason.HEADERS, "why"), PLANT)
    letter = Record(sent.topic, 0, 0, sent.key, sent.value, sent.headers, t_broker_ns=5)
    assert letter.headers["reason"] == "headers"
    assert refused_record(letter) == record


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("FUSION_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(CONSOLE, "width", 200)
    (tmp_path / "lettered.yaml").write_text(PLANT_FILE)
    settings = Settings.load()
    wiring.prepare_topics(settings, PLANT)
    return settings


def frame(t_ns: int | None = None) -> Message:
    t_ns = wiring.open_clock().now_ns() - NANOSECONDS if t_ns is None else t_ns
    sender = StreamSender(PLANT, "eye", source="test", epoch="boot")
    return sender.message(VideoFrame("eye", t_ns, np.zeros((16, 16, 3), np.uint8)))


def refuse(
    where: Settings,
    message: Message,
    *,
    topic: str = "lettered.video",
    reason: DeadLetterReason = DeadLetterReason.FUTURE_TIME,
) -> None:
    """Write the dead letter of ``message`` as the live process does."""
    headers = message.headers
    record = Record(topic, 0, 7, message.key, message.value, headers, t_broker_ns=1)
    with contextlib.closing(wiring.open_publisher(where)) as publisher:
        publisher.publish([dead_letter(record, RecordError(reason, "as \x1b[2J said"), PLANT)])


def on(topic: str, where: Settings) -> list[Record]:
    with contextlib.closing(wiring.open_source(where, [topic], "test")) as source:
        return list(read_to_end(source))


def fusion(where: Settings, *arguments: str, says: str | None = None) -> Result:
    command, *rest = arguments
    plant_file = str(where.data_dir / "lettered.yaml")
    return CliRunner().invoke(app, ["dead-letters", command, plant_file, *rest], input=says)


def test_a_replayed_record_is_the_refused_one_and_can_be_traced(where: Settings) -> None:
    message = frame()
    refuse(where, message)
    assert replay_dead_letters(PLANT, where, [0]) == 1
    (again,) = on("lettered.video", where)
    assert (again.key, again.value) == (message.key, message.value)
    assert again.headers == {**message.headers, "replayed-from": "lettered.dead-letters/0/0"}
    assert admit(again, PLANT)[0].stream == "eye"


def test_none_is_replayed_twice(where: Settings) -> None:
    for _ in range(5):
        refuse(where, frame())
    assert replay_dead_letters(PLANT, where, [1, 3]) == 2
    assert replay_dead_letters(PLANT, where, range(5)) == 3
    assert replay_dead_letters(PLANT, where, range(5)) == 0
    froms = [record.headers["replayed-from"] for record in on("lettered.video", where)]
    assert froms == [f"lettered.dead-letters/0/{n}" for n in (1, 3, 0, 2, 4)]
    assert all(found.replayed_ns is not None for found in read_dead_letters(PLANT, where))


def test_a_replay_that_dies_has_replayed_what_it_noted(
    where: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.dead_letters.MAX_BATCH_LETTERS", 2)
    for _ in range(7):
        refuse(where, frame())
    opened = wiring.open_publisher

    def dying(*arguments: object, **named: object) -> object:
        publisher = opened(*arguments, **named)  # type: ignore[arg-type]
        publish, calls = publisher.publish, []

        def once(messages: list[Message], **commit: object) -> None:
            calls.append(messages)
            if len(calls) == 3:
                raise KeyboardInterrupt
            publish(messages, **commit)  # type: ignore[arg-type]

        publisher.publish = once  # type: ignore[method-assign]
        return publisher

    monkeypatch.setattr(wiring, "open_publisher", dying)
    with pytest.raises(KeyboardInterrupt):
        replay_dead_letters(PLANT, where, range(7))
    monkeypatch.setattr(wiring, "open_publisher", opened)
    assert replay_dead_letters(PLANT, where, range(7)) == 3
    froms = [
        record.headers["replayed-from"].rpartition("/")[2] for record in on("lettered.video", where)
    ]
    assert froms == [str(n) for n in range(7)]


@pytest.mark.parametrize(
    "topic", ["lettered.checkpoints", "lettered.alarms", "lettered.scores", "other.video", ""]
)
def test_a_letter_cannot_make_us_write_where_no_sender_writes(where: Settings, topic: str) -> None:
    refuse(where, frame(), topic=topic)
    (verdict,) = judge(PLANT, where, is_wanted=lambda _: True)
    assert not verdict.is_replayable
    assert replay_dead_letters(PLANT, where, [0]) == 0
    assert "says no topic" in fusion(where, "replay", "0", "--force").output
    assert on("lettered.video", where) == []


def test_a_header_cannot_change_where_the_record_lay(where: Settings) -> None:
    message = frame()
    hostile = {**message.headers, "topic": "lettered.checkpoints", "offset": "-5"}
    refuse(where, Message(message.topic, message.key, message.value, hostile))
    assert replay_dead_letters(PLANT, where, [0]) == 1
    (again,) = on("lettered.video", where)
    assert again.headers.items() >= hostile.items()


def test_what_would_be_refused_again_stays_unless_forced(where: Settings) -> None:
    good = frame()
    refuse(where, good)
    refuse(where, Message(good.topic, good.key, good.value[:-9], good.headers))
    future = frame(wiring.open_clock().now_ns() + 9_000 * NANOSECONDS)
    refuse(where, future)
    said = fusion(where, "replay", "--all", "--yes")
    assert said.exit_code == 0
    assert "1: would be refused again, wrong-schema" in said.output
    assert "2: would be refused again, future-time" in said.output
    assert "replayed 1 dead letters" in said.output
    assert "0: replayed already" in fusion(where, "replay", "--all", "--yes").output
    assert "replayed 1 dead letters" in fusion(where, "replay", "1", "--force").output
    assert len(on("lettered.video", where)) == 2


def test_a_letter_is_judged_with_the_key_and_the_schemas_that_the_live_gate_goes_by(
    where: Settings,
) -> None:
    refuse(where, replace(frame(), key="who/is/this"), reason=DeadLetterReason.UNKNOWN_STREAM)
    content = json.loads(NEWEST["fusion.video"].text)
    extra = {"name": "new_3", "type": "double", "default": 0.0}
    newer = make_schema(content | {"fields": [*content["fields"], extra]})
    message = frame()
    value = written(newer, fields_of(message.value) | {"new_3": 0.5})
    refuse(where, replace(message, value=value), reason=DeadLetterReason.UNKNOWN_SCHEMA)

    stranger, unknown = judge(PLANT, where, is_wanted=lambda _: True)
    assert (stranger.obstacle or "").startswith("unknown-stream: the key must be")
    assert (unknown.obstacle or "").startswith("unknown-schema")
    with contextlib.closing(wiring.open_publisher(where)) as publisher:
        publisher.publish(schema_messages(PLANT.topic("schemas"), [newer]))
    assert [v.obstacle for v in judge(PLANT, where, is_wanted=lambda _: True)[1:]] == [None]


def test_a_claimed_record_is_replayed_when_its_object_is_there(where: Settings) -> None:
    message = frame()
    claim = Claim.of(message.value, prefix="lettered", now_ns=wiring.open_clock().now_ns())
    headers = {**message.headers, **claim.to_headers()}
    refuse(
        where,
        Message(message.topic, message.key, b"", headers),
        reason=DeadLetterReason.CLAIM_UNAVAILABLE,
    )
    away = fusion(where, "replay", "--reason", "claim-unavailable")
    assert isinstance(away.exception, ObjectStoreUnavailableError), "no folder is no empty one"
    wiring.open_objects(where).put("lettered/something", b"else")
    missing = fusion(where, "replay", "--reason", "claim-unavailable")
    assert "0: would be refused again, claim-missing" in missing.output
    wiring.open_objects(where).put(claim.key, message.value)
    found = fusion(where, "replay", "--reason", "claim-unavailable")
    assert "replayed 1 dead letters" in found.output
    (again,) = on("lettered.video", where)
    assert wiring.open_resolver(where, PLANT).resolve(again).value == message.value


def test_an_alarm_command_is_judged_as_one(where: Settings) -> None:
    command = AlarmCommand(
        id="1",
        plant="p",
        name="n",
        action="acknowledge",
        expected_revision=1,
        who="me",
        t_ns=1,
    )
    for value in (b"{}", command.model_dump_json().encode()):
        refuse(where, Message("", "k", value, {}), topic="lettered.alarm-commands")
    wrong, right = judge(PLANT, where, is_wanted=lambda _: True)
    assert wrong.obstacle is not None
    assert wrong.obstacle.startswith("wrong-schema")
    assert right.obstacle is None


def test_several_are_replayed_only_after_a_yes(where: Settings) -> None:
    for _ in range(2):
        refuse(where, frame())
    assert "would replay 2" in fusion(where, "replay", "--all", "--dry-run").output
    assert fusion(where, "replay", "--all", says="n\n").exit_code == 1
    assert on("lettered.video", where) == []
    assert fusion(where, "replay", "--all", says="y\n").exit_code == 0
    assert len(on("lettered.video", where)) == 2


def test_a_position_that_is_not_there_and_an_unclear_wish_are_input_errors(where: Settings) -> None:
    refuse(where, frame())
    with pytest.raises(InputError, match=r"at \[4, 5\], and none is there"):
        judge(PLANT, where, is_wanted=lambda _: False, offsets=[0, 5, 4])
    for wish in ([], ["0", "--all"], ["--all", "--reason", "headers"]):
        assert isinstance(fusion(where, "replay", *wish).exception, InputError)
    assert on("lettered.video", where) == []


# ---------------------------------------------------------------------- bytes that are no text


def test_headers_that_are_no_text_go_everywhere_and_come_back(where: Settings) -> None:
    message = frame()
    hostile = {**message.headers, "ce_source": BYTES, "epoch": BYTES, "note": BYTES}
    record = Record("lettered.video", 0, 3, message.key, message.value, hostile, t_broker_ns=1)
    with pytest.raises(RecordError, match="must be UTF-8") as caught:
        admit(record, PLANT)
    with contextlib.closing(wiring.open_publisher(where)) as publisher:
        publisher.publish([dead_letter(record, caught.value, PLANT)])
    lake = DeltaLake(where.data_dir / "lake")
    assert lake.append([record]) == 1
    assert lake.read(["lettered.video"]) == [record]
    assert list(lake.read_headers(["lettered.video"])) == [hostile]
    listed, everything = fusion(where, "list"), fusion(where, "show", "0")
    for said in (listed, everything):
        assert said.exit_code == 0, said.output
        assert "\x1b" not in said.output
    assert r"note: \xff\x80 \x1b[31m" in everything.output
    assert fusion(where, "replay", "0", "--force").exit_code == 0
    (again,) = on("lettered.video", where)
    assert again.headers.items() >= hostile.items()


@given(texts)
def test_whatever_came_can_be_printed(text: str) -> None:
    page = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    Console(file=page).print(shown(text), markup=False)
    assert shown(text).isprintable()


def test_the_list_counts_by_reason_and_shows_the_newest(where: Settings) -> None:
    for _ in range(3):
        refuse(where, frame())
    refuse(where, frame(), reason=DeadLetterReason.UNDECODABLE)
    assert "there are no dead letters" not in fusion(where, "list").output
    said = fusion(where, "list", "--reason", "future-time", "--last", "1")
    assert "4 dead letters (future-time 3, undecodable 1), 0 of them replayed" in said.output
    assert said.output.count("lettered.video/0/7") == 1


def test_no_letters_is_said(where: Settings) -> None:
    assert "there are no dead letters" in fusion(where, "list").output
