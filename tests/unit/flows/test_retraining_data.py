"""What a retraining reads of a lake: the newest part, and never more than it may learn from."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from flows import retraining_data, training_memory, wiring
from flows.ingest import ingest_once
from flows.retraining_data import Seen, look_at_lake
from flows.retraining_run import freeze
from flows.settings import Settings
from flows.trials import jobs_of, require_memory, ticks_of
from fusion.errors import RecipeError
from fusion.plant import Plant
from fusion.retraining.incidents import PeriodRecipe, divide
from fusion.retraining.quality import QualityRecipe, check_quality, of_ticks
from fusion.training import recipe_named
from tests.swinging import send, swing, write_plant

RECIPE = PeriodRecipe(test_share=0.2, renew_after_s=100, margin_s=5, max_train_s=120)


def looked(plant: Plant, settings: Settings, recipe: PeriodRecipe) -> Seen:
    version = wiring.open_lake(settings).version(plant.sense_topics)
    seen = look_at_lake(plant, settings, version, frozen=[], recipe=recipe)
    assert seen is not None
    return seen


def test_only_what_may_be_learned_from_is_read_and_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path / "data", mlflow_uri="none")
    plant = send(write_plant(tmp_path), settings, 0, swing(0, 1_200))
    with contextlib.closing(wiring.open_source(settings, plant.sense_topics, "test")) as source:
        while not ingest_once(
            source, wiring.open_lake(settings), clock=wiring.open_clock()
        ).is_complete:
            pass
    monkeypatch.setattr(retraining_data, "LEAD_S", 10_000.0)
    whole = looked(plant, settings, RECIPE)
    assert len(whole.table) == len(whole.ticks)
    monkeypatch.setattr(retraining_data, "LEAD_S", 30.0)
    part = looked(plant, settings, RECIPE)
    assert part.ticks == whole.ticks
    # The examination, two margins and the lead lie in what is read, and half of the lake does not.
    assert len(part.table) < 0.4 * len(whole.table)
    periods = divide(part.ticks, [], [], RECIPE, plant, "v")
    assert periods == divide(whole.ticks, [], [], RECIPE, plant, "v")
    first, second = (of_ticks(each.table, periods.train) for each in (part, whole))
    assert first.equals(second)
    # Trials learn from no more: what lies before is not read, and an examination is left out.
    version = wiring.open_lake(settings).version(plant.sense_topics)
    plant_file = tmp_path / "swinging.yaml"
    (job,) = jobs_of(plant_file, recipe_named("quick"), [{}], settings, max_train_s=120)
    assert job.data_version == version
    freeze(settings, plant, periods.examination)
    examined = periods.examination.ticks
    before, after = ticks_of(job)
    assert before == range(examined.start - 120, examined.start)
    assert after.start == examined.stop
    monkeypatch.setattr(training_memory, "available_bytes", lambda: 120 * 5_000)
    with pytest.raises(RecipeError, match=r"trials must fit into memory: .* or fewer num_workers"):
        require_memory([job, job], at_once=2)
    quality = QualityRecipe(min_train_s=100, flat_s=20)
    assert check_quality(part.table, periods.train, plant, quality).is_good


def test_a_lake_without_records_of_the_plant_is_none(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", mlflow_uri="none")
    plant = send(write_plant(tmp_path), settings, 0, swing(0, 20))
    version = wiring.open_lake(settings).version(plant.sense_topics)
    assert look_at_lake(plant, settings, version, frozen=[], recipe=RECIPE) is None
