"""What keeps an embedding from collapsing: SIGReg and VICReg, over the global batch of one tick.

Shapes: N this process's part of the batch, T ticks, D dimensions, A random directions, K knots.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fusion.model.across import ALONE, Across

NUM_DIRECTIONS = 64


def sigreg(
    embeddings_TND: Float[Tensor, "T N D"],
    *,
    generator: torch.Generator,
    num_directions: int = NUM_DIRECTIONS,
    num_knots: int = 9,
    across: Across = ALONE,
) -> Float[Tensor, ""]:
    """Return how far the embeddings are from a standard normal; about 1 when they are not.

    Epps-Pulley statistic of random projections (Balestriero & LeCun 2025, arXiv:2511.08544): for a
    unit direction a,
    ``N * integral_{-3}^{3} |mean_n exp(i t a.z_n) - exp(-t^2/2)|^2 exp(-t^2/2) dt``.
    The integrand is even, so the trapezoid rule runs over [0, 3] and counts twice. Taken per tick
    over the batch and averaged: along time a slow plant is not normal, and need not be.

    The mean over n is that of all processes together, and ``generator`` must stand alike in each:
    every process projects on the same directions.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> healthy = torch.randn(1, 256, 64, generator=generator)
        >>> 0.7 < sigreg(healthy, generator=generator).item() < 1.4
        True
    """
    directions_DA = random_directions(embeddings_TND.shape[-1], num_directions, generator)
    return sigreg_along(
        embeddings_TND, directions_DA.to(embeddings_TND), num_knots=num_knots, across=across
    )


def random_directions(
    dims: int, num_directions: int, generator: torch.Generator
) -> Float[Tensor, "D A"]:
    """Return unit vectors, on the CPU: alike in all processes and on all machines."""
    directions_DA = torch.randn(dims, num_directions, generator=generator)
    return directions_DA / directions_DA.norm(dim=0, keepdim=True)


def sigreg_along(
    embeddings_TND: Float[Tensor, "T N D"],
    directions_DA: Float[Tensor, "D A"],
    *,
    num_knots: int = 9,
    across: Across = ALONE,
) -> Float[Tensor, ""]:
    """Return :func:`sigreg` along given directions."""
    num_points = embeddings_TND.shape[1] * across.size
    knots_K = torch.linspace(0, 3, num_knots, device=embeddings_TND.device)
    normal_K = torch.exp(-(knots_K**2) / 2)
    angles_TNAK = (embeddings_TND @ directions_DA)[..., None] * knots_K
    sums_2TAK = torch.stack([angles_TNAK.cos().sum(dim=1), angles_TNAK.sin().sum(dim=1)])
    real_TAK, imaginary_TAK = across.sum(sums_2TAK) / num_points
    integrand_TAK = ((real_TAK - normal_K) ** 2 + imaginary_TAK**2) * normal_K
    return num_points * 2 * torch.trapezoid(integrand_TAK, knots_K, dim=-1).mean()


def vicreg(embeddings_TND: Float[Tensor, "T N D"], *, across: Across = ALONE) -> Float[Tensor, ""]:
    """Return the variance and covariance terms (Bardes, Ponce & LeCun 2022, equations 1 and 4)."""
    num_points, dims = embeddings_TND.shape[1] * across.size, embeddings_TND.shape[-1]
    mean_TD = across.sum(embeddings_TND.sum(dim=1)) / num_points
    centred = embeddings_TND - mean_TD[:, None]
    covariance_TDD = across.sum(centred.transpose(1, 2) @ centred) / (num_points - 1)
    variance_TD = torch.diagonal(covariance_TDD, dim1=1, dim2=2)
    variance = torch.relu(1 - torch.sqrt(variance_TD + 1e-4)).mean()
    off_diagonal = (covariance_TDD**2).sum(dim=(1, 2)) - (variance_TD**2).sum(dim=1)
    return variance + off_diagonal.mean() / dims
