"""The model that is measured: the standard size for the rig. Its weights do not matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from flows.cli.plant import load_plant
from fusion.features import Normaliser, layout_of
from fusion.model import Batch, Jepa, ModelConfig
from fusion.plant import Plant
from fusion.training import Recipe, Trained
from fusion.training.package import new_folder, write_manifest, write_networks

RIG = Path(__file__).parents[2] / "plants" / "rig.yaml"


def make_subject(path: Path) -> Jepa:
    """Write the model version at ``path``, and return the same model for PyTorch."""
    torch.manual_seed(0)
    plant, config = load_plant(RIG), ModelConfig()
    model = Jepa(layout_of(plant), config).eval()
    statistics = {"none": np.zeros(1, np.float32)}
    history = [{"step": 0.0}]
    trained = Trained(
        model, Normaliser(statistics), Recipe(name="untrained", model=config), history
    )
    with new_folder(path) as folder:
        write_networks(trained, random_windows(plant, config), folder)
        write_manifest(
            trained,
            plant,
            folder,
            version=path.name,
            data_version="none",
            code_version="none",
            num_train_ticks=0,
            num_calibration_ticks=0,
        )
    return model


def random_windows(plant: Plant, config: ModelConfig, num_windows: int = 2) -> Batch:
    """Return windows of noise, with every sense present."""
    layout, num_ticks = layout_of(plant), config.window_ticks
    num_setpoints, num_horizons = layout.num_setpoints, len(config.horizons_ticks)
    return Batch(
        inputs={
            s.name: torch.randn(num_windows, num_ticks + 1, *s.input_shape) for s in layout.streams
        },
        presence_BLM=torch.ones(num_windows, num_ticks + 1, len(layout.streams)),
        setpoints_BTU=torch.rand(num_windows, num_ticks, num_setpoints),
        plan_BTHU=torch.rand(num_windows, num_ticks, num_horizons, num_setpoints),
        readings_BLR=torch.randn(num_windows, num_ticks + 1, layout.num_readings),
        has_far_BE=torch.ones(num_windows, 1),
    )
