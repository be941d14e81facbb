"""Two real processes train the model that one trains; what must stop stops in both.

``torchrun`` starts the two once; they go through every scenario.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file

from fusion.training.parallel import ONE_PROCESS
from tests.unit.training.ranks_process import gradients, run

ROOT = Path(__file__).parents[3]
RUNS: dict[str, dict[str, Any]] = {
    "live-sigreg": {"target": "live", "regulariser": "sigreg"},
    "ema-vicreg": {"target": "ema", "regulariser": "vicreg"},
    # Windows of 7 ticks: every fourth tick of the batch begins elsewhere in the second half of it.
    "stopgrad-odd": {"target": "stopgrad", "window_ticks": 7, "batch_windows": 6},
}
OTHERS: dict[str, dict[str, Any]] = {
    "resumed": {"target": "live", "regulariser": "sigreg", "killed_at": 7},
    "constant": {"is_constant": True, "steps": 12, "gauge_every": 3},
    "rank-1": {"rank_1_never_content": True, "gauge_every": 2},
    "seeds": {"seed_of_rank_1": 1},
    "indivisible": {"batch_windows": 13},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes saw of every scenario."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "scenarios.json").write_text(json.dumps(RUNS | OTHERS))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    ended = subprocess.run(
        [*command, "-m", "tests.unit.training.ranks_process", str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        check=False,
        timeout=400,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return folder


def seen(folder: Path, name: str, rank: int = 0) -> dict[str, Any]:
    return json.loads((folder / name / f"rank{rank}of2.json").read_text())


@pytest.mark.parametrize("regulariser", ["sigreg", "vicreg"])
def test_gradients_are_those_of_the_whole_batch(
    folder: Path, regulariser: Literal["sigreg", "vicreg"]
) -> None:
    alone = gradients(ONE_PROCESS, regulariser)
    for rank in range(2):
        shared = load_file(folder / f"{regulariser}.rank{rank}.safetensors")
        assert shared.keys() == alone.keys()
        for name, wanted in alone.items():
            torch.testing.assert_close(shared[name], wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_have_the_loss_curve_of_one(folder: Path, tmp_path: Path, name: str) -> None:
    alone = run(tmp_path, RUNS[name], ONE_PROCESS)
    shared = seen(folder, name)
    assert len(shared["losses"]) == len(alone["losses"]) == 11
    for ours, theirs in zip(shared["losses"], alone["losses"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    for ours, theirs in zip(shared["history"], alone["history"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-4)
    ours = load_file(folder / name / "rank0of2.safetensors")
    theirs = load_file(tmp_path / "rank0of1.safetensors")
    # Adam makes steps of one length of gradients that are nothing but rounding: so a bound on all
    # weights together, beside what they moved.
    apart = sum(((ours[key] - theirs[key]) ** 2).sum().item() for key in ours) ** 0.5
    weight = sum((theirs[key] ** 2).sum().item() for key in ours) ** 0.5
    assert apart < 1e-4 * weight


@pytest.mark.parametrize("name", RUNS)
def test_both_processes_see_and_make_the_same(folder: Path, name: str) -> None:
    assert seen(folder, name, 0) == seen(folder, name, 1)
    ours, theirs = (load_file(folder / name / f"rank{rank}of2.safetensors") for rank in range(2))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours | theirs)


def test_a_shared_run_that_was_killed_goes_on(folder: Path) -> None:
    assert seen(folder, "resumed")["history"] == seen(folder, "live-sigreg")["history"]
    ours, whole = (
        load_file(folder / name / "rank0of2.safetensors") for name in ("resumed", "live-sigreg")
    )
    assert all(torch.equal(ours[key], whole[key]) for key in ours | whole)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("constant", "CollapseError: the embedding must keep rankme", "keep rankme"),
        ("rank-1", "CollapseError: the embedding collapsed in another process", "keep rankme"),
        ("seeds", "RecipeError: all processes of a run must train the same", "name one version"),
        ("indivisible", "RecipeError: batch_windows must be a multiple of the 2", "got 13"),
    ],
)
def test_what_must_stop_stops_in_both(folder: Path, name: str, first: str, second: str) -> None:
    assert first in seen(folder, name, 0)["stopped"]
    assert second in seen(folder, name, 1)["stopped"]
