"""Retraining on Prefect's server, Delta tables and MLflow: killed at every step, and poisoned."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.testing.utilities import prefect_test_harness

from flows import prefect_retrain, retraining, wiring
from flows.models import models_of
from flows.plant_files import load_plant
from flows.prefect_rollout import advance_rollout, housekeeping, rollback
from flows.registry import where_from
from flows.retraining import STEPS, RetrainReport, retrain
from flows.retraining_results import Ingested, Retraining, TrainedModel, Validated
from flows.retraining_run import Outcome, RunFolder, examinations_of, runs_of
from flows.rollout_advance import Advance
from flows.rollout_journal import journal_of
from flows.settings import Settings
from fusion.errors import FusionError, LakeUnavailableError
from fusion.plant import Plant
from fusion.retraining.gate import Better
from fusion.rollout.states import Action
from fusion.training import StepReport
from tests.swinging import LENIENT, POLICY, asked, send, swing, write_plant

pytestmark = pytest.mark.xdist_group("retraining")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", mlflow_uri="none")


@pytest.fixture
def plant_file(tmp_path: Path, settings: Settings) -> Path:
    """A plant of which the broker has ten minutes."""
    path = write_plant(tmp_path)
    send(path, settings, 0, swing(0, 600))
    return path


def run_flow(plant_file: Path, reason: str, **told: object) -> RetrainReport:
    report = prefect_retrain.retrain(str(plant_file), reason, **told)  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert isinstance(report, RetrainReport)
    return report


def only_run(settings: Settings, plant: Plant) -> RunFolder:
    (run,) = runs_of(settings, plant)
    return run


KILL_SCRIPT = """
import os, signal, sys
from pathlib import Path
from flows.retraining import asked_for, retrain
from flows.settings import Settings
from tests.integration.test_retraining import POLICY

def die(report):
    if report.step == 20:
        os.kill(os.getpid(), signal.SIGKILL)

asked = asked_for(Path(sys.argv[1]), reason="r", recipe="quick", seed=1, steps=30, policy=POLICY)
retrain(asked, Settings.load(), on_step=die)
"""


def test_killed_in_the_middle_of_training_it_goes_on_from_its_checkpoint(
    plant_file: Path, settings: Settings
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", KILL_SCRIPT, str(plant_file)],
        env=os.environ
        | {
            "FUSION_DATA_DIR": str(settings.data_dir),
            "FUSION_MLFLOW_URI": "none",
            "PYTHONPATH": str(ROOT),
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-3000:]
    plant, steps = load_plant(plant_file), list[int]()
    assert only_run(settings, plant).end() is None

    def note(report: StepReport) -> None:
        steps.append(report.step)

    report = retrain(asked(plant_file, steps=30, reason="r"), settings, on_step=note)
    assert report.end.outcome is Outcome.IN_SERVICE
    # The checkpoint is that of the last measurement before the kill.
    assert steps == list(range(15, 31))


def test_from_data_to_shadow_with_everything_kept(plant_file: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    plant = load_plant(plant_file)
    policy_file = tmp_path / "policy.yaml"
    policy_file.write_text(POLICY.model_dump_json())
    told: dict[str, object] = {
        "recipe": "quick",
        "policy_file": str(policy_file),
        "settings": settings,
    }
    first = run_flow(plant_file, "first", seed=1, steps=4, **told)
    assert first.end.outcome is Outcome.IN_SERVICE

    # The same again is no better than itself: refused, and the champion serves on.
    second = run_flow(plant_file, "nothing new", seed=1, steps=4, **told)
    assert (second.end.outcome, second.end.step) == (Outcome.REFUSED, "gate")
    assert "better in nothing that counts" in second.end.why
    assert [path.name for path in models_of(settings, plant)] == [first.version]

    # Shared by two processes; the gate asks only that it is another model.
    another = tuple(
        Better(figure="rankme", is_higher_better=side, by=1e-9) for side in (True, False)
    )
    easy = LENIENT.model_copy(update={"better": another})
    policy_file.write_text(POLICY.model_copy(update={"gate": easy}).model_dump_json())
    send(plant_file, settings, 600, swing(600, 200))
    third = run_flow(plant_file, "more data", seed=2, steps=4, processes=2, **told)
    assert third.end.outcome is Outcome.IN_SERVICE, third.end.why
    state = journal_of(settings, plant).state()
    assert (state.champion, state.challenger, state.stage) == (
        first.version,
        third.version,
        Action.SHADOW,
    )
    assert len(examinations_of(settings, plant)) == 2

    made = where_from(settings, plant, third.version)
    assert made is not None
    assert (made.status, made.aliases) == ("FINISHED", ("challenger",))
    assert made.tags["reason"] == "more data"
    assert made.tags["plant_file"] == str(plant_file)
    assert made.params["data_version"] == wiring.open_lake(settings).version(plant.sense_topics)
    with get_client(sync_client=True) as client:
        kinds = {(each.type, each.key) for each in client.read_artifacts()}
    assert {
        ("table", "swinging-quality"),
        ("table", "swinging-evaluation"),
        ("markdown", "swinging-gate"),
        ("markdown", "swinging-page"),
    } <= kinds

    # Another one waits; nobody saw this one; somebody takes it back; nothing of use is removed.
    waits = run_flow(plant_file, "too soon", seed=3, steps=4, **told)
    assert (waits.end.outcome, waits.end.step) == (Outcome.REFUSED, "validate")
    assert "only one at a time" in waits.end.why
    seen = advance_rollout([str(plant_file)], shadow_h=0.0, settings=settings)
    assert isinstance(seen, Advance)
    assert not seen.has_moved
    rollback(str(plant_file), "by hand", settings=settings)
    assert journal_of(settings, plant).state().challenger is None
    back = where_from(settings, plant, third.version)
    assert back is not None
    assert back.aliases == ()
    for _ in range(2):
        housekeeping(str(plant_file), keep_models=1, keep_days=0, settings=settings)
        assert runs_of(settings, plant) == []
        left = [path.name for path in models_of(settings, plant)]
        assert left == [first.version, third.version]


def test_what_is_away_is_tried_again_and_what_is_wrong_is_not(
    plant_file: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = list[str]()
    quick = prefect_retrain.retrain_step.with_options(retry_delay_seconds=0)
    monkeypatch.setattr(prefect_retrain, "retrain_step", quick)

    def away(at: Retraining) -> Ingested:
        tries.append("ingest")
        if len(tries) < 3:
            raise LakeUnavailableError("the disk must answer, and does not")
        return Ingested(num_stored=0, data_version="none")

    def wrong(at: Retraining) -> Validated:
        tries.append("validate")
        raise FusionError("nobody but a person can mend this")

    steps = dict(STEPS) | {
        "ingest": (Ingested, away),
        "validate": (Validated, wrong),
    }
    monkeypatch.setattr(retraining, "STEPS", steps)
    with pytest.raises(FusionError, match="nobody but a person"):
        prefect_retrain.retrain(str(plant_file), recipe="quick", settings=settings)
    assert tries == ["ingest", "ingest", "ingest", "validate"]
    run = only_run(settings, load_plant(plant_file))
    assert run.end() is None  # (mended, it goes on)
    assert run.kept("train", TrainedModel) is None
