"""What is squeezed for many is, to each, what it would have been told plainly."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.rights import Role
from console.squeezing import HEAD, deflated, stored
from tests.console_app import PLANT, Served, alarm_state, served, state_message

PIECES = st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=3_000)), max_size=8)


@given(PIECES)
def test_pieces_made_apart_are_one_stream(pieces: list[tuple[bytes, bytes]]) -> None:
    inflate, told = zlib.decompressobj(wbits=31), b""
    told += inflate.decompress(HEAD)
    for own, shared in pieces:
        told += inflate.decompress(stored(own) + deflated(shared))
        assert told.endswith(own + shared), "each is there as soon as it was sent"
    assert told == b"".join(own + shared for own, shared in pieces)


def test_what_is_larger_than_a_stored_block_may_be() -> None:
    content = bytes(range(256)) * 1_000
    assert zlib.decompressobj(wbits=31).decompress(HEAD + stored(content)) == content


def test_what_repeats_itself_gets_small() -> None:
    rows = json.dumps([f"<tr><td>alarm {n}</td><td>Unacknowledged</td></tr>" for n in range(100)])
    assert len(deflated(rows.encode())) < len(rows) / 5
    assert len(deflated(rows.encode())) < 2 * len(gzip.compress(rows.encode()))


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("console")) as running:
        running.person("ada", Role.ADMIN)
        running.log_in("ada")
        running.publish(state_message(PLANT, alarm_state()))
        running.until("/alarms", "rig-abnormal")
        yield running


def first_message(console: Served, encoding: str) -> tuple[httpx.Headers, dict[str, Any]]:
    with console.client.stream(
        "GET", "/stream?rows=1", headers={"Accept-Encoding": encoding}
    ) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                return answer.headers, json.loads(line.removeprefix("data: "))
    raise AssertionError("the stream said nothing")


def test_a_tab_is_told_the_same_either_way(console: Served) -> None:
    plain_headers, plain = first_message(console, "identity")
    squeezed_headers, squeezed = first_message(console, "gzip")
    assert "content-encoding" not in plain_headers
    assert squeezed_headers["content-encoding"] == "gzip"
    assert squeezed == plain
    assert [row["id"].rpartition(":")[2] for row in plain["rows"]] == ["rig-abnormal"]
