"""No line of the journal can be altered, left out or moved without being found."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from fusion.alarms.journal import Journal, broken_links

Lines = list[tuple[dict[str, str], bytes]]


def chain(texts: list[bytes]) -> Lines:
    journal = Journal()
    return [(journal.enter(text), text) for text in texts]


texts = st.lists(st.binary(max_size=8), min_size=2, max_size=12)


@given(texts, st.data())
def test_a_chain_holds_from_anywhere_on(lines: list[bytes], data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(lines) - 1))
    assert broken_links(chain(lines)[begin:]) == []


@given(texts, st.data())
def test_what_is_altered_left_out_or_moved_is_found(
    lines: list[bytes], data: st.DataObject
) -> None:
    whole = chain(lines)
    at = data.draw(st.integers(0, len(lines) - 2))
    headers, line = whole[at]
    assert broken_links([*whole[:at], (headers, line + b"!"), *whole[at + 1 :]])
    assert broken_links([*whole[:at], whole[at + 1], whole[at], *whole[at + 2 :]])
    if at > 0:
        assert broken_links([*whole[:at], *whole[at + 1 :]])


def test_a_line_that_is_hashed_anew_breaks_the_next() -> None:
    whole = chain([b"one", b"two", b"three"])
    forger = Journal()
    forger.restore({"number": 1, "hash": whole[0][0]["journal-hash"]})
    forged = (forger.enter(b"never"), b"never")
    assert broken_links([whole[0], forged, whole[2]]) == ["line 3 must follow line 2, and does not"]


@given(texts, st.data())
def test_a_restart_goes_on_with_the_chain(lines: list[bytes], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(lines)))
    first, second = Journal(), Journal()
    told = [(first.enter(line), line) for line in lines[:at]]
    second.restore(json.loads(json.dumps(first.snapshot())))
    told += [(second.enter(line), line) for line in lines[at:]]
    assert told == chain(lines)


def test_lines_of_earlier_releases_stand_before_the_chain_and_never_in_it() -> None:
    whole: Lines = [({}, b"old"), *chain([b"one", b"two"])]
    assert broken_links(whole) == []
    assert broken_links([*whole, ({}, b"slipped in")]) == ["a line after 2 carries no hash"]
