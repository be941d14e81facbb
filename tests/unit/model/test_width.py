"""``width`` is the one dial for size; docs/training.md says what it costs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from fusion.features import layout_of
from fusion.model import Jepa, ModelConfig
from fusion.plant import parse_plant

ROOT = Path(__file__).parents[3]
RIG = layout_of(parse_plant((ROOT / "plants" / "rig.yaml").read_text(), origin="rig.yaml"))
WIDTHS = (32, 64, 96, 128, 256, 512)
PARTS = ("encoder", "predictor", "readout")


def num_parameters(width: int) -> dict[str, int]:
    with torch.device("meta"):
        model = Jepa(RIG, ModelConfig(width=width))
    counts = {
        part: sum(weights.numel() for weights in model.get_submodule(part).parameters())
        for part in PARTS
    }
    return {"all": sum(weights.numel() for weights in model.parameters()), **counts}


def test_every_part_grows_with_width() -> None:
    sizes = [num_parameters(width) for width in WIDTHS]
    for part in ("all", *PARTS):
        counts = [size[part] for size in sizes]
        assert counts == sorted(set(counts)), part
    # Attention and MLPs grow with the square of the width, what reads the senses by itself.
    assert 3 < sizes[-1]["all"] / sizes[-2]["all"] < 4
    assert 1_000_000 < num_parameters(ModelConfig().width)["all"] < 2_000_000


def test_the_table_of_sizes_is_true() -> None:
    text = (ROOT / "docs" / "training.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) M \|", text, re.MULTILINE)
    assert [int(width) for width, _ in rows] == list(WIDTHS)
    for width, millions in rows:
        assert num_parameters(int(width))["all"] / 1e6 == pytest.approx(float(millions), abs=0.05)
