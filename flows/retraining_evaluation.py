"""A candidate beside the champion and a plain baseline, on one frozen examination; and its page."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict

from flows import wiring
from flows.report.drawing import ABNORMAL, INK, LINE, MUTED, save_picture, stacked_rows
from flows.retraining_data import observations_in
from flows.settings import Settings
from fusion.alignment import Observation
from fusion.evaluation.calibrated import Calibrated
from fusion.evaluation.challenge import (
    Examined,
    comparable,
    examine_baseline,
    examine_model,
    replayed_ticks,
)
from fusion.manifest import load_manifest
from fusion.plant import NANOSECONDS, Plant
from fusion.retraining.incidents import Examination, unjudged_share
from fusion.retraining.labels import Precision
from fusion.scoring import Calibration
from fusion.training.package import load_normaliser

BASELINE = "baseline"
PAGE, PLOT, FIGURES = "evaluation.md", "evaluation.png", "evaluation.json"
_WIDTH_PX, _ROW_PX, _GAP_PX = 1000, 120, 34
_SHOWN_MOST = 4.0
"""Surprise above this is drawn at this height: what alarms, alarms."""


class Asking(NamedTuple):
    """What an evaluation asks of every model: an examination, and what people said of it."""

    frozen: Examination
    """As its file has it."""
    judged: Examination
    """With the newest word on its alarms: what is asked."""
    verdicts: tuple[Precision, ...] = ()
    """What operators said of the alarms since the champion's own data."""


