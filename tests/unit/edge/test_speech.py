"""What may be recorded and what may not, for any detector and any cut into chunks."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fusion.edge import SpeechSieve
from fusion.plant.devices import SpeechFilter
from fusion.ports import Observed, Withheld
from fusion.schema import AudioChunk

RATE_HZ, SIZE = 16_000, 512
MARGIN_S = 0.1
MARGIN_FRAMES = math.ceil(MARGIN_S * RATE_HZ / SIZE)
RULE = SpeechFilter(threshold=0.5, margin_s=MARGIN_S)
T_NS = 1_800_000_000 * 10**9
LOUD = 1_000


class LoudIsSpeech:
    """Hears speech where a frame has one loud sample."""

    frame_samples = SIZE

    def probability(self, frame_N: NDArray[np.int16]) -> float:
        return float((frame_N >= LOUD).any())

    def forget(self) -> None:
        pass


def chunks_of(samples_N: NDArray[np.int16], cuts: list[int]) -> list[AudioChunk]:
    edges = sorted({0, len(samples_N), *(cut % len(samples_N) for cut in cuts)})
    return [
        AudioChunk(
            "mic", T_NS + begin * 10**9 // RATE_HZ, RATE_HZ, begin, 0.0, 0, samples_N[begin:end]
        )
        for begin, end in itertools.pairwise(edges)
    ]


def sieved(chunks: list[AudioChunk]) -> list[Observed]:
    sieve = SpeechSieve("mic", LoudIsSpeech(), RULE, sample_rate_hz=RATE_HZ)
    return [each for chunk in chunks for each in sieve.take(chunk)] + sieve.finish()


def recorded(found: list[Observed], length: int) -> NDArray[np.bool_]:
    is_recorded_N = np.zeros(length, bool)
    for each in found:
        if isinstance(each, AudioChunk):
            part = slice(each.sample_index, each.sample_index + len(each.samples_N))
            assert not is_recorded_N[part].any(), "given out twice"
            is_recorded_N[part] = True
    return is_recorded_N


sounds = st.integers(1, 20_000).flatmap(
    lambda length: st.tuples(
        st.just(length), st.lists(st.integers(0, length - 1), max_size=4), st.lists(
            st.integers(0, 10**6), max_size=12
        )
    )
)  # fmt: skip


@given(sounds)
def test_what_is_near_speech_is_withheld_and_all_else_given_out_as_it_was(
    drawn: tuple[int, list[int], list[int]],
) -> None:
    length, spoken, cuts = drawn
    samples_N = (np.arange(length) % 97).astype(np.int16)
    samples_N[spoken] = LOUD
    found = sieved(chunks_of(samples_N, cuts))
    is_speech = [bool((samples_N[i : i + SIZE] >= LOUD).any()) for i in range(0, length, SIZE)]
    wanted_N = np.zeros(length, bool)
    for index in range(len(is_speech)):
        near = is_speech[max(0, index - MARGIN_FRAMES) : index + MARGIN_FRAMES + 1]
        wanted_N[index * SIZE : (index + 1) * SIZE] = not any(near)
    np.testing.assert_array_equal(recorded(found, length), wanted_N)
    withheld = sum(each.num_values for each in found if isinstance(each, Withheld))
    assert withheld == length - int(wanted_N.sum())
    for each in found:
        if isinstance(each, AudioChunk):
            begin = each.sample_index
            np.testing.assert_array_equal(
                each.samples_N, samples_N[begin : begin + len(each.samples_N)]
            )
            assert abs(each.t_start_ns - T_NS - begin * 10**9 // RATE_HZ) <= 2


def test_a_loss_on_the_way_hides_nothing_and_moves_nothing() -> None:
    quiet_N = np.zeros(10_000, np.int16)
    first = AudioChunk("mic", T_NS, RATE_HZ, 0, 0.0, 0, quiet_N)
    later = AudioChunk("mic", T_NS + 10**9, RATE_HZ, 16_000, 0.0, 0, quiet_N)
    found = sieved([first, later])
    is_recorded_N = recorded(found, 26_000)
    assert is_recorded_N[:10_000].all()
    assert not is_recorded_N[10_000:16_000].any()
    assert is_recorded_N[16_000:].all()
