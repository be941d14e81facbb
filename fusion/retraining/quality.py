"""Whether what the lake holds of a period is fit to learn from: rules, each answered in words.

A table has a row for each tick: ``tick``; ``present.STREAM``; for each measured tag its mean over
the tick ``level.STREAM.TAG`` and the share of its values out of range ``outside.STREAM.TAG``; for a
microphone the level of the sound, for a camera the brightness of the picture.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from fusion.alignment import Observation
from fusion.errors import InputError
from fusion.plant import Plant, TelemetryStream
from fusion.retraining.incidents import Examination, Incident, unjudged_share

ROWS_AT_ONCE = 4_096
BELOW_RANGE, ABOVE_RANGE = 0.0125, 0.03125
"""Of a tag's span: a transmitter measures on a little beyond its range, and at rest its noise is
below zero. NAMUR NE 43 has a fault begin under 3.8 mA and over 20.5 mA of 4 to 20 mA."""
MOVES_SHARE = 0.5
"""A tag that changes in more than this share of its ticks moves; one that rarely does may rest."""


class QualityRecipe(BaseModel):
    """What is still fit to learn from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_train_s: float = Field(default=1_800.0, gt=0, description="Present ticks, all together.")
    max_missing_share: float = Field(
        default=0.2, ge=0, lt=1, description="Of the period: ticks that are in no stream."
    )
    min_present_share: float = Field(default=0.8, gt=0, le=1, description="Of ticks, each stream.")
    flat_s: float = Field(
        default=60.0, gt=0, description="A tag that moves and stands still for so long is stuck."
    )
    max_flat_share: float = Field(default=0.05, ge=0, lt=1, description="Of the ticks of a tag.")
    max_outside_share: float = Field(
        default=0.01, ge=0, lt=1, description="Of the values of a tag, outside of its range."
    )
    max_unjudged_share: float = Field(
        default=0.05, ge=0, lt=1, description="Of ticks: inside alarms of which nobody has said "
        "what they were worth."
    )  # fmt: skip
    max_unjudged_examined_share: float = Field(
        default=0.5, ge=0, le=1, description="Of the examination: inside alarms that nobody has "
        "judged, which count as nothing there."
    )  # fmt: skip


class Finding(BaseModel):
    """One rule, and what was found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: str
    is_met: bool
    sentence: str


class QualityReport(BaseModel):
    """What was found of a period."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    findings: tuple[Finding, ...]

    @property
    def is_good(self) -> bool:
        """Whether every rule holds."""
        return all(each.is_met for each in self.findings)

    def told(self) -> str:
        """Return what is wrong in words, or that nothing is."""
        wrong = [f"{each.rule}: {each.sentence}" for each in self.findings if not each.is_met]
        return "; ".join(wrong) or "every rule of data quality holds"


def quality_table(observations: Iterable[Observation], plant: Plant) -> pl.DataFrame:
    """Return a row for each tick of ``observations``, which are not kept."""
    parts: list[pl.DataFrame] = []
    rows: list[dict[str, float | int | bool | None]] = []
    schema = _schema(plant)
    for observation in observations:
        rows.append(_row(observation, plant))
        if len(rows) == ROWS_AT_ONCE:
            parts.append(pl.DataFrame(rows, schema=schema))
            rows = []
    return pl.concat([*parts, pl.DataFrame(rows, schema=schema)])


def of_ticks(table: pl.DataFrame, ranges: Sequence[range]) -> pl.DataFrame:
    """Return the rows whose tick lies in one of ``ranges``."""
    inside = pl.any_horizontal(
        pl.lit(value=False),
        *(pl.col("tick").is_between(each.start, each.stop - 1) for each in ranges if each),
    )
    return table.filter(inside)


