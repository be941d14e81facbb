"""The simulated rig in a process of its own: some past at once, then as time passes.

    python -m tests.e2e.operators.rig PLANT

Every :data:`PERIOD_S` somebody knocks the camera aside for :data:`FAULT_S`. It ends with its
parent.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

from flows import wiring
from flows.cli.plant import load_plant
from flows.replay_payloads import sent_ns
from flows.settings import Settings
from fusion.plant import NANOSECONDS, StreamSender
from fusion.schema import Message
from fusion.simulation import EPOCH_NS, FaultInterval, Scenario, simulate

PAST_S = 90
"""So much lies behind when it begins: models need a window, trends something to show."""
PERIOD_S, FAULT_S = 60, 20
LASTS_S = 1_800


SCENARIO = Scenario(
    duration_s=PAST_S + LASTS_S,
    seed=8,
    t_start_ns=EPOCH_NS + 3_600 * NANOSECONDS,
    faults=tuple(
        FaultInterval("camera_moved", onset_s, onset_s + FAULT_S)
        for onset_s in range(PAST_S + PERIOD_S, PAST_S + LASTS_S - FAULT_S, PERIOD_S)
    ),
)
"""Always of the same hour, whenever it runs: the rig is another one in the afternoon."""


def main() -> None:
    """Send until the parent has gone."""
    plant = load_plant(Path(sys.argv[1]))
    parent = os.getppid()
    source, epoch = "rig", str(time.time_ns())
    later_ns = time.time_ns() - PAST_S * NANOSECONDS - SCENARIO.t_start_ns
    senders = {
        stream.name: StreamSender(plant, stream.name, source=source, epoch=epoch)
        for stream in plant.streams
    }
    with contextlib.closing(wiring.open_sender(Settings.load(), plant, source=source)) as publisher:
        due: list[Message] = []
        for payload in simulate(SCENARIO, plant):
            wait_s = (sent_ns(payload) + later_ns - time.time_ns()) / NANOSECONDS
            if wait_s > 0 or len(due) >= 500:
                publisher.publish(due)
                due = []
                time.sleep(max(0.0, wait_s))
            due.append(senders[payload.stream].message(payload))
            if os.getppid() != parent:
                return


if __name__ == "__main__":
    main()
