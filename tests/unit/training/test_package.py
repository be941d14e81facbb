"""A model folder is whole or not there, answers as it did in training, and fits one plant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from connectors.local_inference import OnnxInference
from fusion.errors import InputError, ManifestMismatchError
from fusion.features import Normaliser, layout_of
from fusion.manifest import Manifest, load_manifest
from fusion.model import Batch, Jepa, ModelConfig
from fusion.plant import Plant, parse_plant
from fusion.training import Recipe, Trained
from fusion.training.package import (
    load_golden,
    load_normaliser,
    new_folder,
    write_manifest,
    write_networks,
)

PLANT_TEXT = """
prefix: duo
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - name: process
    modality: telemetry
    rate_hz: 4
    tags:
      - {name: level, unit: m, range: [0, 1], limits: {high: 0.9}}
      - {name: heat, unit: K, range: [0, 1]}
      - {name: goal, unit: m, range: [0, 1], setpoint: true}
  - {name: ear, modality: audio, sample_rate_hz: 4000}
"""
PLANT: Plant = parse_plant(PLANT_TEXT, origin="duo.yaml")
NETWORKS = ("encoder", "predictor")
CONFIG = ModelConfig(
    width=32,
    embedding=16,
    stream_embedding=8,
    fusion_layers=1,
    predictor_layers=1,
    window_ticks=8,
    horizons_ticks=(1, 4, 16),
)


def untrained() -> Trained:
    """Return a model with weights that nothing has trained: export does not care."""
    torch.manual_seed(0)
    layout = layout_of(PLANT)
    model = Jepa(layout, CONFIG)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.05 * torch.randn(weights.shape))
    statistics = {
        f"{stream.name}{part}.{what}": np.full(3, 0.5, np.float32)
        for stream in layout.streams
        for part in ("", ".readings")
        for what in ("mean", "std")
    }
    history = [{"step": 0.0, "rankme": 5.0}]
    recipe = Recipe(name="tiny", model=CONFIG)
    return Trained(model, Normaliser(statistics), recipe, history)


def golden() -> Batch:
    layout = layout_of(PLANT)
    torch.manual_seed(1)
    presence = torch.ones(3, 9, 2)
    presence[1, 3:, 0] = 0
    return Batch(
        inputs={s.name: torch.randn(3, 9, *s.input_shape) for s in layout.streams},
        presence_BLM=presence,
        setpoints_BTU=torch.rand(3, 8, 1),
        plan_BTHU=torch.rand(3, 8, 3, 1),
        readings_BLR=torch.randn(3, 9, layout.num_readings),
        has_far_BE=torch.ones(3, 1),
    )


def manifest_of(trained: Trained, folder: Path) -> Manifest:
    return write_manifest(
        trained,
        PLANT,
        folder,
        version="1",
        data_version="d",
        code_version="c",
        num_train_ticks=2,
        num_calibration_ticks=1,
    )


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "duo" / "1"
    trained = untrained()
    with new_folder(path) as folder:
        write_networks(trained, golden(), folder)
        manifest_of(trained, folder)
    return path


@pytest.mark.parametrize("network", NETWORKS)
def test_onnx_answers_the_golden_windows_as_torch_did(model_dir: Path, network: str) -> None:
    inference = OnnxInference(model_dir, num_threads=1)
    inputs, expected = load_golden(model_dir, network)
    answered = inference.infer(network, inputs)
    assert sorted(answered) == sorted(expected)
    for name, values in expected.items():
        assert values.std() > 0
        np.testing.assert_allclose(answered[name], values, atol=1e-4)
    inference.close()


@pytest.mark.parametrize("network", NETWORKS)
def test_the_batch_is_free_and_does_not_change_answers(model_dir: Path, network: str) -> None:
    inference = OnnxInference(model_dir, num_threads=1)
    inputs, expected = load_golden(model_dir, network)
    one = inference.infer(network, {name: values[:1] for name, values in inputs.items()})
    twice = inference.infer(network, {k: np.concatenate([v, v]) for k, v in inputs.items()})
    for name, values in expected.items():
        np.testing.assert_allclose(one[name], values[:1], atol=1e-4)
        np.testing.assert_allclose(twice[name], np.concatenate([values, values]), atol=1e-4)
    inference.close()


def test_a_whole_folder_says_what_it_is(model_dir: Path) -> None:
    manifest = load_manifest(model_dir)
    assert manifest.plant_fingerprint == PLANT.fingerprint()
    assert manifest.num_parameters == sum(p.numel() for p in untrained().model.parameters())
    assert [path.name for path in model_dir.parent.iterdir()] == ["1"]


def test_the_normaliser_comes_back(model_dir: Path) -> None:
    sent, back = untrained().normaliser.statistics, load_normaliser(model_dir).statistics
    assert sorted(back) == sorted(sent)
    assert all(np.array_equal(back[name], values) for name, values in sent.items())


def test_a_failing_export_leaves_no_folder(tmp_path: Path) -> None:
    broken = replace(golden(), setpoints_BTU=torch.rand(3, 8, 5))
    path = tmp_path / "duo" / "2"
    with pytest.raises(RuntimeError), new_folder(path) as folder:
        write_networks(untrained(), broken, folder)
    assert list(path.parent.iterdir()) == []


def test_nobody_sees_half_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "duo" / "3"
    with new_folder(path) as folder:
        (folder / "a").write_text("a")
        assert not path.exists()
    assert (path / "a").read_text() == "a"


def test_a_version_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "4"
    path.mkdir()
    (path / "a").write_text("old")
    with pytest.raises(OSError, match="not empty"), new_folder(path) as folder:
        (folder / "a").write_text("new")
    assert (path / "a").read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["4"]


@pytest.mark.parametrize("load", [load_manifest, load_normaliser, OnnxInference])
def test_a_folder_without_a_model_is_an_input_error(tmp_path: Path, load: type) -> None:
    with pytest.raises(InputError, match="must hold"):
        load(tmp_path)


def test_a_manifest_that_is_none_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": 3}')
    with pytest.raises(InputError, match="must be a manifest of this product"):
        load_manifest(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [("limits: {high: 0.9}", "limits: {high: 0.8}"), ("prefix: duo", "prefix: other")],
)
def test_what_the_networks_do_not_read_may_change(tmp_path: Path, old: str, new: str) -> None:
    changed = parse_plant(PLANT_TEXT.replace(old, new), origin="duo.yaml")
    assert changed != PLANT
    manifest_of(untrained(), tmp_path).require_fits(changed)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("unit: K", "unit: degC", "units of stream 'process' differs"),
        ("name: heat", "name: warmth", "tags of stream 'process' differs"),
        ("name: goal", "name: wish", "setpoints of stream 'process' differs"),
        ("rate_hz: 4\n", "rate_hz: 6\n", "rate_hz of stream 'process' differs"),
        ("sample_rate_hz: 4000", "sample_rate_hz: 8000", "rate_hz of stream 'ear' differs"),
        ("tick_s: 0.5", "tick_s: 1", "tick_s differs"),
        ("name: ear", "name: mic", "the order of streams differs"),
        (", setpoint: true", "", "tags of stream 'process' differs"),
    ],
)
def test_what_the_networks_read_must_not_change(
    tmp_path: Path, old: str, new: str, where: str
) -> None:
    changed = parse_plant(PLANT_TEXT.replace(old, new), origin="duo.yaml")
    with pytest.raises(ManifestMismatchError, match=f"must match the plant, but {where}"):
        manifest_of(untrained(), tmp_path).require_fits(changed)


def test_the_order_of_streams_must_not_change(tmp_path: Path) -> None:
    turned = PLANT.model_copy(update={"streams": PLANT.streams[::-1]})
    with pytest.raises(ManifestMismatchError, match=r"the order .* \('process', 'ear'\).*'ear', '"):
        manifest_of(untrained(), tmp_path).require_fits(turned)
