"""The model on a stream: each tick is encoded once, the last T embeddings make a window.

Shapes: T ticks, N ticks of a batch, H horizons, U set-points.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusion.alignment import Observation
from fusion.errors import ModelBrokenError
from fusion.features import Normaliser, extract, held
from fusion.manifest import Manifest
from fusion.model.outputs import WindowOutputs, by_today_s_names
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


class _Window(NamedTuple):
    """A full window: its newest tick, and every array with T rows."""

    tick: _Tick
    arrays: dict[str, Floats]


class WindowEncoder:
    """Turns observations into what the networks say about the window that ends with each."""

    def __init__(
        self, inference: Inference, plant: Plant, manifest: Manifest, normaliser: Normaliser
    ) -> None:
        self._inference = inference
        self._plant = plant
        self._normaliser = normaliser
        self._horizons = manifest.horizons_ticks
        self._num_ticks = manifest.window_ticks
        self._ticks: list[_Tick] = []

    def push(self, observation: Observation) -> WindowOutputs | None:
        """Return the window that ends with ``observation``; None until it is full.

        A jump of tick starts a new window: nothing is predicted across what nobody saw.
        """
        before = self._ticks
        window = self._follow(self._encode([observation])[0])
        try:
            return None if window is None else self._predict([window])[0]
        except BaseException:
            # After a failure the same tick is pushed again.
            self._ticks = before
            raise

    def run_many(
        self, observations: Iterable[Observation], *, windows_at_once: int = 1
    ) -> Iterator[WindowOutputs]:
        """Yield the windows of recorded observations; the encoder sees many ticks at a time.

        With ``windows_at_once`` the predictor sees many windows too: faster, and the last bit may
        differ from what the live process says.
        """
        remaining = iter(observations)
        while batch := list(islice(remaining, BATCH_TICKS)):
            full = [w for tick in self._encode(batch) if (w := self._follow(tick)) is not None]
            for begin in range(0, len(full), windows_at_once):
                yield from self._predict(full[begin : begin + windows_at_once])

    def _encode(self, observations: list[Observation]) -> list[_Tick]:
        features = extract(observations, self._plant, self._normaliser)
        encoded = self._ask("encoder", {**features.inputs, "presence": features.presence_NM})
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

    def _ask(self, network: str, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
        """Return what the network says, all of it numbers where all of ``inputs`` are.

        Raises:
            InferenceUnavailableError: It did not answer.
            ModelBrokenError: It answered with NaN or infinity: a score made of it would say
                nothing, and raise no alarm.
        """
        outputs = self._inference.infer(network, inputs)
        broken = [name for name, array in outputs.items() if not np.isfinite(array).all()]
        if broken and all(np.isfinite(array).all() for array in inputs.values()):
            raise ModelBrokenError(
                f"the network {network!r} must answer finite inputs with finite numbers, but "
                f"{broken} holds others; roll back to another version"
            )
        return outputs

    def _follow(self, tick: _Tick) -> _Window | None:
        """Return the window that ends with ``tick``; None until it is full."""
        is_next = bool(self._ticks) and tick.tick == self._ticks[-1].tick + 1
        ticks = [*self._ticks, tick][-self._num_ticks :] if is_next else [tick]
        self._ticks = ticks
        if len(ticks) < self._num_ticks:
            return None
        window = {name: np.stack([each.rows[name] for each in ticks]) for name in tick.rows}
        window["setpoints"] = held(window["setpoints"])
        return _Window(tick, window)

    def _predict(self, windows: list[_Window]) -> list[WindowOutputs]:
        def stacked(name: str) -> Floats:
            return np.stack([each.arrays[name] for each in windows])

        setpoints_BTU = stacked("setpoints")
        told = self._ask(
            "predictor",
            {
                "z": stacked("z"),
                "setpoints": setpoints_BTU,
                "plan": np.stack([self._plan(each) for each in setpoints_BTU]),
                "readings": np.nan_to_num(stacked("readings")),
            },
        )
        predicted = by_today_s_names(told, self._num_ticks, self._horizons)
        return [
            WindowOutputs(
                tick=each.tick.tick,
                presence_TM=each.arrays["presence"],
                z_TD=each.arrays["z"],
                p_TMP=each.arrays["p"],
                cross_TMP=each.arrays["cross"],
                readings_TR=each.arrays["readings"],
                cross_readings_TR=each.arrays["cross_readings"],
                z_due_SD=predicted["z_due"][index],
                p_due_SMP=predicted["p_due"][index],
                readings_due_SR=predicted["readings_due"][index],
                z_ahead_HD=predicted["z_ahead"][index],
                forecast_HGQ=predicted["forecast"][index],
                setpoints_TU=each.arrays["setpoints"],
                usable=each.tick.usable,
            )
            for index, each in enumerate(windows)
        ]

    def _plan(self, setpoints_TU: Floats) -> Floats:
        """Return the set-points at each target [T, H, U]; beyond the window they are held."""
        num_ticks = len(setpoints_TU)
        ahead_TH = np.arange(num_ticks)[:, None] + np.array(self._horizons)
        return setpoints_TU[np.minimum(ahead_TH, num_ticks - 1)]
