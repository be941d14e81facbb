"""The table of laws and peers in the documents names tests that there are."""

from __future__ import annotations

import re

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "connect-your-plant.md"


def test_every_test_that_the_page_names_is_there() -> None:
    said = PAGE.read_text(encoding="utf-8")
    table = said[said.index("## How it is tested") :]
    names = set(re.findall(r"`(test_\w+)`", table))
    files = set(re.findall(r"`(tests/[\w/]+\.py)`", table))
    assert len(names) >= 15
    there = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")
    )
    assert sorted(name for name in names if f"def {name}(" not in there) == []
    assert sorted(file for file in files if not (ROOT / file).is_file()) == []


def test_every_mark_in_the_table_is_explained() -> None:
    said = PAGE.read_text(encoding="utf-8")
    laws, tests = said[said.index("## How it is tested") :].split("| | test |")
    marks = set(re.findall(r"\b[A-Z]\d\b", laws.split("| law |")[1]))
    explained = set(re.findall(r"\b[A-Z]\d\b", tests))
    assert marks
    assert marks <= explained
