"""A device that goes on talking while the broker is away: everything arrives, in order, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.edge_device import void
from fusion.edge import DeviceRun
from tests.unit.edge.test_running import PLANT, Broker, Kept, Script, reading
from tests.unit.stream.test_spool import Machine

AWAY_S = 600
STEP_S = 1.0


@pytest.mark.parametrize("state", ["refusing", "silent"])
def test_ten_minutes_without_the_broker_lose_nothing_and_say_nothing_twice(
    tmp_path: Path, state: str
) -> None:
    machine = Machine(tmp_path)
    num_said = 100 + AWAY_S + 100
    told: list[object] = [[reading(n * STEP_S, float(n % 100))] for n in range(num_said)]
    script = Script(machine.clock, [*told, "ended"])
    run = DeviceRun(
        PLANT,
        PLANT.devices[0],
        open_session=script.open,
        publisher=machine.spool,
        positions=Kept(),
        clock=machine.clock,
        forward=lambda: void(machine.spool.flush(0.0)),
        num_waiting=lambda: machine.spool.waiting_records,
    )
    most_held = most_waiting = 0
    while run.step():
        machine.clock.pass_s(STEP_S - 0.1)
        machine.remote.state = "up" if not 100 <= script.num_read < 100 + AWAY_S else state
        most_held = max(most_held, len(run._unsent))
        most_waiting = max(most_waiting, machine.spool.waiting_records)
    assert machine.spool.flush(60)
    arrived = Broker()
    arrived.messages = list(machine.remote.log)
    assert arrived.values() == [float(n % 100) for n in range(num_said)]
    assert most_waiting >= AWAY_S
    assert most_held <= 1, "what waits is on disk, not in memory"
    machine.spool.close()


def test_a_full_spool_stops_the_reading_and_keeps_the_oldest(tmp_path: Path) -> None:
    machine = Machine(tmp_path, max_bytes=20_000)
    told: list[object] = [[reading(n * STEP_S, float(n % 100))] for n in range(200)]
    script = Script(machine.clock, [*told, "ended"])
    run = DeviceRun(
        PLANT,
        PLANT.devices[0],
        open_session=script.open,
        publisher=machine.spool,
        positions=Kept(),
        clock=machine.clock,
    )
    machine.remote.state = "refusing"
    for _ in range(150):
        run.step()
        machine.clock.pass_s(STEP_S)
    assert run.state == "waiting"
    num_read = script.num_read
    for _ in range(20):
        run.step()
    assert script.num_read == num_read < 150
    machine.remote.state = "up"
    while run.step():
        machine.clock.pass_s(STEP_S)
    assert machine.spool.flush(60)
    arrived = Broker()
    arrived.messages = list(machine.remote.log)
    assert arrived.values() == [float(n % 100) for n in range(200)]
    machine.spool.close()
