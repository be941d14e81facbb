"""mosquitto with a Sparkplug B edge node behind it, to try with.

``python -m tests.peers.sparkplug_node PORT FOLDER``: the node ``press`` of the group ``plant`` says
the metric ``Tank/Level`` every second until it is ended.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

from tests.peers.mqtt import SparkplugPeer


def main() -> None:
    peer = SparkplugPeer(Path(sys.argv[2]), port=int(sys.argv[1]))
    peer.start()
    print("ready", flush=True)  # noqa: T201
    try:
        for second in range(10**9):
            time.sleep(1.0)
            peer.say(50 + 10 * math.sin(second / 10))
    finally:
        peer.stop()


if __name__ == "__main__":
    main()
