"""Every implementation of the ``Inference`` port: in this process, and on a real Triton."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from connectors.local_inference import OnnxInference
from connectors.triton_io import Asking, Batching, TritonInference, TritonServer
from flows.export import NETWORKS, export_to_triton, triton_names
from fusion.errors import InferenceUnavailableError, ModelBrokenError
from fusion.manifest import load_manifest
from fusion.ports import Inference
from fusion.training.package import load_golden

pytestmark = pytest.mark.xdist_group("triton")
KINDS = ("local", "triton", "triton-shared-memory", "triton-joined")


@dataclass(frozen=True)
class Opened:
    open: Callable[[], Inference]
    model_dir: Path


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, model_dir: Path) -> Opened:
    if request.param == "local":
        return Opened(lambda: OnnxInference(model_dir), model_dir)
    server: TritonServer = request.getfixturevalue("triton")
    export_to_triton(model_dir, server.repository, backend="python", batching=Batching())
    names = triton_names(load_manifest(model_dir))
    asking = Asking(
        deadline_s=20.0,
        uses_shared_memory=request.param == "triton-shared-memory",
        joins_threads=request.param == "triton-joined",
    )
    return Opened(lambda: TritonInference(server.access, names, asking), model_dir)


@pytest.fixture
def inference(kind: Opened) -> Iterator[Inference]:
    opened = kind.open()
    yield opened
    opened.close()


@pytest.mark.parametrize("network", NETWORKS)
def test_it_answers_the_golden_windows(inference: Inference, kind: Opened, network: str) -> None:
    inputs, golden = load_golden(kind.model_dir, network)
    answered = inference.infer(network, inputs)
    assert answered.keys() == golden.keys()
    for name, values in golden.items():
        assert answered[name].dtype == np.float32
        np.testing.assert_allclose(answered[name], values, atol=1e-4)


@pytest.mark.parametrize("num_rows", [1, 2, 33, 70])
def test_any_number_of_rows_is_answered_row_by_row(
    inference: Inference, kind: Opened, num_rows: int
) -> None:
    inputs, golden = load_golden(kind.model_dir, "predictor")
    rows = np.arange(num_rows) % len(inputs["z"])
    answered = inference.infer("predictor", {name: array[rows] for name, array in inputs.items()})
    for name, values in golden.items():
        np.testing.assert_allclose(answered[name], values[rows], atol=1e-4)


def test_an_answer_stays_as_it_was_when_the_next_one_comes(
    inference: Inference, kind: Opened
) -> None:
    inputs, golden = load_golden(kind.model_dir, "predictor")
    first = inference.infer("predictor", inputs)
    inference.infer("predictor", {name: np.zeros_like(array) for name, array in inputs.items()})
    np.testing.assert_allclose(first["z_ahead"], golden["z_ahead"], atol=1e-4)


def test_threads_get_their_own_answers(inference: Inference, kind: Opened) -> None:
    inputs, golden = load_golden(kind.model_dir, "predictor")

    def ask(row: int) -> None:
        asked = {name: array[[row]] for name, array in inputs.items()}
        answered = inference.infer("predictor", asked)
        np.testing.assert_allclose(answered["z_ahead"], golden["z_ahead"][[row]], atol=1e-4)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, [i % len(inputs["z"]) for i in range(64)]))


def test_inputs_of_a_wrong_shape_are_refused_and_the_next_ones_answered(
    inference: Inference, kind: Opened
) -> None:
    inputs, golden = load_golden(kind.model_dir, "predictor")
    with pytest.raises(ModelBrokenError):
        inference.infer("predictor", inputs | {"z": inputs["z"][:, :, :3]})
    answered = inference.infer("predictor", inputs)
    np.testing.assert_allclose(answered["z_ahead"], golden["z_ahead"], atol=1e-4)


def test_a_refusal_can_be_retried() -> None:
    assert issubclass(ModelBrokenError, InferenceUnavailableError)
    assert InferenceUnavailableError.retriable
