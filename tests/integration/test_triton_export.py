"""A repository that the real server serves: it answers as torch did, in fp32 and in int8."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as client

from connectors.triton_io import Batching, Device, TritonServer
from flows.export import NETWORKS, check_parity, export_to_triton, quantised, triton_names
from flows.serving import open_serving
from flows.settings import Settings
from fusion.errors import InputError, ParityError
from fusion.manifest import MANIFEST_FILE, load_manifest
from fusion.rollout.parity import deviations_of, require_parity
from fusion.training.package import golden_arrays, load_golden, write_golden

pytestmark = pytest.mark.xdist_group("triton")
Arrays = dict[str, np.ndarray]


def copy_of(model_dir: Path, target: Path) -> Path:
    shutil.copytree(model_dir, target)
    return target


@pytest.fixture(scope="module")
def loaded(triton: TritonServer, model_dir: Path) -> Iterator[client.InferenceServerClient]:
    asked = triton.access.open()
    versions = [model_dir, quantised(model_dir)]
    for version in versions:
        export_to_triton(version, triton.repository, backend="python", batching=Batching())
    names = [n for v in versions for n in triton_names(load_manifest(v)).values()]
    for name in names:
        asked.load_model(name, client_timeout=60)
    yield asked
    for name in names:
        asked.unload_model(name, client_timeout=60)
    asked.close()


def ask(asked: client.InferenceServerClient, name: str, inputs: Arrays) -> Arrays:
    tensors: list[client.InferInput] = []
    for key, array in inputs.items():
        tensors.append(client.InferInput(key, array.shape, "FP32"))
        tensors[-1].set_data_from_numpy(array)
    answer: Any = asked.infer(name, tensors, client_timeout=30)
    return {each.name: answer.as_numpy(each.name) for each in answer.get_response().outputs}


@pytest.mark.parametrize("network", NETWORKS)
def test_triton_answers_as_torch_did(
    loaded: client.InferenceServerClient, model_dir: Path, network: str
) -> None:
    inputs, golden = load_golden(model_dir, network)  # (what torch said)
    answered = ask(loaded, triton_names(load_manifest(model_dir))[network], inputs)
    found = require_parity(answered, golden, who="Triton")
    assert max(each.largest for each in found) < 1e-4


@pytest.mark.parametrize("network", NETWORKS)
def test_int8_in_triton_is_near_torch_and_is_int8(
    loaded: client.InferenceServerClient, model_dir: Path, network: str
) -> None:
    inputs, golden = load_golden(model_dir, network)
    name = triton_names(load_manifest(quantised(model_dir)))[network]
    answered = ask(loaded, name, inputs)
    require_parity(answered, golden, who="Triton", precision="int8")
    require_parity(answered, load_golden(quantised(model_dir), network)[1], who="Triton")
    assert max(each.largest for each in deviations_of(answered, golden)) > 1e-4


def test_int8_that_loses_too_much_is_refused(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusion.rollout.parity.MAX_INT8_LOSS", 1e-4)
    copy = copy_of(model_dir, tmp_path / "duo" / "2")
    with pytest.raises(ParityError, match=r"in int8 must answer .* serve this model in fp32"):
        quantised(copy)
    assert [path.name for path in copy.parent.iterdir()] == ["2"]


def test_every_folder_is_whole_in_itself(
    loaded: client.InferenceServerClient, triton: TritonServer, model_dir: Path
) -> None:
    assert loaded is not None
    for network, name in triton_names(load_manifest(model_dir)).items():
        folder = triton.repository / name
        assert load_manifest(folder) == load_manifest(model_dir)
        assert json.loads((folder / "serving.json").read_text())["precision"] == "fp32"
        for kept, made in zip(
            load_golden(folder, network), load_golden(model_dir, network), strict=True
        ):
            assert kept.keys() == made.keys()
            assert all(np.array_equal(kept[key], made[key]) for key in made)
        assert (
            "process: level\nprocess: heat\near: ear band 1\n"
            in (folder / "labels.txt").read_text()
        )


def test_a_network_that_changed_is_not_exported(model_dir: Path, tmp_path: Path) -> None:
    changed = copy_of(model_dir, tmp_path / "duo" / "1")
    inputs, golden = load_golden(changed, "encoder")
    others = golden_arrays("predictor", *load_golden(changed, "predictor"))
    golden["z"] = golden["z"] + np.float32(0.01)
    write_golden(changed, golden_arrays("encoder", inputs, golden) | others)
    with pytest.raises(ParityError, match=r"'z' differs by 0\.01"):
        export_to_triton(changed, tmp_path / "r", backend="python", batching=Batching())
    assert not (tmp_path / "r").exists()
    assert check_parity(model_dir)


def test_a_version_never_changes(model_dir: Path, tmp_path: Path) -> None:
    repository = tmp_path / "r"
    first = export_to_triton(model_dir, repository, backend="onnxruntime", batching=Batching())
    again = export_to_triton(model_dir, repository, backend="onnxruntime", batching=Batching())
    assert (first.was_there, again.was_there) == (False, True)
    other = copy_of(quantised(model_dir), tmp_path / "duo" / "1")
    same = load_manifest(model_dir).model_dump_json()
    (other / MANIFEST_FILE).write_text(same)
    with pytest.raises(InputError, match="a version never changes"):
        export_to_triton(other, repository, backend="onnxruntime", batching=Batching())


def test_other_batching_is_refused_where_it_is_asked_for(model_dir: Path, tmp_path: Path) -> None:
    export_to_triton(model_dir, tmp_path, backend="python", batching=Batching(max_queue=256))
    # Who asks for nothing (live, promote) takes what is there.
    assert export_to_triton(model_dir, tmp_path, backend="python", batching=None).was_there
    with pytest.raises(InputError, match="is there with other batching"):
        export_to_triton(model_dir, tmp_path, backend="python", batching=Batching(max_queue=16))


def test_the_container_gets_onnx_alone(model_dir: Path, tmp_path: Path) -> None:
    exported = export_to_triton(model_dir, tmp_path, backend="onnxruntime", batching=Batching())
    for name in exported.models.values():
        assert 'backend: "onnxruntime"' in (tmp_path / name / "config.pbtxt").read_text()
        assert [path.name for path in (tmp_path / name / "1").iterdir()] == ["model.onnx"]


def test_a_queue_has_a_bound_of_the_servers_own_where_it_is_asked_for(
    model_dir: Path, tmp_path: Path
) -> None:
    for batching, has_bound in ((Batching(), False), (Batching(max_queue=256), True)):
        folder = tmp_path / str(has_bound)
        exported = export_to_triton(model_dir, folder, backend="python", batching=batching)
        for name in exported.models.values():
            config = (folder / name / "config.pbtxt").read_text()
            assert "dynamic_batching {" in config
            assert ("timeout_action: REJECT" in config) is has_bound
            assert ("max_queue_size: 256" in config) is has_bound


def test_a_gpu_is_asked_for_where_the_backend_can_use_one(model_dir: Path, tmp_path: Path) -> None:
    for device in ("cpu", "gpu"):
        folder = tmp_path / device
        exported = export_to_triton(
            model_dir, folder, backend="onnxruntime", batching=None, device=device
        )
        for name in exported.models.values():
            config = (folder / name / "config.pbtxt").read_text()
            assert f"kind: KIND_{device.upper()} " in config
    with pytest.raises(InputError, match="a version never changes"):
        export_to_triton(model_dir, folder, backend="onnxruntime", batching=None, device="cpu")
    with pytest.raises(InputError, match="need backend onnxruntime"):
        export_to_triton(
            model_dir, tmp_path / "none", backend="python", batching=None, device="gpu"
        )
    assert list((tmp_path / "none").iterdir()) == []


def test_what_was_exported_before_there_was_a_choice_is_for_the_cpu(
    model_dir: Path, tmp_path: Path
) -> None:
    for name in export_to_triton(
        model_dir, tmp_path, backend="onnxruntime", batching=None
    ).models.values():
        kept = json.loads((tmp_path / name / "serving.json").read_text())
        del kept["device"]
        (tmp_path / name / "serving.json").write_text(json.dumps(kept))
    for device in ("cpu", None):
        assert export_to_triton(
            model_dir, tmp_path, backend="onnxruntime", batching=None, device=device
        ).was_there
    with pytest.raises(InputError, match="a version never changes"):
        export_to_triton(model_dir, tmp_path, backend="onnxruntime", batching=None, device="gpu")


@pytest.mark.parametrize(("there", "asks"), [("cpu", "gpu"), ("gpu", "cpu")])
def test_who_asks_for_no_device_takes_what_is_there(
    model_dir: Path, tmp_path: Path, there: Device, asks: Device
) -> None:
    settings = Settings(
        data_dir=tmp_path, inference="triton", triton_backend="onnxruntime", triton_device=asks
    )
    repository = settings.triton_repository_dir
    exported = export_to_triton(
        model_dir, repository, backend="onnxruntime", batching=None, device=there
    )
    open_serving(model_dir, settings).close()
    for name in exported.models.values():
        config = (repository / name / "config.pbtxt").read_text()
        assert f"kind: KIND_{there.upper()} " in config


def test_what_is_new_is_for_the_device_of_the_settings(model_dir: Path, tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path, inference="triton", triton_backend="onnxruntime", triton_device="gpu"
    )
    open_serving(model_dir, settings).close()
    for name in triton_names(load_manifest(model_dir)).values():
        config = (settings.triton_repository_dir / name / "config.pbtxt").read_text()
        assert "kind: KIND_GPU " in config
