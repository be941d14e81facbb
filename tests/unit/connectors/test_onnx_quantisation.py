"""Weights of 8 bits that every processor multiplies without cutting off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from connectors.onnx_quantisation import quantise
from tests.models import NETWORKS


@pytest.mark.parametrize("network", NETWORKS)
def test_two_products_fit_into_sixteen_bits(model_dir: Path, tmp_path: Path, network: str) -> None:
    target = tmp_path / "int8.onnx"
    quantise(model_dir / f"{network}.onnx", target)
    weights = [
        array
        for array in map(numpy_helper.to_array, onnx.load(target).graph.initializer)
        if array.dtype == np.int8 and array.ndim > 1
    ]
    assert weights
    # An activation is an unsigned byte; where there is no VNNI two products are added in 16 bits.
    assert all(2 * 255 * np.abs(each.astype(int)).max() < 2**15 for each in weights)
