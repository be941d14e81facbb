"""Training runs in MLflow: in a SQLite file on this machine, or on a tracking server.

Importing MLflow takes seconds; only the wiring imports this, and only where a run is kept.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence

# Read when MLflow is imported. It would report its own use to its makers, and try for minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from fusion.errors import TrackingUnavailableError

MOST_METRICS = 1_000
"""What MLflow takes in one request."""


class MlflowTracking:
    """Implements :class:`fusion.ports.Tracking` for an MLflow tracking URI."""

    def __init__(self, uri: str) -> None:
        for name in ("mlflow", "alembic"):
            # It tells of every table that it makes.
            logging.getLogger(name).setLevel(logging.WARNING)
        self._uri = uri
        with _unavailable(uri):
            self._client = MlflowClient(tracking_uri=uri)

    def start(self, *, experiment: str, name: str, params: Mapping[str, str | float]) -> MlflowRun:
        """Return a new run in MLflow's experiment ``experiment``, which is made if need be."""
        with _unavailable(self._uri):
            found = self._client.get_experiment_by_name(experiment)
            if found is None:
                experiment_id = self._client.create_experiment(experiment)
            else:
                experiment_id = found.experiment_id
            run_id = self._client.create_run(experiment_id, run_name=name).info.run_id
            self._client.log_batch(
                run_id, params=[Param(key, str(value)) for key, value in params.items()]
            )
        return MlflowRun(self._client, self._uri, run_id)


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

    def finish(self, *, model_version: str) -> None:
        """Mark the run FINISHED, with the version as a tag."""
        self._end("FINISHED", RunTag("model_version", model_version))

    def fail(self, reason: str) -> None:
        """Mark the run FAILED; the reason is its description."""
        self._end("FAILED", RunTag("mlflow.note.content", reason))

    def _end(self, status: str, tag: RunTag) -> None:
        with _unavailable(self._uri):
            self._client.log_batch(self.run_id, tags=[tag])
            self._client.set_terminated(self.run_id, status)


@contextlib.contextmanager
def _unavailable(uri: str) -> Iterator[None]:
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as away:
        reason = str(away).splitlines()[0]
        raise TrackingUnavailableError(
            f"MLflow must answer at {uri}, but: {reason}; start it, or mend FUSION_MLFLOW_URI"
        ) from away
