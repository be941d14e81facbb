"""Flows and their schedules as ``prefect.yaml`` describes them: deployed, served, started, seen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import yaml
from prefect import Flow, serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
)
from prefect.client.schemas.objects import (
    ConcurrencyLimitConfig,
    FlowRun,
)
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments import run_deployment
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.settings import PREFECT_API_URL
from prefect.types.entrypoint import EntrypointType
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.prefect_server import one_server
from fusion.errors import InputError

FILE = Path("prefect.yaml")
HOME_VARIABLE = "INDUSTRIAL_FUSION_HOME"


class Cron(BaseModel):
    """When a flow runs by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cron: str
    timezone: str = "UTC"


class Deployment(BaseModel):
    """One flow with its parameters and its schedule; other fields are for Prefect's own tools."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    entrypoint: str
    """``MODULE:FLOW``. With a file's path Prefect would put the file's folder before all others, in
    which ``console.py`` is another module than the package ``console``."""
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict[str, Any])
    schedules: tuple[Cron, ...] = ()
    triggers: tuple[DeploymentEventTrigger, ...] = ()
    """Events that start it."""
    concurrency_limit: ConcurrencyLimitConfig
    tags: tuple[str, ...] = ()

    def flow(self) -> Flow[..., Any]:
        """Return the flow.

        Raises:
            InputError: There is none where the file says.
        """
        module, _, name = self.entrypoint.partition(":")
        try:
            found = getattr(import_module(module), name)
        except (ModuleNotFoundError, AttributeError) as missing:
            raise InputError(
                f"{self.name} must name a flow, but {self.entrypoint}: {missing}; mend the file"
            ) from missing
        if not isinstance(found, Flow):
            raise InputError(f"{self.name} must name a flow, {self.entrypoint} is none; mend it")
        return found


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """One deployment as the server has it."""

    name: str
    is_paused: bool
    last: str
    """State and time of the run that began last; empty without one."""
    next: str
    """When it runs next; empty where nothing is planned."""


def deployments_in(path: Path = FILE) -> dict[str, Deployment]:
    """Return what ``prefect.yaml`` describes, by name.

    Raises:
        InputError: It cannot be read, or breaks a rule.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        found = [Deployment.model_validate(each) for each in content["deployments"]]
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValidationError) as wrong:
        raise InputError(
            f"{path} must describe deployments, but: {wrong}; give another file, or mend it"
        ) from wrong
    return {each.name: each for each in found}


def deployment_named(name: str, path: Path = FILE) -> Deployment:
    """Return one deployment.

    Raises:
        InputError: There is none of that name.
    """
    known = deployments_in(path)
    if name not in known:
        raise InputError(f"a deployment must be one of {sorted(known)}, got {name!r}")
    return known[name]


def deploy_all(path: Path, *, pool_type: str) -> None:
    """Put everything onto the configured server, and make the work pool where there is none.

    The code lies in the file's folder, or where ``INDUSTRIAL_FUSION_HOME`` says.

    Raises:
        InputError: No server is configured, or Prefect refuses; says what it said.
    """
    if not PREFECT_API_URL.value():
        raise InputError(
            "deploying needs a server: set PREFECT_API_URL, such as http://127.0.0.1:4200/api "
            "(`prefect server start`), or use `fusion flows serve`, which needs none"
        )
    home = str(path.absolute().parent)
    environment = os.environ | {HOME_VARIABLE: os.environ.get(HOME_VARIABLE, home)}
    for pool in sorted(_pools(path)):
        if not _is_there(pool):
            _prefect(["work-pool", "create", pool, "--type", pool_type], environment)
    _prefect(["deploy", "--all", "--prefect-file", str(path.absolute())], environment)


def serve_all(path: Path, *, limit: int, say: Callable[[str], None]) -> None:
    """Run every flow on its schedule from this process, until it is stopped.

    Without a configured server it starts one of its own.
    """
    described = deployments_in(path)
    flows = {name: each.flow() for name, each in described.items()}
    with one_server(has_schedules=True) as address:
        say(f"Prefect's server: export PREFECT_API_URL={address}")
        served = [_to_serve(each, flows[name]) for name, each in described.items()]
        serve(*served, limit=limit, print_starting_message=False)


def _to_serve(each: Deployment, flow: Flow[..., Any]) -> RunnerDeployment:
    made = flow.to_deployment(
        each.name,
        schedules=[CronSchedule(cron=when.cron, timezone=when.timezone) for when in each.schedules],
        parameters=each.parameters,
        triggers=list(each.triggers),
        tags=list(each.tags),
        description=each.description,
        concurrency_limit=each.concurrency_limit,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(made, RunnerDeployment), "outside of a flow it is not awaited"
    return made


def run_named(name: str, changes: Mapping[str, Any], path: Path = FILE) -> str:
    """Start a deployment now with ``changes`` of its parameters; return what became of it.

    With a configured server it is started there and not waited for, else run here to its end.
    """
    deployment = deployment_named(name, path)
    flow = deployment.flow()
    if PREFECT_API_URL.value():
        run = run_deployment(f"{flow.name}/{name}", parameters=dict(changes), timeout=0)
        assert isinstance(run, FlowRun), "outside of a flow it is not awaited"
        return f"{run.name} is started on {PREFECT_API_URL.value()}"
    unknown = changes.keys() - set(flow.parameters.properties)
    if unknown:
        raise InputError(
            f"{name} must be given its own parameters, {sorted(flow.parameters.properties)}, "
            f"got {sorted(unknown)}"
        )
    with one_server():  # (or each process of a pool would start a server of its own)
        return str(flow(**deployment.parameters | dict(changes)))


def server_status() -> list[DeploymentStatus] | None:
    """Return what the configured server has; None where none is configured.

    Raises:
        InputError: It does not answer.
    """
    if not PREFECT_API_URL.value():
        return None
    found: list[DeploymentStatus] = []
    try:
        with get_client(sync_client=True) as client:
            for each in client.read_deployments():
                mine = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[each.id]))
                runs = client.read_flow_runs(
                    flow_run_filter=mine, sort=FlowRunSort.START_TIME_DESC, limit=200
                )
                begun = [run for run in runs if run.start_time is not None]
                planned = sorted(
                    run.expected_start_time
                    for run in runs
                    if run.start_time is None and run.expected_start_time is not None
                )
                found.append(
                    DeploymentStatus(
                        each.name,
                        is_paused=each.paused,
                        last=_told(begun[0]) if begun else "",
                        next=f"{planned[0]:%Y-%m-%d %H:%M}" if planned else "",
                    )
                )
    except httpx.HTTPError as away:
        raise InputError(
            f"Prefect must answer at {PREFECT_API_URL.value()}, but: {away}; start it, or mend "
            "PREFECT_API_URL"
        ) from away
    return sorted(found, key=lambda each: each.name)


def _told(run: FlowRun) -> str:
    return f"{run.state_name} ({run.name}, {run.start_time:%Y-%m-%d %H:%M})"


def _pools(path: Path) -> set[str]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {each["work_pool"]["name"] for each in content["deployments"]}


def _is_there(pool: str) -> bool:
    with get_client(sync_client=True) as client:
        return any(each.name == pool for each in client.read_work_pools())


def _prefect(command: list[str], environment: Mapping[str, str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *command],
        env=environment,
        cwd=environment[HOME_VARIABLE],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        raise InputError(
            f"`prefect {' '.join(command)}` must succeed, and said: {ended.stdout}{ended.stderr}"
        )
