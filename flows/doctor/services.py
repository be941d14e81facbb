"""What else the plant needs: its model, Triton, MLflow, Prefect, the databases."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from flows import wiring
from flows.doctor.findings import Finding, look, right, wrong
from flows.export import triton_names
from flows.models import models_of, newest_model
from flows.rollout import model_named
from flows.rollout_journal import journal_of
from flows.settings import Settings
from fusion.manifest import load_manifest
from fusion.plant import Plant
from fusion.wording import without_password

TIMEOUT_S = 5.0


def serving_model(plant: Plant, settings: Settings) -> Path | None:
    """Return the model version that a live process would serve; None without any."""
    champion = journal_of(settings, plant).state().champion
    if champion is not None:
        return model_named(settings, plant, champion)
    return newest_model(settings, plant) if models_of(settings, plant) else None


def model(plant: Plant, settings: Settings) -> Iterator[Finding]:
    """Hold the model in service to the plant file.

    Raises:
        ManifestMismatchError: It was trained for another plant; says what differs.
    """
    folder = serving_model(plant, settings)
    if folder is None:
        yield look("model", "none is trained yet", "fusion train PLANT")
        return
    manifest = load_manifest(folder)
    manifest.require_fits(plant)
    yield right("model", f"{manifest.name} {manifest.version} fits the plant file")


def triton(plant: Plant, settings: Settings) -> Iterator[Finding]:
    """Ask Triton whether it has the model in service.

    Raises:
        InferenceUnavailableError: It does not answer.
    """
    if settings.inference != "triton":
        return
    folder = serving_model(plant, settings)
    names = [] if folder is None else list(triton_names(load_manifest(folder)).values())
    loaded = wiring.triton_models(settings, names)
    absent = [name for name, is_ready in loaded.items() if not is_ready]
    if absent:
        seen = f"{settings.triton_address} answers and has not loaded {', '.join(absent)}"
        yield look("Triton", seen, "fusion export MODEL, if `fusion live` does not load it")
    else:
        yield right("Triton", f"{settings.triton_address} has {', '.join(names) or 'no model yet'}")


def mlflow(settings: Settings) -> Iterator[Finding]:
    """Ask the MLflow server, where one is set, whether it is there."""
    uri = settings.tracking_uri
    if uri is not None and uri.startswith(("http://", "https://")):
        yield _reached("MLflow", f"{uri.rstrip('/')}/health", "FUSION_MLFLOW_URI")


def prefect(variables: Mapping[str, str]) -> Iterator[Finding]:
    """Ask the Prefect server, where one is set, whether it is there."""
    if url := variables.get("PREFECT_API_URL"):
        yield _reached("Prefect", f"{url.rstrip('/')}/health", "PREFECT_API_URL")


def alarm_history(plant: Plant, settings: Settings) -> Iterator[Finding]:
    """Ask the database of the alarms' journal for its newest line.

    Raises:
        AlarmLogUnavailableError: It does not answer.
    """
    if settings.alarm_history_url is None and not settings.alarm_history_path.exists():
        return
    with closing(wiring.open_alarm_log(settings)) as log:
        head = log.head(str(plant.address))
    lines = "no line of this plant yet" if head is None else f"up to line {head.number}"
    yield right("alarm history", lines)


def _reached(check: str, url: str, variable: str) -> Finding:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 http(s) only
            return right(check, f"{without_password(url)} answers {answer.status}")
    except (urllib.error.URLError, OSError, ValueError) as away:
        # (Never the address itself, which may carry a password.)
        reason = getattr(away, "reason", away)
        return wrong(
            check, f"no answer: {reason}", f"start the server, or mend or unset {variable}"
        )
