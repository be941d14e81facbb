"""Training runs in MLflow: in a SQLite file on this machine, or on a tracking server.

Importing MLflow takes seconds; only the wiring imports this, and only where a run is kept.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# Read when MLflow is imported. It would report its own use to its makers, and try for minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from fusion.errors import TrackingRefusedError, TrackingUnavailableError
from fusion.ports import RegisteredModel
from fusion.wording import without_password

REFUSALS = frozenset(
    {
        "BAD_REQUEST",
        "ENDPOINT_NOT_FOUND",
        "FEATURE_DISABLED",
        "INVALID_PARAMETER_VALUE",
        "INVALID_STATE",
        "NOT_IMPLEMENTED",
        "PERMISSION_DENIED",
        "RESOURCE_ALREADY_EXISTS",
        "RESOURCE_DOES_NOT_EXIST",
        "UNAUTHENTICATED",
    }
)
"""MLflow's codes of a server that is there and says no: it will say so again."""
MOST_METRICS = 1_000
"""What MLflow takes in one request."""
KEY, VERSION = "fusion.key", "model_version"
"""Tags: of a run that may be begun again, and of what it made."""


class MlflowTracking:
    """Implements :class:`fusion.ports.Tracking` for an MLflow tracking URI.

    ``artifacts`` is where files of runs lie when the URI is a file of this machine; a server has a
    place of its own.
    """

    def __init__(self, uri: str, *, artifacts: Path | None = None) -> None:
        for name in ("mlflow", "alembic"):
            # It tells of every table that it makes.
            logging.getLogger(name).setLevel(logging.WARNING)
        self._uri = uri
        self._artifacts = None if artifacts is None else artifacts.absolute().as_uri()
        with _unavailable(uri):
            self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def start(
        self,
        *,
        experiment: str,
        name: str,
        params: Mapping[str, str | float],
        key: str | None = None,
    ) -> MlflowRun:
        """Return a run in MLflow's experiment ``experiment``, which is made if need be."""
        with _unavailable(self._uri):
            experiment_id = self._experiment(experiment)
            run_id = None if key is None else self._begun(experiment_id, key)
            if run_id is None:
                tags = {} if key is None else {KEY: key}
                run = self._client.create_run(experiment_id, run_name=name, tags=tags)
                run_id = run.info.run_id
                self._client.log_batch(run_id, params=_params(params))
            else:
                self._client.update_run(run_id, status="RUNNING")
                # What it was begun with stays: MLflow lets nobody change it. Cut off before it was
                # told, it is told now.
                known = self._client.get_run(run_id).data.params
                new = {name: value for name, value in params.items() if name not in known}
                self._client.log_batch(run_id, params=_params(new))
        return MlflowRun(self._client, self._uri, run_id)

    def register(self, name: str, version: str, *, run_id: str, folder: str) -> None:
        """Enter ``version`` in the registry; its files are the run's."""
        with _unavailable(self._uri):
            with _unless("RESOURCE_ALREADY_EXISTS"):
                self._client.create_registered_model(name)
            if self._version(name, version) is None:
                root = self._client.get_run(run_id).info.artifact_uri
                self._client.create_model_version(
                    name, f"{root}/{folder}", run_id, tags={VERSION: version}
                )

    def point(self, name: str, aliases: Mapping[str, str | None]) -> None:
        """Move ``aliases``; MLflow lets each name one version at a time."""
        with _unavailable(self._uri):
            for alias, version in aliases.items():
                found = None if version is None else self._version(name, version)
                if found is not None:
                    self._client.set_registered_model_alias(name, alias, found.version)
                    continue
                with _unless("RESOURCE_DOES_NOT_EXIST"):
                    self._client.delete_registered_model_alias(name, alias)

    def registered(self, name: str, version: str) -> RegisteredModel | None:
        """Return what MLflow knows of a version and the run that made it."""
        with _unavailable(self._uri):
            found = self._version(name, version)
            if found is None or found.run_id is None:
                return None
            run = self._client.get_run(found.run_id)
            # (a search leaves out the aliases)
            aliases = self._client.get_model_version(name, str(found.version)).aliases
            return RegisteredModel(
                version=version,
                run_id=run.info.run_id,
                run_name=run.info.run_name or "",
                status=run.info.status,
                params=dict(run.data.params),
                tags=dict(run.data.tags),
                aliases=tuple(sorted(aliases)),
            )

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        return self._client.create_experiment(name, artifact_location=self._artifacts)

    def _begun(self, experiment_id: str, key: str) -> str | None:
        found = self._client.search_runs([experiment_id], f"tags.`{KEY}` = '{key}'", max_results=1)
        return found[0].info.run_id if found else None

    def _version(self, name: str, version: str) -> ModelVersion | None:
        found = self._client.search_model_versions(f"name = '{name}'")
        return next((each for each in found if each.tags.get(VERSION) == version), None)


class MlflowRun:
    """Implements :class:`fusion.ports.TrackedRun`."""

    def __init__(self, client: MlflowClient, uri: str, run_id: str) -> None:
        self._client = client
        self._uri = uri
        self.run_id = run_id

    def log(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Keep ``rows``; one that is sent again replaces nothing and hurts nothing."""
        now_ms = round(time.time() * 1_000)
        metrics = [
            Metric(name, value, now_ms, int(row["step"]))
            for row in rows
            for name, value in row.items()
            if name != "step"
        ]
        with _unavailable(self._uri):
            for begin in range(0, len(metrics), MOST_METRICS):
                self._client.log_batch(self.run_id, metrics[begin : begin + MOST_METRICS])

    def attach(self, files: Sequence[Path], *, folder: str) -> None:
        """Keep copies of ``files`` as artifacts."""
        with _unavailable(self._uri):
            for file in files:
                self._client.log_artifact(self.run_id, str(file), folder)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Keep ``tags``."""
        with _unavailable(self._uri):
            self._client.log_batch(self.run_id, tags=[RunTag(*each) for each in tags.items()])

    def finish(self, *, model_version: str) -> None:
        """Mark the run FINISHED, with the version as a tag."""
        self._end("FINISHED", RunTag(VERSION, model_version))

    def fail(self, reason: str) -> None:
        """Mark the run FAILED; the reason is its description."""
        self._end("FAILED", RunTag("mlflow.note.content", reason))

    def _end(self, status: str, tag: RunTag) -> None:
        with _unavailable(self._uri):
            self._client.log_batch(self.run_id, tags=[tag])
            self._client.set_terminated(self.run_id, status)


def _params(params: Mapping[str, str | float]) -> list[Param]:
    return [Param(name, str(value)) for name, value in params.items()]


@contextlib.contextmanager
def _unless(code: str) -> Iterator[None]:
    """Let the one refusal pass that says that things are as they should be."""
    try:
        yield
    except MlflowException as refused:
        if refused.error_code != code:
            raise


@contextlib.contextmanager
def _unavailable(uri: str) -> Iterator[None]:
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as away:
        shown = without_password(uri)
        reason = (str(away).splitlines() or [repr(away)])[0].replace(uri, shown)
        if isinstance(away, MlflowException) and away.error_code in REFUSALS:
            raise TrackingRefusedError(
                f"MLflow at {shown} must take what it is sent, but refuses: {reason}; give this "
                "process the right, or mend FUSION_MLFLOW_URI"
            ) from away
        raise TrackingUnavailableError(
            f"MLflow must answer at {shown}, but: {reason}; start it, or mend FUSION_MLFLOW_URI"
        ) from away
