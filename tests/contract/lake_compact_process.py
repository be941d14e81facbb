"""A process that joins the files of a lake over and over, until it is killed.

Run by test_lake_crashes.py. It says ``compacting`` on standard output before each round, so that
its killer can aim.
"""

from __future__ import annotations

import sys

from connectors.delta_lake import DeltaUpkeep
from fusion.errors import LakeUnavailableError


def main(uri: str) -> None:
    """Compact every topic of the lake at ``uri``, for ever."""
    upkeep = DeltaUpkeep(uri)
    while True:
        sys.stdout.write("compacting\n")
        sys.stdout.flush()
        for topic in upkeep.topics():
            try:
                upkeep.compact(topic, target_bytes=30_000)
            except LakeUnavailableError:  # another one was faster: the next round sees its work
                continue


if __name__ == "__main__":
    main(sys.argv[1])
