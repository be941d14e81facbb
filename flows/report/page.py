"""Puts the page together: figures in words first, then pictures, then every number."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2

from flows.report.evidence import show
from flows.report.forecast_chart import forecast_chart
from flows.report.foresight import foresights
from flows.report.inputs import CountsLike, Detection, ReportInputs
from flows.report.time_axis import TimeAxis
from flows.report.timeline import timeline
from flows.report.training import trends
from flows.report.verdicts import Verdicts, judge, median_delay_s
from fusion import wording
from fusion.plant import NANOSECONDS

_FATES = ("scored", "late", "duplicate", "dead_lettered", "pending")


def write_report(inputs: ReportInputs, path: Path) -> Path:
    """Return ``path`` after writing the page there: one HTML file without anything from outside.

    The file is complete or not there: it is written beside its place and then renamed.
    """
    page = render(inputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(page, encoding="utf-8")
    os.replace(unfinished, path)  # noqa: PTH105 - the same, with the words of POSIX
    return path


def render(inputs: ReportInputs) -> str:
    """Return the page as HTML."""
    verdicts = judge(inputs)
    axis = TimeAxis([s.t_end_ns for s in inputs.scores], tick_ns=inputs.plant.tick_ns)
    shown_forecasts = foresights(inputs)
    has_date = _lasts_days(inputs)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flows.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": lambda seconds: _together(wording.duration(seconds)),
        "figure": wording.figure,
        "count": wording.count,
        "percent": lambda part: _together(wording.percent(part)),
        "sentence": lambda text: text[:1].upper() + text[1:],
        "clock": lambda t_ns: wording.clock(t_ns, has_date=has_date),
        "unit": wording.unit,
        "date_and_clock": wording.date_and_clock,
    }
    context: dict[str, Any] = {
        "inputs": inputs,
        "plant": inputs.plant,
        "verdicts": verdicts,
        "plural": wording.plural,
        "fault_word": "injected fault" if inputs.is_simulated else "labelled interval",
        "budget_per_hour": inputs.plant.scoring.false_alarms_per_day / 24,
        "caveats": Counter(c for score in inputs.scores for c in score.caveats).most_common(8),
        "timeline": timeline(inputs, verdicts, axis),
        "comparison": _comparison(inputs, verdicts),
        "foresights": shown_forecasts,
        "forecast_chart": forecast_chart(shown_forecasts, verdicts, axis),
        "moments": [show(moment, verdicts) for moment in inputs.moments],
        "settling_ids": {event.id for event in verdicts.settling},
        "trends": trends(inputs.gauges),
        "num_steps": max((row.get("step", 0) for row in inputs.gauges), default=0),
        "ledger": _ledger(inputs),
        "longest_s": max(inputs.duration_s.values(), default=0.0),
    }
    return environment.get_template("report.html.j2").render(context)


def _together(words: str) -> str:
    """Return a number and its unit so that no line break parts them."""
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def _lasts_days(inputs: ReportInputs) -> bool:
    times_ns = [score.t_end_ns for score in inputs.scores]
    return bool(times_ns) and max(times_ns) - min(times_ns) > 86_400 * NANOSECONDS


def _comparison(inputs: ReportInputs, verdicts: Verdicts) -> dict[str, Any]:
    """Return methods as columns and faults as rows; the product's own column comes first."""
    methods = [verdicts.as_detection(), *inputs.detections]
    return {
        "methods": methods,
        "median_delays_s": [median_delay_s(list(m.detected.values())) for m in methods],
        "rows": [(verdict, _cells(verdict.fault.name, methods)) for verdict in verdicts.faults],
    }


def _cells(fault: str, methods: list[Detection]) -> list[dict[str, Any]]:
    delays_s = [method.detected.get(fault) for method in methods]
    fastest_s = min((delay_s for delay_s in delays_s if delay_s is not None), default=None)
    return [
        {
            "is_known": fault in method.detected,
            "delay_s": delay_s,
            "is_best": delay_s is not None and delay_s == fastest_s,
        }
        for method, delay_s in zip(methods, delays_s, strict=True)
    ]


def _ledger(inputs: ReportInputs) -> dict[str, Any]:
    """Return the fates by partition, checked against the broker's offsets where they are known."""
    rows = [
        _fates(name, counts, inputs.read_by_offsets.get(name, counts.read))
        for name, counts in sorted(inputs.counts.items())
    ]
    total = {key: sum(row[key] for row in rows) for key in ("read", *_FATES, "unaccounted")}
    return {
        "rows": rows,
        "total": total,
        "is_checked": bool(rows) and inputs.counts.keys() <= inputs.read_by_offsets.keys(),
    }


def _fates(name: str, counts: CountsLike, num_read: int) -> dict[str, Any]:
    row: dict[str, Any] = {fate: getattr(counts, fate) for fate in _FATES}
    unaccounted = num_read - sum(row.values())
    return row | {"name": name, "read": num_read, "unaccounted": unaccounted}
