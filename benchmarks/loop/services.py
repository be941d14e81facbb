"""What is around the loop, as processes: Prefect's server, its worker, the live process.

What a person does is done with the product's own commands.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.settings import Settings

ROOT = Path(__file__).parents[2]
START_S, STOP_S, LOOK_S = 180.0, 30.0, 2.0
RUN_S = 900.0
"""A flow of the loop must have ended by then, on a machine that has other things to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything of one loop lies, and how its processes find one another."""

    folder: Path
    settings: Settings
    plant_file: Path
    api_url: str
    environment: Mapping[str, str]

    @property
    def deployments(self) -> Path:
        """The product's ``prefect.yaml`` with the loop's own parameters."""
        return self.folder / "prefect.yaml"

    def fusion(self, *command: str, may_fail: bool = False) -> str:
        """Return what a command of the product prints."""
        ended = subprocess.run(
            [sys.executable, "-m", "flows.cli", *command],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_S,
        )
        assert may_fail or ended.returncode == 0, (command, ended.stdout, ended.stderr[-3000:])
        return ended.stdout + ended.stderr  # (what people read goes to stderr)

    @contextlib.contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """Yield a client of the loop's own Prefect server."""
        with (
            temporary_settings({PREFECT_API_URL: self.api_url}),
            get_client(sync_client=True) as client,
        ):
            yield client

    def runs(self, deployment: str) -> list[FlowRun]:
        """Return the runs of a deployment of which something has become, oldest first."""
        with self.client() as client:
            (known,) = [each for each in client.read_deployments() if each.name == deployment]
            found = client.read_flow_runs(
                deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[known.id]))
            )
        asked = [each for each in found if not each.auto_scheduled]
        return sorted(asked, key=lambda each: str(each.created))

    def start(self, deployment: str, **changes: object) -> UUID:
        """Ask for a run as a person does, and return its id."""
        before = {each.id for each in self.runs(deployment)}
        told = [f"{name}={json.dumps(value)}" for name, value in changes.items()]
        options = [option for each in told for option in ("-p", each)]
        self.fusion("flows", "run", deployment, "--file", str(self.deployments), *options)
        (new,) = [each.id for each in self.runs(deployment) if each.id not in before]
        return new

    def ended(self, run: UUID) -> FlowRun:
        """Return a run once it has ended."""

        def look() -> FlowRun | None:
            with self.client() as client:
                found = client.read_flow_run(run)
            return found if found.state is not None and found.state.is_final() else None

        return waited_for(look, f"run {run} to end")

    def completed(self, deployment: str, **changes: object) -> FlowRun:
        """Return a run that was asked for, once it has ended well."""
        run = self.ended(self.start(deployment, **changes))
        assert run.state_name == "Completed", (deployment, run.state)
        return run


def waited_for(look: Callable[[], Any], what: str, *, at_most_s: float = RUN_S) -> Any:
    """Return what ``look`` finds, asking it until it finds something."""
    deadline_s = time.monotonic() + at_most_s
    while time.monotonic() < deadline_s:
        found = look()
        if found:
            return found
        time.sleep(LOOK_S)
    raise TimeoutError(f"{what} must be seen within {at_most_s:g} s, and was not")


@contextlib.contextmanager
def process(
    place: Place, name: str, *command: str, more: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process beside the loop; what it says goes into ``name.log``."""
    with (
        (place.folder / f"{name}.log").open("ab") as log,
        _running(command, log, {**place.environment, **(more or {})}) as started,
    ):
        yield started


@contextlib.contextmanager
def _running(
    command: tuple[str, ...], log: IO[bytes], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    # A group of its own: a worker's runs are its children, and must not outlive the loop.
    started = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        started.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


@contextlib.contextmanager
def prefect_server(place: Place, *, has_pages: bool = False) -> Iterator[None]:
    """Run a Prefect server, with what starts runs by itself: schedules and automations."""
    _, _, port = place.api_url.removesuffix("/api").rpartition(":")
    pages = "--ui" if has_pages else "--no-ui"
    options = ("--host", "127.0.0.1", "--port", port, pages, "--analytics-off")
    with process(place, "prefect", "prefect", "server", "start", *options) as server:

        def answers() -> bool:
            assert server.poll() is None, (place.folder / "prefect.log").read_text()[-3000:]
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(f"{place.api_url}/health", timeout=5).close()
                return True
            return False

        waited_for(answers, "Prefect's server", at_most_s=START_S)
        yield


def make_place(folder: Path, settings: Settings, plant_file: Path) -> Place:
    """Return where a loop lies; its Prefect has a home of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        api_url = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
    told = {
        "FUSION_BROKER": settings.broker,
        "FUSION_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "FUSION_DATA_DIR": str(settings.data_dir),
        "INDUSTRIAL_FUSION_HOME": str(ROOT),
        "PREFECT_API_URL": api_url,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "120",
        "NO_COLOR": "1",
    }
    return Place(folder, settings, plant_file, api_url, os.environ | told)
