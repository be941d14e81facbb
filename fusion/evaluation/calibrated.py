"""A trained model with the calibration of one plant, in memory: what measurements ask."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fusion.alignment import Observation
from fusion.features import Normaliser, fit_normaliser
from fusion.manifest import Manifest, trained_streams
from fusion.model import Jepa, WindowOutputs
from fusion.model.in_process import TorchInference
from fusion.plant import Plant
from fusion.ports import Inference
from fusion.scoring import Calibration
from fusion.stream.calibrating import calibrate_on
from fusion.stream.windows import WindowEncoder
from fusion.training import Recipe, split

WINDOWS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Everything that turns a plant's observations into scores, forecasts and advice."""

    plant: Plant
    inference: Inference
    manifest: Manifest
    normaliser: Normaliser
    calibration: Calibration

    def windows_at(
        self, observations: Sequence[Observation], ticks: Collection[int]
    ) -> dict[int, WindowOutputs]:
        """Return the windows that end with ``ticks``; the ticks between cost nothing."""
        reach, wanted = self.manifest.window_ticks, sorted(ticks)
        near = [each for each in observations if any(0 <= t - each.tick < reach for t in wanted)]
        encoder = WindowEncoder(self.inference, self.plant, self.manifest, self.normaliser)
        return {window.tick: window for window in encoder.run_many(near) if window.tick in ticks}


def calibrate(
    model: Jepa,
    recipe: Recipe,
    observations: Sequence[Observation],
    plant: Plant,
    *,
    normaliser: Normaliser | None = None,
) -> Calibrated:
    """Return ``model`` calibrated on a normal run of ``plant``; its weights stay as they are.

    Without ``normaliser`` the run's own is taken: that is all that a model of other rigs of the
    same kind is told about this one.

    Raises:
        RecipeError: The run is too short to say what is normal.
    """
    seen, held_out = split(observations, recipe)
    normaliser = normaliser or fit_normaliser(seen, plant)
    inference, manifest = TorchInference(model), _manifest(model, recipe, plant, len(seen))
    calibration = calibrate_on(
        (seen, held_out), inference, plant, manifest, normaliser, windows_at_once=WINDOWS_AT_ONCE
    )
    return Calibrated(plant, inference, manifest, normaliser, calibration)


def _manifest(model: Jepa, recipe: Recipe, plant: Plant, num_train_ticks: int) -> Manifest:
    """Return the manifest of a model that is never served."""
    return Manifest(
        name=plant.prefix,
        version="in-memory",
        plant_address=str(plant.address),
        plant_fingerprint=plant.fingerprint(),
        tick_s=plant.tick_s,
        streams=trained_streams(plant),
        window_ticks=recipe.model.window_ticks,
        horizons_ticks=recipe.model.horizons_ticks,
        layout=model.layout.model_dump(mode="json"),
        recipe=recipe.model_dump(mode="json"),
        data_version="in memory",
        code_version="in memory",
        num_parameters=sum(weights.numel() for weights in model.parameters()),
        num_train_ticks=num_train_ticks,
        num_calibration_ticks=0,
        gauges=(),
    )
