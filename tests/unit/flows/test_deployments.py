"""``prefect.yaml``: every entrypoint is a flow, every parameter one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.plant_files import load_plant
from flows.prefect_deployments import deployment_named, deployments_in, run_named
from flows.prefect_drift import drift_trigger
from fusion.errors import InputError

ROOT = Path(__file__).parents[3]
DESCRIBED = deployments_in(ROOT / "prefect.yaml")


@pytest.mark.parametrize("name", sorted(DESCRIBED))
def test_each_names_a_flow_and_gives_it_its_own_parameters(name: str) -> None:
    each = DESCRIBED[name]
    flow = each.flow()
    assert each.parameters.keys() <= flow.parameters.properties.keys()
    assert set(flow.parameters.required or ()) <= each.parameters.keys()
    files = [each.parameters.get("plant_file"), *each.parameters.get("plant_files", [])]
    for file in filter(None, files):
        load_plant(ROOT / file)


def test_flows_are_named_by_module_so_that_no_folder_of_ours_hides_a_package() -> None:
    assert [each.entrypoint for each in DESCRIBED.values() if ".py" in each.entrypoint] == []


def test_no_flow_runs_beside_itself() -> None:
    for each in DESCRIBED.values():
        assert each.concurrency_limit.limit == 1
        assert each.concurrency_limit.collision_strategy == "CANCEL_NEW"


def test_drift_that_is_told_of_the_plant_starts_the_reconciler() -> None:
    reconcile = DESCRIBED["reconcile"]
    (trigger,) = reconcile.triggers
    plant = load_plant(ROOT / reconcile.parameters["plant_file"])
    asked = drift_trigger(plant, reconcile.parameters["plant_file"])
    same = {"expect", "match", "posture", "threshold"}
    assert trigger.model_dump(include=same) == asked.model_dump(include=same)
    assert [each.name for each in DESCRIBED.values() if each.triggers] == ["reconcile"]


def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="must be one of"):
        deployment_named("retrian", ROOT / "prefect.yaml")
    (tmp_path / "prefect.yaml").write_text("deployments: 3")
    with pytest.raises(InputError, match="must describe deployments"):
        deployments_in(tmp_path / "prefect.yaml")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(InputError, match="its own parameters"):
        run_named("retrain", {"reasn": "typo"}, ROOT / "prefect.yaml")


@pytest.mark.parametrize(
    "file", ["prefect/docker-pool.json", "kubernetes/components/prefect/job-template.json"]
)
def test_every_variable_of_a_job_template_is_described(file: str) -> None:
    template = json.loads((ROOT / "deploy" / file).read_text())
    asked = json.dumps(template["job_configuration"]).split("{{ ")[1:]
    assert {each.split(" }}")[0] for each in asked} == template["variables"]["properties"].keys()


def test_a_first_start_of_prefect_may_take_its_time() -> None:
    asked = (
        "from flows.cli.learn import quiet_prefect; quiet_prefect()\n"
        "from prefect.settings import Settings\n"
        "told = Settings()\n"
        "print(told.server.ephemeral.startup_timeout_seconds, told.logging.level,"
        " told.server.analytics_enabled)"
    )
    own = {name: text for name, text in os.environ.items() if not name.startswith("PREFECT_")}
    found = subprocess.run(
        [sys.executable, "-c", asked], env=own, cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert found.stdout.split() == ["120", "WARNING", "False"]
