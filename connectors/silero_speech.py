"""Silero's voice activity detector (silero-vad), run by ONNX Runtime in this process.

The package is an extra, and only its file of weights is used: importing it would bring PyTorch into
every process of a microphone.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from scipy import signal

from fusion.errors import InputError
from fusion.plant.devices import SPEECH_RATES_HZ

MODEL_RATE_HZ = 16_000
MODEL_SAMPLES = 512
"""What version 5 and later of the model take at once: 32 ms."""
_CONTEXT_SAMPLES = 64
"""Of the frame before, in front of each one."""


class SileroDetector:
    """Implements :class:`fusion.ports.SpeechDetector`.

    Raises:
        InputError: The extra is not installed, or the microphone's rate is none of
            ``SPEECH_RATES_HZ``.
    """

    def __init__(self, *, sample_rate_hz: int) -> None:
        if sample_rate_hz not in SPEECH_RATES_HZ:
            raise InputError(
                f"speech_filter must have a stream of {SPEECH_RATES_HZ} Hz, got {sample_rate_hz}; "
                "change sample_rate_hz, or delete speech_filter"
            )
        self._factor = sample_rate_hz // MODEL_RATE_HZ
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._model = onnxruntime.InferenceSession(
            _model_file(), options, providers=["CPUExecutionProvider"]
        )
        self.forget()

    @property
    def frame_samples(self) -> int:
        """32 ms of the microphone's samples."""
        return MODEL_SAMPLES * self._factor

    def probability(self, frame_N: NDArray[np.int16]) -> float:
        """Return how likely there is speech in ``frame_N``, 0 to 1."""
        sound_N = frame_N.astype(np.float32) / 32_768
        if self._factor > 1:
            sound_N = signal.resample_poly(sound_N, 1, self._factor).astype(np.float32)
        given = {
            "input": np.concatenate([self._context_N, sound_N])[None],
            "state": self._state,
            "sr": np.array(MODEL_RATE_HZ, np.int64),
        }
        probability_11, self._state = self._model.run(None, given)
        self._context_N = sound_N[-_CONTEXT_SAMPLES:]
        return float(np.asarray(probability_11)[0, 0])

    def forget(self) -> None:
        """Begin anew."""
        self._context_N = np.zeros(_CONTEXT_SAMPLES, np.float32)
        self._state = np.zeros((2, 1, 128), np.float32)


def _model_file() -> Path:
    found = importlib.util.find_spec("silero_vad")
    folders = [] if found is None else found.submodule_search_locations or []
    for folder in folders:
        file = Path(folder) / "data" / "silero_vad.onnx"
        if file.is_file():
            return file
    raise InputError(
        "speech_filter must have the package silero-vad, and it is not installed; "
        "pip install 'industrial-fusion[speech]', or delete speech_filter"
    )
