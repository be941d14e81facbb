"""A model folder is whole or not there, answers as it did in training, and fits one plant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from connectors.local_inference import OnnxInference
from fusion.errors import InputError, ManifestMismatchError
from fusion.manifest import load_manifest
from fusion.plant import parse_plant
from fusion.training.package import load_golden, load_normaliser, new_folder, write_networks
from tests.models import NETWORKS, PLANT, PLANT_TEXT, golden, manifest_of, untrained


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
    # (Others export it anew beside it; nothing unfinished stands there.)
    assert not list(model_dir.parent.glob(".*"))


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
