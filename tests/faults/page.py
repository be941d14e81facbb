"""docs/reliability.md: what the campaign did, and what came of it. Written by the campaign."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.faults.harms import KINDS, UNHARMED
from tests.faults.picture import draw_recoveries
from tests.faults.poisons import reason_of
from tests.faults.prose import AGAIN, DONE, FOUND, HEAD, VERDICT
from tests.faults.run import Report

PICTURE = "pictures/reliability-recovery.svg"
ROOT = Path(__file__).parents[2]
KAFKA_POM = ROOT / "deploy" / "kafka" / "pom.xml"


def line(report: Report, number: int, total: int) -> str:
    """Return one run as a line for the terminal."""
    verdict = "ok" if not report.faults else "WRONG: " + "; ".join(report.faults)
    recovered = f" recovered in {max(report.recoveries_s):.1f} s" if report.recoveries_s else ""
    return (
        f"{number:4d}/{total} {report.kind:<30} {report.duration_s:5.1f} s  "
        f"{report.num_starts} starts {report.num_kills} kills {report.num_outages} outages"
        f"{recovered}  {verdict}"
    )


def save(reports: Sequence[Report], path: Path, *, duration_s: float) -> None:
    """Write what the page is made from."""
    content = {
        "about": {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "minutes": round(duration_s / 60),
            "machine": f"{os.cpu_count()} cores ({platform.machine()})",
            "python": platform.python_version(),
            "kafka": _kafka_version(),
            "commit": _commit(),
        },
        "runs": [vars(report) for report in reports],
    }
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def write(source: Path, path: Path) -> None:
    """Write the page from what :func:`save` wrote, and its picture beside it."""
    content = json.loads(source.read_text(encoding="utf-8"))
    reports = [Report(**run) for run in content["runs"]]
    by_kind = {
        kind.name: [report for report in reports if report.kind == kind.name]
        for kind in (UNHARMED, *KINDS)
    }
    by_kind = {name: own for name, own in by_kind.items() if own}
    picture = path.parent / PICTURE
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw_recoveries(
        {name: [t for each in own for t in each.recoveries_s] for name, own in by_kind.items()},
        picture,
    )
    about = {kind.name: kind.about for kind in (UNHARMED, *KINDS)}
    records = round(statistics.mean(report.num_records for report in reports), -1)
    lines = [
        *HEAD,
        *_summary(reports, content["about"]),
        "",
        *(text.format(records=f"{records:.0f}") for text in DONE),
        "",
        *_table(
            ["harm", "runs", "clean", "kills", "outages", "lost", "doubled", "recovery, s"],
            [
                *(_harm_row(name, about[name], own) for name, own in by_kind.items()),
                _harm_row("**all**", "", reports),
            ],
        ),
        "",
        f"![Time from each harm to the next committed transaction, by kind of harm]({PICTURE})",
        "",
        "## What became of the records",
        "",
        *_table(
            ["harm", "records", "scored", "late", "duplicate", "dead-lettered", "commands refused"],
            [
                *(_outcome_row(name, own) for name, own in by_kind.items()),
                _outcome_row("**all**", reports),
            ],
        ),
        "",
        *_reasons(reports),
        "",
        *VERDICT,
        "",
        *_poisons(reports),
        *FOUND,
        "",
        *AGAIN,
        *_not_clean(reports),
    ]
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def _summary(reports: Sequence[Report], about: Mapping[str, Any]) -> list[str]:
    num_clean = sum(not report.faults for report in reports)
    num_harmed = sum(report.kind != UNHARMED.name for report in reports)
    left_out = [kind.name for kind in KINDS if kind.name not in {r.kind for r in reports}]
    lost, doubled = _sum(r.num_lost for r in reports), _sum(r.num_doubled for r in reports)
    return [
        "",
        f"**{len(reports)} runs, {num_harmed} of them harmed: {num_clean} clean, "
        f"{len(reports) - num_clean} not. {_sum(r.num_records for r in reports)} records, "
        f"lost: {lost}, doubled: {doubled}.**",
        "",
        f"{about['date']}, {about['minutes']} min on {about['machine']}, Python {about['python']}, "
        f"Apache Kafka {about['kafka']}, commit {about['commit']}."
        + (f" Left out: {', '.join(left_out)}." if left_out else ""),
    ]


def _harm_row(name: str, about: str, own: Sequence[Report]) -> list[str]:
    recoveries_s = [t for report in own for t in report.recoveries_s]
    recovery = (
        f"{statistics.median(recoveries_s):.1f}, at most {max(recoveries_s):.1f}"
        if recoveries_s
        else ""
    )
    return [
        f"{name}: {about}" if about else name,
        str(len(own)),
        str(sum(not report.faults for report in own)),
        _sum(report.num_kills for report in own),
        _sum(report.num_outages for report in own),
        _sum(report.num_lost for report in own),
        _sum(report.num_doubled for report in own),
        recovery,
    ]


def _outcome_row(name: str, own: Sequence[Report]) -> list[str]:
    def total(outcome: str) -> str:
        return _sum(report.outcomes.get(outcome, 0) for report in own)

    return [
        name,
        _sum(report.num_records for report in own),
        *(total(outcome) for outcome in ("scored", "late", "duplicate", "dead_lettered")),
        _sum(report.num_commands for report in own),
    ]


def _reasons(reports: Sequence[Report]) -> list[str]:
    reasons: Counter[str] = Counter()
    for report in reports:
        reasons.update(report.reasons)
    counted = ", ".join(f"`{reason}` {count:,}" for reason, count in reasons.most_common())
    return [f"Why records and commands were dead-lettered: {counted}."]


def _poisons(reports: Sequence[Report]) -> list[str]:
    sent: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for report in reports:
        for kind, (num_sent, num_refused) in report.poisons.items():
            sent[kind] += num_sent
            refused[kind] += num_refused
    rows = [
        [kind, _code(reason_of(kind)), f"{count:,}", f"{refused[kind]:,}"]
        for kind, count in sorted(
            sent.items(), key=lambda each: (_code(reason_of(each[0])), each[0])
        )
    ]
    return [
        "## Every kind of poison",
        "",
        "Each is in every run at least once. Without a reason: usable, or late, or nobody can say",
        "beforehand (a picture with a hole may still be one); equal in every run all the same.",
        "",
        *_table(["poison", "must be refused as", "sent", "dead-lettered"], rows),
        "",
    ]


def _not_clean(reports: Sequence[Report]) -> list[str]:
    wrong = [report for report in reports if report.faults]
    if not wrong:
        return []
    return [
        "",
        "## Not clean",
        "",
        *(f"- {report.kind}, seed {report.seed}: {'; '.join(report.faults)}" for report in wrong),
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table: the first column is text, the others stand to the right."""
    return [
        f"| {' | '.join(head)} |",
        f"| --- |{' ---: |' * (len(head) - 1)}",
        *(f"| {' | '.join(cells)} |" for cells in rows),
    ]


def _code(text: str | None) -> str:
    return f"`{text}`" if text else ""


def _sum(counts: Iterable[int]) -> str:
    return f"{sum(counts):,}"


def _commit() -> str:
    """Return the state of the product that was harmed; with a plus where files differ from it."""
    asked = ["git", "describe", "--always", "--dirty=+"]
    said = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"


def _kafka_version() -> str:
    text = KAFKA_POM.read_text(encoding="utf-8")
    _, _, described = text.partition("<artifactId>kafka_2.13</artifactId>")
    return described.partition("<version>")[2].partition("<")[0]


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
