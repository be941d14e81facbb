"""One evaluation as files: JSON with every figure, and a page that people read."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict

from fusion.evaluation.protocol import WHOLE, Figure, Published, Summary, summarise


class Evaluation(BaseModel):
    """Everything that one run of ``fusion evaluate`` found, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: str
    title: str
    rules: str
    headline: tuple[str, ...]
    published: tuple[Published, ...]
    recipe: dict[str, Any]
    machine: str
    date: str
    minutes: float
    figures: tuple[Figure, ...]
    unfinished: str | None = None
    """Where it was stopped before its end, if it was: what is missing then was not measured."""

    def summaries(self) -> list[Summary]:
        """Return mean and spread of every figure."""
        return summarise(self.figures)


def as_json(evaluation: Evaluation) -> str:
    """Return every figure, one by one, for whoever wants to count again."""
    return evaluation.model_dump_json(indent=1) + "\n"


def as_markdown(evaluation: Evaluation) -> str:
    """Return the page: the whole set first, then each part, then how it was measured."""
    summaries = evaluation.summaries()
    lines = [f"# {evaluation.title}", "", evaluation.rules, ""]
    if evaluation.unfinished:
        lines += [f"**Not finished**: stopped in {evaluation.unfinished}.", ""]
    lines += ["## The whole set", ""]
    lines += _rows([s for s in summaries if s.part == WHOLE], with_part=False)
    if evaluation.published:
        lines += ["", "Published, for the whole set:", "", "| method | metric | value | note |"]
        lines += ["|---|---|---|---|"]
        lines += [
            f"| {each.method} | {each.metric} | {each.value:g} | {each.note} |"
            for each in evaluation.published
        ]
    parts = [s for s in summaries if s.part != WHOLE]
    if parts:
        lines += ["", "## Parts", "", *_rows(parts, with_part=True)]
    lines += [
        "",
        "## How",
        "",
        f"{evaluation.date}, {evaluation.machine}; {evaluation.minutes:.1f} min with all seeds and "
        "baselines. Mean ± standard deviation over seeds. The recipe:",
        "",
        "```json",
        json.dumps(evaluation.recipe, indent=1),
        "```",
        "",
    ]
    return "\n".join(lines)


def _rows(summaries: list[Summary], *, with_part: bool) -> list[str]:
    """Return a table with a row for each method (and part) and a column for each metric."""
    metrics = list(dict.fromkeys(s.metric for s in summaries))
    shown: dict[tuple[str, str], dict[str, str]] = {}
    for s in summaries:
        spread = f" ± {s.spread:.3f}" if s.num_seeds > 1 else ""
        shown.setdefault((s.part, s.method), {})[s.metric] = f"{s.mean:.3f}{spread}"
    first = ["part", "method"] if with_part else ["method"]
    lines = [f"| {' | '.join([*first, *metrics])} |", "|---" * (len(first) + len(metrics)) + "|"]
    for (part, method), values in shown.items():
        cells = [
            *([part, method] if with_part else [method]),
            *(values.get(m, "") for m in metrics),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
