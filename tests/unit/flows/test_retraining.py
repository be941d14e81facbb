"""A retraining without Prefect: killed after every step, and fed with what is unfit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from flows import retraining_steps
from flows.drift_journal import drift_journal_of, keep_record
from flows.learn import TrainReport
from flows.models import models_of
from flows.plant_files import load_plant
from flows.retraining import STEPS, retrain, why_outdated
from flows.retraining_results import Retraining, Validated
from flows.retraining_run import Outcome, RunFolder, begin, examinations_of, runs_of
from flows.rollout_journal import journal_of
from flows.settings import Settings
from fusion.errors import CollapseError, FusionError, InputError, RecipeError, SettingsError
from fusion.retraining.gate import Floor
from fusion.retraining.incidents import Examination
from fusion.retraining.quality import QualityReport
from fusion.retraining.records import DriftRecord, Intended
from fusion.rollout.states import Action
from tests.swinging import LENIENT, POLICY, asked, send, swing, write_plant


class Killed(BaseException):
    """Stands for the end of the process: nothing of ours catches it."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", mlflow_uri="none")


@pytest.fixture
def plant_file(tmp_path: Path, settings: Settings) -> Path:
    """A plant of which the broker has ten minutes."""
    path = write_plant(tmp_path)
    send(path, settings, 0, swing(0, 600))
    return path


