"""Triton dies in the middle of a stream and comes back: no window is lost, none is scored twice."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from connectors.triton_io import TritonServer
from flows.cli.plant import load_plant
from flows.live import open_live, run_live
from flows.operate import scores
from flows.rollout_watch import Watched
from flows.settings import Settings
from fusion.errors import InferenceUnavailableError
from fusion.plant import Plant
from fusion.schema import Score
from fusion.simulation import normal_scenario
from tests.e2e.conftest import make_plant, publish

pytestmark = pytest.mark.xdist_group("triton")


def run_to_end(plant: Plant, model_dir: Path, settings: Settings) -> list[Score]:
    with open_live([Watched(plant, model_dir)], settings) as live:
        for _ in run_live(live, should_stop=lambda: False, may_end=lambda: True):
            pass
    return scores(plant, settings)


def test_killed_and_restarted_scores_every_window_once(
    triton: TritonServer, model_dir: Path, unique: str, tmp_path: Path
) -> None:
    plant = load_plant(make_plant(tmp_path, unique))
    here = Settings(data_dir=tmp_path / "here")
    there = Settings(
        data_dir=tmp_path / "there",
        inference="triton",
        triton_address=triton.access.address,
        triton_repository=triton.repository,
        triton_deadline_s=5.0,
    )
    for settings in (here, there):
        publish(normal_scenario(duration_s=60, seed=11), plant, settings)
    expected = run_to_end(plant, model_dir, here)

    paused: list[InferenceUnavailableError] = []
    revival = threading.Thread(target=triton.start)

    def revive(why: InferenceUnavailableError) -> None:
        paused.append(why)
        if len(paused) == 2:  # (it has been away for a while)
            revival.start()

    killed_at: list[int] = []
    with open_live([Watched(plant, model_dir)], there, on_paused=revive) as live:
        num_scored = 0
        for step in run_live(live, should_stop=lambda: False, may_end=lambda: True):
            num_scored += len(step.scores)
            if num_scored and not killed_at:
                triton.kill()
                killed_at.append(num_scored)
        total = live.total()
    revival.join()

    got = scores(plant, there)
    assert killed_at[0] < len(expected), "it was killed in the middle"
    assert paused, "somebody heard that scoring waits"
    assert [each.tick for each in got] == [each.tick for each in expected]
    assert [each.surprise for each in got] == pytest.approx(
        [each.surprise for each in expected], rel=1e-3, abs=1e-3
    )
    assert (total.dead_lettered, total.lost, total.pending) == (0, 0, 0)
