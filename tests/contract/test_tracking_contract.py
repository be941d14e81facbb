"""The laws of a tracker of training runs, the same for MLflow's SQLite file and a real server."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from connectors.mlflow_tracking import MlflowTracking
from fusion.errors import TrackingRefusedError, TrackingUnavailableError
from tests.conftest import free_port

START_S = 180.0


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on a free port."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"http://127.0.0.1:{free_port()}"
    where = ["--host", "127.0.0.1", "--port", uri.rpartition(":")[2], "--workers", "1"]
    store = ["--backend-store-uri", f"sqlite:///{folder / 'server.sqlite'}"]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *store, *where],
        cwd=folder,
        env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_until_up(uri, server)
        yield uri
    finally:
        # Its workers with it: it is in no hurry to end them on a busy machine.
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait_until_up(uri: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        assert server.poll() is None, "the server must not end by itself"
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise TimeoutError(uri)


@pytest.fixture(params=["sqlite", "server"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'runs.sqlite'}"
    return request.getfixturevalue("mlflow_server")


def kept(uri: str, experiment: str) -> list[Run]:
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id]))


def test_a_run_is_kept_with_its_recipe_its_curve_and_its_model(uri: str, unique: str) -> None:
    run = MlflowTracking(uri).start(
        experiment=unique, name="rig-seed0", params={"model.width": 96, "name": "rig"}
    )
    run.log([{"step": 0, "rankme": 2.0, "skill_without.tank-1": math.nan}])
    run.log([{"step": step, "loss.total": 5.0 - step} for step in range(1, 4)])
    (going,) = kept(uri, unique)
    assert going.info.status == "RUNNING"
    run.finish(model_version="20261125T000000-rig")
    (done,) = kept(uri, unique)
    assert done.info.run_name == "rig-seed0"
    assert done.info.status == "FINISHED"
    assert done.data.params == {"model.width": "96", "name": "rig"}
    assert done.data.tags["model_version"] == "20261125T000000-rig"
    assert done.data.metrics["rankme"] == 2.0
    curve = MlflowClient(tracking_uri=uri).get_metric_history(done.info.run_id, "loss.total")
    assert [(each.step, each.value) for each in curve] == [(1, 4.0), (2, 3.0), (3, 2.0)]


def test_a_failed_run_says_why(uri: str, unique: str) -> None:
    run = MlflowTracking(uri).start(experiment=unique, name="r", params={})
    run.fail("the embedding must keep rankme above 3, got [1.2, 1.1]")
    (failed,) = kept(uri, unique)
    assert failed.info.status == "FAILED"
    assert "must keep rankme above 3" in failed.data.tags["mlflow.note.content"]


def test_rows_that_come_twice_do_no_harm(uri: str, unique: str) -> None:
    run = MlflowTracking(uri).start(experiment=unique, name="r", params={})
    rows = [{"step": float(step), "loss.total": 1.0 * step} for step in range(1_300)]
    run.log(rows)
    run.log(rows)
    (going,) = kept(uri, unique)
    curve = MlflowClient(tracking_uri=uri).get_metric_history(going.info.run_id, "loss.total")
    assert {each.step for each in curve} == set(range(1_300))


def test_runs_of_one_experiment_stand_side_by_side(uri: str, unique: str) -> None:
    for seed in range(3):
        MlflowTracking(uri).start(experiment=unique, name=f"seed{seed}", params={"seed": seed})
    assert {run.data.params["seed"] for run in kept(uri, unique)} == {"0", "1", "2"}


def opened(uri: str, folder: Path) -> MlflowTracking:
    return MlflowTracking(uri, artifacts=folder / "artifacts")


def test_a_run_with_a_key_goes_on_instead_of_a_second_one(
    uri: str, unique: str, tmp_path: Path
) -> None:
    params = {"model.width": 96}
    first = opened(uri, tmp_path).start(experiment=unique, name="r", params=params, key="a/1")
    first.log([{"step": 1.0, "loss.total": 2.0}])
    again = opened(uri, tmp_path).start(experiment=unique, name="r", params=params, key="a/1")
    other = opened(uri, tmp_path).start(experiment=unique, name="r", params=params, key="a/2")
    assert again.run_id == first.run_id != other.run_id
    # What changed since is not told again: MLflow lets nobody change it, and the run goes on.
    dirty = {"model.width": 97, "seed": 3}
    opened(uri, tmp_path).start(experiment=unique, name="r", params=dirty, key="a/1")
    (told,) = (r.data.params for r in kept(uri, unique) if r.info.run_id == first.run_id)
    assert told == {"model.width": "96", "seed": "3"}
    again.finish(model_version="v1")
    assert sorted(run.info.status for run in kept(uri, unique)) == ["FINISHED", "RUNNING"]


def test_files_and_tags_of_a_run_are_kept_and_replaced(
    uri: str, unique: str, tmp_path: Path
) -> None:
    run = opened(uri, tmp_path).start(experiment=unique, name="r", params={})
    run.finish(model_version="v1")
    page = tmp_path / "evaluation.md"
    for text in ("first", "second"):
        page.write_text(text)
        run.attach([page], folder="evaluation")
        run.tag({"gate": text})
    client = MlflowClient(tracking_uri=uri)
    (found,) = client.list_artifacts(run.run_id, "evaluation")
    fetched = client.download_artifacts(run.run_id, found.path, str(tmp_path))
    assert Path(fetched).read_text() == "second"
    (done,) = kept(uri, unique)
    assert (done.data.tags["gate"], done.info.status) == ("second", "FINISHED")


def test_aliases_lead_from_what_serves_to_the_run_that_made_it(
    uri: str, unique: str, tmp_path: Path
) -> None:
    tracking = opened(uri, tmp_path)
    assert tracking.registered(unique, "v1") is None
    tracking.point(unique, {"champion": None, "challenger": "v1"})  # (nothing is there to name)
    for version in ("v1", "v2"):
        run = tracking.start(experiment=unique, name=version, params={"seed": version}, key=version)
        manifest = tmp_path / "manifest.json"
        manifest.write_text(version)
        run.attach([manifest], folder="model")
        run.finish(model_version=version)
        for _ in range(2):
            tracking.register(unique, version, run_id=run.run_id, folder="model")

    def aliases(version: str) -> tuple[str, ...]:
        found = tracking.registered(unique, version)
        assert found is not None
        assert (found.params, found.status) == ({"seed": version}, "FINISHED")
        return found.aliases

    tracking.point(unique, {"champion": "v1", "challenger": "v2"})
    assert (aliases("v1"), aliases("v2")) == (("champion",), ("challenger",))
    for _ in range(2):
        tracking.point(unique, {"champion": "v2", "challenger": None})
    assert (aliases("v1"), aliases("v2")) == ((), ("champion",))
    tracking.point(unique, {"champion": "older than the registry"})
    assert aliases("v2") == ()


def test_a_refusal_is_no_absence_and_is_not_tried_again(
    uri: str, unique: str, tmp_path: Path
) -> None:
    tracking = opened(uri, tmp_path)
    with pytest.raises(TrackingRefusedError, match="but refuses") as refused:
        tracking.register(unique, "v1", run_id="no such run", folder="model")
    assert not refused.value.retriable
    assert isinstance(refused.value, TrackingUnavailableError), "it stops no training either"


def test_a_password_is_never_told(unique: str) -> None:
    away = f"http://eva:s3cret@127.0.0.1:{free_port()}"
    with pytest.raises(TrackingUnavailableError) as told:
        MlflowTracking(away).start(experiment=unique, name="r", params={})
    assert told.value.retriable
    assert "127.0.0.1" in str(told.value)
    assert "s3cret" not in str(told.value)


@pytest.mark.parametrize("where", ["server", "file"])
def test_what_cannot_be_reached_says_so(where: str, tmp_path: Path, unique: str) -> None:
    (tmp_path / "file").touch()
    away = (
        f"http://127.0.0.1:{free_port()}"
        if where == "server"
        else f"sqlite:///{tmp_path / 'file' / 'runs.sqlite'}"
    )
    with pytest.raises(TrackingUnavailableError, match="FUSION_MLFLOW_URI"):
        MlflowTracking(away).start(experiment=unique, name="r", params={})
