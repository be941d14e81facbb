"""The regularisers tell a healthy embedding from a flat one and from a collapsed one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fusion.model.gauges import rankme
from fusion.model.regularisers import sigreg, vicreg

N, D = 256, 64


def normal(rank: int = D, seed: int = 0) -> Tensor:
    """Return unit-variance embeddings [1, N, D] that span ``rank`` directions."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(1, N, rank, generator=generator)
    axes, _ = torch.linalg.qr(torch.randn(D, D, generator=generator))
    return points @ axes[:rank] * (D / rank) ** 0.5


def sigreg_of(embeddings_TND: Tensor, seed: int = 1) -> float:
    return sigreg(embeddings_TND, generator=torch.Generator().manual_seed(seed)).item()


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_embedding_has_sigreg_about_one(seed: int) -> None:
    assert sigreg_of(normal(seed=seed), seed) == pytest.approx(1.05, abs=0.25)


@pytest.mark.parametrize("num_points", [32, 128, 1024])
def test_healthy_sigreg_does_not_depend_on_the_number_of_points(num_points: int) -> None:
    healthy = torch.randn(1, num_points, D, generator=torch.Generator().manual_seed(3))
    assert sigreg_of(healthy) == pytest.approx(1.05, abs=0.35)


def test_few_directions_have_a_clearly_larger_sigreg() -> None:
    assert sigreg_of(normal(rank=8)) > 2 * sigreg_of(normal())


def test_embeddings_that_are_not_finite_have_no_rank() -> None:
    assert rankme(torch.full((9, D), torch.nan)) == 0.0


def test_fewer_directions_have_a_larger_sigreg() -> None:
    values = [sigreg_of(normal(rank=rank)) for rank in (64, 16, 4, 1)]
    assert values == sorted(values)


def test_a_collapsed_embedding_has_sigreg_in_proportion_to_its_points() -> None:
    assert sigreg_of(torch.zeros(1, N, D)) == pytest.approx(0.4 * N, rel=0.15)
    assert sigreg_of(torch.zeros(1, 2 * N, D)) == pytest.approx(0.8 * N, rel=0.15)


@pytest.mark.parametrize("spoil", [lambda x: x + 1, lambda x: 3 * x, lambda x: 0.3 * x])
def test_another_mean_or_scale_has_a_larger_sigreg(spoil: Callable[[Tensor], Tensor]) -> None:
    assert sigreg_of(spoil(normal())) > 2 * sigreg_of(normal())


def test_sigreg_is_the_mean_over_ticks() -> None:
    both = torch.cat([normal(seed=1), normal(seed=2)])
    halves = [sigreg_of(both[i : i + 1]) for i in range(2)]
    assert sigreg_of(both) == pytest.approx(sum(halves) / 2, rel=1e-5)


@pytest.mark.parametrize("name", ["sigreg", "vicreg"])
def test_following_the_gradient_spreads_a_narrow_embedding(name: str) -> None:
    points = (0.1 * normal()[:, :64]).requires_grad_()
    optimiser = torch.optim.Adam([points], lr=0.1)
    generator = torch.Generator().manual_seed(4)
    for _ in range(25):
        loss = sigreg(points, generator=generator) if name == "sigreg" else vicreg(points)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert points.std(dim=1).mean().item() > 0.7


def test_vicreg_tells_flat_and_collapsed_from_healthy() -> None:
    healthy = vicreg(normal()).item()
    assert vicreg(normal(rank=8)).item() > 2 * healthy
    assert vicreg(torch.zeros(1, N, D)).item() == pytest.approx(0.99, abs=0.01)


@pytest.mark.parametrize("rank", [1, 8, 64])
def test_rankme_is_about_the_number_of_directions(rank: int) -> None:
    assert rankme(normal(rank=rank)[0]) == pytest.approx(rank, rel=0.1)
