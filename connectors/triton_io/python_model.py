"""Copied into a model repository as ``model.py``: ONNX Runtime inside Triton's Python backend.

For servers that have no ONNX Runtime backend. It runs in the server's own interpreter, which has
``triton_python_backend_utils``; nothing of the product is imported there.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

# The server runs this interpreter isolated, and PYTHONPATH is the only way to give it packages.
sys.path += [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]

import numpy as np
import onnxruntime


class TritonPythonModel:
    """The name and the methods are those that Triton asks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the network that lies beside this file."""
        import triton_python_backend_utils  # type: ignore[import-not-found] # noqa: PLC0415

        self._triton: Any = triton_python_backend_utils
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [each.name for each in self._session.get_inputs()]
        self._outputs = [each.name for each in self._session.get_outputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return an answer per request; all of them go through the network together."""
        parts = [[self._read(request, name) for name in self._inputs] for request in requests]
        together = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        answers: Any = self._session.run(
            self._outputs, dict(zip(self._inputs, together, strict=True))
        )
        ends = np.cumsum([len(arrays[0]) for arrays in parts])[:-1]
        by_request = zip(*(np.split(answer, ends) for answer in answers), strict=True)
        return [self._triton.InferenceResponse(self._write(arrays)) for arrays in by_request]

    def _read(self, request: Any, name: str) -> np.ndarray:
        # Not as_numpy(): the backend was built for numpy 1, and gives wrong arrays with numpy 2.
        return np.from_dlpack(self._triton.get_input_tensor_by_name(request, name))

    def _write(self, arrays: tuple[np.ndarray, ...]) -> list[Any]:
        return [
            self._triton.Tensor.from_dlpack(name, _capsule(array))
            for name, array in zip(self._outputs, arrays, strict=True)
        ]


def _capsule(array: np.ndarray) -> Any:
    """Return ``array`` as the backend takes it over and frees it.

    The backend marks what it has taken with a name that numpy does not know, and numpy's own
    clean-up would complain about that in the log, for every array.
    """
    capsule = np.ascontiguousarray(array).__dlpack__()
    ctypes.pythonapi.PyCapsule_SetDestructor(ctypes.py_object(capsule), None)
    return capsule
