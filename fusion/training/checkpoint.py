"""A training run on disk: one file from which it goes on as if it had never stopped.

Tensors and, in the header, everything else as JSON; no pickle, so loading runs no code.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fusion.errors import RecipeError
from fusion.features import Normaliser
from fusion.model import Jepa
from fusion.training.recipe import Recipe

CHECKPOINT_FILE = "checkpoint.safetensors"


@dataclass(slots=True)
class Run:
    """Everything that a step changes."""

    model: Jepa
    optimiser: torch.optim.Optimizer
    draw: np.random.Generator
    noise: torch.Generator
    history: list[dict[str, float]]


def identify(recipe: Recipe, normaliser: Normaliser, num_windows: int) -> str:
    """Return the SHA-256 (hex) of what a run is made of: its recipe and its training data."""
    digest = hashlib.sha256(f"{recipe.model_dump_json()} {num_windows}".encode())
    for name, values in sorted(normaliser.statistics.items()):
        digest.update(name.encode() + values.tobytes())
    return digest.hexdigest()


def save(run: Run, folder: Path, *, step: int, identity: str) -> None:
    """Write the state before ``step``; a crash leaves the old file or the new one, never half."""
    tensors = {f"model.{name}": value for name, value in run.model.state_dict().items()}
    for index, state in run.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    tensors["noise"] = run.noise.get_state()
    header = {
        "step": step,
        "identity": identity,
        "draw": run.draw.bit_generator.state,
        "history": run.history,
    }
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{CHECKPOINT_FILE}.{os.getpid()}.part"
    save_file(
        {name: value.detach().contiguous() for name, value in tensors.items()},
        beside,
        metadata={"run": json.dumps(header)},
    )
    with beside.open("rb") as written:
        os.fsync(written.fileno())
    beside.rename(folder / CHECKPOINT_FILE)


def restore(run: Run, folder: Path, *, identity: str) -> int:
    """Put ``run`` back where it was saved and return its next step; 0 where nothing was saved.

    Raises:
        RecipeError: The file is broken, or of a run with another recipe or other data.
    """
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["run"])
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError) as broken:
        raise RecipeError(
            f"{path} must be a checkpoint of a training run, but: {broken}; delete it to start over"
        ) from broken
    if header["identity"] != identity:
        raise RecipeError(
            f"{path} must come from the same recipe and data to be continued, and it does not; "
            "delete it to start over, or give the recipe and data that it was made with"
        )
    try:
        run.model.load_state_dict(_part(tensors, "model."))
    except RuntimeError as other:
        raise RecipeError(
            f"{path} must hold the weights of this version's model, and holds those of another "
            "version of the product; delete it to start over"
        ) from other
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(tensors, "optimiser.").items():
        index, _, key = name.partition(".")
        moments.setdefault(int(index), {})[key] = value
    groups = run.optimiser.state_dict()["param_groups"]
    run.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    run.draw.bit_generator.state = header["draw"]
    run.noise.set_state(tensors["noise"])
    run.history[:] = header["history"]
    return int(header["step"])


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
