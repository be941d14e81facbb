"""A model version into Triton's model repository, and into 8 bits.

Each network is a model of its own in the repository, named after plant and version: a new version
is loaded beside the old one, and no request has to wait for a reload. A network's folder is whole
in itself: configuration, ONNX, golden windows, and what scoring needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from flows import wiring
from fusion.errors import InputError
from fusion.features import Layout
from fusion.manifest import MANIFEST_FILE, Manifest, load_manifest
from fusion.model.export import ENCODER, PREDICTOR
from fusion.rollout.parity import Deviation, deviations_of, require_parity
from fusion.signing import NOT_LISTED
from fusion.training.package import (
    GOLDEN_FILE,
    WEIGHTS_FILE,
    golden_arrays,
    load_golden,
    new_folder,
    write_golden,
)

NETWORKS = (ENCODER, PREDICTOR)
LABELS_FILE = "labels.txt"
SERVING_FILE = "serving.json"
BATCHING, DEVICE, FILES = "batching", "device", "files"
INT8 = "int8"


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export made: the models' names in the repository, and how well each agrees."""

    models: dict[str, str]
    deviations: dict[str, list[Deviation]]
    was_there: bool


def triton_names(manifest: Manifest) -> dict[str, str]:
    """Return the name of each network in a model repository."""
    return {network: f"{manifest.name}.{manifest.version}.{network}" for network in NETWORKS}


