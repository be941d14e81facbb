"""What the model may see, what it must learn from, and what its targets are."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion.alignment import Observation
from fusion.features import extract, fit_normaliser, layout_of
from fusion.model import Batch, Jepa, ModelConfig
from fusion.model.export import PredictorNetwork
from fusion.model.plan import PlanCode
from fusion.plant import Plant, parse_plant

PLANT: Plant = parse_plant(
    """
prefix: trio
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - name: process
    modality: telemetry
    rate_hz: 4
    tags:
      - {name: level, unit: m, range: [0, 1]}
      - {name: goal, unit: m, range: [0, 1], setpoint: true}
      - {name: heat, unit: K, range: [0, 1]}
  - {name: ear, modality: audio, sample_rate_hz: 4000}
  - {name: eye, modality: video, rate_hz: 2, width_px: 16, height_px: 16}
""",
    origin="trio.yaml",
)
LAYOUT = layout_of(PLANT)
NAMES = [stream.name for stream in LAYOUT.streams]
NUM_WINDOWS = 4
Target = Literal["live", "stopgrad", "ema"]
Regulariser = Literal["sigreg", "vicreg"]


def config(target: Target = "live", regulariser: Regulariser = "sigreg") -> ModelConfig:
    return ModelConfig(
        width=32,
        embedding=16,
        stream_embedding=8,
        fusion_layers=1,
        predictor_layers=1,
        window_ticks=8,
        horizons_ticks=(1, 4, 16),
        target=target,
        regulariser=regulariser,
    )


def model(target: Target = "live", regulariser: Regulariser = "sigreg") -> Jepa:
    torch.manual_seed(0)
    return Jepa(LAYOUT, config(target, regulariser))


def inputs(count: int, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        stream.name: torch.randn(count, *stream.input_shape, generator=generator)
        for stream in LAYOUT.streams
    }


def batch(seed: int = 1) -> Batch:
    num_ticks, length = 8, 9
    generator = torch.Generator().manual_seed(seed)
    flat = inputs(NUM_WINDOWS * length, seed)
    return Batch(
        inputs={name: x.view(NUM_WINDOWS, length, *x.shape[1:]) for name, x in flat.items()},
        presence_BLM=torch.ones(NUM_WINDOWS, length, len(NAMES)),
        setpoints_BTU=torch.rand(NUM_WINDOWS, num_ticks, 1, generator=generator),
        plan_BTHU=torch.rand(NUM_WINDOWS, num_ticks, 3, 1, generator=generator),
        readings_BLR=torch.randn(NUM_WINDOWS, length, LAYOUT.num_readings, generator=generator),
        has_far_BE=torch.ones(NUM_WINDOWS, 1),
    )


def losses(net: Jepa, data: Batch) -> dict[str, Tensor]:
    return net.loss(data, torch.Generator().manual_seed(5))


def changed(data: Batch, **changes: Tensor | dict[str, Tensor]) -> Batch:
    fields = {name: getattr(data, name) for name in Batch.__dataclass_fields__}
    return Batch(**{**fields, **changes})


@pytest.mark.parametrize("absent", range(len(NAMES)))
def test_what_an_absent_stream_would_say_does_not_matter(absent: int) -> None:
    net = model().eval()
    presence = torch.ones(5, len(NAMES))
    presence[:, absent] = 0
    said = inputs(5)
    nonsense = {**said, NAMES[absent]: 100 * torch.ones_like(said[NAMES[absent]])}
    assert torch.equal(net.encoder(said, presence).z_BD, net.encoder(nonsense, presence).z_BD)


@pytest.mark.parametrize("present", range(len(NAMES)))
def test_what_a_present_stream_says_does_matter(present: int) -> None:
    net = model().eval()
    presence = torch.ones(5, len(NAMES))
    said = inputs(5)
    other = {**said, NAMES[present]: said[NAMES[present]].flip(0)}
    assert not torch.allclose(net.encoder(said, presence).z_BD, net.encoder(other, presence).z_BD)


def test_a_stream_embedding_is_of_its_stream_alone() -> None:
    net = model().eval()
    presence = torch.ones(5, len(NAMES))
    said = inputs(5)
    p = net.encoder(said, presence).p_BMP
    q = net.encoder({**inputs(5, seed=9), "ear": said["ear"]}, presence).p_BMP
    at = NAMES.index("ear")
    torch.testing.assert_close(p[:, at], q[:, at])
    assert not torch.allclose(p[:, at - 1], q[:, at - 1])


def test_what_a_stream_is_told_by_the_others_does_not_depend_on_itself() -> None:
    net = model().eval()
    said = inputs(5)
    other = {**said, "eye": said["eye"].flip(0)}
    presence = torch.ones(5, len(NAMES))
    without = [net.without_each(net.encoder.tokens(x), presence) for x in (said, other)]
    at = NAMES.index("eye")
    torch.testing.assert_close(without[0][:, at], without[1][:, at])
    assert not torch.allclose(without[0][:, 0], without[1][:, 0])


def test_set_points_do_not_enter_the_encoder() -> None:
    def observed(goal: float) -> list[Observation]:
        values_SC = np.array([[0.1, goal, 0.3], [0.4, goal, 0.6]], np.float32)
        return [Observation(7, {"process": values_SC}, {"process": 1.0})]

    normaliser = fit_normaliser(observed(0.2), PLANT)
    low, high = (extract(observed(goal), PLANT, normaliser) for goal in (0.0, 1.0))
    assert low.setpoints_NU.tolist() == [[-1.0]]
    assert high.setpoints_NU.tolist() == [[1.0]]
    for name in NAMES:
        np.testing.assert_array_equal(low.inputs[name], high.inputs[name])
    np.testing.assert_array_equal(low.readings_NR, high.readings_NR)
    assert "goal" not in LAYOUT.stream("process").readings


def test_set_points_condition_the_prediction() -> None:
    net, data = model().eval(), batch()
    # Conditioning starts at zero; what it can learn shows with other weights.
    with torch.no_grad():
        for weights in net.predictor.parameters():
            weights.add_(0.1 * torch.randn(weights.shape))
    z_BTD = torch.randn(NUM_WINDOWS, 8, 16, generator=torch.Generator().manual_seed(2))
    one = net.predictor(z_BTD, data.setpoints_BTU, data.plan_BTHU).z_BTHD
    other = net.predictor(z_BTD, data.setpoints_BTU, 1 - data.plan_BTHU).z_BTHD
    assert not torch.allclose(one, other)


def test_predictions_do_not_look_ahead() -> None:
    net, data = model().eval(), batch()
    z_BTD = torch.randn(NUM_WINDOWS, 8, 16, generator=torch.Generator().manual_seed(2))
    later = z_BTD.clone()
    later[:, 5:] += 1
    one = net.predictor(z_BTD, data.setpoints_BTU, data.plan_BTHU).z_BTHD
    other = net.predictor(later, data.setpoints_BTU, data.plan_BTHU).z_BTHD
    torch.testing.assert_close(one[:, :5], other[:, :5])
    assert not torch.allclose(one[:, 5:], other[:, 5:])


def test_the_exported_predictor_says_what_training_predicts() -> None:
    net, data = model().eval(), batch()
    with torch.no_grad():
        for weights in net.parameters():
            weights.add_(0.1 * torch.randn(weights.shape))
        for weights in net.response.buffers():
            if weights.is_floating_point():
                weights.add_(0.1 * torch.randn(weights.shape))
    num_ticks, horizons = net.config.window_ticks, net.config.horizons_ticks
    z_BTD = torch.randn(NUM_WINDOWS, num_ticks, net.config.embedding)
    readings_BTR = data.readings_BLR[:, :num_ticks].nan_to_num()
    with torch.no_grad():
        every = net.predictor(z_BTD, data.setpoints_BTU, data.plan_BTHU)
        readings, quantiles = net.read(
            every.z_BTHD, z_BTD, readings_BTR, setpoints=data.setpoints_BTU, plan=data.plan_BTHU
        )
        z_due, p_due, readings_due, z_ahead, forecast = PredictorNetwork(net)(
            z_BTD, data.setpoints_BTU, data.plan_BTHU, readings_BTR
        )
    inside = net.config.scored_horizons
    assert 0 < len(inside) < len(horizons)
    assert z_due.shape[1] == p_due.shape[1] == readings_due.shape[1] == len(inside)
    for row, horizon in enumerate(inside):
        position, column = num_ticks - 1 - horizon, horizons.index(horizon)
        torch.testing.assert_close(z_due[:, row], every.z_BTHD[:, position, column])
        torch.testing.assert_close(p_due[:, row], every.p_BTHMP[:, position, column])
        torch.testing.assert_close(readings_due[:, row], readings[:, position, column])
    torch.testing.assert_close(z_ahead, every.z_BTHD[:, -1])
    torch.testing.assert_close(forecast, quantiles[:, -1])


@pytest.mark.parametrize("target", ["live", "stopgrad", "ema"])
@pytest.mark.parametrize("regulariser", ["sigreg", "vicreg"])
def test_every_term_is_finite_and_gradients_reach_every_stem(
    target: Target, regulariser: Regulariser
) -> None:
    net = model(target, regulariser)
    terms = losses(net, batch())
    assert all(torch.isfinite(term) for term in terms.values())
    terms["total"].backward()
    for name in NAMES:
        gradients = [p.grad for p in net.encoder.stems[name].parameters()]
        assert gradients
        assert all(g is not None and torch.isfinite(g).all() for g in gradients)
        assert any(g is not None and g.abs().max() > 0 for g in gradients)


def test_every_weight_but_the_teachers_learns() -> None:
    net = model("ema")
    losses(net, batch())["total"].backward()
    without = {name for name, p in net.named_parameters() if p.grad is None}
    assert without == {name for name, _ in net.named_parameters() if name.startswith("teacher.")}


def test_missing_readings_and_absent_streams_leave_the_loss_finite() -> None:
    data = batch()
    readings, presence = data.readings_BLR.clone(), data.presence_BLM.clone()
    readings[:, :, ::2] = torch.nan
    presence[0] = 0
    presence[1, :, 0] = 0
    spoiled = changed(data, readings_BLR=readings, presence_BLM=presence)
    terms = losses(model(), changed(spoiled, has_far_BE=torch.zeros(NUM_WINDOWS, 1)))
    assert all(torch.isfinite(term) for term in terms.values())


@pytest.mark.parametrize("stream", NAMES)
def test_a_plant_of_one_stream_is_learned_also_without_tags(stream: str) -> None:
    layout = layout_of(PLANT.model_copy(update={"streams": (PLANT.stream(stream),)}))
    data = batch()
    only = changed(
        data,
        inputs={stream: data.inputs[stream]},
        presence_BLM=data.presence_BLM[..., :1],
        readings_BLR=data.readings_BLR[..., : layout.num_readings],
    )
    terms = losses(Jepa(layout, config()), only)
    assert all(torch.isfinite(term) for term in terms.values())


def test_a_far_target_that_does_not_exist_is_not_learned() -> None:
    data = changed(batch(), has_far_BE=torch.zeros(NUM_WINDOWS, 1))
    readings = data.readings_BLR.clone()
    readings[:, -1] = 1e3
    net = model().eval()
    one, other = losses(net, data), losses(net, changed(data, readings_BLR=readings))
    torch.testing.assert_close(one["readout"], other["readout"])


def test_readouts_do_not_train_the_encoder() -> None:
    net = model()
    terms = losses(net, batch())
    (terms["readout"] + terms["cross_readout"]).backward()
    assert all(p.grad is None or not p.grad.any() for p in net.encoder.parameters())


def test_the_teacher_moves_towards_the_encoder_by_its_decay() -> None:
    net = model("ema")
    assert net.teacher is not None
    before = net.teacher.fusion_tokens.clone()
    with torch.no_grad():
        net.encoder.fusion_tokens.add_(1)
    net.update_teacher()
    torch.testing.assert_close(net.teacher.fusion_tokens - before, torch.full_like(before, 0.01))


@pytest.mark.parametrize("target", ["live", "stopgrad"])
def test_only_the_ema_target_has_a_teacher(target: Target) -> None:
    net = model(target)
    assert net.teacher is None
    net.update_teacher()


@pytest.mark.parametrize("horizons", [(), (0, 1), (4, 1), (1, 1), (8, 16)])
def test_horizons_ascend_and_the_first_can_be_scored(horizons: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="horizon"):
        ModelConfig(window_ticks=8, horizons_ticks=horizons)


def test_a_horizon_is_told_of_moves_until_then_and_of_none_after() -> None:
    code = PlanCode(LAYOUT, config(), 5)
    setpoints, plan = torch.zeros(1, 8, 1), torch.zeros(1, 8, 3, 1)
    later = plan.clone()
    later[:, :, 2] = 0.5
    before, after = code(setpoints, plan), code(setpoints, later)
    assert torch.equal(before[:, :, :2], after[:, :, :2])
    assert not torch.equal(before[:, :, 2], after[:, :, 2])


def test_a_move_now_and_a_move_just_before_the_horizon_are_told_apart() -> None:
    code = PlanCode(LAYOUT, config(), 5)
    early, late = torch.zeros(1, 8, 3, 1), torch.zeros(1, 8, 3, 1)
    early[:, :, :], late[:, :, 2] = 0.5, 0.5
    setpoints = torch.zeros(1, 8, 1)
    assert not torch.allclose(code(setpoints, early)[:, :, 2], code(setpoints, late)[:, :, 2])
