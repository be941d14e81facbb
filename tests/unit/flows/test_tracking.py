"""What is kept of a training run, when the tracker is there, goes away, or was never wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from flows.settings import Settings
from flows.terminal import gauge_row
from flows.tracking import recorded
from fusion.errors import CollapseError, TrackingUnavailableError
from fusion.ports import RegisteredModel
from fusion.training import StepReport, recipe_named

RECIPE = recipe_named("quick", seed=3)


class Remembered:
    """Both the tracker and its only run; ``is_away`` makes it refuse."""

    def __init__(self) -> None:
        self.is_away = False
        self.params: Mapping[str, str | float] = {}
        self.rows: list[Mapping[str, float]] = []
        self.ends: list[str] = []

    run_id = "r1"

    def start(
        self,
        *,
        experiment: str,
        name: str,
        params: Mapping[str, str | float],
        key: str | None = None,
    ) -> Remembered:
        self._answer()
        self.key = key
        self.params = {"experiment": experiment, "run": name, **params}
        return self

    def log(self, rows: Sequence[Mapping[str, float]]) -> None:
        self._answer()
        self.rows += rows

    def attach(self, files: Sequence[Path], *, folder: str) -> None:
        raise NotImplementedError

    def tag(self, tags: Mapping[str, str]) -> None:
        raise NotImplementedError

    def register(self, name: str, version: str, *, run_id: str, folder: str) -> None:
        raise NotImplementedError

    def point(self, name: str, aliases: Mapping[str, str | None]) -> None:
        raise NotImplementedError

    def registered(self, name: str, version: str) -> RegisteredModel | None:
        raise NotImplementedError

    def finish(self, *, model_version: str) -> None:
        self._answer()
        self.ends.append(f"finished {model_version}")

    def fail(self, reason: str) -> None:
        self._answer()
        self.ends.append(f"failed {reason}")

    def _answer(self) -> None:
        if self.is_away:
            raise TrackingUnavailableError("MLflow must answer, but it is away")


def report(step: int) -> StepReport:
    return StepReport(step, 4, {"total": 2.0 - step}, {"rankme": 9.0} if step % 2 == 0 else None)


def test_recipe_curve_and_model_are_kept() -> None:
    kept = Remembered()
    with recorded(kept, experiment="rig", recipe=RECIPE, made_of={"data_version": "d7"}) as record:
        for step in range(5):
            record.note(report(step))
        record.finish(model_version="v1")
    assert kept.params["experiment"] == "rig"
    assert kept.params["run"] == "quick-seed3"
    assert kept.params["seed"] == 3
    assert kept.params["model.width"] == 32
    assert kept.params["data_version"] == "d7"
    assert kept.rows[0] == {"step": 0, "loss.total": 2.0, "rankme": 9.0}
    assert [row["step"] for row in kept.rows] == [0, 1, 2, 3, 4]
    assert kept.ends == ["finished v1"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CollapseError("must keep rankme above 3"), "failed must keep rankme above 3"),
        (KeyboardInterrupt(), "failed KeyboardInterrupt()"),
        (ZeroDivisionError("a bug"), "failed ZeroDivisionError('a bug')"),
    ],
)
def test_a_run_that_ends_badly_is_failed_with_the_reason(error: BaseException, reason: str) -> None:
    kept = Remembered()

    def end_badly() -> None:
        with recorded(kept, experiment="rig", recipe=RECIPE, made_of={}) as record:
            record.note(report(0))
            record.note(report(1))
            raise error

    with pytest.raises(type(error)):
        end_badly()
    assert kept.ends == [reason]
    assert [row["step"] for row in kept.rows] == [0, 1]


def test_a_tracker_that_goes_away_stops_nothing_and_loses_nothing() -> None:
    kept = Remembered()
    with recorded(kept, experiment="rig", recipe=RECIPE, made_of={}) as record:
        for step in range(5):
            kept.is_away = 1 <= step <= 3
            record.note(report(step))
        record.finish(model_version="v1")
    assert [row["step"] for row in kept.rows] == [0, 1, 2, 3, 4]
    assert kept.ends == ["finished v1"]


def test_a_tracker_that_is_away_at_the_start_stops_the_run_before_it_costs() -> None:
    kept = Remembered()
    kept.is_away = True
    with (
        pytest.raises(TrackingUnavailableError),
        recorded(kept, experiment="rig", recipe=RECIPE, made_of={}),
    ):
        raise AssertionError("nothing may be trained")


def test_without_a_tracker_nothing_is_kept() -> None:
    with recorded(None, experiment="rig", recipe=RECIPE, made_of={}) as record:
        record.note(report(0))
        record.finish(model_version="v1")


@pytest.mark.parametrize(
    ("given", "uri"),
    [
        ("none", None),
        ("https://mlflow.plant.example", "https://mlflow.plant.example"),
        ("", "sqlite:////data/mlflow.sqlite"),
    ],
)
def test_where_runs_are_kept(given: str, uri: str | None) -> None:
    assert Settings(data_dir=Path("/data"), mlflow_uri=given).tracking_uri == uri


def test_what_is_not_healthy_is_marked_by_sign_and_colour() -> None:
    gauges = {"sigreg": 25.0, "rankme": 40.0, "skill.h1": 0.5, "skill.h4": float("nan")}
    row = gauge_row(0, gauges)
    assert row.plain == "step     0  sigreg 25!  rankme 40   skill h1 0.5   h4 nan!"
    red = [
        row.plain[span.start : span.end].strip() for span in row.spans if "red" in str(span.style)
    ]
    assert red == ["sigreg 25!", "h4 nan!"]