def check_quality(
    table: pl.DataFrame,
    ranges: Sequence[range],
    plant: Plant,
    recipe: QualityRecipe,
    *,
    incidents: Sequence[Incident] = (),
    moving: Collection[str] = (),
    mismatches: Sequence[str] = (),
) -> QualityReport:
    """Return what the rules say of the ticks of ``table`` in ``ranges``.

    ``moving`` are tags (``STREAM.TAG``) that are known to move: without it one that never does is
    taken for a plant's own. ``mismatches`` are differences between plant file, lake and model that
    whoever read them found.
    """
    rows = of_ticks(table, ranges)
    if rows.is_empty():
        raise InputError(
            f"a period must hold ticks, and the lake has none of {list(ranges)}; ingest first"
        )
    return QualityReport(
        findings=(
            _amount(rows, plant, recipe),
            _gaps(rows, ranges, plant, recipe),
            _presence(rows, plant, recipe),
            _flat(rows, plant, recipe, moving),
            _ranges(rows, plant, recipe),
            _mismatch(mismatches),
            _leakage(rows, plant, recipe, incidents),
        )
    )


def check_examination(examination: Examination, plant: Plant, recipe: QualityRecipe) -> Finding:
    """Return whether enough of an examination is known to be normal or an incident.

    ``examination`` has the newest word on its alarms. Where nobody has said what most of it was
    worth, a model that is silent there and one that alarms there are worth the same.
    """
    share, most = unjudged_share(examination, plant), recipe.max_unjudged_examined_share
    sentence = (
        f"{len(examination.unjudged)} alarms in the examination, {share:.1%} of its ticks, were "
        f"judged by nobody and count as nothing; {most:.0%} may be"
    )
    if share > most:
        longest = max(examination.unjudged, key=lambda each: each.end_ns - each.onset_ns)
        sentence += (
            f" (the longest is {longest.alarm}, episode {longest.episode}: say with `fusion alarms "
            "verdict` whether it was useful or a nuisance)"
        )
    return Finding(rule="examination", is_met=share <= most, sentence=sentence)


def _amount(rows: pl.DataFrame, plant: Plant, recipe: QualityRecipe) -> Finding:
    seconds = len(rows) * plant.tick_s
    return Finding(
        rule="amount",
        is_met=seconds >= recipe.min_train_s,
        sentence=f"{seconds / 3600:.2f} h to learn from, {recipe.min_train_s / 3600:.2f} h asked",
    )


def _gaps(
    rows: pl.DataFrame, ranges: Sequence[range], plant: Plant, recipe: QualityRecipe
) -> Finding:
    ticks = rows.get_column("tick")
    asked = sum(map(len, ranges))
    share = 1 - len(ticks) / asked
    steps = ticks.diff().drop_nulls()
    longest_s = (int(np.max(steps.to_numpy(), initial=1)) - 1) * plant.tick_s
    return Finding(
        rule="gaps",
        is_met=share <= recipe.max_missing_share,
        sentence=f"{share:.1%} of the period is in no stream, {recipe.max_missing_share:.0%} may "
        f"be; the longest gap is {longest_s:.0f} s",
    )


def _presence(rows: pl.DataFrame, plant: Plant, recipe: QualityRecipe) -> Finding:
    shares = {s.name: float(np.mean(rows[f"present.{s.name}"].to_numpy())) for s in plant.streams}
    poor = {name: share for name, share in shares.items() if share < recipe.min_present_share}
    told = ", ".join(f"{name} {share:.1%}" for name, share in (poor or shares).items())
    return Finding(
        rule="streams",
        is_met=not poor,
        sentence=f"present: {told}; {recipe.min_present_share:.0%} asked of each",
    )


def _flat(
    rows: pl.DataFrame, plant: Plant, recipe: QualityRecipe, moving: Collection[str]
) -> Finding:
    least = max(2, round(recipe.flat_s / plant.tick_s))
    stuck: list[str] = []
    for column in (name for name in rows.columns if name.startswith("level.")):
        levels = rows.select(pl.col(column)).drop_nulls()
        if levels.is_empty():
            continue
        runs = levels.select(run=pl.col(column).rle_id()).group_by("run").len().get_column("len")
        lengths = runs.to_numpy()
        flat = lengths[lengths >= least].sum()
        name = column.removeprefix("level.")
        moves = name in moving or len(lengths) > MOVES_SHARE * (len(levels) - flat) + 1
        if moves and flat / len(levels) > recipe.max_flat_share:
            stuck.append(f"{name} stands still in {flat / len(levels):.0%} of its ticks")
    return Finding(
        rule="flat lines",
        is_met=not stuck,
        sentence=(", ".join(stuck) or "no signal that moves is stuck")
        + f"; {recipe.max_flat_share:.0%} may be in stretches of {recipe.flat_s:g} s or longer",
    )


