"""Calibrates a model on a normal run, through the windows that live makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fusion.alignment import Observation
from fusion.features import Normaliser
from fusion.manifest import Manifest
from fusion.model.outputs import WindowOutputs
from fusion.plant import Plant
from fusion.ports import Inference
from fusion.scoring import Calibration, fit_calibration
from fusion.stream.windows import WindowEncoder


def calibrate_on(
    run: tuple[Sequence[Observation], Sequence[Observation]],
    inference: Inference,
    plant: Plant,
    manifest: Manifest,
    normaliser: Normaliser,
    *,
    windows_at_once: int = 1,
) -> Calibration:
    """Return what is normal, from ticks that training learned from and ones that it never saw.

    The run is gone through once as it was, and once without each stream in turn: a plant whose
    camera fails is still watched, and must not look abnormal for that.

    Raises:
        RecipeError: The run is too short to say what is normal.
    """

    def windows(part: Sequence[Observation], absent: str | None) -> Iterator[WindowOutputs]:
        encoder = WindowEncoder(inference, plant, manifest, normaliser)
        ticks = part if absent is None else (each.without(absent) for each in part)
        return encoder.run_many(ticks, windows_at_once=windows_at_once)

    seen, unseen = run
    absences = [stream.name for stream in plant.streams] if len(plant.streams) > 1 else []
    return fit_calibration(
        (windows(seen, None), windows(unseen, None)),
        plant,
        manifest,
        normaliser,
        without={name: (windows(seen, name), windows(unseen, name)) for name in absences},
    )
