"""What operators do from the terminal: read the alarms, acknowledge one."""

from __future__ import annotations

import contextlib
import uuid

from flows import wiring
from flows.settings import Settings
from fusion.errors import InputError
from fusion.plant import Plant
from fusion.schema import AlarmCommand, AlarmEvent, AlarmState, Message, Score


def alarm_states(plant: Plant, settings: Settings) -> dict[str, AlarmState]:
    """Return the present state of every alarm of ``plant`` that ever changed, by name."""
    states = [AlarmState.model_validate_json(v) for v in _values(plant, settings, "alarms")]
    return {state.name: state for state in states}


def alarm_events(plant: Plant, settings: Settings) -> list[AlarmEvent]:
    """Return every transition of every alarm of ``plant``, in the order of publishing."""
    values = _values(plant, settings, "alarm-events")
    return [AlarmEvent.model_validate_json(value) for value in values]


def scores(plant: Plant, settings: Settings) -> list[Score]:
    """Return every score of ``plant``, in the order of publishing."""
    return [Score.model_validate_json(value) for value in _values(plant, settings, "scores")]


def acknowledge(plant: Plant, settings: Settings, *, name: str, who: str) -> AlarmCommand:
    """Ask the live process to acknowledge the alarm ``name``, and return what was asked.

    Raises:
        InputError: There is no such alarm, or it needs no acknowledgement.
    """
    states = alarm_states(plant, settings)
    state = states.get(name)
    if state is None:
        raise InputError(
            f"an alarm must exist to be acknowledged, got {name!r}; "
            f"`fusion alarms list` knows {sorted(states) or 'none yet'}"
        )
    if state.is_acknowledged:
        raise InputError(f"{name!r} is acknowledged already (revision {state.revision})")
    command = AlarmCommand(
        id=str(uuid.uuid4()),
        plant=str(plant.address),
        name=name,
        action="acknowledge",
        expected_revision=state.revision,
        who=who,
        t_ns=wiring.open_clock().now_ns(),
    )
    publisher = wiring.open_publisher(settings)
    with contextlib.closing(publisher):
        publisher.publish(
            [
                Message(
                    topic=plant.topic("alarm-commands"),
                    key=str(plant.address),
                    value=command.model_dump_json().encode(),
                    headers={"ce_id": command.id, "content-type": "application/json"},
                )
            ]
        )
    return command


def _values(plant: Plant, settings: Settings, kind: str) -> list[bytes]:
    return [record.value for record in wiring.read_topic(settings, plant, kind)]
