"""Networks with weights of 8 bits, by ONNX Runtime's own quantiser."""

from __future__ import annotations

import logging
from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_dynamic

from fusion.errors import InputError

OPERATORS = ["MatMul", "Gemm"]
"""Convolutions stay: quantised dynamically they are slower on a CPU, and there are few."""


def quantise(network: Path, target: Path) -> None:
    """Write ``network`` to ``target`` with weights of 8 bits, one scale per output channel.

    Activations are scaled as they come (dynamic quantisation): nothing has to be calibrated.

    Raises:
        InputError: The quantiser cannot read the network.
    """
    # It advises pre-processing on the root logger, which the exporter has done.
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        quantize_dynamic(
            network,
            target,
            op_types_to_quantize=OPERATORS,
            per_channel=True,
            # Seven of the eight bits: on x86-64 without VNNI a sum of two products of eight bits
            # does not fit where ONNX Runtime puts it, and is cut off without a word
            # (onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
    except Exception as broken:  # The quantiser's errors share no base class.
        raise InputError(
            f"{network} must be a network that ONNX Runtime can quantise, but: {broken}; serve it "
            "in fp32"
        ) from broken
    finally:
        logging.root.setLevel(level)
