"""Training runs and the registry of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class TrackedRun(Protocol):
    """One training run where it is kept."""

    @property
    def run_id(self) -> str:
        """What it is called there."""
        ...

    def log(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Keep measurements: in each row ``step``, and values by name. Repeats do no harm.

        Raises:
            TrackingUnavailableError: Not known to be kept; call again.
        """
        ...

    def attach(self, files: Sequence[Path], *, folder: str) -> None:
        """Keep copies of ``files`` in a folder of the run. Repeats replace; it may have ended.

        Raises:
            TrackingUnavailableError: Not known to be kept; call again.
        """
        ...

    def tag(self, tags: Mapping[str, str]) -> None:
        """Keep ``tags``, in the place of former ones of these names; it may have ended.

        Raises:
            TrackingUnavailableError: Not known to be kept; call again.
        """
        ...

    def finish(self, *, model_version: str) -> None:
        """Mark the run as done; ``model_version`` is what it made.

        Raises:
            TrackingUnavailableError: Not known to be kept; call again.
        """
        ...

    def fail(self, reason: str) -> None:
        """Mark the run as failed, and say why.

        Raises:
            TrackingUnavailableError: Not known to be kept; call again.
        """
        ...


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A model version in the registry, with the run that made it."""

    version: str
    """As the product calls it; the registry has a number of its own."""
    run_id: str
    run_name: str
    status: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    """Of the run."""
    aliases: tuple[str, ...]


class Tracking(Protocol):
    """Keeps what training runs were made of and what they did, to be compared.

    And a registry of the model versions that came out; ``aliases`` name what some of them do.
    """

    def start(
        self,
        *,
        experiment: str,
        name: str,
        params: Mapping[str, str | float],
        key: str | None = None,
    ) -> TrackedRun:
        """Return a new run among those of ``experiment``; ``params`` are what it was made of.

        With ``key`` it is the run that was begun with it before, if any: it goes on.

        Raises:
            TrackingUnavailableError: It did not answer; no run may be expected there.
        """
        ...

    def register(self, name: str, version: str, *, run_id: str, folder: str) -> None:
        """Enter ``version`` of the model ``name``, made by a run that has its files in ``folder``.

        What is entered already stays as it is.

        Raises:
            TrackingUnavailableError: Not known to be entered; call again.
        """
        ...

    def point(self, name: str, aliases: Mapping[str, str | None]) -> None:
        """Let each alias name that version of the model, or none.

        A version that was never registered is named by nothing. Repeats do no harm.

        Raises:
            TrackingUnavailableError: Not all may be as asked; call again.
        """
        ...

    def registered(self, name: str, version: str) -> RegisteredModel | None:
        """Return what is known of a version; None where it was never registered.

        Raises:
            TrackingUnavailableError: It did not answer.
        """
        ...