class Evaluated(BaseModel):
    """What each method did; None is what could not be measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    examination: str
    figures: dict[str, dict[str, float | None]]
    """By method: the versions by name, and ``baseline``."""
    delay_s: dict[str, dict[str, float | None]]
    """By method and episode; None where no alarm began in an incident."""

    def measured(self, method: str) -> dict[str, float]:
        """Return what was measured of a method."""
        figures = self.figures.get(method, {})
        return {name: value for name, value in figures.items() if value is not None}

    def paths(self, folder: Path) -> list[Path]:
        """Return the page, the plot and the figures as they lie in ``folder``."""
        return [folder / name for name in (PAGE, PLOT, FIGURES)]


def evaluate_candidate(
    plant: Plant,
    settings: Settings,
    models: Mapping[str, Path],
    asking: Asking,
    *,
    learned: Sequence[Observation],
    held_out: float,
    folder: Path,
    say: Callable[[str], None],
) -> Evaluated:
    """Return what ``models`` (folders by version, the candidate first) and the baseline do.

    ``learned`` is what the baseline learns from: the telemetry that the candidate has seen. A page,
    a plot and the figures are written to ``folder``.
    """
    examination = asking.judged
    manifests = {version: load_manifest(path) for version, path in models.items()}
    most = max(each.window_ticks for each in manifests.values())
    within = replayed_ticks(examination, plant, most)
    observations = observations_in(plant, settings, examination.data_version, within)
    examined: dict[str, Examined] = {}
    for version, path in models.items():
        say(f"examining {version}")
        with contextlib.closing(wiring.open_inference(path)) as inference:
            told = Calibrated(
                plant,
                inference,
                manifests[version],
                load_normaliser(path),
                Calibration.load(path),
            )
            examined[version] = examine_model(told, observations, examination)
    say("examining the baseline")
    baseline = examine_baseline(learned, observations, examination, plant, held_out=held_out)
    if baseline is not None:
        examined[BASELINE] = baseline
    evaluated = Evaluated(
        examination=asking.frozen.name,
        figures={name: _finite(each.figures) for name, each in examined.items()},
        delay_s={name: each.delay_s for name, each in examined.items()},
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FIGURES).write_text(evaluated.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / PAGE).write_text(page(evaluated, asking, plant), encoding="utf-8")
    _draw(folder / PLOT, examined, examination, plant)
    return evaluated


def page(evaluated: Evaluated, asking: Asking, plant: Plant) -> str:
    """Return what people read of an evaluation, as Markdown."""
    methods, examination = list(evaluated.figures), asking.judged
    seconds = len(examination.ticks) * plant.tick_s
    lines = [
        f"# Examination {evaluated.examination} of {plant.address}",
        "",
        f"{seconds / 3_600:.2f} h that no model learned from, and {len(examination.incidents)} "
        "incidents that operators called real. Every method reads the same lake version:",
        "",
        f"`{examination.data_version}`",
        "",
        *_told_of_alarms(asking, plant),
        f"| figure | {' | '.join(methods)} |",
        "|---" * (len(methods) + 1) + "|",
    ]
    lines += [
        f"| {name.replace('_', ' ')} | "
        + " | ".join(_shown(evaluated.figures[each].get(name)) for each in methods)
        + " |"
        for name in comparable({each: evaluated.measured(each) for each in methods})
    ]
    if examination.incidents:
        lines += ["", f"| incident: delay of the alarm | {' | '.join(methods)} |"]
        lines += ["|---" * (len(methods) + 1) + "|"]
        for each in examination.incidents:
            delays = [evaluated.delay_s[method].get(each.episode) for method in methods]
            told = ["missed" if delay is None else f"{delay:.0f} s" for delay in delays]
            lines.append(f"| {each.alarm} ({each.episode[:8]}) | {' | '.join(told)} |")
    lines += _verdict_rows(asking.verdicts)
    return "\n".join([*lines, "", f"![surprise of each method]({PLOT})", ""])


def _told_of_alarms(asking: Asking, plant: Plant) -> list[str]:
    """Return what counts as nothing, and what was judged after the examination was frozen."""
    lines: list[str] = []
    if asking.judged.unjudged:
        share = unjudged_share(asking.judged, plant)
        lines += [
            f"{len(asking.judged.unjudged)} alarms in it, {share:.1%} of its ticks, were judged by "
            "nobody: they count neither as normal nor as incidents, for any method.",
            "",
        ]
    before = {each.episode for each in asking.frozen.incidents}
    now = {each.episode for each in asking.judged.incidents}
    for words, episodes in (
        ("Incidents since it was frozen, by a later verdict", now - before),
        ("No incidents any more, by a later verdict", before - now),
    ):
        if episodes:
            lines += [f"{words}: {', '.join(f'`{each}`' for each in sorted(episodes))}.", ""]
    return lines


def _verdict_rows(verdicts: Sequence[Precision]) -> list[str]:
    if not verdicts:
        return []
    lines = ["", "What operators said of alarms since the champion's own data:", ""]
    lines += [
        "| alarm | useful | nuisance | not judged | precision (95 %) |",
        "|---|---|---|---|---|",
    ]
    for each in verdicts:
        low, high = each.between
        share = "–" if each.share is None else f"{each.share:.0%} ({low:.0%} to {high:.0%})"
        lines.append(
            f"| {each.name} | {each.num_useful} | {each.num_nuisance} | {each.num_unjudged} | "
            f"{share} |"
        )
    return lines


def rows_of(evaluated: Evaluated) -> list[dict[str, str]]:
    """Return a row for each figure, with a column for each method."""
    methods = list(evaluated.figures)
    return [
        {"figure": name.replace("_", " ")}
        | {each: _shown(evaluated.figures[each].get(name)) for each in methods}
        for name in comparable({each: evaluated.measured(each) for each in methods})
    ]


def _draw(
    path: Path, examined: Mapping[str, Examined], examination: Examination, plant: Plant
) -> None:
    """Draw the surprise of each method over the examined ticks; incidents are shaded."""
    origin = examination.first_tick

    def paint() -> Figure:
        rows = [_ROW_PX] * len(examined)
        fig, axes = stacked_rows(_WIDTH_PX, rows, left_px=44, gap_px=_GAP_PX)
        for ax, (name, each) in zip(axes, examined.items(), strict=True):
            inside = (each.ticks_N >= origin) & (each.ticks_N < examination.stop_tick)
            minutes = (each.ticks_N[inside] - origin) * plant.tick_s / 60
            ax.plot(minutes, np.minimum(each.surprise_N[inside], _SHOWN_MOST), color=INK, lw=0.9)
            ax.axhline(1, color=ABNORMAL, lw=1, ls=(0, (7, 3)))
            for incident in examination.incidents:
                begin = incident.onset_ns / NANOSECONDS - origin * plant.tick_s
                end = incident.end_ns / NANOSECONDS - origin * plant.tick_s
                if 0 <= begin <= len(examination.ticks) * plant.tick_s:
                    ax.axvspan(begin / 60, end / 60, color=MUTED, alpha=0.25, lw=0)
            alarms = each.figures["false_alarms"]
            ax.set_title(f"{name}: surprise, {alarms:.0f} false alarms (above 1 it alarms)", pad=6)
            ax.set_ylim(0, _SHOWN_MOST)
            ax.grid(axis="y", color=LINE, alpha=0.25, lw=0.6)
            ax.tick_params(axis="x", labelbottom=ax is axes[-1])
        simulated = " (simulated plant)" if plant.is_simulated else ""
        axes[-1].set_xlabel(f"minutes of the examination{simulated}")
        return fig

    save_picture(paint, path)


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
