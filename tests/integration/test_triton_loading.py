"""A network that takes long to load keeps no call past its deadline, and is loaded once."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import numpy as np
import pytest

from connectors.triton_io import (
    PYTHON_MODEL,
    Asking,
    Batching,
    TritonInference,
    TritonServer,
    ready_models,
    unload_models,
)
from flows.export import export_to_triton
from fusion.errors import InferenceUnavailableError, ModelBrokenError, ModelLoadingError
from fusion.training.package import load_golden
from tests.models import make_model

pytestmark = pytest.mark.xdist_group("triton")
LONG = """
_load = TritonPythonModel.initialize

def _load_long(self, args):
    import time
    with open({told!r}, "a") as told:
        told.write("loads\\n")
    time.sleep(2)
    {then}
    _load(self, args)

TritonPythonModel.initialize = _load_long
"""
SHORT = Asking(deadline_s=0.3)


def serve(
    triton: TritonServer, folder: Path, version: str, monkeypatch: pytest.MonkeyPatch, then: str
) -> dict[str, str]:
    code = folder / "model.py"
    code.write_text(PYTHON_MODEL.read_text() + LONG.format(told=str(folder / "told"), then=then))
    monkeypatch.setattr("flows.wiring.PYTHON_MODEL", code)
    return export_to_triton(
        make_model(folder / version), triton.repository, backend="python", batching=Batching()
    ).models


def ask_until_loaded(
    client: TritonInference, inputs: dict[str, np.ndarray], *, may_be_late: int = 0
) -> tuple[dict[str, np.ndarray], int]:
    """Return the first answer, and how often the network was still being loaded before.

    So often it ``may_be_late`` once it is loaded: other tests are at work on the same cores.
    """
    num_before = 0
    while True:
        try:
            return client.infer("predictor", inputs), num_before
        except ModelLoadingError:
            num_before += 1
        except InferenceUnavailableError as late:
            if "Deadline Exceeded" not in str(late) or not may_be_late:
                raise
            may_be_late -= 1


def test_calls_end_at_their_deadline_while_one_load_goes_on(
    triton: TritonServer, tmp_path: Path, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = serve(triton, tmp_path, unique, monkeypatch, "")
    inputs, golden = load_golden(tmp_path / unique, "predictor")
    with contextlib.closing(TritonInference(triton.access, names, SHORT)) as client:
        answer, num_before = ask_until_loaded(client, inputs, may_be_late=4)
    assert num_before > 0
    np.testing.assert_allclose(answer["z_ahead"], golden["z_ahead"], atol=1e-4)
    assert (tmp_path / "told").read_text().splitlines() == ["loads"]
    unload_models(triton.access, names.values())


def test_what_ends_badly_while_nobody_waits_is_told_to_the_next_who_asks(
    triton: TritonServer, tmp_path: Path, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = serve(triton, tmp_path, unique, monkeypatch, "raise RuntimeError('made to fail')")
    inputs = load_golden(tmp_path / unique, "predictor")[0]
    with (
        contextlib.closing(TritonInference(triton.access, names, SHORT)) as client,
        pytest.raises(ModelBrokenError, match="must be able to load"),
    ):
        ask_until_loaded(client, inputs)
    unload_models(triton.access, names.values())


def test_what_loads_for_too_long_counts_as_a_failure(
    triton: TritonServer, tmp_path: Path, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.triton_io.loading.LOAD_DEADLINE_S", 0.5)
    names = serve(triton, tmp_path, unique, monkeypatch, "")
    inputs = load_golden(tmp_path / unique, "predictor")[0]
    with (
        contextlib.closing(TritonInference(triton.access, names, SHORT)) as client,
        pytest.raises(InferenceUnavailableError, match=r"where 0\.5 s may pass|but: "),
    ):
        ask_until_loaded(client, inputs)
    monkeypatch.undo()
    unload_models(triton.access, names.values())


def test_a_load_that_was_given_up_is_forgotten_once_the_network_answers(
    triton: TritonServer, tmp_path: Path, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.triton_io.loading.LOAD_DEADLINE_S", 0.5)
    names = serve(triton, tmp_path, unique, monkeypatch, "")
    inputs = load_golden(tmp_path / unique, "predictor")[0]
    with contextlib.closing(TritonInference(triton.access, names, SHORT)) as client:
        with pytest.raises(InferenceUnavailableError, match=r"where 0\.5 s may pass|but: "):
            ask_until_loaded(client, inputs)
        while not ready_models(triton.access, [names["predictor"]])[names["predictor"]]:
            time.sleep(0.05)
        ask_until_loaded(client, inputs)
        unload_models(triton.access, names.values())
        with pytest.raises(ModelLoadingError):
            client.infer("predictor", inputs)
    monkeypatch.undo()
    unload_models(triton.access, names.values())
