"""Inference in this process, by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from fusion.errors import InputError, ModelBrokenError

NETWORKS = ("encoder", "predictor")


class OnnxInference:
    """Implements :class:`fusion.ports.Inference` for the model version in a folder."""

    def __init__(self, model_dir: Path, *, num_threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        # Without it the threads spin between two ticks and take the cores from decoding.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._sessions = {
                name: onnxruntime.InferenceSession(
                    str(model_dir / f"{name}.onnx"), options, providers=["CPUExecutionProvider"]
                )
                for name in NETWORKS
            }
        except Exception as broken:  # ONNX Runtime's errors share no base class of their own.
            raise InputError(
                f"{model_dir} must hold {' and '.join(f'{n}.onnx' for n in NETWORKS)} that ONNX "
                f"Runtime can load, but: {broken}; export the model again"
            ) from broken

    def infer(
        self, network: str, inputs: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.float32]]:
        """Return the named outputs of ``network``.

        Raises:
            ModelBrokenError: It cannot answer these inputs.
        """
        session = self._sessions[network]
        names = [output.name for output in session.get_outputs()]
        try:
            values: list[Any] = list(session.run(names, dict(inputs)))
        except Exception as broken:  # ONNX Runtime's errors share no base class of their own.
            raise ModelBrokenError(
                f"the network {network!r} must answer the inputs that it was exported with, but: "
                f"{broken}; serve another version"
            ) from broken
        return dict(zip(names, values, strict=True))

    def close(self) -> None:
        """Free the sessions."""
        self._sessions.clear()
