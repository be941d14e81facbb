"""Who goes on, and who waits: a challenger must be seen, long enough, doing well."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import wiring
from flows.rollout_advance import Patience, advance
from flows.rollout_journal import journal_of
from flows.rollout_seen import RoleSeen, read_seen, write_seen
from flows.settings import Settings
from fusion.plant import NANOSECONDS
from fusion.rollout.judging import Seen
from fusion.rollout.states import Action
from tests.models import PLANT, make_model

PATIENCE = Patience(shadow_s=3_600, canary_s=3_600, min_seen_share=0.5)
HOUR_TICKS = round(3_600 / PLANT.tick_s)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, mlflow_uri="none")


def shadowed(settings: Settings, *, hours_ago: float) -> int:
    """Take ``new`` into shadow beside ``old`` so long ago; return the journal's revision."""
    journal, now_ns = journal_of(settings, PLANT), wiring.open_clock().now_ns()
    t_ns = now_ns - round(hours_ago * 3_600 * NANOSECONDS)
    state = journal.state()
    for version, last in (("old", Action.CHAMPION), ("new", Action.SHADOW)):
        for action in (Action.LOADED, Action.PROBED, last):
            state = journal.append(state, action, version, who="anna", why="so", t_ns=t_ns)
    return state.revision


def seen(
    settings: Settings, revision: int, new: Seen, *, old: Seen | None = None, replica: str = "1"
) -> None:
    told = RoleSeen(
        revision=revision,
        t_ns=wiring.open_clock().now_ns(),
        seen={"new": new, "old": old or Seen(num_ticks=new.num_ticks)},
    )
    where = settings.model_copy(update={"replica": replica})
    write_seen(where, PLANT, told)


def test_too_soon_unseen_and_seen_before_this_step_all_wait(settings: Settings) -> None:
    assert "nothing proves itself" in advance(settings, [PLANT], PATIENCE).why
    revision = shadowed(settings, hours_ago=2)
    assert "`fusion live` must run" in advance(settings, [PLANT], PATIENCE).why
    seen(settings, revision - 1, Seen(num_ticks=HOUR_TICKS))
    assert "scored 0 ticks" in advance(settings, [PLANT], PATIENCE).why
    patient = PATIENCE.model_copy(update={"shadow_s": 86_400.0})
    assert "24.0 h are asked" in advance(settings, [PLANT], patient).why
    assert journal_of(settings, PLANT).state().stage is Action.SHADOW


def test_who_did_well_becomes_canary_and_then_champion(settings: Settings) -> None:
    make_model(settings.models_dir / PLANT.prefix / "new")
    revision = shadowed(settings, hours_ago=2)
    # Two replicas saw a half each.
    for replica in ("1", "2"):
        seen(settings, revision, Seen(num_ticks=HOUR_TICKS // 4), replica=replica)
    assert read_seen(settings, PLANT)[-1].seen["new"].num_ticks == 2 * (HOUR_TICKS // 4)
    done = advance(settings, [PLANT], PATIENCE)
    assert (done.has_moved, done.state.stage) == (True, Action.CANARY)
    assert "did well" in journal_of(settings, PLANT).entries()[-1].why
    # A stage begins anew: what was seen in shadow is not what was seen as a canary.
    quick = PATIENCE.model_copy(update={"canary_s": 0.0})
    assert not advance(settings, [PLANT], quick).has_moved
    seen(settings, revision + 1, Seen(num_ticks=1))
    assert advance(settings, [PLANT], quick).state.champion == "new"


def test_of_many_plants_so_many_times_the_ticks_are_asked(settings: Settings) -> None:
    revision = shadowed(settings, hours_ago=2)
    seen(settings, revision, Seen(num_ticks=HOUR_TICKS // 2))
    others = [
        PLANT.model_copy(
            update={"address": PLANT.address.model_copy(update={"asset": f"pump-{number}"})}
        )
        for number in range(9)
    ]
    told = advance(settings, [PLANT, *others], PATIENCE)
    assert not told.has_moved
    assert f"{10 * HOUR_TICKS // 2} are asked" in told.why


def test_who_alarms_otherwise_waits_to_be_taken_back(settings: Settings) -> None:
    revision = shadowed(settings, hours_ago=2)
    bad = Seen(num_ticks=HOUR_TICKS, num_alarm_ticks=HOUR_TICKS // 2)
    seen(settings, revision, bad)
    assert "broke a rule" in advance(settings, [PLANT], PATIENCE).why