def _ranges(rows: pl.DataFrame, plant: Plant, recipe: QualityRecipe) -> Finding:
    del plant
    columns = [name for name in rows.columns if name.startswith("outside.")]
    means: Mapping[str, float | None] = (
        rows.select(pl.col(columns).mean()).row(0, named=True) if columns else {}
    )
    outside = {
        name.removeprefix("outside."): share
        for name, share in means.items()
        if share is not None and share > recipe.max_outside_share
    }
    told = ", ".join(f"{name} in {share:.1%} of its values" for name, share in outside.items())
    return Finding(
        rule="ranges",
        is_met=not outside,
        sentence=(f"outside of the plant file's range: {told}" if told else "all in range")
        + f"; {recipe.max_outside_share:.1%} may be",
    )


def _mismatch(mismatches: Sequence[str]) -> Finding:
    return Finding(
        rule="plant file",
        is_met=not mismatches,
        sentence="; ".join(mismatches) or "lake, plant file and champion have the same signals",
    )


def _leakage(
    rows: pl.DataFrame, plant: Plant, recipe: QualityRecipe, incidents: Sequence[Incident]
) -> Finding:
    real = of_ticks(rows, [each.ticks(plant) for each in incidents if each.is_real])
    unjudged = [each for each in incidents if each.judgement is None]
    open_rows = of_ticks(rows, [each.ticks(plant) for each in unjudged])
    share = len(open_rows) / len(rows)
    sentence = (
        f"{len(real)} ticks lie in incidents that were real; {share:.1%} in alarms that nobody "
        f"has judged, {recipe.max_unjudged_share:.0%} may"
    )
    if share > recipe.max_unjudged_share:
        worst = max(unjudged, key=lambda each: each.end_ns - each.onset_ns)
        sentence += (
            f" (the longest is {worst.alarm}, episode {worst.episode}: say with `fusion alarms "
            "verdict` whether it was useful, and it is left out, or a nuisance, and it is learned)"
        )
    return Finding(
        rule="incidents",
        is_met=real.is_empty() and share <= recipe.max_unjudged_share,
        sentence=sentence,
    )


def _schema(plant: Plant) -> dict[str, type[pl.DataType]]:
    schema: dict[str, type[pl.DataType]] = {"tick": pl.Int64}
    for stream in plant.streams:
        schema[f"present.{stream.name}"] = pl.Boolean
        names = (
            [f".{tag.name}" for tag in stream.measured]
            if isinstance(stream, TelemetryStream)
            else [""]
        )
        for name in names:
            schema[f"level.{stream.name}{name}"] = pl.Float64
            if isinstance(stream, TelemetryStream):
                schema[f"outside.{stream.name}{name}"] = pl.Float64
    return schema


def _row(observation: Observation, plant: Plant) -> dict[str, float | int | bool | None]:
    row: dict[str, float | int | bool | None] = {"tick": observation.tick}
    for stream in plant.streams:
        is_present = observation.is_present(stream.name)
        row[f"present.{stream.name}"] = is_present
        if not is_present:
            continue
        sense = observation.senses[stream.name]
        if not isinstance(stream, TelemetryStream):
            level = sense.astype(np.float64)
            row[f"level.{stream.name}"] = float(level.std() if sense.ndim == 1 else level.mean())
            continue
        for index, tag in enumerate(stream.tags):
            values = sense[:, index].astype(np.float64)
            known = values[np.isfinite(values)]
            if tag.setpoint or not len(known):
                continue
            low, high = tag.range
            span = high - low
            is_outside = (known < low - BELOW_RANGE * span) | (known > high + ABOVE_RANGE * span)
            row[f"level.{stream.name}.{tag.name}"] = float(known.mean())
            row[f"outside.{stream.name}.{tag.name}"] = float(is_outside.mean())
    return row
