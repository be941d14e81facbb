"""One tick to its embeddings: a stem per stream, a transformer that fuses them.

Shapes: B ticks, M streams, W width, D state embedding, P stream embedding, R readings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusion.features import Layout, StreamLayout
from fusion.model.config import ModelConfig
from fusion.model.layers import Block, mlp, projector


class _Layer(NamedTuple):
    """One convolution of a stem."""

    outputs: int
    kernel: int
    stride: int
    padding: int


AUDIO_LAYERS = tuple(_Layer(outputs, 3, 2, 1) for outputs in (16, 32, 64, 64))
VIDEO_LAYERS = (_Layer(32, 4, 4, 0), _Layer(64, 2, 2, 0), _Layer(64, 2, 2, 0))
"""Patches that are merged (Liu et al. 2021, Swin, 3.1), not 3 x 3 convolutions at full size: five
times as fast on a CPU, where pictures took most of a training step."""


class Encoded(NamedTuple):
    """The embeddings of B ticks."""

    z_BD: Float[Tensor, "B D"]
    p_BMP: Float[Tensor, "B M P"]
    """Each stream's own embedding; what its predictions are compared with."""


class Encoder(nn.Module):
    """Stems, fusion tokens and projectors. Set-points never enter."""

    def __init__(self, layout: Layout, config: ModelConfig) -> None:
        super().__init__()
        self.names = [stream.name for stream in layout.streams]
        width, num_streams = config.width, len(layout.streams)
        self.stems = nn.ModuleDict(
            {stream.name: make_stem(stream, width) for stream in layout.streams}
        )
        self.absent = nn.Parameter(torch.randn(num_streams, width) * 0.02)
        self.which = nn.Parameter(torch.randn(num_streams, width) * 0.02)
        self.fusion_tokens = nn.Parameter(torch.randn(config.num_fusion_tokens, width) * 0.02)
        self.blocks = nn.ModuleList(
            [Block(width, config.num_heads) for _ in range(config.fusion_layers)]
        )
        self.norm = nn.LayerNorm(width)
        fused = width * config.num_fusion_tokens
        self.to_z = projector(fused, 2 * width, config.embedding)
        self.to_p = nn.ModuleDict(
            {name: projector(width, width, config.stream_embedding) for name in self.names}
        )

    def tokens(self, inputs: Mapping[str, Tensor]) -> Float[Tensor, "B M W"]:
        """Return the token of each stream, before any is replaced as absent."""
        return torch.stack([self.stems[name](inputs[name]) for name in self.names], dim=1)

    def stream_embeddings(self, tokens_BMW: Float[Tensor, "B M W"]) -> Float[Tensor, "B M P"]:
        """Return ``p`` of each stream, made of its own token alone."""
        return torch.stack(
            [self.to_p[name](tokens_BMW[:, m]) for m, name in enumerate(self.names)], dim=1
        )

    def fuse(
        self, tokens_BMW: Float[Tensor, "B M W"], presence_BM: Float[Tensor, "B M"]
    ) -> Float[Tensor, "B D"]:
        """Return the state embedding, with a learned token where a stream is absent."""
        is_there = presence_BM[:, :, None]
        tokens = is_there * tokens_BMW + (1 - is_there) * self.absent + self.which
        fusion = self.fusion_tokens.expand(tokens.shape[0], -1, -1)
        mixed = torch.cat([fusion, tokens], dim=1)
        for block in self.blocks:
            mixed = block(mixed)
        fused = self.norm(mixed[:, : fusion.shape[1]]).flatten(1)
        return self.to_z(fused)

    def forward(self, inputs: Mapping[str, Tensor], presence_BM: Tensor) -> Encoded:
        """Return the embeddings of B ticks."""
        tokens_BMW = self.tokens(inputs)
        return Encoded(self.fuse(tokens_BMW, presence_BM), self.stream_embeddings(tokens_BMW))


class CrossModal(nn.Module):
    """What the other senses say about each stream, at the same tick."""

    def __init__(self, layout: Layout, config: ModelConfig) -> None:
        super().__init__()
        self.slices = [layout.columns(stream.name) for stream in layout.streams]
        self.to_p = nn.ModuleList(
            [mlp(config.embedding, config.width, config.stream_embedding) for _ in layout.streams]
        )
        self.to_readings = nn.ModuleList(
            [
                mlp(config.embedding, 2 * config.width, len(stream.readings))
                for stream in layout.streams
            ]
        )

    def forward(self, z_without_BMD: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``p`` [B, M, P] and readings [B, R] of each stream, from the state without it.

        The readings do not train the encoder: they only read what it knows.
        """
        cross_BMP = torch.stack(
            [head(z_without_BMD[:, m]) for m, head in enumerate(self.to_p)], dim=1
        )
        known_BMD = z_without_BMD.detach()
        readings_BR = torch.cat(
            [head(known_BMD[:, m]) for m, head in enumerate(self.to_readings)], dim=1
        )
        return cross_BMP, readings_BR


class NewestAndChanges(nn.Module):
    """A clip as the channels of one picture: its newest frame, and what changed between frames.

    Motion is a difference of neighbouring frames; given as such, one layer can read it.
    """

    def forward(self, clip_BF3HW: Float[Tensor, "B F 3 H W"]) -> Float[Tensor, "B C H W"]:
        """Return 3 F channels."""
        changes = clip_BF3HW[:, 1:] - clip_BF3HW[:, :-1]
        return torch.cat([clip_BF3HW[:, -1], changes.flatten(1, 2)], dim=1)


def make_stem(stream: StreamLayout, width: int) -> nn.Module:
    """Return the network that turns one stream's tick into one token of ``width``."""
    if stream.modality == "telemetry":
        size = 1
        for length in stream.input_shape:
            size *= length
        return nn.Sequential(nn.Flatten(), mlp(size, 2 * width, width))
    rows, columns = stream.input_shape[-2:]
    if stream.modality == "video":
        num_channels = math.prod(stream.input_shape[:-2])
        stem = _conv_stem(num_channels, rows, columns, VIDEO_LAYERS, width)
        is_clip = len(stream.input_shape) == 4
        return nn.Sequential(NewestAndChanges(), stem) if is_clip else stem
    as_picture = nn.Unflatten(1, (1, rows))
    return nn.Sequential(as_picture, _conv_stem(1, rows, columns, AUDIO_LAYERS, width))


def _conv_stem(
    channels: int, rows: int, columns: int, layers: tuple[_Layer, ...], width: int
) -> nn.Sequential:
    stem: list[nn.Module] = []
    for outputs, kernel, stride, padding in layers:
        stem += [nn.Conv2d(channels, outputs, kernel, stride, padding), nn.GELU()]
        channels = outputs
        rows, columns = ((n + 2 * padding - kernel) // stride + 1 for n in (rows, columns))
    return nn.Sequential(*stem, nn.Flatten(), nn.Linear(channels * rows * columns, width))