def test_killed_after_every_step_it_goes_on_and_repeats_nothing(
    plant_file: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant, done = load_plant(plant_file), list[str]()
    keep = RunFolder.keep

    def keep_and_die(self: RunFolder, step: str, result: BaseModel) -> None:
        keep(self, step, result)
        if step in STEPS:
            done.append(step)
            raise Killed

    monkeypatch.setattr(RunFolder, "keep", keep_and_die)
    for number in range(len(STEPS)):
        with pytest.raises(Killed):
            retrain(asked(plant_file, reason=f"try {number}"), settings)
        # Nobody sees a version before the gate has let it pass.
        assert bool(models_of(settings, plant)) is (len(done) > list(STEPS).index("gate") + 1)
    monkeypatch.setattr(RunFolder, "keep", keep)
    report = retrain(asked(plant_file), settings)
    assert done == list(STEPS)
    assert report.end.outcome is Outcome.IN_SERVICE
    assert [path.name for path in models_of(settings, plant)] == [report.version]
    assert journal_of(settings, plant).state().champion == report.version
    assert runs_of(settings, plant)[0].asked().reason == "try 0"
    assert len(runs_of(settings, plant)) == 1
    assert [entry.action for entry in journal_of(settings, plant).entries()] == [
        Action.LOADED,
        Action.PROBED,
        Action.CHAMPION,
    ]


def test_killed_at_every_step_before_its_result_is_kept_nothing_happens_twice(
    plant_file: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment of a step: everything is done, and nobody knows of it."""
    plant, died, trainings = load_plant(plant_file), list[str](), list[str]()
    keep, learn = RunFolder.keep, retraining_steps.train_from_lake

    def die_once(self: RunFolder, step: str, result: BaseModel) -> None:
        if step in STEPS and step not in died:
            died.append(step)
            raise Killed
        keep(self, step, result)

    def count_and_learn(*args: Any, **told: Any) -> TrainReport:
        trainings.append("once")
        return learn(*args, **told)

    monkeypatch.setattr(RunFolder, "keep", die_once)
    monkeypatch.setattr(retraining_steps, "train_from_lake", count_and_learn)
    for _ in STEPS:
        with pytest.raises(Killed):
            retrain(asked(plant_file), settings)
    report = retrain(asked(plant_file), settings)
    assert died == list(STEPS)
    assert report.end.outcome is Outcome.IN_SERVICE
    assert trainings == ["once"], "a model that is whole is not made again"
    assert len(runs_of(settings, plant)) == 1
    assert len(examinations_of(settings, plant)) == 1
    assert [path.name for path in models_of(settings, plant)] == [report.version]
    assert [entry.action for entry in journal_of(settings, plant).entries()] == [
        Action.LOADED,
        Action.PROBED,
        Action.CHAMPION,
    ]


def test_changes_in_the_checkout_do_not_give_a_run_up_and_another_commit_does(
    plant_file: Path, settings: Settings
) -> None:
    clean = asked(plant_file).model_copy(update={"code_version": "1.0+abc1234"})
    begun = begin(settings, clean)
    edited = clean.model_copy(update={"code_version": "1.0+abc1234-dirty", "reason": "again"})
    assert begin(settings, edited).path == begun.path
    assert begun.end() is None
    other = clean.model_copy(update={"code_version": "1.0+def5678-dirty", "version": "another"})
    assert begin(settings, other).path != begun.path
    ended = begun.end()
    assert ended is not None
    assert ended.outcome is Outcome.GIVEN_UP


def begin_again(plant_file: Path, settings: Settings, begun: RunFolder) -> str | None:
    """Ask for the same again, and return why the run before was given up; None if it goes on."""
    plant = load_plant(plant_file)
    later = asked(plant_file).model_copy(update={"version": "later"})
    run = begin(settings, later, outdated=lambda each: why_outdated(each, settings, plant))
    ended = begun.end()
    assert (run.path == begun.path) == (ended is None)
    return None if ended is None else ended.why


def validated(champion: str | None) -> Validated:
    examination = Examination(
        plant="p", plant_fingerprint="f", data_version="v", first_tick=1, stop_tick=9
    )
    return Validated(
        report=QualityReport(findings=()),
        train=(),
        examination=examination,
        examination_file="",
        as_judged=examination,
        verdicts=(),
        champion=champion,
    )


def test_what_was_compared_with_another_champion_does_not_go_on(
    plant_file: Path, settings: Settings
) -> None:
    begun = begin(settings, asked(plant_file))
    begun.keep("validate", validated(None))
    assert begin_again(plant_file, settings, begun) is None
    plant = load_plant(plant_file)
    (settings.models_dir / plant.prefix / "v9").mkdir(parents=True)
    (settings.models_dir / plant.prefix / "v9" / "manifest.json").touch()
    why = begin_again(plant_file, settings, begun)
    assert why is not None
    assert "compared with None, and the champion is v9" in why


def test_what_had_begun_before_drift_was_found_does_not_answer_it(
    plant_file: Path, settings: Settings
) -> None:
    plant = load_plant(plant_file)
    begun = begin(settings, asked(plant_file))
    found_ns = begun.asked().t_begun_ns + 1
    record = DriftRecord(
        id="d1",
        t_ns=found_ns,
        plant=str(plant.address),
        model_version="v1",
        data_version="v",
        from_ns=0,
        until_ns=1,
        num_ticks=1,
        block_s=1,
        new_data_s=1,
        duration_s=1,
        findings=(),
    )
    keep_record(settings, plant, record)
    assert begin_again(plant_file, settings, begun) is None, "nothing was asked for by the drift"
    intended = Intended(
        id="r1",
        t_ns=found_ns + 1,
        plant=str(plant.address),
        model_version="v1",
        why="drift",
        answers=("d1",),
    )
    drift_journal_of(settings, plant).extend(lambda _: [intended])
    why = begin_again(plant_file, settings, begun)
    assert why is not None
    assert "the drift that is to be answered was found after it had begun" in why
    (later,) = (run for run in runs_of(settings, plant) if run.end() is None)
    assert begin_again(plant_file, settings, later) is None, "what answers it goes on"


@pytest.mark.parametrize("error", [CollapseError, RecipeError, SettingsError])
def test_what_the_run_itself_brought_about_ends_it_and_what_can_be_mended_does_not(
    plant_file: Path, settings: Settings, error: type[FusionError]
) -> None:
    def fail(at: Retraining, step: str) -> BaseModel:
        del at
        raise error(f"{step} cannot be done")

    with pytest.raises(error, match="cannot be done"):
        retrain(asked(plant_file), settings, perform=fail)
    (run,) = runs_of(settings, load_plant(plant_file))
    ended = run.end()
    if error is SettingsError:
        assert ended is None, "somebody mends the setting, and what is done is not done again"
        return
    assert ended is not None
    assert (ended.outcome, ended.step) == (Outcome.GIVEN_UP, "ingest")
    assert ended.why == f"{error.__name__}: ingest cannot be done"


def test_poisoned_data_is_refused_and_nothing_is_left_where_models_lie(
    tmp_path: Path, settings: Settings
) -> None:
    path, values = write_plant(tmp_path), swing(0, 600)
    values[200:500, 1] = 0.25  # (an instrument that is stuck)
    plant = send(path, settings, 0, values)
    report = retrain(asked(path), settings)
    assert (report.end.outcome, report.end.step) == (Outcome.REFUSED, "validate")
    assert "process.heat stands still in" in report.end.why
    assert models_of(settings, plant) == []
    assert examinations_of(settings, plant) == []


def test_what_learned_from_a_shifted_plant_does_not_pass_the_gate(
    tmp_path: Path, settings: Settings
) -> None:
    path, values = write_plant(tmp_path), swing(0, 600)
    # All that it learns from, up to the margin before the examination, is in range and elsewhere.
    values[:895, :4] = 4.0 + 0.02 * values[:895, :4]
    plant = send(path, settings, 0, values)
    strict = LENIENT.model_copy(
        update={"floors": (Floor(figure="coverage", is_higher_better=True, limit=0.5),)}
    )
    told = asked(path).model_copy(update={"policy": POLICY.model_copy(update={"gate": strict})})
    report = retrain(told, settings)
    assert (report.end.outcome, report.end.step) == (Outcome.REFUSED, "gate")
    assert "coverage" in report.end.why
    assert models_of(settings, plant) == []
    assert journal_of(settings, plant).entries() == []
    assert (report.run_dir / "candidate" / report.version).is_dir()  # (for a look)


def test_an_examination_that_was_changed_is_refused(plant_file: Path, settings: Settings) -> None:
    plant = load_plant(plant_file)
    folder = settings.retraining_dir / plant.prefix / "examinations"
    folder.mkdir(parents=True)
    (folder / "00000000000009-abc.json").write_text(
        '{"plant": "p", "plant_fingerprint": "f", "data_version": "v", "first_tick": 1, '
        '"stop_tick": 9}'
    )
    with pytest.raises(InputError, match="an examination never changes"):
        examinations_of(settings, plant)
