"""The simulated rig as the chain would have recorded it, without a broker or a lake."""

from __future__ import annotations

from collections.abc import Iterator

from fusion.alignment import Observation
from fusion.plant import NANOSECONDS, Plant, StreamSender
from fusion.schema import Record
from fusion.simulation import Scenario, simulate
from fusion.simulation.dynamics import BLOCK_S
from fusion.stream.intake import align_recorded


def rig_observations(scenario: Scenario, plant: Plant) -> Iterator[Observation]:
    """Yield the ticks of a simulated run: encoded, decoded and aligned as live ones are.

    Raises:
        InputError: ``plant`` is not a description of the simulated rig.
    """
    return align_recorded(_records(scenario, plant), plant)


def _records(scenario: Scenario, plant: Plant) -> Iterator[Record]:
    senders = {
        stream.name: StreamSender(plant, stream.name, source="simulator", epoch="0")
        for stream in plant.streams
    }
    offsets = dict.fromkeys(plant.sense_topics, 0)
    # Read back long after: no record lies in the broker's future.
    t_read_ns = scenario.t_start_ns + round((scenario.duration_s + BLOCK_S) * NANOSECONDS)
    for payload in simulate(scenario, plant):
        message = senders[payload.stream].message(payload)
        yield Record(
            topic=message.topic,
            partition=0,
            offset=offsets[message.topic],
            key=message.key,
            value=message.value,
            headers=message.headers,
            t_broker_ns=t_read_ns,
        )
        offsets[message.topic] += 1
