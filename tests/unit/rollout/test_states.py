"""The way into service: no step out of order, one champion, and always a way back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.rollout.states import Action, Entry, Roles, Rollout, canaries, replayed, roles_of

ASSETS = [f"e/s/a/l/c/pump-{i}" for i in range(7)]


def step(state: Rollout, action: Action, version: str, share: float = 0.0) -> Rollout:
    return state.after(
        Entry(
            revision=state.revision + 1,
            t_ns=state.revision,
            action=action,
            version=version,
            who="test",
            why="because",
            share=share,
        )
    )


def served(version: str = "a") -> Rollout:
    state = Rollout()
    for action in (Action.LOADED, Action.PROBED, Action.CHAMPION):
        state = step(state, action, version)
    return state


def challenged(stage: Action) -> Rollout:
    state = served()
    for action in (Action.LOADED, Action.PROBED, Action.SHADOW, Action.CANARY, Action.CHAMPION):
        state = step(state, action, "b", 0.3)
        if action is stage:
            return state
    raise AssertionError(stage)


@given(st.lists(st.tuples(st.sampled_from(Action), st.sampled_from("abc")), max_size=40))
def test_whatever_is_tried_there_is_a_champion_from_the_first_on(
    tried: list[tuple[Action, str]],
) -> None:
    state, had_champion = Rollout(), False
    for action, version in tried:
        try:
            after = step(state, action, version)
        except InputError:
            assert action not in state.possible() or state.possible()[action] != version
            continue
        assert after.revision == state.revision + 1
        had_champion |= after.champion is not None
        assert (after.champion is not None) == had_champion
        assert (after.challenger is None) == (after.stage is None)
        scores_already = after.stage in {Action.SHADOW, Action.CANARY}
        assert after.standby is None or not scores_already, "one at a time beside the champion"
        if action is Action.CHAMPION and state.champion is not None:
            back = step(after, Action.ROLLED_BACK, version)
            assert back.champion == state.champion
        state = after


@given(st.lists(st.sampled_from(Action), max_size=30))
def test_a_journal_read_again_gives_the_same_state(tried: list[Action]) -> None:
    state, kept = Rollout(), list[Entry]()
    for action in tried:
        about = state.possible().get(action) or f"v{state.revision}"
        entry = Entry(
            revision=state.revision + 1, t_ns=1, action=action, version=about, who="w", why="y"
        )
        try:
            state = state.after(entry)
        except InputError:
            continue
        kept.append(Entry.model_validate_json(entry.model_dump_json()))
    assert replayed(kept) == state


@pytest.mark.parametrize("stage", [Action.SHADOW, Action.CANARY, Action.CHAMPION])
def test_every_stage_can_be_rolled_back(stage: Action) -> None:
    back = step(challenged(stage), Action.ROLLED_BACK, "b")
    assert (back.champion, back.challenger, back.standby) == ("a", None, None)


def test_a_version_that_is_refused_leaves_the_way_back_open() -> None:
    state = challenged(Action.CHAMPION)
    assert (state.champion, state.standby) == ("b", "a")
    for action in (Action.LOADED, Action.PROBED):
        state = step(state, action, "c")
        assert roles_of(state, ASSETS[0], ASSETS) == Roles("b", "a"), "it goes on scoring"
    back = step(state, Action.ROLLED_BACK, "b")
    assert (back.champion, back.standby, back.challenger) == ("a", None, "c"), "it waits on"
    assert step(state, Action.RETIRED, "a").challenger == "c"
    refused = step(state, Action.REFUSED, "c")
    assert step(refused, Action.ROLLED_BACK, "b").champion == "a"
    assert step(state, Action.SHADOW, "c").standby is None


def test_a_step_on_a_state_that_moved_on_is_refused() -> None:
    state = served()
    stale = Entry(revision=3, t_ns=0, action=Action.LOADED, version="b", who="w", why="y")
    with pytest.raises(InputError, match="another one was faster"):
        state.after(stale)


def test_what_is_not_possible_is_said_with_what_is() -> None:
    with pytest.raises(InputError, match=r"cannot be canary now; possible: probed, refused"):
        step(challenged(Action.LOADED), Action.CANARY, "b")
    with pytest.raises(InputError, match="shadow must be about b, got c"):
        step(challenged(Action.PROBED), Action.SHADOW, "c")


def test_in_shadow_only_the_champion_speaks() -> None:
    for address in ASSETS:
        assert roles_of(challenged(Action.SHADOW), address, ASSETS) == ("a", "b")
        assert roles_of(challenged(Action.PROBED), address, ASSETS) == ("a", None)
        assert roles_of(challenged(Action.CHAMPION), address, ASSETS) == ("b", "a")
    assert roles_of(Rollout(), ASSETS[0], ASSETS) is None


def test_in_canary_a_share_of_the_assets_hears_the_challenger() -> None:
    roles = [roles_of(challenged(Action.CANARY), address, ASSETS) for address in ASSETS]
    assert roles.count(Roles("b", "a")) == 3  # (30 % of 7, rounded up)
    assert roles.count(Roles("a", "b")) == 4


@given(st.sets(st.text(min_size=1), max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_keeps_the_canaries_that_there_were(
    assets: set[str], one: float, other: float
) -> None:
    small, large = sorted((one, other))
    assert canaries(sorted(assets), small) <= canaries(list(assets), large)
    assert not assets or small == 0 or canaries(list(assets), small)
