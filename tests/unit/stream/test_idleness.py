"""A stream is let go of only when it is silent, read to the end, and behind the others."""

from __future__ import annotations

import pytest

from fusion.plant import NANOSECONDS, Plant, parse_plant
from fusion.stream.idleness import IdleWatch

PLANT_TEXT = """
prefix: pair
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
allowed_lateness_s: 1
streams:
  - name: left
    modality: telemetry
    rate_hz: 1
    max_age_s: 2
    tags: [{name: l, unit: m, range: [0, 1]}]
  - name: right
    modality: telemetry
    rate_hz: 1
    max_age_s: 2
    tags: [{name: r, unit: m, range: [0, 1]}]
"""


def seconds(count: float) -> int:
    return round(count * NANOSECONDS)


@pytest.fixture
def plant() -> Plant:
    return parse_plant(PLANT_TEXT, origin="pair.yaml")


def test_a_silent_stream_behind_the_others_is_idle(plant: Plant) -> None:
    watch = IdleWatch(plant, now_ns=0)
    watch.heard(["left"], now_ns=seconds(10))
    newest_ns = {"left": seconds(10), "right": seconds(1)}
    assert watch.suspects(newest_ns, now_ns=seconds(10)) == ["right"]


def test_a_stream_that_never_spoke_is_idle_once_another_has_gone_on(plant: Plant) -> None:
    watch = IdleWatch(plant, now_ns=0)
    watch.heard(["left"], now_ns=seconds(10))
    assert watch.suspects({"left": seconds(10)}, now_ns=seconds(10)) == ["right"]


def test_a_plant_that_pauses_as_a_whole_has_no_idle_stream(plant: Plant) -> None:
    watch = IdleWatch(plant, now_ns=0)
    newest_ns = {"left": seconds(10), "right": seconds(9)}
    assert watch.suspects(newest_ns, now_ns=seconds(3_600)) == []


def test_a_fast_replay_does_not_make_a_stream_idle(plant: Plant) -> None:
    """Event time runs ahead a thousand times faster than the wall clock: nobody was silent."""
    watch = IdleWatch(plant, now_ns=0)
    watch.heard(["left", "right"], now_ns=seconds(0.01))
    newest_ns = {"left": seconds(600), "right": seconds(1)}
    assert watch.suspects(newest_ns, now_ns=seconds(0.02)) == []


def test_the_lateness_of_the_stream_itself_is_waited_for(plant: Plant) -> None:
    left, right = plant.streams
    patient = right.model_copy(update={"allowed_lateness_s": 6})
    newest_ns = {"left": seconds(10), "right": seconds(5)}
    for streams, idle in [((left, right), ["right"]), ((left, patient), [])]:
        changed = plant.model_copy(update={"streams": streams})
        watch = IdleWatch(changed, now_ns=0)
        watch.heard(["left"], now_ns=seconds(10))
        assert watch.suspects(newest_ns, now_ns=seconds(10)) == idle
