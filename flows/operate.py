"""What operators do from the terminal: read alarms, their journal and figures; send commands."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from flows import wiring
from flows.settings import Settings
from fusion.alarms.journal import broken_links
from fusion.errors import InputError
from fusion.plant import NANOSECONDS, Plant
from fusion.ports import Source
from fusion.schema import AlarmCommand, AlarmConfig, AlarmEvent, AlarmState, Message, Record, Score
from fusion.schema.alarms import Action
from fusion.stream.alarm_topics import KeptAlarms, kept_of
from fusion.stream.checkpoint import newest_by_key

PATIENCE_S = 10.0
"""A live process answers within a fraction of a second; it may be away."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a command."""

    is_accepted: bool
    why: str = ""
    """Of a refusal."""
    state: AlarmState | None = None
    """Of the alarm afterwards; None where there is no such alarm."""


def kept_alarms(plant: Plant, settings: Settings) -> KeptAlarms:
    """Return how the alarms of ``plant`` are defined and how they are now."""
    newest = newest_by_key(wiring.read_topic(settings, plant, "alarms"))
    return kept_of(str(plant.address), newest)


def alarm_states(plant: Plant, settings: Settings) -> dict[str, AlarmState]:
    """Return the present state of every alarm of ``plant``, by name."""
    return kept_alarms(plant, settings).states


def alarm_configs(plant: Plant, settings: Settings) -> dict[str, AlarmConfig]:
    """Return how every alarm of ``plant`` is defined, by name."""
    return kept_alarms(plant, settings).configs


def alarm_events(plant: Plant, settings: Settings) -> list[AlarmEvent]:
    """Return every journal line of the plants of the prefix, in the order of publishing."""
    values = _values(plant, settings, "alarm-events")
    return [AlarmEvent.model_validate_json(value) for value in values]


def journal(plant: Plant, settings: Settings) -> tuple[list[AlarmEvent], list[str]]:
    """Return the journal of ``plant``, and in words where its chain is broken."""
    records = wiring.read_topic(settings, plant, "alarm-events")
    own = [record for record in records if record.key == str(plant.address)]
    events = [AlarmEvent.model_validate_json(record.value) for record in own]
    return events, broken_links((record.headers, record.value) for record in own)


def scores(plant: Plant, settings: Settings) -> list[Score]:
    """Return every score of ``plant``, in the order of publishing."""
    return [Score.model_validate_json(value) for value in _values(plant, settings, "scores")]


def command(
    plant: Plant, settings: Settings, *, name: str, action: Action, who: str, **told: Any
) -> AlarmCommand:
    """Return a command to the alarm ``name`` as it is seen now; nothing is sent yet.

    Raises:
        InputError: There is no such alarm, or a word is too long.
    """
    states = alarm_states(plant, settings)
    if name not in states:
        raise InputError(
            f"a command must name an alarm, got {name!r}; `fusion alarms list` knows "
            f"{sorted(states) or 'none yet: is `fusion live` running?'}"
        )
    asked = {
        "id": str(uuid.uuid4()),
        "plant": str(plant.address),
        "name": name,
        "action": action,
        "expected_revision": states[name].revision,
        "who": who,
        "t_ns": wiring.open_clock().now_ns(),
    }
    try:
        return AlarmCommand.model_validate(asked | told)
    except ValidationError as invalid:
        wrong = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}, got {each['input']!r}"
            for each in invalid.errors(include_url=False)
        )
        raise InputError(f"a command must keep to its limits, but {wrong}; mend that") from invalid


def ask(
    plant: Plant, settings: Settings, asked: AlarmCommand, *, patience_s: float = PATIENCE_S
) -> Answer | None:
    """Send ``asked`` and return its answer; None when none came in ``patience_s``.

    Then it waits on the topic, and is answered when a live process reads it.

    Raises:
        BrokerUnavailableError: Nothing was sent.
    """
    answers = (plant.topic("alarm-events"), plant.topic("dead-letters"))
    with contextlib.ExitStack() as stack:
        source = wiring.open_source(settings, answers, f"asks-{asked.id}")
        stack.callback(source.close)
        source.seek(source.end_offsets())
        publisher = wiring.open_publisher(settings)
        stack.callback(publisher.close)
        publisher.publish([_message(plant, asked)])
        return _listen(source, asked.id, patience_s)


def _message(plant: Plant, asked: AlarmCommand) -> Message:
    return Message(
        topic=plant.topic("alarm-commands"),
        key=str(plant.address),
        value=asked.model_dump_json().encode(),
        headers={"ce_id": asked.id, "content-type": "application/json"},
    )


def _listen(source: Source, command_id: str, patience_s: float) -> Answer | None:
    clock = wiring.open_clock()
    deadline_ns = clock.monotonic_ns() + round(patience_s * NANOSECONDS)
    while clock.monotonic_ns() < deadline_ns:
        for record in source.poll(timeout_s=0.2):
            if (answer := _answer_in(record, command_id)) is not None:
                return answer
    return None


def _answer_in(record: Record, command_id: str) -> Answer | None:
    headers: Mapping[str, str] = record.headers
    if record.topic.endswith(".dead-letters"):
        is_ours = headers.get("original-ce_id") == command_id
        return Answer(is_accepted=False, why=headers["message"]) if is_ours else None
    if not headers.get("ce_id", "").startswith(f"{command_id}:"):
        return None
    event = AlarmEvent.model_validate_json(record.value)
    if event.command != command_id:
        return None
    is_refused = event.transition == "refused"
    why = event.note if is_refused else ""
    return Answer(is_accepted=not is_refused, why=why, state=event.state)


def _values(plant: Plant, settings: Settings, kind: str) -> Sequence[bytes]:
    return [record.value for record in wiring.read_topic(settings, plant, kind)]
