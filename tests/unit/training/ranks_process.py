"""One of the processes of the tests of data-parallel training; ``torchrun`` starts it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from flows.ranks import open_ranks
from fusion.alignment import Observation
from fusion.errors import CollapseError, RecipeError
from fusion.features import layout_of
from fusion.model import Batch, Jepa, ModelConfig
from fusion.model.across import own_rows
from fusion.plant import Plant, parse_plant
from fusion.training import Recipe, StepReport, Trained, loop, train
from fusion.training.parallel import Ranks

PLANT: Plant = parse_plant(
    """
prefix: duo
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - {name: process, modality: telemetry, rate_hz: 4, tags: [
      {name: level, unit: m, range: [-5, 5]}, {name: heat, unit: K, range: [-5, 5]},
      {name: flow, unit: l/min, range: [-5, 5]},
      {name: goal, unit: m, range: [-1, 1], setpoint: true}]}
  - {name: other, modality: telemetry, rate_hz: 2, tags: [
      {name: current, unit: A, range: [-5, 5]}, {name: speed, unit: rpm, range: [-5, 5]}]}
""",
    origin="duo.yaml",
)


def recipe(**changes: Any) -> Recipe:
    """A tiny recipe with other values for some fields of it or of its model."""
    model = {
        "width": 32,
        "embedding": 16,
        "stream_embedding": 8,
        "fusion_layers": 1,
        "predictor_layers": 1,
        "window_ticks": 8,
        "horizons_ticks": (1, 4, 16, 40),
    }
    own = {"name": "test", "steps": 10, "batch_windows": 12, "warmup_steps": 3, "gauge_every": 5}
    mine = {key: value for key, value in changes.items() if key in Recipe.model_fields}
    models = {key: value for key, value in changes.items() if key in ModelConfig.model_fields}
    return Recipe.model_validate({**own, "threads": 1, **mine, "model": {**model, **models}})


def recording(count: int = 160, *, is_constant: bool = False) -> list[Observation]:
    """Return a plant that swings; now and then a stream or a cell is absent."""
    draw = np.random.default_rng(0)
    ticks: list[Observation] = []
    for tick in range(count):
        phase = 2 * np.pi * (tick + np.arange(2)[:, None] / 2) / np.array([37, 23, 51, 67, 41])
        rows = np.sin(phase) + 0.1 * draw.standard_normal(phase.shape)
        goal = np.full((2, 1), float(tick // 40 % 2))
        process = np.concatenate([rows[:, :3], goal], axis=1).astype(np.float32)
        if tick % 5 == 1:
            process[0, tick % 3] = np.nan
        if is_constant:
            process, rows = np.zeros_like(process), np.zeros_like(rows)
        senses = {"process": process, "other": rows[:1, 3:].astype(np.float32)}
        if tick % 11 == 3 and not is_constant:
            del senses["other"]
        ticks.append(Observation(tick, senses, dict.fromkeys(senses, 1.0)))
    return ticks


class _KilledError(Exception):
    """Stands for the end of a process."""


def run(folder: Path, wanted: dict[str, Any], ranks: Ranks) -> dict[str, Any]:
    """Train, keep the weights in ``folder``, and return what this process saw."""
    wanted = dict(wanted)
    is_constant = wanted.pop("is_constant", False)
    killed_at = wanted.pop("killed_at", None)
    if "seed_of_rank_1" in wanted:
        seed = wanted.pop("seed_of_rank_1")
        wanted["seed"] = seed if ranks.rank == 1 else 0
    loop.MIN_RANK = 1e9 if wanted.pop("rank_1_never_content", False) and ranks.rank == 1 else 3.0
    losses: list[dict[str, float]] = []

    def note(report: StepReport) -> None:
        losses.append(report.losses)
        if report.step == killed_at:
            raise _KilledError

    def once() -> Trained:
        return train(
            recording(is_constant=is_constant),
            PLANT,
            recipe(**wanted),
            on_step=note,
            checkpoint_dir=folder / f"checkpoint{ranks.size}",
            ranks=ranks,
        )

    try:
        trained = once()
    except _KilledError:
        killed_at = None
        trained = once()
    except (CollapseError, RecipeError) as stopped:
        return {"stopped": f"{type(stopped).__name__}: {stopped}"}
    tensors = trained.model.state_dict()
    save_file(tensors, folder / f"rank{ranks.rank}of{ranks.size}.safetensors")
    return {"losses": losses, "history": trained.history}


def gradients(ranks: Ranks, regulariser: Literal["sigreg", "vicreg"]) -> dict[str, Tensor]:
    """Return the gradient of every weight at the first step, in float64 where rounding is far."""
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(0)
        layout = layout_of(PLANT)
        model = Jepa(layout, recipe(regulariser=regulariser, window_ticks=7).model, ranks)
        generator = torch.Generator().manual_seed(1)
        count, ticks, length = 12, 7, 9  # one far target for each of horizons 16 and 40

        def draw(*shape: int) -> Tensor:
            return own_rows(torch.randn(count, *shape, generator=generator), ranks)

        readings = draw(length, layout.num_readings)
        batch = Batch(
            inputs={s.name: draw(length, *s.input_shape) for s in layout.streams},
            presence_BLM=(draw(length, len(layout.streams)) > -1.5).double(),
            setpoints_BTU=draw(ticks, 1),
            plan_BTHU=draw(ticks, 4, 1),
            readings_BLR=torch.where(readings > 1.5, torch.nan, readings),
            has_far_BE=(draw(2) > 0).double(),
        )
        shared = ranks.share(model)
        losses: dict[str, Tensor] = shared(
            batch, model.chances(batch, torch.Generator().manual_seed(2))
        )
        losses["total"].backward()
        found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        return found | {f"loss.{name}": value.detach() for name, value in losses.items()}
    finally:
        torch.set_default_dtype(torch.float32)


def main(folder: Path) -> None:
    """Go through the scenarios of ``folder`` with the other processes."""
    with open_ranks() as ranks:
        for regulariser in ("sigreg", "vicreg"):
            name = f"{regulariser}.rank{ranks.rank}.safetensors"
            save_file(gradients(ranks, regulariser), folder / name)
        for name, wanted in json.loads((folder / "scenarios.json").read_text()).items():
            (folder / name).mkdir(exist_ok=True)
            saw = run(folder / name, wanted, ranks)
            (folder / name / f"rank{ranks.rank}of2.json").write_text(json.dumps(saw))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
