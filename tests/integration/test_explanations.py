"""Explanations of a model that was really trained, on a short run of the simulated rig.

What is perturbed is one input stream, or one tag, of a normal run; so it is known who is at fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fusion.alignment import Observation
from fusion.evaluation.rig_recording import rig_observations
from fusion.features import extract, layout_of
from fusion.model.in_process import TorchInference
from fusion.plant import Plant, parse_plant
from fusion.schema import Score
from fusion.scoring import Calibration, Scorer
from fusion.scoring.leave_one_out import leave_each_out, verdict_in_words
from fusion.scoring.localisation import ORDINARY, Localisation
from fusion.scoring.localisation_fitting import fit_localisation
from fusion.simulation import normal_scenario
from fusion.stream.calibrating import calibrate_on
from fusion.stream.rescoring import Rescoring
from fusion.stream.windows import WindowEncoder
from fusion.training import split, train
from fusion.training.package import write_manifest
from fusion.training.recipe import quick_recipe

RIG_FILE = Path(__file__).parents[2] / "plants" / "rig.yaml"
PERTURBED_TICKS = 12
GAUGE = 7
"""Where discharge_pressure lies among the tags."""
Sense = NDArray[np.generic]


@dataclass(frozen=True)
class Learned:
    """A model of the rig, and a normal run that it never saw."""

    plant: Plant
    rescoring: Rescoring
    calibration: Calibration
    localisation: Localisation
    normal: list[Observation]

    def scores(self, observations: list[Observation]) -> list[Score]:
        model = self.rescoring
        windows = WindowEncoder(model.inference, self.plant, model.manifest, model.normaliser)
        scorer = Scorer(self.calibration, self.plant, "1")
        return [scorer.update(window) for window in windows.run_many(observations)]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Learned:
    plant = parse_plant(RIG_FILE.read_text(encoding="utf-8"), origin=RIG_FILE.name)
    run = list(rig_observations(normal_scenario(duration_s=390, seed=3), plant))
    observations, normal = run[:-100], run[-100:]
    recipe = quick_recipe().model_copy(update={"threads": 1, "steps": 40})
    trained = train(observations, plant, recipe)
    seen, held_out = split(observations, recipe)
    manifest = write_manifest(
        trained,
        plant,
        tmp_path_factory.mktemp("model"),
        version="1",
        data_version="",
        code_version="",
        num_train_ticks=len(seen),
        num_calibration_ticks=len(held_out),
    )
    model = Rescoring(TorchInference(trained.model), plant, manifest, trained.normaliser)
    calibration = calibrate_on((seen, held_out), model.inference, plant, manifest, model.normaliser)
    features, fresh = (extract(part, plant, model.normaliser) for part in (seen, held_out))
    localisation = fit_localisation([features], [fresh], layout_of(plant))
    return Learned(plant, model, calibration, localisation, normal)


def perturbed(
    observations: list[Observation], stream: str, change: Callable[[Sense], Sense]
) -> list[Observation]:
    """Return the run with the last ticks of one stream changed."""
    at = len(observations) - PERTURBED_TICKS
    return observations[:at] + [
        replace(each, senses={**each.senses, stream: change(each.senses[stream])})
        for each in observations[at:]
    ]


def knocked(pixels_HW3: Sense) -> Sense:
    return np.roll(pixels_HW3, 12, axis=1)


def screaming(samples_N: Sense) -> Sense:
    tone_N = 6_000 * np.sin(2 * np.pi * 3_000 / 16_000 * np.arange(len(samples_N)))
    return np.clip(samples_N + tone_N, -32_768, 32_767).astype(np.int16)


def off(values_SC: Sense) -> Sense:
    changed_SC = values_SC.astype(np.float32)
    changed_SC[:, GAUGE] += 0.6  # bar
    return changed_SC


CHANGES = {"process": off, "microphone": screaming, "camera": knocked}


@pytest.mark.parametrize("stream", CHANGES)
def test_the_perturbed_stream_has_the_largest_share(learned: Learned, stream: str) -> None:
    run = perturbed(learned.normal, stream, CHANGES[stream])
    for score in learned.scores(run)[-PERTURBED_TICKS // 2 :]:
        assert sum(score.shares.values()) == pytest.approx(1)
        assert max(score.shares, key=lambda name: score.shares[name]) == stream
        assert score.surprise > 1


@pytest.mark.parametrize("stream", CHANGES)
def test_leaving_out_the_sensor_at_fault_cures_it(learned: Learned, stream: str) -> None:
    run = perturbed(learned.normal, stream, CHANGES[stream])
    said = leave_each_out(run, learned.plant, learned.calibration, learned.rescoring)
    verdicts = {each.stream: each.verdict for each in said if each.tag is None}
    assert verdicts[stream] == "sensor"
    assert [name for name, verdict in verdicts.items() if verdict == "sensor"] == [stream]
    named = "discharge_pressure" if stream == "process" else stream
    assert verdict_in_words(said).startswith(f"Cured by leaving out {named} ")


def test_what_two_senses_notice_is_the_process(learned: Learned) -> None:
    run = perturbed(perturbed(learned.normal, "camera", knocked), "microphone", screaming)
    said = leave_each_out(run, learned.plant, learned.calibration, learned.rescoring)
    assert {each.verdict for each in said} == {"process"}
    assert "suspect the process" in verdict_in_words(said)


def test_a_normal_run_accuses_nobody(learned: Learned) -> None:
    said = leave_each_out(learned.normal, learned.plant, learned.calibration, learned.rescoring)
    assert {each.verdict for each in said} == {"undecided"}
    assert not verdict_in_words(said)


def test_a_tone_lights_up_in_its_band(learned: Learned) -> None:
    run = perturbed(learned.normal, "microphone", screaming)
    features = extract(run[-2:], learned.plant, learned.rescoring.normaliser)
    maps = learned.localisation.maps(features, layout_of(learned.plant))
    by_band_B = maps["microphone"][-1].mean(axis=1)
    assert by_band_B.max() > 2 * ORDINARY
    # 3 kHz lies 27 of 41 steps up the mel scale of 0 to 8 kHz.
    assert abs(int(by_band_B.argmax()) - 26) <= 1
    assert np.median(maps["camera"][-1]) < ORDINARY
