"""A run that is killed and goes on makes the model that it would have made uninterrupted."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Literal

import pytest

from fusion.errors import RecipeError
from fusion.model import jepa
from fusion.model.layers import mlp
from fusion.training import Recipe, StepReport, train
from fusion.training.checkpoint import CHECKPOINT_FILE
from tests.unit.training.tiny import PLANT, recording, weights
from tests.unit.training.tiny import recipe as tiny_recipe

Target = Literal["live", "stopgrad", "ema"]
Regulariser = Literal["sigreg", "vicreg"]


def recipe(target: Target = "live", regulariser: Regulariser = "sigreg") -> Recipe:
    return tiny_recipe(target=target, regulariser=regulariser, steps=11, gauge_every=3)


def killed_at(step: int, folder: Path, wanted: Recipe) -> None:
    def kill(report: StepReport) -> None:
        if report.step == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recording(), PLANT, wanted, on_step=kill, checkpoint_dir=folder)


EVERY_CHOICE = list(product(("live", "stopgrad", "ema"), ("sigreg", "vicreg")))
EVERY_MOMENT = [("live", "sigreg"), ("ema", "vicreg")]


@pytest.mark.parametrize(
    ("at", "target", "regulariser"),
    [
        *((at, *choice) for at in (0, 2, 3, 10) for choice in EVERY_MOMENT),
        *((7, *choice) for choice in EVERY_CHOICE),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    tmp_path: Path, at: int, target: Target, regulariser: Regulariser
) -> None:
    wanted = recipe(target, regulariser)
    whole = train(recording(), PLANT, wanted)
    killed_at(at, tmp_path, wanted)
    steps: list[int] = []
    resumed = train(
        recording(),
        PLANT,
        wanted,
        on_step=lambda report: steps.append(report.step),
        checkpoint_dir=tmp_path,
    )
    assert steps[0] == at // 3 * 3
    assert weights(resumed) == weights(whole)
    assert resumed.history == whole.history
    # The teacher is part of both: one that was made anew of the encoder would be nearer to it.
    assert (target == "ema") == any(name.startswith("teacher.") for name in weights(resumed))


def test_a_run_that_is_killed_again_and_again_comes_to_its_end(tmp_path: Path) -> None:
    wanted = recipe("ema")
    for at in (1, 4, 4, 9, 10):
        killed_at(at, tmp_path, wanted)
    assert weights(train(recording(), PLANT, wanted, checkpoint_dir=tmp_path)) == weights(
        train(recording(), PLANT, wanted)
    )


def test_a_run_that_had_ended_gives_its_model_again(tmp_path: Path) -> None:
    first = train(recording(), PLANT, recipe(), checkpoint_dir=tmp_path)
    again = train(recording(), PLANT, recipe(), checkpoint_dir=tmp_path)
    assert weights(again) == weights(first)
    assert again.history == first.history


def test_keeping_checkpoints_changes_nothing_and_leaves_one_file(tmp_path: Path) -> None:
    kept = train(recording(), PLANT, recipe(), checkpoint_dir=tmp_path)
    assert weights(kept) == weights(train(recording(), PLANT, recipe()))
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_FILE]


def test_another_recipe_or_other_data_is_not_continued(tmp_path: Path) -> None:
    killed_at(7, tmp_path, recipe())
    changed = recipe().model_copy(update={"seed": 1})
    with pytest.raises(RecipeError, match="same recipe and data"):
        train(recording(), PLANT, changed, checkpoint_dir=tmp_path)
    with pytest.raises(RecipeError, match="same recipe and data"):
        train(recording(seed=1), PLANT, recipe(), checkpoint_dir=tmp_path)


def test_a_checkpoint_of_another_version_of_the_model_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_at(7, tmp_path, recipe())
    monkeypatch.setattr(jepa, "mlp", lambda i, h, o: mlp(i, 2 * h, o))
    with pytest.raises(RecipeError, match="another version of the product"):
        train(recording(), PLANT, recipe(), checkpoint_dir=tmp_path)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_broken_checkpoint_is_explained(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CHECKPOINT_FILE).write_bytes(content)
    with pytest.raises(RecipeError, match="delete it to start over"):
        train(recording(), PLANT, recipe(), checkpoint_dir=tmp_path)
