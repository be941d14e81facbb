"""``config.pbtxt`` of one network: everything static, so that the server guesses nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError

Backend = Literal["onnxruntime", "python"]
Device = Literal["cpu", "gpu"]
PYTHON_MODEL = Path(__file__).with_name("python_model.py")
MAX_BATCH = 32
QUEUE_PATIENCE_S = 1.0
_TYPES = {"float32": "TYPE_FP32", "uint8": "TYPE_UINT8", "int64": "TYPE_INT64", "bool": "TYPE_BOOL"}

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Batching:
    """How requests wait for one another. ``max_wait_us`` 0: only while the network is busy."""

    is_on: bool = True
    max_wait_us: int = 0
    max_queue: int | None = None
    """Requests that may wait; more are refused, and so is what waits for ``patience_s``.

    None: no bound in the server, since the server is slow at keeping one. With a bound it wakes its
    batcher only for a request that finds an idle instance; another one may sleep for half a second
    (triton-inference-server/core, ``rate_limiter.cc``; docs/experiments.md). What waits is bounded
    anyhow: a client asks one question of a network at a time, and one whose deadline passes leaves
    the queue.
    """
    patience_s: float = QUEUE_PATIENCE_S
    instances: int = 1
    """Of each network; on GPUs, of each network on each GPU."""


def model_config(
    name: str,
    backend: Backend,
    inputs: Arrays,
    outputs: Arrays,
    *,
    label_files: Mapping[str, str],
    batching: Batching | None = None,
    device: Device = "cpu",
) -> str:
    """Return the configuration of a network that takes and gives arrays like these.

    The first dimension of every array is the batch. ``label_files`` names the elements of outputs.
    What waits longer than the queue allows is refused: the client holds it back and asks again.

    Raises:
        InputError: The backend has no such device.
    """
    if device == "gpu" and backend == "python":
        raise InputError(
            "networks on a GPU need backend onnxruntime (NVIDIA's container), got python, whose "
            "model.py runs them on the CPU; set FUSION_TRITON_BACKEND=onnxruntime, or "
            "FUSION_TRITON_DEVICE=cpu"
        )
    batching = batching or Batching()
    parts = [
        f"name: {json.dumps(name)}",
        f"backend: {json.dumps(backend)}",
        f"max_batch_size: {MAX_BATCH}",
        *(f"input [ {{ {_tensor(key, array)} }} ]" for key, array in inputs.items()),
        *(
            f"output [ {{ {_tensor(key, array)}{_labels(label_files.get(key))} }} ]"
            for key, array in outputs.items()
        ),
        f"instance_group [ {{ count: {batching.instances} kind: KIND_{device.upper()} }} ]",
        _batching(batching) if batching.is_on else "",
        _warmup(inputs),
        _threads() if backend == "onnxruntime" else "",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _tensor(name: str, array: NDArray[np.generic]) -> str:
    return f"name: {json.dumps(name)} data_type: {_type(array)} dims: {_dims(array)}"


def _labels(file: str | None) -> str:
    return "" if file is None else f" label_filename: {json.dumps(file)}"


def _type(array: NDArray[np.generic]) -> str:
    return _TYPES[array.dtype.name]


def _dims(array: NDArray[np.generic]) -> str:
    return json.dumps([int(size) for size in array.shape[1:]])


def _batching(batching: Batching) -> str:
    # No preferred sizes: they make a batch wait for a number that may never come.
    lines = [f"max_queue_delay_microseconds: {batching.max_wait_us}"]
    if batching.max_queue is not None:
        lines += [
            "default_queue_policy {",
            "  timeout_action: REJECT",
            f"  default_timeout_microseconds: {round(batching.patience_s * 1e6)}",
            "  allow_timeout_override: true",
            f"  max_queue_size: {batching.max_queue}",
            "}",
        ]
    return "\n".join(["dynamic_batching {", *(f"  {line}" for line in lines), "}"])


def _warmup(inputs: Arrays) -> str:
    """Return one window of zeros: what a first request would wait for is done before."""
    values = "\n".join(
        f"  inputs {{ key: {json.dumps(key)} value: {{ data_type: {_type(array)} "
        f"dims: {_dims(array)} zero_data: true }} }}"
        for key, array in inputs.items()
    )
    return f'model_warmup [ {{\n  name: "zeros"\n  batch_size: 1\n{values}\n}} ]'


def _threads() -> str:
    return "\n".join(
        f'parameters {{ key: "{key}" value: {{ string_value: "1" }} }}'
        for key in ("intra_op_thread_count", "inter_op_thread_count")
    )
