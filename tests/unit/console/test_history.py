"""The journal reaches past the picture: every line once, the newest first, page by page."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.alarm_history import SqlAlarmLog, sqlite_url
from console import history
from console.history import FOREVER_NS, History
from fusion.ports import JournalEntry
from fusion.schema import AlarmEvent
from tests.console_app import ADDRESS, alarm_state

OTHER = "demo/other/rig"


def event(number: int, t_ns: int, plant: str = ADDRESS, name: str = "a") -> AlarmEvent:
    return AlarmEvent(
        id=f"e{number}", transition="raised", t_ns=t_ns, state=alarm_state(name, plant), score=None
    )


def entry(of: AlarmEvent) -> JournalEntry:
    line = of.model_dump_json().encode()
    plant, name = of.state.plant, of.state.name
    return JournalEntry(of.id, plant, name, of.transition, of.t_ns, 0, "", "", line)


class Log:
    """An alarm log in a list."""

    def __init__(self, entries: list[JournalEntry]) -> None:
        self.entries = entries

    def append(self, entries: object) -> int:
        raise NotImplementedError

    def read(
        self, *, plant: str, start_ns: int, end_ns: int, name: str | None = None, limit: int = 1_000
    ) -> list[JournalEntry]:
        found = [
            e
            for e in sorted(self.entries, key=lambda e: e.t_ns)
            if e.plant == plant and start_ns <= e.t_ns < end_ns and name in {None, e.name}
        ]
        return found[-limit:]

    def head(self, plant: str) -> JournalEntry | None:
        return next((e for e in self.entries if e.plant == plant), None)

    def close(self) -> None:
        """Free nothing."""


lines = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from([ADDRESS, OTHER]), st.sampled_from("ab")),
    max_size=30,
)


@given(lines, st.integers(0, 30), st.integers(1, 4))
def test_page_after_page_shows_every_line_once(
    made: list[tuple[int, str, str]], num_kept: int, most: int
) -> None:
    events = [event(n, t, plant, name) for n, (t, plant, name) in enumerate(sorted(made))]
    assert len({e.t_ns for e in events}) <= 31
    kept, logged = events[-num_kept:] if num_kept else [], events
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "CHUNK", 40)  # (more than can share a moment)
        told, end_ns = list[AlarmEvent](), FOREVER_NS
        asked = History(lambda: Log([entry(e) for e in logged]))
        while True:
            page = asked.search(
                kept, (ADDRESS, OTHER), end_ns=end_ns, is_wanted=lambda e: True, most=most
            )
            told += page.events
            if page.older_ns is None:
                break
            assert page.older_ns < end_ns
            end_ns = page.older_ns
    assert sorted(e.id for e in told) == sorted(e.id for e in events)
    assert [e.t_ns for e in told] == sorted((e.t_ns for e in events), reverse=True)


def test_chunks_are_joined_without_a_gap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(history, "CHUNK", 3)
    events = [event(n, n // 2, [ADDRESS, OTHER][n % 3 == 0]) for n in range(40)]
    log = SqlAlarmLog(sqlite_url(tmp_path / "alarms.sqlite"))
    log.append([entry(e) for e in events])
    with contextlib.closing(History(lambda: log)) as asked:
        page = asked.search(
            [], (ADDRESS, OTHER), end_ns=FOREVER_NS, is_wanted=lambda e: True, most=100
        )
        assert {e.id for e in page.events} == {e.id for e in events}
        whole = asked.period(events[-2:], (ADDRESS, OTHER), start_ns=0, end_ns=FOREVER_NS)
        assert len(whole.events) == len(events)


def test_without_a_log_the_newest_lines_are_shown_and_the_gap_is_said(tmp_path: Path) -> None:
    away = SqlAlarmLog(sqlite_url(tmp_path / "nowhere" / "alarms.sqlite"))
    kept = [event(1, 1)]
    with contextlib.closing(History(lambda: away)) as asked:
        page = asked.search(kept, (ADDRESS,), end_ns=9, is_wanted=lambda e: True, most=9)
    assert (page.events, "must answer" in page.missing) == (tuple(kept), True)
    empty = History(lambda: Log([]))
    assert (
        "fusion alarms record"
        in empty.search(kept, (ADDRESS,), end_ns=9, is_wanted=lambda e: True, most=9).missing
    )
