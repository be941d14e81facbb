"""The model on a stream: each tick is encoded once, the last T embeddings make a window.

Shapes: T ticks, N ticks of a batch, H horizons, U set-points.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from fusion.alignment import Observation
from fusion.features import Normaliser, extract, held
from fusion.manifest import Manifest
from fusion.model.outputs import WindowOutputs
from fusion.plant import Plant
from fusion.ports import Inference

Floats = NDArray[np.float32]
BATCH_TICKS = 32


@dataclass(frozen=True, slots=True)
class _Tick:
    """One encoded tick: rows of every array, to be stacked into a window."""

    tick: int
    usable: dict[str, float]
    rows: dict[str, Floats]


class WindowEncoder:
    """Turns observations into what the networks say about the window that ends with each."""

    def __init__(
        self, inference: Inference, plant: Plant, manifest: Manifest, normaliser: Normaliser
    ) -> None:
        self._inference = inference
        self._plant = plant
        self._normaliser = normaliser
        self._horizons = np.array(manifest.horizons_ticks)
        self._num_ticks = manifest.window_ticks
        self._ticks: list[_Tick] = []

    def push(self, observation: Observation) -> WindowOutputs | None:
        """Return the window that ends with ``observation``; None until it is full.

        A jump of tick starts a new window: nothing is predicted across what nobody saw.
        """
        return self._add(self._encode([observation])[0])

    def run_many(self, observations: Iterable[Observation]) -> Iterator[WindowOutputs]:
        """Yield the windows of recorded observations; the encoder sees many ticks at a time."""
        remaining = iter(observations)
        while batch := list(islice(remaining, BATCH_TICKS)):
            for tick in self._encode(batch):
                window = self._add(tick)
                if window is not None:
                    yield window

    def _encode(self, observations: list[Observation]) -> list[_Tick]:
        features = extract(observations, self._plant, self._normaliser)
        encoded = self._inference.infer(
            "encoder", {**features.inputs, "presence": features.presence_NM}
        )
        arrays = {
            **encoded,
            "presence": features.presence_NM,
            "setpoints": features.setpoints_NU,
            "readings": features.readings_NR,
        }
        return [
            _Tick(o.tick, dict(o.usable), {name: array[i] for name, array in arrays.items()})
            for i, o in enumerate(observations)
        ]

    def _add(self, tick: _Tick) -> WindowOutputs | None:
        is_next = bool(self._ticks) and tick.tick == self._ticks[-1].tick + 1
        ticks = [*self._ticks, tick][-self._num_ticks :] if is_next else [tick]
        if len(ticks) < self._num_ticks:
            self._ticks = ticks
            return None
        window = {name: np.stack([each.rows[name] for each in ticks]) for name in tick.rows}
        window["setpoints"] = held(window["setpoints"])
        predicted = self._inference.infer(
            "predictor",
            {
                "z": window["z"][None],
                "setpoints": window["setpoints"][None],
                "plan": self._plan(window["setpoints"])[None],
                "readings": np.nan_to_num(window["readings"])[None],
            },
        )
        # Not before the network has answered: after a failure the same tick is pushed again.
        self._ticks = ticks
        return WindowOutputs(
            tick=tick.tick,
            presence_TM=window["presence"],
            z_TD=window["z"],
            p_TMP=window["p"],
            cross_TMP=window["cross"],
            readings_TR=window["readings"],
            cross_readings_TR=window["cross_readings"],
            z_hat_THD=predicted["z_hat"][0],
            p_hat_THMP=predicted["p_hat"][0],
            readings_hat_THR=predicted["readings_hat"][0],
            forecast_HGQ=predicted["forecast"][0],
            setpoints_TU=window["setpoints"],
            usable=tick.usable,
        )

    def _plan(self, setpoints_TU: Floats) -> Floats:
        """Return the set-points at each target [T, H, U]; beyond the window they are held."""
        num_ticks = len(setpoints_TU)
        ahead_TH = np.arange(num_ticks)[:, None] + self._horizons
        return setpoints_TU[np.minimum(ahead_TH, num_ticks - 1)]
