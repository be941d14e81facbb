"""What a model learned from verdicts goes with it, and never before."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from flows.event_heads import heads_of_version, newest_head, save_head
from flows.housekeeping import tidy
from flows.models import models_of
from flows.rollout_journal import journal_of
from flows.settings import Settings
from fusion.manifest import MANIFEST_FILE, load_manifest
from fusion.rollout.states import Action, Rollout
from fusion.scoring.events import Labelled, fit_event_head
from fusion.scoring.foresight import HeadBasis, KnownHead
from tests.models import PLANT


@pytest.fixture
def settings(tmp_path: Path, model_dir: Path) -> Settings:
    """Two versions, each with a head; the newer one serves."""
    made = Settings(data_dir=tmp_path)
    windows = Labelled(np.zeros((10, 1)), np.ones(10), np.ones(10, bool), np.arange(10))
    head = fit_event_head(windows, grid=(5,), num_heads=1)
    for version in ("v1", "v2"):
        folder = made.models_dir / PLANT.prefix / version
        shutil.copytree(model_dir, folder)
        manifest = load_manifest(folder).model_copy(update={"version": version, "data_version": ""})
        (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())
        basis = HeadBasis(
            plant=str(PLANT.address),
            model_version=version,
            number=1,
            t_ns=0,
            num_useful=5,
            num_nuisance=0,
            num_windows=10,
            verdicts="",
        )
        save_head(KnownHead(head, basis), folder, PLANT, made)
    journal, state = journal_of(made, PLANT), Rollout()
    for action in (Action.LOADED, Action.PROBED, Action.CHAMPION):
        state = journal.append(state, action, "v2", who="anna", why="so", t_ns=1)
    return made


def test_heads_go_with_their_version(settings: Settings) -> None:
    folder = settings.models_dir / PLANT.prefix
    done = tidy(settings, PLANT, keep_models=1, keep_days=0)
    assert done.models == ("v1",)
    assert [path.name for path in models_of(settings, PLANT)] == ["v2"]
    assert not heads_of_version(folder / "v1").exists()
    assert newest_head(folder / "v2", PLANT, settings) is not None
