"""Leaving one out: the laws of the verdict, on scores and streams that are known by heart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.alignment import Observation
from fusion.features import layout_of
from fusion.plant import parse_plant
from fusion.scoring import Calibration
from fusion.scoring.leave_one_out import (
    LeftOut,
    forgetful,
    leave_each_out,
    verdict_in_words,
    verdict_of,
    without_tag,
)
from fusion.scoring.normal import Normal
from fusion.scoring.whitening import log_distance

PLANT = parse_plant(
    """
prefix: duo
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 0.5
streams:
  - name: process
    modality: telemetry
    rate_hz: 4
    tags:
      - {name: goal, unit: m, range: [0, 9], setpoint: true}
      - {name: level, unit: m, range: [0, 9]}
      - {name: heat, unit: K, range: [0, 9]}
      - {name: flow, unit: l, range: [0, 9]}
  - {name: ear, modality: audio, sample_rate_hz: 4000}
""",
    origin="duo.yaml",
)
LAYOUT = layout_of(PLANT)
RNG = np.random.default_rng(0)
SQUARE = RNG.normal(size=(3, 3))
COVARIANCE = SQUARE @ SQUARE.T + 0.1 * np.eye(3)
VALUES, AXES = np.linalg.eigh(COVARIANCE)
WHITENER = (AXES / np.sqrt(VALUES)).T
CALIBRATION = Calibration(
    layout=LAYOUT,
    horizons_ticks=(1,),
    tick_s=0.5,
    normal=Normal(
        {"process/chart": np.zeros(3)},
        {"process/chart/1": WHITENER, "process/latent/1": WHITENER},
        {},
    ),
    without={},
    panels={},
    caveat="",
    reading_mean_R=np.full(LAYOUT.num_readings, 4.0),
    reading_std_R=np.full(LAYOUT.num_readings, 0.5),
    residual_std_R=np.ones(LAYOUT.num_readings),
    widen_HG=np.zeros((1, 3)),
)
OBSERVATION = Observation(
    7,
    {"process": np.array([[1, 5, 4, 4]] * 2, np.float32), "ear": np.zeros(2000, np.int16)},
    {"process": 1.0, "ear": 1.0},
)
vectors = st.lists(st.floats(-9, 9), min_size=3, max_size=3).map(np.array)


@given(vectors, st.integers(0, 2), st.floats(-99, 99))
def test_a_forgotten_tag_changes_no_distance(vector_V: np.ndarray, at: int, value: float) -> None:
    forgets = forgetful(CALIBRATION, "process", ("level", "heat", "flow")[at])
    other_V = vector_V.copy()
    other_V[at] = value
    whitener_VV = forgets.normal.whiteners["process/chart/1"]
    assert log_distance(vector_V, whitener_VV) == pytest.approx(
        log_distance(other_V, whitener_VV), abs=1e-4
    )


@given(vectors, st.integers(0, 2))
def test_without_a_tag_the_distance_is_that_of_the_others_alone(
    vector_V: np.ndarray, at: int
) -> None:
    forgets = forgetful(CALIBRATION, "process", ("level", "heat", "flow")[at])
    others = [i for i in range(3) if i != at]
    rest_V = vector_V[others]
    # The oracle: Mahalanobis with the covariance of the others.
    square = rest_V @ np.linalg.inv(COVARIANCE[np.ix_(others, others)]) @ rest_V
    expected = np.log(np.sqrt(square / 2) + 1e-6)
    found = log_distance(vector_V, forgets.normal.whiteners["process/chart/1"])
    assert found == pytest.approx(expected, abs=1e-4)


def test_only_members_made_of_readings_forget_a_tag() -> None:
    forgets = forgetful(CALIBRATION, "process", "heat")
    assert np.array_equal(forgets.normal.whiteners["process/latent/1"], WHITENER)


def test_a_tag_that_is_left_out_says_what_the_others_make_of_it() -> None:
    (told,) = without_tag([OBSERVATION], PLANT, "process", "heat", CALIBRATION)
    values_SC = told.senses["process"]
    kept = [0, 1, 3]
    assert np.array_equal(values_SC[:, kept], OBSERVATION.senses["process"][:, kept])
    # The oracle: the conditional mean of a normal distribution, in standard deviations.
    others = [0, 2]
    scaled = COVARIANCE[1, others] @ np.linalg.inv(COVARIANCE[np.ix_(others, others)]) @ [2.0, 0.0]
    assert values_SC[:, 2] == pytest.approx(4.0 + 0.5 * scaled, rel=1e-4)
    changed = OBSERVATION.senses["process"].copy()
    changed[:, 2] = np.nan
    blind = replace(OBSERVATION, senses={**OBSERVATION.senses, "process": changed})
    (same,) = without_tag([blind], PLANT, "process", "heat", CALIBRATION)
    assert np.array_equal(same.senses["process"], values_SC)


def test_a_stream_that_is_left_out_is_absent_and_the_rest_is_untouched() -> None:
    left = OBSERVATION.without("ear")
    assert not left.is_present("ear")
    assert left.senses["process"] is OBSERVATION.senses["process"]
    assert OBSERVATION.is_present("ear")


def faulty(*at_fault: str) -> list[LeftOut]:
    """Return what is said of a toy whose surprise comes from ``at_fault``, as long as any is in."""

    def rescore(observations: Sequence[Observation], calibration: Calibration) -> float:
        seen = {name for name in ("ear", "process") if observations[-1].is_present(name)}
        level = observations[-1].senses.get("process", np.zeros((1, 2)))[0, 1]
        guilty = seen & set(at_fault)
        if "level" in at_fault and "process" in seen and level == 5:
            guilty.add("level")
        return 3.0 if guilty else 0.2

    return leave_each_out([OBSERVATION], PLANT, CALIBRATION, rescore)


def test_a_broken_ear_is_suspected() -> None:
    said = faulty("ear")
    assert [each.name for each in said if each.verdict == "sensor"] == ["ear"]
    assert "Cured by leaving out ear (surprise 3.0 → 0.2)" in verdict_in_words(said)


def test_a_broken_tag_is_named_rather_than_its_stream() -> None:
    assert "Cured by leaving out level " in verdict_in_words(faulty("level"))


def test_what_more_than_one_sense_notices_is_the_process() -> None:
    said = faulty("ear", "process")
    assert {each.verdict for each in said} == {"process"}
    assert "suspect the process" in verdict_in_words(said)


def test_without_an_alarm_nobody_is_suspected() -> None:
    assert verdict_in_words(faulty()) == ""
    assert verdict_in_words([]) == ""


@given(st.floats(0, 9), st.floats(0, 9), st.floats(0, 9))
def test_the_better_the_cure_the_more_it_is_the_sensor(
    surprise: float, first: float, second: float
) -> None:
    order = {"sensor": 0, "undecided": 1, "process": 2}
    better, worse = sorted((first, second))
    if surprise >= 1:
        assert order[verdict_of(surprise, better)] <= order[verdict_of(surprise, worse)]
    else:
        assert verdict_of(surprise, better) == "undecided"
