"""The page of the fault campaign adds up, hides nothing, and is equal for equal runs."""

from __future__ import annotations

from pathlib import Path

from tests.faults.page import save, write
from tests.faults.run import Report

RUNS = [
    Report("unharmed", 0, num_records=10, outcomes={"scored": 9, "dead_lettered": 1}),
    Report(
        "broker killed",
        1,
        num_outages=2,
        num_records=10,
        outcomes={"scored": 8, "dead_lettered": 1},
        poisons={"empty": [1, 1]},
        recoveries_s=[1.5, 2.5, 9.0],
        num_lost=1,
        faults=["telemetry: 10 records on the broker, but 9"],
    ),
]


def test_the_page_says_what_went_wrong_and_is_the_same_again(tmp_path: Path) -> None:
    save(RUNS, tmp_path / "runs.json", duration_s=90)
    pages = [tmp_path / "one" / "page.md", tmp_path / "other" / "page.md"]
    for page in pages:
        write(tmp_path / "runs.json", page)
    text = pages[0].read_text(encoding="utf-8")
    assert "**2 runs, 1 of them harmed: 1 clean, 1 not. 20 records, lost: 1, doubled: 0.**" in text
    assert "| broker killed | 10 | 8 | 0 | 0 | 1 | 0 |" in text
    assert "2.5, at most 9.0" in text
    assert "| empty | `wrong-schema` | 1 | 1 |" in text
    assert "- broker killed, seed 1: telemetry: 10 records on the broker, but 9" in text
    assert "Left out: killed after poll" in text, "kinds that were not done are named"
    written = [sorted(each for each in page.parent.rglob("*") if each.is_file()) for page in pages]
    assert [p.read_bytes() for p in written[0]] == [p.read_bytes() for p in written[1]]
    assert len(written[0]) == 2
