"""Heads on disk: the newest whole one is found, another's or an altered one is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from flows import feedback
from flows.event_heads import HeadWatch, head_folders, newest_head, save_head
from flows.feedback import watched_grid
from flows.settings import Settings
from flows.trust import make_key_pair
from fusion.errors import InputError
from fusion.retraining.labels import LabelledEpisode
from fusion.scoring.events import FILE, MAX_WINDOWS, EventHead, Labelled, fit_event_head
from fusion.scoring.foresight import HeadBasis, KnownHead
from tests.clocks import HandClock
from tests.models import PLANT
from tests.warnings_heard import warnings_of


@pytest.fixture(scope="module")
def head() -> EventHead:
    windows = Labelled(
        np.arange(60)[:, None] % 2.0, np.arange(60) % 5 + 1.0, np.ones(60, bool), np.arange(60) // 6
    )
    return fit_event_head(windows, grid=(5, 10), num_heads=1)


def known(head: EventHead, number: int, **changed: object) -> KnownHead:
    given: dict[str, object] = {
        "plant": str(PLANT.address),
        "model_version": "v1",
        "number": number,
        "t_ns": 0,
        "num_useful": 6,
        "num_nuisance": 0,
        "num_windows": 60,
        "verdicts": "",
    }
    return KnownHead(head, HeadBasis.model_validate(given | changed))


def newest_number(model_dir: Path, settings: Settings) -> int | None:
    found = newest_head(model_dir, PLANT, settings)
    return None if found is None else found.basis.number


def test_the_newest_whole_head_of_the_version_and_plant_is_found(
    head: EventHead, tmp_path: Path
) -> None:
    model_dir, plain = tmp_path / "v1", Settings(data_dir=tmp_path)
    assert newest_number(model_dir, plain) is None
    for number in (9, 10):
        folder = save_head(known(head, number), model_dir, PLANT, plain)
    assert newest_number(model_dir, plain) == 10
    assert newest_number(tmp_path / "v2", plain) is None
    with pytest.raises(InputError, match="another fit may have been faster"):
        save_head(known(head, 10), model_dir, PLANT, plain)

    # (A fit that was killed leaves this behind.)
    (folder.parent / ".11.77.part").mkdir()
    with warnings_of("flows.event_heads") as warned:
        assert newest_number(model_dir, plain) == 10
    assert warned == []
    save_head(known(head, 12, plant="another/plant"), model_dir, PLANT, plain)
    (folder / FILE).write_bytes(b"no head")
    with warnings_of("flows.event_heads") as warned:
        assert newest_number(model_dir, plain) == 9
    assert "for another/plant" in warned[0]
    assert "must be an event head" in warned[1]


def test_with_trusted_keys_only_signed_heads_are_opened(head: EventHead, tmp_path: Path) -> None:
    private, public, _ = make_key_pair(tmp_path / "plant")
    plain = Settings(data_dir=tmp_path)
    strict = Settings(
        data_dir=tmp_path, model_signing_key_file=private, model_trusted_keys_file=public
    )
    model_dir = tmp_path / "v1"
    save_head(known(head, 1), model_dir, PLANT, plain)
    assert newest_number(model_dir, plain) == 1
    assert newest_number(model_dir, strict) is None
    folder = save_head(known(head, 2), model_dir, PLANT, strict)
    assert newest_number(model_dir, strict) == 2
    folder.rename(folder.with_name("3"))
    assert newest_number(model_dir, strict) is None, "an old head under a new number"
    folder.with_name("3").rename(folder)
    save_head(known(replace(head, shift=9.0), 4), model_dir, PLANT, plain)
    (folder.with_name("4") / FILE).replace(folder / FILE)
    assert newest_number(model_dir, strict) is None


def test_a_live_process_looks_now_and_then_and_goes_on_whatever_it_finds(
    head: EventHead, tmp_path: Path
) -> None:
    model_dir, plain, clock = tmp_path / "v1", Settings(data_dir=tmp_path), HandClock()
    watch = HeadWatch(plain, clock)
    assert watch.is_due()
    assert not watch.is_due()
    clock.pass_s(10)
    assert watch.is_due()
    assert watch.newest(model_dir, PLANT) is None
    first = save_head(known(head, 1), model_dir, PLANT, plain)
    found = watch.newest(model_dir, PLANT)
    assert found is not None
    assert watch.newest(model_dir, PLANT) is found, "a head never changes: it is read once"
    second = save_head(known(head, 2), model_dir, PLANT, plain)
    (second / FILE).unlink()
    with warnings_of("flows.event_heads") as warned:
        for _ in range(3):
            again = watch.newest(model_dir, PLANT)
            assert again is not None
            assert again.basis.number == 1
    assert len(warned) == 1
    for folder in (first, second):
        folder.rename(tmp_path / f"gone-{folder.name}")
    assert watch.newest(model_dir, PLANT) is None
    assert head_folders(model_dir, PLANT) == []


def test_times_that_too_few_stretches_reach_are_not_fitted() -> None:
    """Six stretches of 20 ticks, five of them before an event, one cut off at its end."""
    to_end = np.tile(np.arange(20, 0, -1.0), 6)
    group = np.repeat(np.arange(6), 20)
    windows = Labelled(np.zeros((120, 1)), to_end, group < 5, group)
    assert watched_grid(windows, [5, 10, 19, 20, 40]) == [5, 10, 19, 20]
    only_four = windows.part(group > 1)
    assert watched_grid(only_four, [5, 10]) == []


def test_what_lies_before_a_useful_alarm_is_thinned_apart_from_the_many_calm_ticks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A week of ticks, an alarm each day: evenly thinned, what came before them would be gone."""
    monkeypatch.setattr(feedback, "ahead_of", lambda window: np.array([window.tick % 7.0]))
    tick_ns, day, reach = PLANT.tick_ns, 20_000, 60
    episodes = [
        LabelledEpisode(f"hot:{n}", "hot", n * day * tick_ns, (n * day + 9) * tick_ns, "useful")
        for n in range(1, 6)
    ]
    windows = (SimpleNamespace(tick=tick) for tick in range(1, 6 * day))
    labelled, read = feedback._labelled(cast("Any", windows), episodes, PLANT, reach)
    assert read == range(1, 6 * day)
    assert len(labelled) <= MAX_WINDOWS, "a fit leaves out no more"
    is_near_N = labelled.has_event_N & (labelled.ticks_to_end_N <= reach)
    assert is_near_N.sum() == 5 * reach
    assert set(labelled.weights()[is_near_N]) == {1.0}
    # What stands for the rest stands for all of it.
    assert labelled.weights().sum() == pytest.approx(6 * day, rel=0.05)
    assert watched_grid(labelled, [reach // 2, reach]) == [reach // 2, reach]


@pytest.mark.parametrize("is_told", [True, False])
def test_only_a_head_that_knows_something_is_put_where_live_processes_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_told: bool
) -> None:
    """Twelve alarms, each half a minute after calm; what is seen tells of them, or does not."""
    rest = np.tile(np.arange(60, 0, -1.0), 12)
    seen = rest <= 30 if is_told else np.random.default_rng(0).random(len(rest))
    group = np.repeat(np.arange(12), 60)
    labelled = Labelled(seen[:, None].astype(float), rest, np.ones(len(rest), bool), group)
    episodes = [
        LabelledEpisode(f"hot:{n}", "hot", n * 60 * PLANT.tick_ns, None, "useful")
        for n in range(1, 13)
    ]
    monkeypatch.setattr(feedback, "told_episodes", lambda *_: episodes)
    monkeypatch.setattr(feedback, "_windows", lambda *_: iter(()))
    monkeypatch.setattr(feedback, "_labelled", lambda *_: (labelled, range(720)))
    model_dir, settings = tmp_path / "v1", Settings(data_dir=tmp_path)
    grid_s = (30 * PLANT.tick_s,)
    report = feedback.refit_event_head(PLANT, settings, model_dir, grid_s=grid_s)
    found = newest_head(model_dir, PLANT, settings)
    assert (report.head is None) == (found is None) == (not is_told)
    if found is None:
        assert "is not kept" in report.sentence
        return
    assert found.basis.error is not None
    assert found.basis.base_rate_error is not None
    assert found.basis.error < found.basis.base_rate_error
    assert "of the base rate" in report.sentence
