"""What keeps training runs."""

from __future__ import annotations

from flows.settings import Settings
from fusion.ports import Tracking


def open_tracking(settings: Settings) -> Tracking | None:
    """Return what keeps training runs; None where the settings say that nothing does.

    Raises:
        TrackingUnavailableError: It cannot be reached.
    """
    uri = settings.tracking_uri
    if uri is None:
        return None
    from connectors.mlflow_tracking import MlflowTracking  # noqa: PLC0415 importing takes seconds

    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return MlflowTracking(uri, artifacts=settings.data_dir / "mlflow-artifacts")
