"""The building blocks: a pre-norm transformer block, and one conditioned by AdaLN-zero.

Shapes: B batch, L tokens, W width.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head self-attention, causal if asked."""

    def __init__(self, width: int, num_heads: int, *, is_causal: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.is_causal = is_causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens_BLW: Float[Tensor, "B L W"]) -> Float[Tensor, "B L W"]:
        """Return what each token gathers from the others."""
        batch, length, width = tokens_BLW.shape
        qkv = self.qkv(tokens_BLW).view(batch, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        gathered = functional.scaled_dot_product_attention(
            query, key, value, is_causal=self.is_causal
        )
        return self.out(gathered.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, num_heads: int, *, is_causal: bool = False) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, num_heads, is_causal=is_causal)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens_BLW: Float[Tensor, "B L W"]) -> Float[Tensor, "B L W"]:
        """Return the tokens after attention and MLP."""
        tokens_BLW = tokens_BLW + self.attention(self.attention_norm(tokens_BLW))
        return tokens_BLW + self.mlp(self.mlp_norm(tokens_BLW))


class ConditionedMlp(nn.Module):
    """MLP block modulated by a condition (AdaLN-zero: Peebles & Xie 2023, section 3.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.modulation = nn.Sequential(nn.GELU(), nn.Linear(width, 3 * width))
        final = self.modulation[-1]
        assert isinstance(final, nn.Linear)
        nn.init.zeros_(final.weight)
        nn.init.zeros_(final.bias)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """Return ``tokens`` [..., W], changed as ``condition`` [..., W] asks."""
        shift, scale, gate = self.modulation(condition).chunk(3, dim=-1)
        return tokens + gate * self.mlp(self.norm(tokens) * (1 + scale) + shift)


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return Linear, GELU, Linear."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


def projector(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return Linear, LayerNorm, GELU, Linear.

    Not BatchNorm: contexts that lack a stream would shift its statistics.
    """
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, outputs)
    )


def over_last(module: nn.Module, values: Tensor) -> Tensor:
    """Return ``module`` applied to the last dimension, whatever lies before it."""
    flat = module(values.reshape(-1, values.shape[-1]))
    return flat.reshape(*values.shape[:-1], flat.shape[-1])
