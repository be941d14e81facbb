"""Where ``fusion`` begins: what it needs takes seconds to import, and Ctrl-C is heard meanwhile.

``python -m flows.entry MODULE ARGUMENT...`` begins another module of the product in the same way.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from types import FrameType

STOPPED = 130
"""Exit status of what Ctrl-C has ended (128 and the number of the signal)."""


def main() -> None:
    """Begin the command line."""
    begin("flows.cli")


def begin(module: str) -> None:
    """Import ``module`` and run its ``main``."""
    heard = signal.getsignal(signal.SIGINT)
    if heard is signal.default_int_handler:  # (Who starts us may want Ctrl-C not to be heard.)
        signal.signal(signal.SIGINT, _stop)
    imported = importlib.import_module(module)
    signal.signal(signal.SIGINT, heard)
    imported.main()


def _stop(_signal: int, _frame: FrameType | None) -> None:
    # An exception could come out of any line of any library, and some catch all.
    os.write(2, b"stopped before it began; nothing was done\n")
    os._exit(STOPPED)


if __name__ == "__main__":
    module = sys.argv.pop(1)
    begin(module)
