"""What the stamps of records tell of clocks: offset, drift and jumps, whatever noise is added."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.alignment.clocks import DelayTrack, StreamClock, skews_ns
from fusion.alignment.event_time import Stamps
from fusion.plant import NANOSECONDS
from fusion.schema import AudioChunk

MS = NANOSECONDS // 1_000
YEAR_S = 31_557_600
START_NS = 1_700_000_000 * NANOSECONDS


def delays(
    seconds: int, *, offset_s: float = 0.0, ppm: float = 0.0, noise_ms: float = 20.0, seed: int = 1
) -> list[tuple[int, int]]:
    """Ten records a second: when each was received, and its delay with exponential noise."""
    rng = random.Random(seed)
    return [
        (
            START_NS + k * 100 * MS,
            round(offset_s * NANOSECONDS + ppm * 1e-6 * k * 100 * MS)
            + round(rng.expovariate(1) * noise_ms * MS),
        )
        for k in range(seconds * 10)
    ]


def track_of(pairs: list[tuple[int, int]]) -> DelayTrack:
    track = DelayTrack()
    for x_ns, y_ns in pairs:
        track.add(x_ns, y_ns)
    return track


def clock_of(
    lag_s: float, *, seconds: int = 60, is_received: bool = False, speed: float = 1.0
) -> StreamClock:
    """A stream that lags its broker by ``lag_s``; replayed, event time passes ``speed`` times."""
    clock = StreamClock()
    for k in range(seconds * 10):
        now_ns = START_NS + k * 100 * MS
        event_ns = START_NS + round(k * 100 * MS * speed - lag_s * NANOSECONDS)
        clock.note(Stamps(event_ns, now_ns if is_received else 0), t_broker_ns=now_ns + 3 * MS)
    return clock


@settings(max_examples=80, deadline=None)
@given(st.floats(-1e9, 1e9), st.floats(0, 500), st.integers(0, 10**6))
def test_the_offset_is_the_fastest_way_whatever_the_noise(
    offset_s: float, noise_ms: float, seed: int
) -> None:
    track = track_of(delays(70, offset_s=offset_s, noise_ms=noise_ms, seed=seed))
    offset_ns = track.offset_ns()
    assert offset_ns is not None
    above_ns = offset_ns - round(offset_s * NANOSECONDS)
    # The 5 % quantile of exponential noise is 0.05 of its mean; the median of six such varies.
    assert 0 <= above_ns <= 0.15 * noise_ms * MS


@pytest.mark.parametrize("ppm", [-200.0, -30.0, 0.0, 50.0, 500.0])
def test_drift_is_found_in_noise(ppm: float) -> None:
    drift = track_of(delays(310, ppm=ppm, offset_s=2, noise_ms=5)).drift()
    assert drift is not None
    assert drift * 1e6 == pytest.approx(ppm, abs=5)


def test_a_minute_of_wild_delays_moves_neither_offset_nor_drift() -> None:
    calm = delays(300, ppm=40, noise_ms=5)
    wild = [(x, y + 5 * NANOSECONDS if k % 10 else y) for k, (x, y) in enumerate(calm)]
    track = track_of(calm[:1500] + wild[1500:2100] + calm[2100:])
    drift = track.drift()
    assert drift is not None
    assert drift * 1e6 == pytest.approx(40, abs=8)
    assert track.num_jumps == 0


def test_nothing_is_said_of_too_little() -> None:
    assert track_of(delays(29)).offset_ns() is None
    assert track_of(delays(29)).drift() is None
    assert track_of(delays(31)).offset_ns() is not None


@pytest.mark.parametrize("step_s", [-3_600, -0.5, 0.5, 2, YEAR_S])
def test_a_clock_that_is_set_is_a_jump_counted_once(step_s: float) -> None:
    before, after = delays(100), delays(200, offset_s=step_s)[1000:]
    track = track_of(before + after)
    assert track.num_jumps == 1
    offset_ns = track.offset_ns()
    assert offset_ns is not None
    assert offset_ns / NANOSECONDS == pytest.approx(step_s, abs=0.01)
    drift = track.drift()
    assert drift is not None
    assert abs(drift) < 1e-4, "the step must not be taken for drift"


def test_a_short_stall_is_no_jump() -> None:
    pairs = delays(200)
    stalled = [
        (x, y + 3 * NANOSECONDS if 1000 <= k < 1100 else y) for k, (x, y) in enumerate(pairs)
    ]
    track = track_of(stalled)
    assert track.num_jumps == 0
    offset_ns = track.offset_ns()
    assert offset_ns is not None
    assert offset_ns < 20 * MS


def test_drift_over_a_long_silence_is_no_jump() -> None:
    late = [(x + 86_400 * NANOSECONDS, y + 4 * NANOSECONDS) for x, y in delays(100)]
    assert track_of(delays(100) + late).num_jumps == 0


def test_a_clock_that_stands_still_is_seen_and_has_no_steady_offset() -> None:
    stuck = [(x, 5 * MS + max(0, x - START_NS - 100 * NANOSECONDS)) for x, _ in delays(200)]
    track = track_of(stuck)
    assert track.drift() == pytest.approx(1.0)
    assert track.steady_offset_ns() is None
    assert track.num_jumps == 0


def test_memory_does_not_grow() -> None:
    sizes = [len(json.dumps(track_of(delays(s)).snapshot())) for s in (400, 800, 3_200)]
    assert max(sizes) <= sizes[0] + 40
    assert max(sizes) < 3_000


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1200), st.lists(st.integers(-5, 5), min_size=1, max_size=8))
def test_a_restart_anywhere_changes_nothing(at: int, steps_s: list[int]) -> None:
    pairs = [
        (x, y + steps_s[k // 200 % len(steps_s)] * NANOSECONDS)
        for k, (x, y) in enumerate(delays(120))
    ]
    whole, first = track_of(pairs), track_of(pairs[:at])
    second = DelayTrack(json.loads(json.dumps(first.snapshot())))
    for pair in pairs[at:]:
        second.add(*pair)
    assert second.snapshot() == whole.snapshot()
    assert second.drift() == whole.drift()


def sound_clock(
    ppm: float, *, is_counted: bool = True, restart_at: int | None = None
) -> StreamClock:
    clock, samples_N = StreamClock(), np.zeros(2000, np.int16)
    for k in range(700):
        index = (k if restart_at is None or k < restart_at else k - restart_at) * 2000
        length_ns = round(NANOSECONDS / 2 * (1 + ppm * 1e-6))
        chunk = AudioChunk(
            "ear", START_NS + k * length_ns, 4000, index if is_counted else 0, 0.0, 0, samples_N
        )
        clock.note_sound(chunk, epoch=f"boot-{restart_at is not None and k >= restart_at}")
    return clock


@pytest.mark.parametrize("ppm", [-80.0, 0.0, 120.0])
@pytest.mark.parametrize("restart_at", [None, 300])
def test_the_sound_card_is_held_against_the_chunks_times(
    ppm: float, restart_at: int | None
) -> None:
    assert sound_clock(ppm, restart_at=restart_at).sound_drift_ppm() == pytest.approx(ppm, abs=0.1)


def test_a_sender_that_counts_no_samples_has_no_sound_clock() -> None:
    assert sound_clock(0, is_counted=False).sound_drift_ppm() is None


def skews_s(**clocks: StreamClock) -> dict[str, float]:
    return {name: round(ns / NANOSECONDS, 3) for name, ns in skews_ns(clocks).items()}


def test_a_replay_of_years_ago_has_no_skew() -> None:
    old = 9 * YEAR_S
    assert skews_s(a=clock_of(old), b=clock_of(old), c=clock_of(old + 0.2)) == {
        "a": 0,
        "b": 0,
        "c": 0.2,
    }


def test_the_stream_that_differs_is_named() -> None:
    found = skews_s(a=clock_of(0.1), b=clock_of(0.1), c=clock_of(-3.0), d=clock_of(0.2))
    assert found == {"a": 0, "b": 0, "c": -3.1, "d": 0.1}


@pytest.mark.parametrize("speed", [0.5, 1.1, 60.0])
def test_a_replay_at_another_speed_tells_nothing_of_skew(speed: float) -> None:
    assert skews_s(a=clock_of(0, speed=speed), b=clock_of(5, speed=speed), c=clock_of(0)) == {}


def test_receivers_are_asked_only_where_every_stream_names_its_own() -> None:
    """Telemetry that was received long ago and sound that only the broker stamped do not mix."""
    old = StreamClock()
    for k in range(600):
        t_ns = START_NS - 9 * YEAR_S * NANOSECONDS + k * 100 * MS
        old.note(Stamps(t_ns, t_ns + MS), t_broker_ns=START_NS + k * 100 * MS + 3 * MS)
    assert skews_s(a=old, b=clock_of(9 * YEAR_S), c=clock_of(9 * YEAR_S)) == {
        "a": 0,
        "b": 0,
        "c": 0,
    }
    received = clock_of(2, is_received=True)
    both = skews_s(a=received, b=clock_of(0, is_received=True), c=clock_of(0, is_received=True))
    assert both == {"a": 2, "b": 0, "c": 0}


def test_a_stream_alone_is_held_against_its_receiver_only_while_live() -> None:
    assert skews_s(a=clock_of(4, is_received=True)) == {"a": 4}
    assert skews_s(a=clock_of(4)) == {}
    assert skews_s(a=clock_of(2 * 86_400, is_received=True)) == {}


def test_a_stream_that_said_too_little_is_left_out() -> None:
    assert skews_s(a=clock_of(0), b=clock_of(0), c=clock_of(9, seconds=5)) == {"a": 0, "b": 0}
