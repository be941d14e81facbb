"""What a training run leaves where runs are kept: recipe, losses and gauges by step, how it ended.

A server that goes away during a run stops nothing: what it has not got waits for the next
measurement.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flows.terminal import CONSOLE
from fusion.errors import FusionError, TrackingUnavailableError
from fusion.ports import TrackedRun, Tracking
from fusion.training import Recipe, StepReport


class RunRecord:
    """One run's measurements on their way to where they are kept; nowhere without ``kept``."""

    def __init__(self, kept: TrackedRun | None) -> None:
        self._kept = kept
        self._waiting: list[Mapping[str, float]] = []

    @property
    def run_id(self) -> str | None:
        """What the run is called where it is kept; None where it is not."""
        return None if self._kept is None else self._kept.run_id

    def note(self, report: StepReport) -> None:
        """Keep what was measured at one step; sent whenever gauges are."""
        losses = {f"loss.{name}": value for name, value in report.losses.items()}
        self._waiting.append({"step": report.step, **losses, **(report.gauges or {})})
        if report.gauges is not None:
            self._send()

    def finish(self, *, model_version: str) -> None:
        """Mark the run as done."""
        self._send(lambda run: run.finish(model_version=model_version))

    def fail(self, reason: str) -> None:
        """Mark the run as failed."""
        self._send(lambda run: run.fail(reason))

    def _send(self, last: Callable[[TrackedRun], None] = lambda _: None) -> None:
        if self._kept is None:
            return
        try:
            self._kept.log(self._waiting)
            self._waiting = []
            last(self._kept)
        except TrackingUnavailableError as away:
            CONSOLE.print(f"this run goes on without being kept: {away}", style="yellow")


@contextlib.contextmanager
def recorded(
    tracking: Tracking | None,
    *,
    experiment: str,
    recipe: Recipe,
    made_of: Mapping[str, str],
    key: str | None = None,
) -> Iterator[RunRecord]:
    """Yield the record of a run of ``recipe``; when an error ends it, that is its reason.

    With ``key`` a run that was begun before and cut off goes on.

    Raises:
        TrackingUnavailableError: The run could not be begun there.
    """
    if tracking is None:
        yield RunRecord(None)
        return
    params = {**made_of, **_flat(recipe.model_dump(mode="json"))}
    name = f"{recipe.name}-seed{recipe.seed}"
    record = RunRecord(tracking.start(experiment=experiment, name=name, params=params, key=key))
    try:
        yield record
    except FusionError as stopped:
        record.fail(str(stopped))
        raise
    except BaseException as ended:  # (Ctrl-C too: a run that is over must not look alive)
        record.fail(repr(ended))
        raise


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, str | float]:
    """Return nested fields under dotted names.

    Example:
        >>> _flat({"seed": 0, "model": {"width": 96, "horizons_ticks": [1, 4]}})
        {'seed': 0, 'model.width': 96, 'model.horizons_ticks': '[1, 4]'}
    """
    flat: dict[str, str | float] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value if isinstance(value, str | float | int) else str(value)
    return flat
