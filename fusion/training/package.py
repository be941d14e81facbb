"""A trained model as a folder: networks, normaliser, golden windows, manifest; whole or not there.

The folder is written beside its place, synced to disk, and renamed: nobody ever sees half of it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from fusion.errors import InputError
from fusion.features import Normaliser
from fusion.manifest import MANIFEST_FILE, Manifest, trained_streams
from fusion.model import Batch
from fusion.model.export import (
    ENCODER,
    PREDICTOR,
    EncoderNetwork,
    PredictorNetwork,
    example_inputs,
    export_onnx,
    run_torch,
)
from fusion.plant import Plant
from fusion.training.loop import Trained

NORMALISER_FILE = "normaliser.safetensors"
GOLDEN_FILE = "golden.safetensors"
WEIGHTS_FILE = "weights.safetensors"
Arrays = Mapping[str, NDArray[np.generic]]


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill; at the end it is ``path``, whole, or, after an error, nowhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # (Not by the process's number: in containers two may have the same.)
    beside = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
    beside.mkdir()
    try:
        yield beside
        for written in (*beside.rglob("*"), beside):
            _sync(written)
        beside.rename(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_networks(trained: Trained, golden: Batch, folder: Path) -> None:
    """Write both networks, the weights, the normaliser, and golden windows with their outputs."""
    model = trained.model.eval()
    encoder_inputs, predictor_inputs = example_inputs(model, golden)
    networks = {
        ENCODER: (EncoderNetwork(model), encoder_inputs),
        PREDICTOR: (PredictorNetwork(model), predictor_inputs),
    }
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, (network, inputs) in networks.items():
        export_onnx(network, inputs, folder / f"{name}.onnx")
        arrays |= golden_arrays(name, inputs, run_torch(network, inputs))
    write_golden(folder, arrays)
    save_file(_contiguous(trained.normaliser.statistics), folder / NORMALISER_FILE)
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    save_file(_contiguous(weights), folder / WEIGHTS_FILE)


def write_manifest(
    trained: Trained,
    plant: Plant,
    folder: Path,
    *,
    version: str,
    data_version: str,
    code_version: str,
    num_train_ticks: int,
    num_calibration_ticks: int,
) -> Manifest:
    """Write the manifest, last of all files, and return it."""
    config = trained.recipe.model
    manifest = Manifest(
        name=plant.prefix,
        version=version,
        plant_address=str(plant.address),
        plant_fingerprint=plant.fingerprint(),
        tick_s=plant.tick_s,
        streams=trained_streams(plant),
        window_ticks=config.window_ticks,
        horizons_ticks=config.horizons_ticks,
        layout=trained.model.layout.model_dump(mode="json"),
        recipe=trained.recipe.model_dump(mode="json"),
        data_version=data_version,
        code_version=code_version,
        num_parameters=sum(weights.numel() for weights in trained.model.parameters()),
        num_train_ticks=num_train_ticks,
        num_calibration_ticks=num_calibration_ticks,
        gauges=tuple(trained.history),
    )
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
    return manifest


def load_normaliser(model_dir: Path) -> Normaliser:
    """Return the normaliser of the model version in ``model_dir``."""
    path = model_dir / NORMALISER_FILE
    if not path.is_file():
        raise InputError(f"a model folder must hold {NORMALISER_FILE}; {model_dir} does not")
    return Normaliser(load_file(path))


def load_golden(
    model_dir: Path, network: str
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the golden inputs and outputs of ``network``."""
    arrays = load_file(model_dir / GOLDEN_FILE)
    inputs, outputs = f"{network}.in.", f"{network}.out."
    return (
        {k.removeprefix(inputs): v for k, v in arrays.items() if k.startswith(inputs)},
        {k.removeprefix(outputs): v for k, v in arrays.items() if k.startswith(outputs)},
    )


def write_golden(folder: Path, arrays: Arrays) -> None:
    """Write golden arrays under their full names, such as ``encoder.out.z``."""
    save_file(_contiguous(arrays), folder / GOLDEN_FILE)


def golden_arrays(network: str, inputs: Arrays, outputs: Arrays) -> dict[str, NDArray[np.generic]]:
    """Return golden inputs and outputs of ``network`` under their full names."""
    named = {f"{network}.in.{key}": value for key, value in inputs.items()}
    return named | {f"{network}.out.{key}": value for key, value in outputs.items()}


def _contiguous(arrays: Arrays) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}
