"""``fusion flows serve`` as users of one machine run it: server, schedules and runs at once."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.loop import story
from benchmarks.loop.services import Place, make_place, waited_for
from flows.prefect_deployments import deployments_in
from flows.settings import Settings
from tests.swinging import write_plant

pytestmark = [pytest.mark.xdist_group("retraining"), pytest.mark.timeout(900)]
ADDRESS = re.compile(r"export PREFECT_API_URL=(\S+)")
START_S = 180.0


@contextlib.contextmanager
def serving(place: Place, log: Path) -> Iterator[Place]:
    """Serve the deployments of ``place`` until the end; its server is one of its own."""
    alone = {k: v for k, v in place.environment.items() if k != "PREFECT_API_URL"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "flows", "serve", "--file", str(place.deployments)],
            env=alone,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        deadline_s = time.monotonic() + START_S
        while (told := ADDRESS.search(log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline_s, log.read_text()
            time.sleep(0.5)
        environment = {**place.environment, "PREFECT_API_URL": told.group(1)}
        yield dataclasses.replace(place, api_url=told.group(1), environment=environment)
    finally:
        # Ctrl-C ends its server too, which is out of the reach of what follows.
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def planned_runs(place: Place, name: str) -> list[datetime.datetime]:
    """Return when a deployment will run, the next first."""
    with place.client() as client:
        found = client.read_flow_runs()
        (known,) = [each for each in client.read_deployments() if each.name == name]
    planned = [run for run in found if run.deployment_id == known.id and run.auto_scheduled]
    return sorted(run.expected_start_time for run in planned if run.expected_start_time)


def test_one_process_serves_schedules_and_runs(tmp_path: Path) -> None:
    plant_file = write_plant(tmp_path)
    place = make_place(tmp_path, Settings(data_dir=tmp_path / "data"), plant_file)
    story.describe(place)
    with serving(place, tmp_path / "serve.log") as served:
        described = set(deployments_in(place.deployments))

        def is_there() -> bool:
            with served.client() as client:
                return {each.name for each in client.read_deployments()} == described

        waited_for(is_there, "every deployment on the server")
        # What stands in a schedule is planned by the server itself, and so will run.
        planned = waited_for(lambda: planned_runs(served, "retrain"), "a planned retraining")
        assert all((at.weekday(), at.hour, at.minute) == (6, 2, 0) for at in planned)
        shown = served.fusion("flows", "status", str(plant_file))
        assert {"retrain", "reconcile", "rollback"} <= set(re.findall(r"[a-z-]+", shown))
        assert f"{planned[0]:%Y-%m-%d %H:%M}" in shown
        with served.client() as client:
            known = {each.name: each for each in client.read_deployments()}
            automations = client.read_automations()
        assert [each.schedule.model_dump()["cron"] for each in known["retrain"].schedules] == [
            "0 2 * * 0"
        ]
        assert known["retrain"].concurrency_options is not None
        assert known["retrain"].concurrency_options.collision_strategy == "CANCEL_NEW"
        assert len(automations) == 1, "drift that is told starts the reconciler"
        run = served.completed("advance-rollout")
        assert run.parameters["plant_files"] == [str(plant_file)]
    # What a run says is seen where it is served, and not on Prefect's pages alone.
    assert "nothing proves itself" in (tmp_path / "serve.log").read_text()
