"""A small model of a plant with telemetry and sound, exported as training does it."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import torch

from fusion.features import Normaliser, layout_of
from fusion.manifest import Manifest
from fusion.model import Batch, Jepa, ModelConfig
from fusion.plant import Plant, parse_plant
from fusion.training import Recipe, Trained
from fusion.training.package import new_folder, write_manifest, write_networks

PLANT_TEXT = """
prefix: duo
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - name: process
    modality: telemetry
    rate_hz: 4
    tags:
      - {name: level, unit: m, range: [0, 1], limits: {high: 0.9}}
      - {name: heat, unit: K, range: [0, 1]}
      - {name: goal, unit: m, range: [0, 1], setpoint: true}
  - {name: ear, modality: audio, sample_rate_hz: 4000}
"""
PLANT: Plant = parse_plant(PLANT_TEXT, origin="duo.yaml")
NETWORKS = ("encoder", "predictor")
CONFIG = ModelConfig(
    width=32,
    embedding=16,
    stream_embedding=8,
    fusion_layers=1,
    predictor_layers=1,
    window_ticks=8,
    horizons_ticks=(1, 4, 16),
)


def untrained(seed: int = 0) -> Trained:
    """Return a model with weights that nothing has trained: export does not care."""
    torch.manual_seed(seed)
    layout = layout_of(PLANT)
    model = Jepa(layout, CONFIG)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.05 * torch.randn(weights.shape))
    statistics = {
        f"{stream.name}{part}.{what}": np.full(3, 0.5, np.float32)
        for stream in layout.streams
        for part in ("", ".readings")
        for what in ("mean", "std")
    }
    history = [{"step": 0.0, "rankme": 5.0}]
    recipe = Recipe(name="tiny", model=CONFIG)
    return Trained(model, Normaliser(statistics), recipe, history)


def golden() -> Batch:
    """Return three windows, in one of which a sense is missing."""
    layout = layout_of(PLANT)
    torch.manual_seed(1)
    presence = torch.ones(3, 9, 2)
    presence[1, 3:, 0] = 0
    return Batch(
        inputs={s.name: torch.randn(3, 9, *s.input_shape) for s in layout.streams},
        presence_BLM=presence,
        setpoints_BTU=torch.rand(3, 8, 1),
        plan_BTHU=torch.rand(3, 8, 3, 1),
        readings_BLR=torch.randn(3, 9, layout.num_readings),
        has_far_BE=torch.ones(3, 1),
    )


def manifest_of(trained: Trained, folder: Path, version: str = "1") -> Manifest:
    """Write and return the manifest of ``trained``."""
    return write_manifest(
        trained,
        PLANT,
        folder,
        version=version,
        data_version="d",
        code_version="c",
        num_train_ticks=2,
        num_calibration_ticks=1,
    )


def make_model(path: Path, seed: int = 0) -> Path:
    """Write a model version at ``path``, whose name is its version."""
    with new_folder(path) as folder:
        for name, content in _networks(seed).items():
            (folder / name).write_bytes(content)
        manifest_of(untrained(seed), folder, path.name)
    return path


@functools.cache
def _networks(seed: int) -> dict[str, bytes]:
    """Return what training exports, by file: to export takes ten seconds, and once is enough."""
    with tempfile.TemporaryDirectory() as made:
        write_networks(untrained(seed), golden(), Path(made))
        return {path.name: path.read_bytes() for path in Path(made).iterdir()}
