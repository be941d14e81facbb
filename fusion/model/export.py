"""The model as two ONNX networks with names that a server can show, and the golden windows.

Shapes: B batch, T ticks, M streams, D and P embeddings, R readings, H horizons, S of them
inside the window, U set-points, G measured tags, Q quantiles.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusion.model.jepa import Batch, Jepa
from fusion.model.outputs import due_pairs
from fusion.model.pairs import Pairs

ENCODER, PREDICTOR = "encoder", "predictor"
OPSET = 20
Arrays = dict[str, NDArray[np.float32]]


class EncoderNetwork(nn.Module):
    """One tick in, its embeddings and what the other senses say about each stream out."""

    outputs = ("z", "p", "cross", "cross_readings")

    def __init__(self, model: Jepa) -> None:
        super().__init__()
        self.model = model
        num_streams = len(model.layout.streams)
        self.register_buffer("others", 1 - torch.eye(num_streams), persistent=False)

    def forward(self, *senses_and_presence: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return z [B, D], p [B, M, P], cross [B, M, P] and cross_readings [B, R]."""
        *senses, presence = senses_and_presence
        encoder = self.model.encoder
        tokens = encoder.tokens(dict(zip(encoder.names, senses, strict=True)))
        others = self.get_buffer("others")
        without = torch.stack(
            [encoder.fuse(tokens, presence * others[m]) for m in range(len(others))], dim=1
        )
        cross, readings = self.model.cross(without)
        return encoder.fuse(tokens, presence), encoder.stream_embeddings(tokens), cross, readings


class PredictorNetwork(nn.Module):
    """A window of embeddings in; out comes what was expected of its newest tick, and of later ones.

    Training predicts from every position. A score reads S + H of these T x H predictions: a server
    computes and sends no others.
    """

    inputs = ("z", "setpoints", "plan", "readings")
    outputs = ("z_due", "p_due", "readings_due", "z_ahead", "forecast")

    def __init__(self, model: Jepa) -> None:
        super().__init__()
        self.model = model
        config = model.config
        due = due_pairs(config.window_ticks, config.horizons_ticks)
        num_horizons = len(config.horizons_ticks)
        ahead = [(config.window_ticks - 1, column) for column in range(num_horizons)]
        self.num_due = len(due)
        self.pairs = Pairs([*due, *ahead], num_horizons)

    def forward(
        self, z: Tensor, setpoints: Tensor, plan: Tensor, readings: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return z_due [B, S, D], p_due [B, S, M, P], readings_due [B, S, R] and what lies ahead.

        That is z_ahead [B, H, D] and forecast [B, H, G, Q].
        """
        predicted = self.model.predictor.at(self.pairs, z, setpoints, plan)
        decoded, quantiles = self.model.read_at(
            self.pairs, predicted.z_BKD, z, readings, setpoints=setpoints, plan=plan
        )
        num = self.num_due
        return (
            predicted.z_BKD[:, :num],
            predicted.p_BKMP[:, :num],
            decoded[:, :num],
            predicted.z_BKD[:, num:],
            quantiles[:, num:],
        )


def example_inputs(model: Jepa, batch: Batch) -> tuple[Arrays, Arrays]:
    """Return the inputs of both networks for the context of ``batch``'s windows."""
    num_ticks = model.config.window_ticks
    encoder_inputs = {
        name: values[:, :num_ticks].flatten(0, 1) for name, values in batch.inputs.items()
    }
    encoder_inputs["presence"] = batch.presence_BLM[:, :num_ticks].flatten(0, 1)
    with torch.no_grad():
        tokens = model.encoder.tokens(encoder_inputs)
        z = model.encoder.fuse(tokens, encoder_inputs["presence"])
    predictor_inputs = {
        "z": z.view(len(batch.presence_BLM), num_ticks, -1),
        "setpoints": batch.setpoints_BTU,
        "plan": batch.plan_BTHU,
        "readings": batch.readings_BLR[:, :num_ticks].nan_to_num(),
    }
    return _arrays(encoder_inputs), _arrays(predictor_inputs)


def run_torch(network: nn.Module, inputs: Arrays) -> Arrays:
    """Return the named outputs of ``network``; the reference that servers must match."""
    with torch.no_grad():
        values = network(*(torch.from_numpy(array) for array in inputs.values()))
    return {
        name: value.numpy()
        for name, value in zip(network.outputs, values, strict=True)  # type: ignore[arg-type]
    }


def export_onnx(network: nn.Module, inputs: Arrays, path: Path) -> None:
    """Write ``network`` as ONNX; the first dimension of every input is free."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    args = tuple(torch.from_numpy(array) for array in inputs.values())
    # A varargs signature takes its shapes as one tuple, named arguments one by one.
    dims: tuple[object, ...] = tuple({0: batch} for _ in args)
    shapes = (dims,) if isinstance(network, EncoderNetwork) else dims
    for name in ("torch.onnx", "torch.export", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # The exporter warns about its own internals; parity is checked on golden windows instead.
        warnings.simplefilter("ignore")
        # Exported on its own first: given the module, torch.onnx.export falls back to fixed shapes
        # without a word when a dimension cannot be kept free.
        graph = torch.export.export(network.eval(), args, dynamic_shapes=shapes, strict=False)
        program = torch.onnx.export(
            graph,
            args=(),
            dynamo=True,
            input_names=list(inputs),
            output_names=list(network.outputs),  # type: ignore[arg-type]
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None, "the dynamo exporter returns a program"
    program.save(path, external_data=False)


def _arrays(tensors: dict[str, Tensor]) -> Arrays:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}
