"""Gauges say what they claim, and SIGReg is the integral in its paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from fusion.features import layout_of
from fusion.model import Batch, Jepa, ModelConfig
from fusion.model.gauges import measure, probe_r2, rankme
from fusion.model.regularisers import sigreg
from fusion.plant import parse_plant

LAYOUT = layout_of(
    parse_plant(
        """
prefix: p
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
streams:
  - {name: process, modality: telemetry, rate_hz: 4, tags: [
      {name: level, unit: m, range: [0, 1]}, {name: heat, unit: K, range: [0, 1]}]}
  - {name: ear, modality: audio, sample_rate_hz: 4000}
""",
        origin="p.yaml",
    )
)
CONFIG = ModelConfig(width=32, embedding=16, window_ticks=8, horizons_ticks=(1, 4, 16))


def naive_sigreg(points: list[float]) -> float:
    """Return the Epps-Pulley integral of one-dimensional points, by adaptive quadrature."""

    def integrand(t: float) -> float:
        real = sum(math.cos(t * x) for x in points) / len(points) - math.exp(-t * t / 2)
        imaginary = sum(math.sin(t * x) for x in points) / len(points)
        return (real**2 + imaginary**2) * math.exp(-t * t / 2)

    return len(points) * quad(integrand, -3, 3, epsabs=1e-10)[0]


@pytest.mark.parametrize(
    "points", [[0.0, 0.0, 0.0], [-1.0, 0.3, 1.2, 0.1], [2.0, 2.5], [float(x) for x in range(-5, 6)]]
)
def test_sigreg_is_the_integral(points: list[float]) -> None:
    # In one dimension every unit direction is 1 or -1, and the statistic is even.
    got = sigreg(
        torch.tensor(points)[None, :, None],
        generator=torch.Generator().manual_seed(0),
        num_knots=801,
    )
    assert got.item() == pytest.approx(naive_sigreg(points), rel=1e-3)


def test_nine_knots_are_enough_for_training() -> None:
    points = torch.randn(4, 64, 16, generator=torch.Generator().manual_seed(1))
    few, many = (
        sigreg(points, generator=torch.Generator().manual_seed(2), num_knots=knots).item()
        for knots in (9, 401)
    )
    assert few == pytest.approx(many, rel=0.02)


def test_eight_of_64_dimensions_read_about_eight() -> None:
    values = []
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        flat = torch.randn(1, 256, 8, generator=generator) @ torch.randn(8, 64, generator=generator)
        flat = flat / flat.std(dim=1, keepdim=True)
        values.append(sigreg(flat, generator=generator, num_directions=256).item())
    assert float(np.mean(values)) == pytest.approx(8, abs=3)


def linear(noise: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z_BTD = torch.randn(20, 24, 16, generator=generator)
    readings = z_BTD @ torch.randn(16, 5, generator=generator)
    return z_BTD, readings + noise * readings.std() * torch.randn(
        readings.shape, generator=generator
    )


def test_a_probe_reads_what_is_there_and_nothing_else() -> None:
    assert probe_r2(*linear(noise=0.0)) > 0.99
    assert probe_r2(*linear(noise=1.0)) == pytest.approx(0.5, abs=0.12)
    z_BTD, readings = linear(noise=0.0)
    assert probe_r2(z_BTD, torch.randn(readings.shape)) < 0.1


def test_rankme_ignores_scale_and_place() -> None:
    points = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    assert rankme(7 * points + 3) == pytest.approx(rankme(points), rel=1e-4)


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        inputs={
            s.name: torch.randn(8, 9, *s.input_shape, generator=generator) for s in LAYOUT.streams
        },
        presence_BLM=torch.ones(8, 9, 2),
        setpoints_BTU=torch.zeros(8, 8, 1),
        plan_BTHU=torch.zeros(8, 8, 3, 1),
        readings_BLR=torch.randn(8, 9, LAYOUT.num_readings, generator=generator),
        has_far_BE=torch.ones(8, 1),
    )


@pytest.mark.parametrize("is_training", [True, False])
def test_measuring_changes_nothing(is_training: bool) -> None:
    torch.manual_seed(0)
    model = Jepa(LAYOUT, CONFIG).train(is_training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    first, again = measure(model, batch()), measure(model, batch())
    assert first == again
    assert model.training is is_training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_prediction_that_says_nothing_changes_has_no_skill() -> None:
    torch.manual_seed(0)
    model = Jepa(LAYOUT, CONFIG)
    with torch.no_grad():
        model.predictor.to_z.weight.zero_()
        model.predictor.to_z.bias.zero_()
    gauges = measure(model, batch())
    assert gauges["skill.h1"] == pytest.approx(0, abs=1e-5)
    assert gauges["skill.h4"] == pytest.approx(0, abs=1e-5)


def test_the_probe_of_a_stream_is_of_its_readings_alone() -> None:
    torch.manual_seed(0)
    model, data = Jepa(LAYOUT, CONFIG), batch()
    gauges = measure(model, data)
    inputs = {name: x.flatten(0, 1) for name, x in data.inputs.items()}
    with torch.no_grad():
        z = model.encoder(inputs, data.presence_BLM.flatten(0, 1)).z_BD.view(8, 9, -1)[:, :8]
    for stream in LAYOUT.streams:
        own = data.readings_BLR[:, :8][..., LAYOUT.columns(stream.name)]
        assert gauges[f"probe_r2.{stream.name}"] == pytest.approx(probe_r2(z, own), abs=1e-4)