def export_to_triton(
    model_dir: Path,
    repository: Path,
    *,
    backend: wiring.Backend,
    batching: wiring.Batching | None,
    device: wiring.Device | None = None,
    device_if_new: wiring.Device = "cpu",
) -> Exported:
    """Put the model version in ``model_dir`` into ``repository``, whole or not at all.

    What is there already is left alone when it is the same version with the same content. Without
    ``batching`` it may have any, and gets the default where it is new; without ``device`` it may be
    for any, and is for ``device_if_new`` where it is new.

    Raises:
        ParityError: Its ONNX networks do not answer the golden windows as the model did.
        InputError: ``model_dir`` is no model, or the repository holds another one of that name,
            or this one for another device or with other batching than what is asked for, or the
            backend cannot use the device.
    """
    manifest = load_manifest(model_dir)
    deviations = check_parity(model_dir)
    names = triton_names(manifest)
    was_there = True
    # The predictor comes last: where it is, the encoder is too.
    for network, name in names.items():
        source, target = model_dir / f"{network}.onnx", repository / name
        serving = {
            "network": network,
            "backend": backend,
            DEVICE: device or device_if_new,
            "precision": manifest.precision,
            "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        }
        if target.exists():
            _require_same(target, serving, batching, is_any_device=device is None)
            continue
        was_there = False
        try:
            with new_folder(target) as folder:
                _fill(
                    folder,
                    model_dir=model_dir,
                    manifest=manifest,
                    network=network,
                    name=name,
                    backend=backend,
                    device=device or device_if_new,
                    batching=batching or wiring.Batching(),
                )
                kept = serving | {
                    BATCHING: asdict(batching or wiring.Batching()),
                    FILES: _hashes(folder),
                }
                (folder / SERVING_FILE).write_text(json.dumps(kept, indent=2), encoding="utf-8")
        except OSError:
            if not target.exists():
                raise
            # Another process was faster with the same version.
            _require_same(target, serving, batching, is_any_device=device is None)
    return Exported(names, deviations, was_there)


def check_parity(model_dir: Path) -> dict[str, list[Deviation]]:
    """Return how far each network, run here, lies from its golden outputs.

    Raises:
        ParityError: Too far.
    """
    found: dict[str, list[Deviation]] = {}
    with contextlib.closing(wiring.open_inference(model_dir)) as inference:
        for network in NETWORKS:
            inputs, golden = load_golden(model_dir, network)
            answered = inference.infer(network, inputs)
            found[network] = require_parity(answered, golden, who=f"{model_dir.name} {network}")
    return found


def quantised(
    model_dir: Path,
    *,
    source: Path | None = None,
    sealed: Callable[[Path], object] = lambda _: None,
) -> Path:
    """Return a version beside ``model_dir`` with weights of 8 bits: made, or there already.

    It is a version like any other: it has its own manifest and golden outputs, proves itself as a
    challenger, and can be rolled back. ``source`` is the folder to read the model from, where that
    is a checked copy; ``sealed`` is given the new folder when that is complete.

    Raises:
        ParityError: It differs from the model too much; nothing was written.
    """
    read_from = source or model_dir
    manifest = load_manifest(read_from)
    if manifest.precision == INT8:
        return model_dir
    target = model_dir.with_name(f"{model_dir.name}-{INT8}")
    if (target / MANIFEST_FILE).is_file():
        return target
    with new_folder(target) as folder:
        for network in NETWORKS:
            wiring.quantise(read_from / f"{network}.onnx", folder / f"{network}.onnx")
        arrays = {}
        with contextlib.closing(wiring.open_inference(folder)) as inference:
            for network in NETWORKS:
                inputs, golden = load_golden(read_from, network)
                answered = inference.infer(network, inputs)
                require_parity(
                    answered, golden, who=f"{model_dir.name} {network} in int8", precision=INT8
                )
                arrays |= golden_arrays(network, inputs, answered)
        for file in _scoring_files(read_from):
            shutil.copyfile(file, folder / file.name)
        write_golden(folder, arrays)
        own = manifest.model_copy(update={"version": target.name, "precision": INT8})
        (folder / MANIFEST_FILE).write_text(own.model_dump_json(indent=2), encoding="utf-8")
        sealed(folder)
    return target


def int8_loss(model_dir: Path, quantised_dir: Path) -> float:
    """Return how far 8 bits lie from the model on the golden windows, as ``Deviation.relative``."""
    return max(
        each.relative
        for network in NETWORKS
        for each in deviations_of(
            load_golden(quantised_dir, network)[1], load_golden(model_dir, network)[1]
        )
    )


def _fill(
    folder: Path,
    *,
    model_dir: Path,
    manifest: Manifest,
    network: str,
    name: str,
    backend: wiring.Backend,
    device: wiring.Device,
    batching: wiring.Batching,
) -> None:
    inputs, outputs = load_golden(model_dir, network)
    labels = {"cross_readings": LABELS_FILE} if network == ENCODER else {}
    config = wiring.model_config(
        name, backend, inputs, outputs, label_files=labels, batching=batching, device=device
    )
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")
    (folder / LABELS_FILE).write_text(_labels(manifest), encoding="utf-8")
    version = folder / "1"
    version.mkdir()
    shutil.copyfile(model_dir / f"{network}.onnx", version / "model.onnx")
    if backend == "python":
        shutil.copyfile(wiring.PYTHON_MODEL, version / "model.py")
    for file in _scoring_files(model_dir):
        shutil.copyfile(file, folder / file.name)
    write_golden(folder, golden_arrays(network, inputs, outputs))


def _scoring_files(model_dir: Path) -> Iterator[Path]:
    """Yield manifest, normaliser and thresholds: all but networks, weights and golden windows."""
    others = {WEIGHTS_FILE, GOLDEN_FILE} | NOT_LISTED  # (the list is that of another folder)
    for file in sorted(model_dir.iterdir()):
        if file.suffix != ".onnx" and file.name not in others:
            yield file


def _labels(manifest: Manifest) -> str:
    layout = Layout.model_validate(manifest.layout)
    return "".join(
        f"{stream.name}: {reading}\n" for stream in layout.streams for reading in stream.readings
    )


def _require_same(
    target: Path,
    serving: dict[str, str],
    batching: wiring.Batching | None,
    *,
    is_any_device: bool,
) -> None:
    try:
        kept = json.loads((target / SERVING_FILE).read_text(encoding="utf-8"))
        has, was_asked, hashes = dict(kept), kept.get(BATCHING), kept.get(FILES)
    except (OSError, ValueError, AttributeError):
        has, was_asked, hashes = {}, None, None
    has = {key: value for key, value in has.items() if key not in {BATCHING, FILES}}
    if has:  # (what was exported before there was a choice is for the CPU)
        has = {DEVICE: "cpu"} | has
    if has and is_any_device and has[DEVICE] != serving[DEVICE]:
        logging.getLogger(__name__).warning(
            "%s was exported for the %s, and runs there: FUSION_TRITON_DEVICE=%s is for what is "
            "exported from now on",
            target.name,
            has[DEVICE],
            serving[DEVICE],
        )
        serving = serving | {DEVICE: has[DEVICE]}
    if has != serving:
        raise InputError(
            f"a version never changes, but {target} holds {has or None} and this export is "
            f"{serving}; remove that folder once no server has loaded it, or train a new version"
        )
    if changed := _changed(target, serving, hashes):
        raise InputError(
            f"{changed} must be as it was exported, and is not; find out who changed it, remove "
            f"{target} and export again"
        )
    if batching is not None and was_asked not in (None, asdict(batching)):
        raise InputError(
            f"{target} is there with other batching: it has {was_asked}, asked for is "
            f"{asdict(batching)}; remove that folder once no server has loaded it, and export again"
        )


def _changed(
    target: Path, serving: dict[str, str], hashes: Mapping[str, str] | None
) -> Path | None:
    """Return a file of an exported network that is not as it was written."""
    if hashes is not None:
        now = _hashes(target)
        differs = sorted(name for name in {*now, *hashes} if now.get(name) != hashes.get(name))
        return target / differs[0] if differs else None
    # Exported before every file was hashed.
    network, code = target / "1" / "model.onnx", target / "1" / "model.py"
    if serving["backend"] == "python" and not _same_bytes(code, wiring.PYTHON_MODEL):
        return code
    return None if network.is_file() and _sha256(network) == serving["sha256"] else network


def _hashes(folder: Path) -> dict[str, str]:
    """Return what each file of ``folder`` but the list itself hashes to, by its path inside.

    What the server's Python compiles from our model.py is its own; it may write there.
    """
    return {
        file.relative_to(folder).as_posix(): _sha256(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != SERVING_FILE and file.parent.name != "__pycache__"
    }


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _same_bytes(file: Path, other: Path) -> bool:
    return file.is_file() and file.read_bytes() == other.read_bytes()
