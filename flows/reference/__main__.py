"""``python -m flows.reference FOLDER``: write every reference page; ``make reference`` does it."""

from __future__ import annotations

import sys
from pathlib import Path

from flows.reference.pages import pages
from flows.terminal import CONSOLE


def main() -> None:
    """Write the pages into the folder that is named."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m flows.reference FOLDER")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
        CONSOLE.print(f"written: {folder / name}")


if __name__ == "__main__":
    main()
