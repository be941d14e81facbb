"""Puts the page together: figures in words first, then pictures, then every number."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2

from flows.report import wording
from flows.report.evidence import show
from flows.report.forecast_chart import forecast_chart
from flows.report.foresight import foresights
from flows.report.inputs import CountsLike, Detection, ReportInputs
from flows.report.time_axis import TimeAxis
from flows.report.timeline import timeline
from flows.report.training import trends
from flows.report.verdicts import Verdicts, judge, median_delay_s

MOST_FAULT_COLUMNS = 9
"""With more faults the comparison shows only the sums; the faults have their own table."""
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
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flows.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": wording.duration,
        "figure": wording.figure,
        "count": wording.count,
        "percent": wording.percent,
        "clock": wording.clock,
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
        "has_fault_columns": len(verdicts.faults) <= MOST_FAULT_COLUMNS,
        "foresights": shown_forecasts,
        "forecast_chart": forecast_chart(shown_forecasts, verdicts, axis),
        "moments": [show(moment, verdicts) for moment in inputs.moments],
        "trends": trends(inputs.gauges),
        "num_steps": max((row.get("step", 0) for row in inputs.gauges), default=0),
        "ledger": _ledger(inputs),
        "longest_s": max(inputs.duration_s.values(), default=0.0),
    }
    return environment.get_template("report.html.j2").render(context)


def _comparison(inputs: ReportInputs, verdicts: Verdicts) -> list[dict[str, Any]]:
    methods = [verdicts.as_detection(), *inputs.detections]
    best = {v.fault.name: _fastest(v.fault.name, methods) for v in verdicts.faults}
    return [
        {
            "method": row,
            "is_product": index == 0,
            "median_delay_s": median_delay_s(list(row.detected.values())),
            "delays": [
                {
                    "is_known": name in row.detected,
                    "delay_s": row.detected.get(name),
                    "is_best": fastest_s is not None and row.detected.get(name) == fastest_s,
                }
                for name, fastest_s in best.items()
            ],
        }
        for index, row in enumerate(methods)
    ]


def _fastest(fault: str, methods: list[Detection]) -> float | None:
    delays_s = [method.detected.get(fault) for method in methods]
    return min((delay_s for delay_s in delays_s if delay_s is not None), default=None)


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
