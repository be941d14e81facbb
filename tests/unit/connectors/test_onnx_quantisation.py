"""Weights of 8 bits, and answers that do not hang on who shares the batch."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from connectors.local_inference import OnnxInference
from connectors.onnx_quantisation import quantise
from fusion.errors import InputError
from fusion.training.package import load_golden
from tests.models import NETWORKS


@pytest.mark.parametrize("network", NETWORKS)
def test_most_weights_are_bytes(model_dir: Path, tmp_path: Path, network: str) -> None:
    source, target = model_dir / f"{network}.onnx", tmp_path / "int8.onnx"
    quantise(source, target)
    arrays = list(map(numpy_helper.to_array, onnx.load(target).graph.initializer))
    num_bytes = sum(array.size for array in arrays if array.dtype == np.int8)
    num_wide = sum(array.size for array in arrays if array.dtype == np.float32)
    assert num_bytes > num_wide
    assert target.stat().st_size < source.stat().st_size


@pytest.mark.parametrize("network", NETWORKS)
def test_a_row_is_answered_alike_alone_and_beside_larger_ones(
    model_dir: Path, tmp_path: Path, network: str
) -> None:
    folder = tmp_path / "int8"
    shutil.copytree(model_dir, folder)
    quantise(model_dir / f"{network}.onnx", folder / f"{network}.onnx")
    inputs, _ = load_golden(model_dir, network)
    alone = {name: array[:1] for name, array in inputs.items()}
    inference = OnnxInference(folder)
    expected = inference.infer(network, alone)
    for num_others in (1, 2, 5):
        beside = {
            name: np.concatenate([array] + [(array * 10).astype(array.dtype)] * num_others)
            for name, array in alone.items()
        }
        for name, array in inference.infer(network, beside).items():
            np.testing.assert_allclose(array[:1], expected[name], rtol=1e-3, atol=1e-4)
    inference.close()


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"no network")
    with pytest.raises(InputError, match="serve it in fp32"):
        quantise(tmp_path / "encoder.onnx", tmp_path / "int8.onnx")
