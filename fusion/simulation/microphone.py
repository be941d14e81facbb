"""The rig's sound: harmonics of the shaft, blades, flow, cavitation, a worn bearing, a noisy hall.

Shapes: K steps of a block, N samples of a block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from fusion.plant import NANOSECONDS
from fusion.schema import AudioChunk
from fusion.simulation.dynamics import BLOCK_S, COLUMNS, STEP_S
from fusion.simulation.scenario import Scenario

SAMPLE_RATE_HZ = 16_000
CHUNK_S = 1.0
HARMONICS = (0.020, 0.010, 0.006, 0.003)
"""Amplitudes of the shaft's first harmonics, as parts of full scale at nominal speed."""
BEARING_RESONANCE_HZ = 3_200.0
CAVITATION_BAND_HZ = (4_500.0, 7_500.0)
FLOW_BAND_HZ = (300.0, 1_800.0)


class Microphone:
    """Synthesises block after block; filters and phases run on across blocks."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._flow: Any = signal.butter(2, FLOW_BAND_HZ, "bandpass", fs=SAMPLE_RATE_HZ)
        self._bubbles: Any = signal.butter(2, CAVITATION_BAND_HZ, "bandpass", fs=SAMPLE_RATE_HZ)
        self._ring: Any = signal.iirpeak(BEARING_RESONANCE_HZ, 12, fs=SAMPLE_RATE_HZ)
        self._memory: dict[str, NDArray[np.float64]] = {}
        self._last_turns = 0.0
        self._last_passes = 0.0

    def listen(self, steps_KC: NDArray[np.float64], *, block: int, stream: str) -> list[AudioChunk]:
        """Return the sound of one block as chunks of one second, 16 bit."""
        rng = np.random.default_rng([self._scenario.seed, 3, block])
        sound_N = self._machine(steps_KC, rng) + self._hall(rng)
        samples_N = np.clip(np.round(sound_N * 32_767), -32_768, 32_767).astype(np.int16)
        # numpy's |-32768| in 16 bits is -32768 again: compare both ends instead.
        is_clipped_N = (samples_N == 32_767) | (samples_N == -32_768)
        per_chunk = round(CHUNK_S * SAMPLE_RATE_HZ)
        start_ns = self._scenario.t_start_ns + block * round(BLOCK_S * NANOSECONDS)
        return [
            AudioChunk(
                stream=stream,
                t_start_ns=start_ns + begin * NANOSECONDS // SAMPLE_RATE_HZ,
                sample_rate_hz=SAMPLE_RATE_HZ,
                sample_index=block * len(samples_N) + begin,
                gain_db=0.0,
                num_clipped=int(is_clipped_N[begin : begin + per_chunk].sum()),
                samples_N=samples_N[begin : begin + per_chunk],
            )
            for begin in range(0, len(samples_N), per_chunk)
        ]

    def _machine(
        self, steps_KC: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        num_samples = round(BLOCK_S * SAMPLE_RATE_HZ)
        at_K = np.arange(len(steps_KC) + 1) * STEP_S
        at_N = (np.arange(num_samples) + 1) / SAMPLE_RATE_HZ

        def track(name: str, first: float | None = None) -> NDArray[np.float64]:
            values_K = steps_KC[:, COLUMNS.index(name)]
            before = values_K[0] if first is None else first
            return np.interp(at_N, at_K, np.concatenate([[before], values_K]))

        physics = self._scenario.physics
        turns_N = track("turns", self._last_turns)
        self._last_turns = float(turns_N[-1])
        ratio_N = track("speed") / physics.nominal_speed_rpm
        phase_N = 2 * np.pi * turns_N
        skew_N = track("misalignment")
        sound_N = 0.008 * ratio_N**2 * np.sin(physics.num_blades * phase_N)
        for order, amplitude in enumerate(HARMONICS, start=1):
            extra_N = 0.035 * skew_N if order == 2 else 0.0
            sound_N += (amplitude * ratio_N**2 + extra_N) * np.sin(order * phase_N + order)
        noise_N = rng.normal(size=num_samples)
        flow_N = track("flow_in") / 9e-5
        sound_N += 0.012 * flow_N * self._filter("flow", self._flow, noise_N)
        # Bubbles collapse in bursts of some 20 ms, more of them the worse the suction.
        bubble_N = track("cavitation")
        is_burst = np.repeat(rng.random(num_samples // 320), 320) < 0.5 * bubble_N
        sound_N += 0.11 * bubble_N * is_burst * self._filter("bubbles", self._bubbles, noise_N)
        return sound_N + self._bearing(turns_N, ratio_N, track("bearing_wear"))

    def _bearing(
        self,
        turns_N: NDArray[np.float64],
        ratio_N: NDArray[np.float64],
        wear_N: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return impacts at every ball pass, ringing at the housing's resonance."""
        passes_N = np.floor(turns_N * self._scenario.physics.bearing_order)
        is_hit_N = np.diff(passes_N, prepend=self._last_passes) > 0
        self._last_passes = float(passes_N[-1])
        hits_N = is_hit_N * wear_N * ratio_N
        return 4.0 * self._filter("ring", self._ring, hits_N)

    def _hall(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return what tells nothing of the rig: hiss, and now and then a clank."""
        num_samples = round(BLOCK_S * SAMPLE_RATE_HZ)
        strength = self._scenario.distractors
        hall_N = 0.004 * (0.5 + 0.5 * strength) * rng.normal(size=num_samples)
        if rng.random() < 0.25 * strength:
            length = SAMPLE_RATE_HZ // 4
            begin = int(rng.integers(0, num_samples - length))
            decay_N = np.exp(-np.arange(length) / (0.04 * SAMPLE_RATE_HZ))
            pitch_hz = rng.uniform(500, 2_500)
            tone_N = np.sin(2 * np.pi * pitch_hz * np.arange(length) / SAMPLE_RATE_HZ)
            hall_N[begin : begin + length] += 0.05 * decay_N * tone_N
        return hall_N

    def _filter(
        self,
        name: str,
        coefficients: tuple[NDArray[np.float64], NDArray[np.float64]],
        values_N: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        b, a = coefficients
        memory = self._memory.get(name)
        if memory is None:
            memory = np.zeros(max(len(a), len(b)) - 1)
        filtered: Any = signal.lfilter(b, a, values_N, zi=memory)
        filtered_N, self._memory[name] = filtered
        return filtered_N
