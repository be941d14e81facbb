"""A trained model says the same in torch, in ONNX Runtime and in Triton; in 8 bits nearly so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from safetensors.torch import load_file

from connectors.local_inference import OnnxInference
from connectors.triton_io import Asking, Batching, TritonInference, TritonServer, unload_models
from flows.export import NETWORKS, export_to_triton, quantised
from fusion.features import Layout
from fusion.manifest import load_manifest
from fusion.model import Jepa
from fusion.model.export import ENCODER, PREDICTOR, EncoderNetwork, PredictorNetwork, run_torch
from fusion.ports import Inference
from fusion.rollout.parity import deviations_of, require_parity
from fusion.training import Recipe
from fusion.training.package import WEIGHTS_FILE, load_golden

pytestmark = pytest.mark.xdist_group("triton")
Arrays = dict[str, np.ndarray]
SAME = 1e-4
"""Of two runtimes of one network, any element; a tenth of what may serve."""


@dataclass(frozen=True)
class Runtimes:
    """One trained model: in torch, and each of its precisions here and on the server."""

    torch: dict[str, EncoderNetwork | PredictorNetwork]
    here: dict[str, Inference]
    on_server: dict[str, Inference]


def torch_networks(model_dir: Path) -> dict[str, EncoderNetwork | PredictorNetwork]:
    """Return the networks made anew from the weights that training has kept."""
    manifest = load_manifest(model_dir)
    recipe = Recipe.model_validate(manifest.recipe)
    model = Jepa(Layout.model_validate(manifest.layout), recipe.model)
    model.load_state_dict(load_file(model_dir / WEIGHTS_FILE))
    model.eval()
    return {ENCODER: EncoderNetwork(model), PREDICTOR: PredictorNetwork(model)}


@pytest.fixture(scope="module")
def runtimes(triton: TritonServer, model_dir: Path) -> Iterator[Runtimes]:
    assert load_manifest(model_dir).gauges, "training has left its history"
    here: dict[str, Inference] = {}
    on_server: dict[str, Inference] = {}
    with contextlib.ExitStack() as opened:
        for precision, folder in (("fp32", model_dir), ("int8", quantised(model_dir))):
            assert load_manifest(folder).precision == precision
            models = export_to_triton(
                folder, triton.repository, backend="python", batching=Batching()
            ).models
            opened.callback(unload_models, triton.access, list(models.values()))
            here[precision] = OnnxInference(folder)
            on_server[precision] = TritonInference(triton.access, models, Asking(deadline_s=30))
            opened.enter_context(contextlib.closing(here[precision]))
            opened.enter_context(contextlib.closing(on_server[precision]))
        yield Runtimes(torch_networks(model_dir), here, on_server)


def golden_of(model_dir: Path, network: str) -> tuple[Arrays, Arrays]:
    """Return the golden windows, their inputs in the order in which the network takes them."""
    inputs, outputs = load_golden(model_dir, network)
    session = onnxruntime.InferenceSession(model_dir / f"{network}.onnx")
    return {each.name: inputs[each.name] for each in session.get_inputs()}, outputs


def farthest(answered: Arrays, reference: Arrays) -> float:
    assert answered.keys() == reference.keys()
    return max(each.largest for each in deviations_of(answered, reference))


@pytest.mark.parametrize("network", NETWORKS)
def test_torch_onnx_runtime_and_triton_say_the_same(
    runtimes: Runtimes, model_dir: Path, network: str
) -> None:
    inputs, golden = golden_of(model_dir, network)
    torch = run_torch(runtimes.torch[network], inputs)
    here = runtimes.here["fp32"].infer(network, inputs)
    on_server = runtimes.on_server["fp32"].infer(network, inputs)
    assert farthest(golden, torch) < SAME, "golden windows are what torch says"
    for one, other in ((here, torch), (on_server, torch), (on_server, here)):
        assert farthest(one, other) < SAME
    require_parity(on_server, torch, who="Triton")


@pytest.mark.parametrize("network", NETWORKS)
def test_in_8_bits_both_runtimes_say_the_same_and_torch_nearly_so(
    runtimes: Runtimes, model_dir: Path, network: str
) -> None:
    inputs, _ = golden_of(model_dir, network)
    torch = run_torch(runtimes.torch[network], inputs)
    here = runtimes.here["int8"].infer(network, inputs)
    on_server = runtimes.on_server["int8"].infer(network, inputs)
    assert farthest(on_server, here) < SAME
    for answered in (here, on_server):
        require_parity(answered, torch, who=f"{network} in int8", precision="int8")
    assert farthest(on_server, torch) > SAME, "what answers has 8 bits"
