"""Networks with weights of 8 bits; what they compute with stays 32 bits wide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from fusion.errors import InputError

LARGEST = 127


def quantise(network: Path, target: Path) -> None:
    """Write ``network`` to ``target`` with weights of 8 bits, one scale per output channel.

    Only the weights of matrix products: activations would be scaled over a whole batch, and the
    answer for one plant would hang on which others share it.

    Raises:
        InputError: The network cannot be read, or has no matrix product to quantise.
    """
    try:
        model = onnx.load(network)
        num_found = _quantise_weights(model.graph)
        onnx.checker.check_model(model)
    except Exception as broken:  # (onnx raises errors of protobuf and its own)
        raise InputError(
            f"{network} must be a network that ONNX can read, but: {broken}; serve it in fp32"
        ) from broken
    if not num_found:
        raise InputError(f"{network} must hold a matrix product, and has none; serve it in fp32")
    onnx.save(model, target)


def _quantise_weights(graph: onnx.GraphProto) -> int:
    """Put bytes and their scales in the place of the weights; return of how many."""
    arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    added: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        if node.op_type not in {"MatMul", "Gemm"}:
            continue
        weight = node.input[1]
        array = arrays.get(weight)
        if array is None or array.ndim != 2 or array.dtype != np.float32:
            continue
        is_transposed = any(each.name == "transB" and each.i for each in node.attribute)
        axis = 0 if is_transposed else 1
        whole = f"{weight}_whole_{axis}"
        if whole not in added:
            added[whole] = _whole(graph, weight, array, whole, axis)
        node.input[1] = whole
    nodes = [*added.values(), *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [each for each in graph.initializer if each.name in used or each.name not in arrays]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return len(added)


def _whole(
    graph: onnx.GraphProto, weight: str, array: NDArray[np.float32], whole: str, axis: int
) -> onnx.NodeProto:
    """Add the bytes and scales of ``weight`` to ``graph``; return the node that multiplies them."""
    scales = np.abs(array).max(axis=1 - axis, keepdims=True) / LARGEST
    scales = np.where(scales > 0, scales, 1).astype(np.float32)
    levels = np.rint(array / scales).astype(np.int8)
    names = [f"{whole}_levels", f"{whole}_scales"]
    for name, values in zip(names, (levels, scales.ravel()), strict=True):
        graph.initializer.append(numpy_helper.from_array(values, name))
    return helper.make_node("DequantizeLinear", names, [whole], name=whole, axis=axis)
