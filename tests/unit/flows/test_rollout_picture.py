"""The timeline of a rollout is the same for the same story, and tells who went back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from flows.demo.rollout_picture import BACK_COLOUR, Change, Sample, draw_timeline

VERSIONS = ("1-first", "2-degraded", "3-good")
SAMPLES = [
    Sample(tick, 0.3, "1-first" if tick < 60 else "3-good", {"1-first": 0.0, "3-good": 0.1})
    for tick in (*range(40), *range(45, 90))
]
CHANGES = [
    Change(0, {"1-first": "champion"}),
    Change(10, {"1-first": "champion", "2-degraded": "shadow"}),
    Change(25, {"1-first": "champion"}, taken_back=("2-degraded",)),
    Change(40, {"1-first": "champion", "3-good": "canary"}),
    Change(60, {"1-first": "stands by", "3-good": "champion"}),
]


def drawn(path: Path, changes: list[Change]) -> str:
    draw_timeline(SAMPLES, changes, versions=VERSIONS, tick_s=0.5, path=path)
    return path.read_text(encoding="utf-8")


def test_the_same_story_is_the_same_picture(tmp_path: Path) -> None:
    assert drawn(tmp_path / "a.svg", CHANGES) == drawn(tmp_path / "b.svg", CHANGES)


def test_only_a_version_that_went_back_has_a_cross(tmp_path: Path) -> None:
    told = drawn(tmp_path / "a.svg", CHANGES)
    untold = drawn(tmp_path / "b.svg", [dataclasses.replace(c, taken_back=()) for c in CHANGES])
    assert BACK_COLOUR in told
    assert BACK_COLOUR not in untold
