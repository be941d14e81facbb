"""Which alarms a plant has: its definitions, and an advisory for each finding that none covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fusion.alarms.state_machine import Delays
from fusion.errors import InputError
from fusion.plant import NANOSECONDS, AlarmDefinition, Plant, Tag, thresholds_of
from fusion.schema import AlarmConfig, AlarmState, Condition
from fusion.schema.alarms import AlarmFinding, AlarmKind

ADVISORY_ON_S, ADVISORY_OFF_S = 2.0, 10.0
SURPRISE_OFF = 0.7
"""Off-threshold of surprise, where on is 1: a deadband, so that an alarm does not flutter."""
FORECAST_ON, FORECAST_OFF = 0.5, 0.3
"""Chance of crossing the limit."""
SKEW_OFF = 0.7
"""Off-threshold of a skew, as a part of the plant's ``max_skew_s``."""
SKEW_ON_S, SKEW_OFF_S = 30.0, 60.0
INPUT_ON_S, INPUT_OFF_S = 5.0, 5.0
"""Of bad inputs: longer than one late record, shorter than an operator's patience."""
FLOOD = "flood"
NEVER = -(2**62)


@dataclass(frozen=True, slots=True)
class Watch:
    """One alarm, advisory or system alarm: what it looks at, how long that must last."""

    config: AlarmConfig
    side: int = 1
    """-1 where low values are the dangerous ones."""

    @property
    def name(self) -> str:
        """What it is called."""
        return self.config.name

    @property
    def delays(self) -> Delays:
        """How long a condition must last, in nanoseconds."""
        on_s, off_s = self.config.on_delay_s, self.config.off_delay_s
        return Delays(round(on_s * NANOSECONDS), round(off_s * NANOSECONDS))

    def initial(self) -> AlarmState:
        """Return the state of an alarm that nothing has happened to."""
        config = self.config
        return AlarmState(
            plant=config.plant,
            name=config.name,
            kind=config.kind,
            finding=config.finding,
            tag=config.tag,
            priority=config.priority,
            condition=Condition.NORMAL,
            is_acknowledged=True,
            revision=0,
            tick=NEVER,
            since_ns=0,
            asset=config.asset,
        )


def watches_of(plant: Plant) -> tuple[Watch, ...]:
    """Return the plant's alarms, then advisories, then alarms about the monitoring itself.

    Raises:
        InputError: An alarm of the plant file is called as an advisory is.
    """
    tags = plant.tags
    homes = {tag.name: stream.name for stream in plant.telemetry_streams for tag in stream.tags}
    watches = [_defined(plant, definition, tags, homes) for definition in plant.alarms]
    covered = {(watch.config.finding, watch.config.tag) for watch in watches}
    if ("surprise", None) not in covered:
        watches.append(_advisory(plant, "surprise", "surprise", 1.0, SURPRISE_OFF))
    for tag in plant.measured:
        if tag.limits is not None and ("forecast", tag.name) not in covered:
            name = f"forecast-{tag.name}"
            watches.append(
                _advisory(
                    plant,
                    name,
                    "forecast",
                    FORECAST_ON,
                    FORECAST_OFF,
                    tag=tag.name,
                    stream=homes[tag.name],
                )
            )
    watches += [
        _advisory(
            plant,
            f"skew-{stream.name}",
            "skew",
            1.0,
            SKEW_OFF,
            stream=stream.name,
            on_delay_s=SKEW_ON_S,
            off_delay_s=SKEW_OFF_S,
        )
        for stream in plant.streams
    ]
    watches += _about_itself(plant)
    names = [watch.name for watch in watches]
    if len(set(names)) != len(names):
        raise InputError(f"alarms must not be called as advisories are, got {sorted(names)}")
    return tuple(watches)


def _defined(
    plant: Plant,
    definition: AlarmDefinition,
    tags: Mapping[str, Tag],
    homes: Mapping[str, str],
) -> Watch:
    tag = definition.tag
    described = None if tag is None else tags[tag]
    on, off = thresholds_of(definition, described)
    is_limit = definition.finding == "limit"
    config = AlarmConfig(
        plant=str(plant.address),
        name=definition.name,
        kind="alarm",
        finding=definition.finding,
        tag=tag,
        unit=described.unit if described is not None and is_limit else "1",
        streams=_all_streams(plant) if tag is None else (homes[tag],),
        asset=definition.asset or plant.address.asset,
        priority=definition.priority,
        on=on,
        off=off,
        on_delay_s=definition.on_delay_s,
        off_delay_s=definition.off_delay_s,
        m_of_n=definition.m_of_n or (1, 1),
        is_latching=definition.latching,
        re_alarm_s=definition.re_alarm_s,
        suppressed_in=definition.suppressed_in,
        masked_by=definition.masked_by,
        cause=definition.cause,
        consequence=definition.consequence,
        action=definition.action,
        time_to_respond_s=definition.time_to_respond_s,
    )
    return Watch(config, side=-1 if definition.side == "low" else 1)


def _advisory(
    plant: Plant,
    name: str,
    finding: AlarmFinding,
    on: float,
    off: float,
    *,
    kind: AlarmKind = "advisory",
    tag: str | None = None,
    stream: str | None = None,
    on_delay_s: float = ADVISORY_ON_S,
    off_delay_s: float = ADVISORY_OFF_S,
    action: str = "",
) -> Watch:
    config = AlarmConfig(
        plant=str(plant.address),
        name=name,
        kind=kind,
        finding=finding,
        tag=tag,
        unit="1",
        streams=_all_streams(plant) if stream is None else (stream,),
        asset=plant.address.asset,
        priority="low",
        on=on,
        off=off,
        on_delay_s=on_delay_s,
        off_delay_s=off_delay_s,
        action=action,
    )
    return Watch(config)


def _about_itself(plant: Plant) -> list[Watch]:
    action = "Look at the sensor, its sender and the network; what needs it stays as it was."
    watches = [
        _advisory(
            plant,
            f"input-{stream.name}",
            "input",
            1.0,
            0.5,
            kind="system",
            stream=stream.name,
            action=action,
            on_delay_s=INPUT_ON_S,
            off_delay_s=INPUT_OFF_S,
        )
        for stream in plant.streams
    ]
    action = "Begin with the first of each asset; what follows from it needs no answer of its own."
    flood = _advisory(plant, FLOOD, "flood", 11.0, 5.0, kind="system", action=action)
    return [*watches, flood]


def _all_streams(plant: Plant) -> tuple[str, ...]:
    return tuple(stream.name for stream in plant.streams)
