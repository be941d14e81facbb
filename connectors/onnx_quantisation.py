"""Networks with weights of 8 bits: a quarter of the bytes, computed as they were.

Only weights are quantised. A scale for activations would be taken over all rows of a call (ONNX
Runtime's dynamic quantisation does that), and one plant's fault would change what is said of the
plants whose windows share its batch.

Shapes: K inputs and N outputs of a matrix product.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from fusion.errors import InputError

OPERATORS = ("MatMul", "Gemm")
"""Convolutions stay: there are few, and small ones."""
LARGEST = 127


def quantise(network: Path, target: Path) -> None:
    """Write ``network`` to ``target`` with weights of 8 bits, one scale per output channel.

    Each answer of ``target`` hangs on its own row alone, as those of ``network`` do.

    Raises:
        InputError: It is no ONNX network.
    """
    try:
        model = onnx.load(network)
        _quantise_weights(model.graph)
        onnx.checker.check_model(model)
    except Exception as broken:  # The package's errors share no base class.
        raise InputError(
            f"{network} must be an ONNX network, but: {broken}; export the version anew"
        ) from broken
    onnx.save(model, target)


def _quantise_weights(graph: onnx.GraphProto) -> None:
    """Replace the weights of matrix products by bytes, and by what makes weights of them again."""
    kept = {each.name: each for each in graph.initializer}
    channels: dict[str, int] = {}
    for node in graph.node:
        name = node.input[1] if node.op_type in OPERATORS else ""
        if name in kept and kept[name].data_type == onnx.TensorProto.FLOAT:
            is_turned = any(each.name == "transB" and each.i for each in node.attribute)
            if len(kept[name].dims) == 2:
                channels[name] = 0 if is_turned else 1
    dequantise: list[onnx.NodeProto] = []
    for name, axis in channels.items():
        bytes_KN, scale_N = _as_bytes(numpy_helper.to_array(kept[name]), axis)
        graph.initializer.remove(kept[name])
        parts = (f"{name}.int8", f"{name}.scale")
        graph.initializer.extend(
            numpy_helper.from_array(array, part)
            for array, part in zip((bytes_KN, scale_N), parts, strict=True)
        )
        dequantise.append(helper.make_node("DequantizeLinear", parts, [name], axis=axis))
    nodes = [*dequantise, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _as_bytes(
    weights_KN: NDArray[np.float32], axis: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return weights as bytes, and by what each output channel's are multiplied."""
    most = np.abs(weights_KN).max(axis=1 - axis, keepdims=True)
    scale = np.where(most > 0, most / LARGEST, 1.0).astype(np.float32)
    return np.rint(weights_KN / scale).astype(np.int8), scale.reshape(-1)
