"""bfloat16, compilation and the GPU change how a loss is computed, and not what it is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fusion.features import layout_of
from fusion.model import Batch, Jepa
from fusion.training import StepReport, Trained, train
from tests.conftest import IS_CI
from tests.unit.training.tiny import PLANT, recipe, recording


def trained(**changes: object) -> tuple[Trained, list[float]]:
    totals: list[float] = []

    def note(report: StepReport) -> None:
        if report.losses:
            totals.append(report.losses["total"])

    return train(recording(), PLANT, recipe(**changes), on_step=note), totals


@pytest.mark.parametrize("regulariser", ["sigreg", "vicreg"])
def test_bfloat16_stays_near_float32(regulariser: Literal["sigreg", "vicreg"]) -> None:
    _, exact = trained(regulariser=regulariser)
    coarse, rounded = trained(regulariser=regulariser, precision="bfloat16")
    assert rounded == pytest.approx(exact, rel=0.02)
    assert rounded != exact, "nothing was computed in bfloat16"
    state = coarse.model.state_dict().values()
    assert {weights.dtype for weights in state} == {torch.float32}
    assert all(torch.isfinite(weights).all() for weights in state)


@pytest.mark.skipif(
    shutil.which("g++") is None and not IS_CI, reason="compiling needs g++, not on this machine"
)
def test_a_compiled_loss_is_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a killed process left half written in the machine's own cache would be loaded.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    _, eager = trained(steps=2)
    compiled, same = trained(steps=2, compile=True)
    assert same == pytest.approx(eager, rel=1e-4)
    assert not any("_orig_mod" in name for name in compiled.model.state_dict())


@pytest.mark.parametrize("regulariser", ["sigreg", "vicreg"])
def test_a_loss_on_a_gpu_mixes_no_devices(regulariser: Literal["sigreg", "vicreg"]) -> None:
    """Fake tensors have a device and no content, so that no GPU is needed."""
    layout = layout_of(PLANT)
    with FakeTensorMode():
        with torch.device("cuda"):
            model = Jepa(layout, recipe(regulariser=regulariser).model)
        batch = Batch(
            inputs={s.name: torch.empty(12, 10, *s.input_shape) for s in layout.streams},
            presence_BLM=torch.empty(12, 10, len(layout.streams)),
            setpoints_BTU=torch.empty(12, 8, 1),
            plan_BTHU=torch.empty(12, 8, 4, 1),
            readings_BLR=torch.empty(12, 10, layout.num_readings),
            has_far_BE=torch.empty(12, 2),
        ).to(torch.device("cuda"))
        losses = model.loss(batch, torch.Generator())
        assert {(loss.device.type, loss.dtype) for loss in losses.values()} == {
            ("cuda", torch.float32)
        }
