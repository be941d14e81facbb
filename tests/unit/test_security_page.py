"""Every threat of docs/security.md names a test that is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"


def test_every_test_that_the_page_names_exists() -> None:
    rows = re.findall(r"\| `(tests/[\w/]+\.py)(?:::(\w+))?` \|", PAGE.read_text(encoding="utf-8"))
    assert len(rows) >= 14
    for file, name in rows:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert f"def {name}(" in text if name else "def test_" in text, (file, name)
