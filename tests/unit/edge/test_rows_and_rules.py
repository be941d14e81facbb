"""Readings become rows, rows are judged by the plant file; nothing is lost on the way uncounted."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.edge.checking import UNCERTAIN_ENGINEERING_UNITS_EXCEEDED, TagRules, require_units
from fusion.edge.rows import RowGatherer
from fusion.errors import InputError
from fusion.plant import NANOSECONDS, TelemetryStream
from fusion.plant.devices import TagSource
from fusion.ports import Reading
from fusion.schema import Quality
from tests.clocks import START_NS

STREAM = TelemetryStream.model_validate(
    {
        "name": "process",
        "modality": "telemetry",
        "rate_hz": 10,
        "max_age_s": 2,
        "tags": [
            {"name": "level", "unit": "m", "range": [0, 10]},
            {"name": "warmth", "unit": "degC", "range": [-20, 100]},
        ],
    }
)
GRAIN_NS = NANOSECONDS // 100

readings = st.builds(
    lambda tag, value, t_ns, quality: Reading(
        "process", tag, value, quality, START_NS + t_ns, START_NS + t_ns, START_NS + t_ns + 5
    ),
    st.sampled_from(["level", "warmth"]),
    st.floats(-1e3, 1e3),
    st.integers(0, 3 * NANOSECONDS),
    st.sampled_from([Quality.GOOD, Quality.UNCERTAIN, Quality.BAD, Quality.STALE]),
)


@given(st.lists(readings, max_size=60))
def test_every_reading_is_a_cell_or_counted(some: list[Reading]) -> None:
    gatherer = RowGatherer(STREAM)
    gatherer.add(some)
    batches = gatherer.take()
    cells = sum(int((b.quality_RC != Quality.NOT_REPORTED).sum()) for b in batches)
    assert cells + gatherer.num_thinned == len(some)
    assert gatherer.take() == []


@given(st.lists(readings, min_size=1, max_size=60), st.randoms())
def test_the_order_of_arrival_does_not_matter(some: list[Reading], random: object) -> None:
    distinct = list({(r.tag, r.t_source_ns): r for r in some}.values())
    shuffled = list(distinct)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = RowGatherer(STREAM), RowGatherer(STREAM)
    one.add(distinct)
    other.add(shuffled)
    for left, right in zip(one.take(), other.take(), strict=True):
        np.testing.assert_array_equal(left.t_source_R_ns, right.t_source_R_ns)
        np.testing.assert_array_equal(left.values_RC, right.values_RC)


@given(st.lists(readings, min_size=1, max_size=60))
def test_times_rise_and_are_at_most_a_grain_early(some: list[Reading]) -> None:
    some = list({(r.tag, r.t_source_ns // GRAIN_NS): r for r in some}.values())
    gatherer = RowGatherer(STREAM)
    gatherer.add(some)
    (batch,) = gatherer.take()
    assert gatherer.num_thinned == 0
    assert (np.diff(batch.t_source_R_ns) > 0).all()
    own_ns = np.array([r.t_source_ns for r in some])
    for t_ns in own_ns:
        before = batch.t_source_R_ns[batch.t_source_R_ns <= t_ns]
        assert len(before), "no row is later than its readings"
        assert t_ns - before[-1] < GRAIN_NS


@pytest.mark.parametrize("t_ns", [-1, 0, 2**63, 10**30])
def test_a_time_that_cannot_be_is_told(t_ns: int) -> None:
    gatherer = RowGatherer(STREAM)
    gatherer.add([Reading("process", "level", 1.0, Quality.GOOD, t_ns, START_NS, START_NS)])
    (batch,) = gatherer.take()
    assert batch.t_source_R_ns.tolist() == [START_NS]
    assert batch.quality_RC[0, 0] == Quality.UNCERTAIN
    assert gatherer.num_untimed == 1


def judge(
    *cells: tuple[float, float, Quality], rules: TagRules | None = None, **source: Any
) -> list[tuple[float, float, int, int]]:
    """Time (s), value, quality and status of what is left of ``cells`` (time, value, quality)."""
    rules = rules or TagRules(STREAM, [TagSource(stream="process", tag="level", **source)])
    gatherer = RowGatherer(STREAM)
    for t_s, value, quality in cells:
        t_ns = START_NS + round(t_s * NANOSECONDS)
        gatherer.add([Reading("process", "level", value, quality, t_ns, t_ns, t_ns)])
    found: list[tuple[float, float, int, int]] = []
    for batch in gatherer.take():
        judged = rules.apply(batch)
        if judged is None:
            continue
        for row, t_ns in enumerate(judged.t_source_R_ns):
            found.append(
                (
                    (int(t_ns) - START_NS) / NANOSECONDS,
                    float(judged.values_RC[row, 0]),
                    int(judged.quality_RC[row, 0]),
                    int(judged.status_RC[row, 0]),
                )
            )
    return found


def test_scale_and_offset_come_before_the_range() -> None:
    assert judge((0, 500, Quality.GOOD), scale=0.01, offset=1.0) == [(0, 6.0, Quality.GOOD, 0)]


def test_outside_the_range_is_uncertain_and_says_why() -> None:
    ((_, value, quality, status),) = judge((0, 12, Quality.GOOD))
    assert (value, quality, status) == (
        12.0,
        Quality.UNCERTAIN,
        UNCERTAIN_ENGINEERING_UNITS_EXCEEDED,
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_bad(value: float) -> None:
    ((_, left, quality, _),) = judge((0, value, Quality.GOOD))
    assert math.isnan(left)
    assert quality == Quality.BAD


def test_a_bad_value_is_not_kept_as_a_number() -> None:
    ((_, value, quality, _),) = judge((0, 5.0, Quality.BAD))
    assert math.isnan(value)
    assert quality == Quality.BAD


def test_the_deadband_holds_back_but_never_for_long_nor_a_change_of_quality() -> None:
    cells = [(t, 5.0 + 0.01 * (t % 2), Quality.GOOD) for t in (0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2)]
    assert [t for t, *_ in judge(*cells, deadband=0.1)] == [0, 1.0]
    assert [t for t, *_ in judge((0, 5, Quality.GOOD), (0.2, 5.2, Quality.GOOD), deadband=0.1)] == [
        0,
        0.2,
    ]
    changed = [(0, 5.0, Quality.GOOD), (0.2, 5.0, Quality.UNCERTAIN), (0.4, 5.0, Quality.UNCERTAIN)]
    assert [t for t, *_ in judge(*changed, deadband=0.1)] == [0, 0.2]


def test_slow_creep_cannot_hide_inside_the_deadband() -> None:
    cells = [(t / 10, 5.0 + 0.03 * t, Quality.GOOD) for t in range(10)]
    values = [value for _, value, *_ in judge(*cells, deadband=0.1)]
    assert all(abs(later - earlier) > 0.1 for earlier, later in itertools.pairwise(values))
    assert len(values) == 3


def test_another_unit_is_refused_and_told_how_to_mend_it() -> None:
    plain = TagSource(stream="process", tag="warmth")
    require_units({"warmth": "°C"}, [plain], {"warmth": "degC"})
    require_units({}, [plain], {"warmth": "degC"})
    with pytest.raises(InputError, match=r"warmth must be in 'degC', the device states '°F'"):
        require_units({"warmth": "°F"}, [plain], {"warmth": "degC"})
    converted = TagSource(stream="process", tag="warmth", unit="°F", scale=5 / 9, offset=-160 / 9)
    require_units({"warmth": "degF"}, [converted], {"warmth": "degC"})
