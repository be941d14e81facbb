"""The Prefect flows that look for drift, have a retraining answer it, and learn from verdicts.

The work itself is in :mod:`flows.drift`, :mod:`flows.reconcile` and :mod:`flows.feedback`.
``watch-drift`` keeps what it found, then tells it as an event; ``reconcile`` looks at what was
kept. An event that got lost costs time until the reconciler's next turn, and nothing else.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.events import DeploymentEventTrigger, emit_event
from prefect.events.schemas.automations import Posture
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from flows.drift import champion_of, check_drift
from flows.drift_journal import keep_record
from flows.feedback import MAX_DAYS, HeadReport, refit_event_head
from flows.plant_files import load_plant
from flows.prefect_ingest import is_retriable
from flows.reconcile import Reconciled, RunState
from flows.reconcile import reconcile as work
from flows.settings import Settings
from fusion.plant import NANOSECONDS, Plant
from fusion.retraining.decision import RetrainingPolicy
from fusion.retraining.drift import DriftLimits
from fusion.retraining.records import DriftRecord

EVENT = "fusion.drift.detected"
RETRAIN = "retrain/retrain"
"""The deployment that is started: the flow's name, and the deployment's."""
PERIOD_S = 6 * 3600.0

_again = task(
    retries=3,
    retry_delay_seconds=5,
    retry_condition_fn=is_retriable,
    cache_policy=NO_CACHE,
    persist_result=False,
)
"""What is away is tried again; what is wrong is not."""


@_again
def find_drift(
    plant_file: str, settings: Settings, period_s: float, until_ns: int | None, limits: DriftLimits
) -> DriftRecord:
    """Check once, keep what was found, and return it."""
    plant = load_plant(Path(plant_file))
    logger = get_run_logger()
    record = check_drift(
        plant, settings, period_s=period_s, until_ns=until_ns, limits=limits, on_stage=logger.info
    )
    return keep_record(settings, plant, record)


@_again
def fit_events(plant: Plant, settings: Settings, max_days: float) -> HeadReport:
    """Fit an event head of the champion, if operators said something new."""
    return refit_event_head(plant, settings, champion_of(plant, settings), max_days=max_days)


@flow(name="refit-events", persist_result=False, validate_parameters=False)
def refit_events(
    plant_file: str, *, max_days: float = MAX_DAYS, settings: Settings | None = None
) -> HeadReport:
    """Let the champion's event head learn from what operators said; live processes find it.

    ``max_days`` is how far before and after the newest useful alarm the lake is read.
    """
    where = Settings.load() if settings is None else settings
    report = fit_events(load_plant(Path(plant_file)), where, max_days)
    get_run_logger().info("%s", report.sentence)
    return report


@flow(name="watch-drift", persist_result=False, validate_parameters=False)
def watch_drift(
    plant_file: str,
    period_s: float = PERIOD_S,
    *,
    until_ns: int | None = None,
    limits: DriftLimits | dict[str, float] | None = None,
    settings: Settings | None = None,
) -> DriftRecord:
    """Look whether the champion still fits its plant; what is found is kept, and told as an event.

    ``period_s`` is how far back the recent period reaches from the newest record of the lake.
    """
    where = Settings.load() if settings is None else settings
    record = find_drift(
        plant_file, where, period_s, until_ns, DriftLimits.model_validate(limits or {})
    )
    for finding in record.findings:
        get_run_logger().info("%s%s", "DRIFT: " if finding.is_drift else "", finding.sentence)
    if record.is_drift:
        tell(load_plant(Path(plant_file)), record)
    return record


def tell(plant: Plant, record: DriftRecord) -> None:
    """Emit the event of a check that found drift; the same check's is the same event."""
    emit_event(
        EVENT,
        resource={
            "prefect.resource.id": resource_of(plant),
            "prefect.resource.name": record.plant,
            "fusion.model.version": record.model_version,
        },
        payload={
            "record": record.id,
            "plant": record.plant,
            "model_version": record.model_version,
            "until_s": record.until_ns / NANOSECONDS,
            "findings": [each.model_dump(mode="json") for each in record.drifts],
        },
        id=uuid.uuid5(uuid.NAMESPACE_URL, f"{EVENT}/{record.id}"),
    )


def resource_of(plant: Plant) -> str:
    """Return the name by which Prefect's events and automations know ``plant``."""
    return f"fusion.plant.{plant.prefix}.{plant.address.asset}"


def drift_trigger(plant: Plant, plant_file: str) -> DeploymentEventTrigger:
    """Return the trigger that runs the reconciler's deployment at once when drift was told.

    Not the retraining itself: what is due is decided in one place.
    """
    return DeploymentEventTrigger(
        name=f"drift of {plant.address}",
        expect={EVENT},
        match={"prefect.resource.id": resource_of(plant)},
        posture=Posture.Reactive,
        threshold=1,
        parameters={"plant_file": plant_file},
    )


class PrefectRetrainer:
    """Starts the deployment of the flow ``retrain``; its idempotency key is the retraining's id."""

    def __init__(self, deployment: str = RETRAIN) -> None:
        self._deployment = deployment

    def start(self, plant_file: str, reason: str, *, key: str) -> str:
        """Return the id of the flow run, which Prefect makes once for each key."""
        run = run_deployment(
            self._deployment,
            parameters={"plant_file": plant_file, "reason": reason},
            timeout=0,
            idempotency_key=key,
            as_subflow=False,
        )
        assert isinstance(run, FlowRun), "outside of a running event loop it is no coroutine"
        return str(run.id)

    def state(self, run: str) -> RunState:
        """Return how the flow run does; one that Prefect has forgotten has failed."""
        with get_client(sync_client=True) as client:
            try:
                state = client.read_flow_run(UUID(run)).state
            except ObjectNotFound:
                return "failed"
        if state is None or not state.is_final():
            return "running"
        return "finished" if state.is_completed() else "failed"

    def give_up(self, run: str, why: str) -> None:
        """Set the flow run to Crashed: Prefect's server does so for none that lost its worker."""
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(UUID(run), Crashed(message=why), force=True)


@flow(name="reconcile", persist_result=False, validate_parameters=False)
def reconcile(
    plant_file: str,
    policy: RetrainingPolicy | dict[str, float] | None = None,
    *,
    deployment: str = RETRAIN,
    settings: Settings | None = None,
) -> Reconciled:
    """Start the retraining that kept records of drift call for, if one is due; once.

    ``deployment`` is what is started, with the parameters ``plant_file`` and ``reason``.
    """
    where = Settings.load() if settings is None else settings
    path = Path(plant_file)
    done = work(
        path,
        load_plant(path),
        where,
        PrefectRetrainer(deployment),
        RetrainingPolicy.model_validate(policy or {}),
    )
    get_run_logger().info("%s; started %s", done.decision.why, list(done.started) or "nothing")
    return done
