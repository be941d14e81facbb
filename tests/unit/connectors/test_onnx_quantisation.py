"""Weights of 8 bits: a quarter of the bytes, and an answer that hangs on its own row alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from connectors.onnx_quantisation import quantise
from fusion.errors import InputError
from fusion.training.package import load_golden
from tests.models import NETWORKS


@pytest.fixture(params=NETWORKS)
def both(request: pytest.FixtureRequest, model_dir: Path, tmp_path: Path) -> tuple[str, Path, Path]:
    name: str = request.param
    source, target = model_dir / f"{name}.onnx", tmp_path / "int8.onnx"
    quantise(source, target)
    return name, source, target


def answers(network: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    asked = {each.name for each in session.get_inputs()}
    return [
        np.asarray(o) for o in session.run(None, {k: v for k, v in inputs.items() if k in asked})
    ]


def test_every_matrix_product_has_bytes_as_weights(both: tuple[str, Path, Path]) -> None:
    _, source, target = both
    matrices = [
        array
        for array in map(numpy_helper.to_array, onnx.load(target).graph.initializer)
        if array.ndim == 2 and array.dtype == np.int8
    ]
    assert matrices
    assert sum(each.size for each in matrices) > 1_000
    assert target.stat().st_size < source.stat().st_size
    assert all(np.abs(each.astype(int)).max() <= 127 for each in matrices)


def test_a_row_is_answered_alike_alone_and_beside_any_others(
    both: tuple[str, Path, Path], model_dir: Path
) -> None:
    name, _, target = both
    inputs, _ = load_golden(model_dir, name)
    alone = answers(target, {key: value[:1] for key, value in inputs.items()})
    larger = {
        key: np.concatenate([value[:1], 10 * value[:1]]) if value.dtype == np.float32
        else np.concatenate([value[:1], value[:1]])
        for key, value in inputs.items()
    }  # fmt: skip
    for one, beside in zip(alone, answers(target, larger), strict=True):
        np.testing.assert_allclose(beside[:1], one, atol=1e-5)


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no network")
    with pytest.raises(InputError, match="must be an ONNX network"):
        quantise(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()
