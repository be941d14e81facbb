"""The decision to retrain: it never loops, never forgets, and two that ask start one."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from flows import drift_journal, line_journal
from flows import reconcile as module
from flows.drift_journal import drift_history, keep_record
from flows.reconcile import RunState, reconcile
from flows.rollout_journal import journal_of
from flows.settings import Settings
from fusion.plant import NANOSECONDS
from fusion.retraining.decision import WEEK_NS, RetrainingPolicy, decide
from fusion.retraining.records import DriftFinding, DriftRecord, Retraining
from fusion.rollout.states import Action
from tests.clocks import HandClock
from tests.models import PLANT

HOUR_NS = 3600 * NANOSECONDS
POLICY = RetrainingPolicy()
NOW_NS = 10**6 * HOUR_NS


def record(at_ns: int, *, is_drift: bool = True, version: str = "v1") -> DriftRecord:
    """A check of the hour before ``at_ns``."""
    finding = DriftFinding(
        kind="embedding",
        about="ear",
        statistic=0.5,
        p_value=1e-4,
        level=0.01,
        effect=0.5,
        min_effect=0.02,
        is_drift=is_drift,
        sentence="It moved.",
    )
    return DriftRecord(
        id=f"{version}-{at_ns}",
        t_ns=at_ns,
        plant=str(PLANT.address),
        model_version=version,
        data_version="d",
        from_ns=at_ns - HOUR_NS,
        until_ns=at_ns,
        num_ticks=1,
        block_s=1,
        new_data_s=7200,
        duration_s=1,
        findings=(finding,),
    )


TWO = [record(NOW_NS - HOUR_NS), record(NOW_NS)]


def is_due(
    records: list[DriftRecord], retrainings: tuple[Retraining, ...] = (), version: str = "v1"
) -> bool:
    return decide(POLICY, records, retrainings, champion=version, now_ns=NOW_NS).is_due


def done(
    hours_ago: float, *, answers: tuple[str, ...] = (), has_failed: bool = False
) -> Retraining:
    t_ns = NOW_NS - round(hours_ago * HOUR_NS)
    return Retraining(
        f"r{t_ns}", t_ns, str(PLANT.address), "", answers, "run", t_ns + 1, has_failed
    )


def test_two_checks_in_a_row_make_it_due() -> None:
    assert is_due(TWO)
    assert not is_due(TWO[1:])


@pytest.mark.parametrize(
    ("why_not", "records", "retrainings"),
    [
        ("in between nothing drifted", [TWO[0], record(NOW_NS, is_drift=False)], ()),
        ("they saw the same ticks", [record(NOW_NS - HOUR_NS // 2), record(NOW_NS)], ()),
        ("another version drifted", [record(t.t_ns, version="v0") for t in TWO], ()),
        ("it was answered", TWO, (done(30, answers=tuple(t.id for t in TWO)),)),
        ("cool-down", TWO, (done(5),)),
        ("budget", TWO, (done(30), done(60), done(90, has_failed=True))),
        ("one goes on", TWO, (Retraining("r", NOW_NS - 50 * HOUR_NS, "p", ""),)),
        ("little is new", [t.model_copy(update={"new_data_s": 60}) for t in TWO], ()),
        ("long ago", [record(NOW_NS - WEEK_NS - 3 * HOUR_NS + i * HOUR_NS) for i in (0, 1)], ()),
    ],
)
def test_what_holds_it_back(
    why_not: str, records: list[DriftRecord], retrainings: tuple[Retraining, ...]
) -> None:
    assert not is_due(records, retrainings), why_not


def test_a_failed_answer_is_none() -> None:
    assert is_due(TWO, (done(30, answers=tuple(t.id for t in TWO), has_failed=True),))


@given_settings(max_examples=60, deadline=None)
@given(
    is_drift=st.lists(st.booleans() | st.just(True), min_size=30, max_size=90),
    lasts=st.lists(st.integers(0, 9), min_size=90, max_size=90),
    fails=st.lists(st.booleans(), min_size=90, max_size=90),
    cool_down_h=st.integers(0, 12),
    most=st.integers(0, 4),
)
def test_however_it_goes_it_never_loops(
    is_drift: list[bool], lasts: list[int], fails: list[bool], cool_down_h: int, most: int
) -> None:
    """Every three hours a check and a decision; retrainings last, fail and change nothing."""
    policy = RetrainingPolicy(cool_down_s=cool_down_h * 3600, most_per_week=most)
    records: list[DriftRecord] = []
    done: list[Retraining] = []
    for turn, drifted in enumerate(is_drift):
        now_ns = NOW_NS + turn * 3 * HOUR_NS
        records.append(record(now_ns, is_drift=drifted))
        done = [
            Retraining(r.id, r.t_ns, r.plant, r.why, r.answers, "run", now_ns, fails[i])
            if r.is_open and now_ns - r.t_ns >= lasts[i] * HOUR_NS
            else r
            for i, r in enumerate(done)
        ]
        made = decide(policy, records, done, champion="v1", now_ns=now_ns)
        assert made == decide(policy, records[::-1], done[::-1], champion="v1", now_ns=now_ns)
        if made.is_due:
            assert not any(each.is_open for each in done)
            done.append(Retraining(str(turn), now_ns, "p", made.why, made.answers))
    for last in done:
        within = [r for r in done if 0 <= last.t_ns - r.t_ns < WEEK_NS]
        assert len(within) <= most
    starts = [r.t_ns for r in done]
    assert all(b - a >= cool_down_h * HOUR_NS for a, b in itertools.pairwise(starts))
    answered = [id_ for r in done if not r.has_failed for id_ in r.answers]
    assert len(answered) == len(set(answered)), "a check is answered once"


class Elsewhere:
    """Runs retrainings as Prefect does: one for each key."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.is_away = False
        self.now: RunState = "running"
        self.given_up: list[str] = []

    def start(self, plant_file: str, reason: str, *, key: str) -> str:
        if key not in self.keys:
            self.keys.append(key)
        if self.is_away:
            raise ConnectionError(plant_file, reason)
        return f"run {key}"

    def state(self, run: str) -> RunState:
        assert run.startswith("run ")
        return self.now

    def give_up(self, run: str, why: str) -> None:
        assert "24 h" in why
        self.given_up.append(run)


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A plant whose version v1 drifts, as two kept checks say, and nobody was told."""
    monkeypatch.setattr(module, "champion_of", lambda _plant, _settings: Path("v1"))
    kept = Settings(data_dir=tmp_path)
    now_ns = module.wiring.open_clock().now_ns()
    for at_ns in (now_ns - 2 * HOUR_NS, now_ns - HOUR_NS):
        first = keep_record(kept, PLANT, record(at_ns))
        again = record(at_ns).model_copy(update={"t_ns": at_ns + 1, "duration_s": 99.0})
        assert keep_record(kept, PLANT, again) == first, "what is told is what is kept"
    return kept


def turn(where: Settings, elsewhere: Elsewhere) -> int:
    return len(reconcile(Path("duo.yaml"), PLANT, where, elsewhere, POLICY).started)


def test_what_was_kept_is_answered_once_without_any_event(where: Settings) -> None:
    elsewhere = Elsewhere()
    assert len(drift_history(where, PLANT).records) == 2, "kept twice is kept once"
    assert [turn(where, elsewhere) for _ in range(3)] == [1, 0, 0]
    elsewhere.now = "finished"
    assert [turn(where, elsewhere) for _ in range(2)] == [0, 0]
    (retraining,) = drift_history(where, PLANT).retrainings
    assert not retraining.is_open
    assert "It moved." in retraining.why


def test_a_run_that_lost_its_machine_is_given_up_after_a_day(
    where: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Elsewhere()
    turn(where, elsewhere)
    (before,) = drift_history(where, PLANT).retrainings
    assert before.started_ns is not None
    now_ns = before.started_ns
    clock = HandClock(now_ns + 23 * HOUR_NS)
    monkeypatch.setattr(module.wiring, "open_clock", lambda: clock)
    turn(where, elsewhere)
    assert drift_history(where, PLANT).retrainings[0].is_open, "a long training is left alone"
    clock.t_ns = now_ns + 25 * HOUR_NS
    keep_record(where, PLANT, record(clock.t_ns - 2 * HOUR_NS))
    keep_record(where, PLANT, record(clock.t_ns - HOUR_NS))
    assert turn(where, elsewhere) == 1, "it has failed, and what it was to answer is answered"
    lost, second = drift_history(where, PLANT).retrainings
    assert (lost.has_failed, second.is_open) == (True, True)
    assert elsewhere.given_up == [lost.run]


def test_nothing_is_due_while_a_challenger_proves_itself(where: Settings) -> None:
    journal = journal_of(where, PLANT)

    def step(action: Action, version: str) -> None:
        journal.append(journal.state(), action, version, who="test", why="test", t_ns=NOW_NS)

    for action, version in (
        (Action.LOADED, "v1"), (Action.PROBED, "v1"), (Action.CHAMPION, "v1"),
        (Action.LOADED, "v2"), (Action.PROBED, "v2"), (Action.SHADOW, "v2"),
    ):  # fmt: skip
        step(action, version)
    elsewhere = Elsewhere()
    decided = reconcile(Path("duo.yaml"), PLANT, where, elsewhere, POLICY).decision
    assert not decided.is_due
    assert "v2 proves itself" in decided.why
    step(Action.ROLLED_BACK, "v2")
    assert turn(where, elsewhere) == 1


def test_the_oldest_checks_go_before_the_file_is_too_large(
    where: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn(where, Elsewhere())
    answered = {id_ for each in drift_history(where, PLANT).retrainings for id_ in each.answers}
    size = len(record(NOW_NS).model_dump_json())
    monkeypatch.setattr(line_journal, "MAX_BYTES", 40 * size)
    monkeypatch.setattr(drift_journal, "MAX_BYTES", 40 * size)
    for number in range(200):
        keep_record(where, PLANT, record(NOW_NS + number * HOUR_NS))
    history = drift_history(where, PLANT)
    kept = [each.id for each in history.records]
    assert answered <= set(kept), "what was answered is not found anew"
    newest = [f"v1-{NOW_NS + number * HOUR_NS}" for number in range(200)]
    assert kept[2:] == newest[-len(kept) + 2 :]
    assert 10 <= len(kept) <= 25
    assert len(history.retrainings) == 1


def test_who_waits_for_a_journal_that_is_replaced_writes_into_the_new_one(where: Settings) -> None:
    journal = drift_journal.drift_journal_of(where, PLANT)
    has_begun, may_go_on = threading.Event(), threading.Event()

    def slowly(entries: list[object]) -> list[object]:
        has_begun.set()
        assert may_go_on.wait(30)
        return entries[1:]

    forgetting = threading.Thread(target=lambda: journal.forget(slowly))  # pyright: ignore[reportArgumentType]
    forgetting.start()
    assert has_begun.wait(30)
    writing = threading.Thread(target=lambda: keep_record(where, PLANT, record(NOW_NS)))
    writing.start()
    writing.join(0.2)
    assert writing.is_alive(), "it waits for the lock"
    may_go_on.set()
    for each in (forgetting, writing):
        each.join(30)
    assert len(drift_history(where, PLANT).records) == 2
    assert not list(journal._path.parent.glob(".*"))


def test_two_reconcilers_at_once_start_one(where: Settings) -> None:
    elsewhere = Elsewhere()
    threads = [threading.Thread(target=turn, args=(where, elsewhere)) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(elsewhere.keys) == 1
    assert len(drift_history(where, PLANT).retrainings) == 1


def test_killed_before_it_knew_the_run_the_next_turn_finds_it(where: Settings) -> None:
    elsewhere = Elsewhere()
    elsewhere.is_away = True
    with pytest.raises(ConnectionError):
        turn(where, elsewhere)
    elsewhere.is_away = False
    assert turn(where, elsewhere) == 1
    assert turn(where, elsewhere) == 0
    assert len(elsewhere.keys) == 1
