"""Runs of the simulated rig as ticks, through the same codecs, gate and alignment as a real plant.

Everything here is simulated, and every figure made of it says so.
"""

from __future__ import annotations

from collections.abc import Iterator

from fusion.alignment import Observation
from fusion.plant import NANOSECONDS, Plant, StreamSender
from fusion.schema import Record
from fusion.simulation import Scenario, simulate
from fusion.stream.intake import align_recorded


def simulated_ticks(scenario: Scenario, plant: Plant) -> Iterator[Observation]:
    """Yield the ticks of a simulated run, as the live chain would have seen them.

    Raises:
        InputError: ``plant`` is not a description of the simulated rig.
    """
    return align_recorded(_records(scenario, plant), plant)


def _records(scenario: Scenario, plant: Plant) -> Iterator[Record]:
    """Yield what the rig's streams would have left on a broker, as JPEG, FLAC and Avro."""
    senders = {
        stream.name: StreamSender(plant, stream.name, source="simulator", epoch=str(scenario.seed))
        for stream in plant.streams
    }
    end_ns = scenario.t_start_ns + round(scenario.duration_s * NANOSECONDS)
    for offset, payload in enumerate(simulate(scenario, plant)):
        message = senders[payload.stream].message(payload)
        yield Record(
            topic=message.topic,
            partition=0,
            offset=offset,
            key=message.key,
            value=message.value,
            headers=message.headers,
            t_broker_ns=end_ns,
        )
