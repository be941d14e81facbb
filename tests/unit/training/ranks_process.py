"""One of the processes of the tests of data-parallel training; ``torchrun`` starts it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from flows.ranks import open_ranks
from fusion.errors import CollapseError, RecipeError
from fusion.features import layout_of
from fusion.model import Batch, Jepa
from fusion.model.across import own_rows
from fusion.training import StepReport, Trained, loop, train
from fusion.training.parallel import Ranks
from tests.unit.training.tiny import PLANT, recipe, recording


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
