"""The journal: what was appended is there, in order, whoever wrote and whatever crashed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.rollout_journal import RolloutJournal
from fusion.errors import InputError
from fusion.rollout.states import Action, Rollout


def step(journal: RolloutJournal, seen: Rollout, action: Action, version: str = "a") -> Rollout:
    return journal.append(seen, action, version, who="anna", why="so", t_ns=seen.revision)


@pytest.fixture
def journal(tmp_path: Path) -> RolloutJournal:
    return RolloutJournal(tmp_path / "rig" / "rollout.jsonl")


def test_steps_are_read_back_with_who_and_why(journal: RolloutJournal) -> None:
    assert (journal.entries(), journal.state(), journal.num_bytes) == ([], Rollout(), 0)
    state = step(journal, Rollout(), Action.LOADED)
    state = step(journal, state, Action.PROBED)
    state = step(journal, state, Action.CHAMPION)
    assert journal.state() == state
    assert [entry.action for entry in journal.entries()] == ["loaded", "probed", "champion"]
    assert {(entry.who, entry.why) for entry in journal.entries()} == {("anna", "so")}


def test_of_many_who_saw_the_same_state_one_takes_the_step(journal: RolloutJournal) -> None:
    state = step(journal, Rollout(), Action.LOADED)

    def take(_: int) -> bool:
        try:
            step(journal, state, Action.REFUSED)
        except InputError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(take, range(16))) == [False] * 15 + [True]
    assert len(journal.entries()) == 2
    with pytest.raises(InputError, match="another one was faster"):
        step(journal, state, Action.REFUSED)


def test_a_line_that_a_crash_cut_off_was_never_a_step(
    journal: RolloutJournal, tmp_path: Path
) -> None:
    state = step(journal, Rollout(), Action.LOADED)
    path = tmp_path / "rig" / "rollout.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    assert journal.state() == state
    after = step(journal, state, Action.PROBED)
    assert journal.state() == after
    assert path.read_bytes().startswith(whole)


def test_a_file_that_is_no_journal_is_said_to_be_none(
    journal: RolloutJournal, tmp_path: Path
) -> None:
    step(journal, Rollout(), Action.LOADED)
    path = tmp_path / "rig" / "rollout.jsonl"
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(InputError, match="must hold a step of a rollout in every line"):
        journal.state()
