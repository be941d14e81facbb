"""``python -m tests.faults``: the fault campaign, see :mod:`tests.faults.campaign`."""

from __future__ import annotations

import sys

from tests.faults.campaign import main

try:
    sys.exit(main(sys.argv[1:]))
except KeyboardInterrupt:
    sys.exit("stopped; no broker, no process and no disk is left behind")
