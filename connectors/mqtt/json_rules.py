"""JSON that comes by MQTT to readings, by the rules of the plant file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from paho.mqtt.matcher import MQTTMatcher

from connectors.mqtt.interpreter import Publication
from fusion.plant.devices import JsonRule, JsonSource, MqttJsonDevice
from fusion.ports import Observed, Reading, Unusable
from fusion.schema import Quality

MAX_NUMBER_CHARACTERS = 400
"""Longer than any number that a double holds."""
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


class JsonRules:
    """Implements :class:`connectors.mqtt.interpreter.Interpreter` for JSON."""

    def __init__(self, device: MqttJsonDevice) -> None:
        self._device = device
        # (Ten thousand rules must not be tried for each of a thousand messages a second.)
        by_filter: dict[str, list[JsonRule]] = {}
        for rule in device.rules:
            by_filter.setdefault(rule.topic, []).append(rule)
        self._by_topic: dict[str, list[JsonRule]] = {}
        self._with_wildcards = MQTTMatcher()
        for topic_filter, rules in by_filter.items():
            if "+" in topic_filter or "#" in topic_filter:
                self._with_wildcards[topic_filter] = rules
            else:
                self._by_topic[topic_filter] = rules

    @property
    def keeps_session(self) -> bool:
        """Yes: what sensors say while nobody listens is wanted."""
        return True

    @property
    def will(self) -> Publication | None:
        """Nobody waits for us."""
        return None

    @property
    def filters(self) -> Sequence[str]:
        """The topic filters of the rules."""
        return tuple(dict.fromkeys(rule.topic for rule in self._device.rules))

    def on_connect(self) -> Sequence[Publication]:
        """Nobody has to be told."""
        return ()

    def on_close(self) -> Sequence[Publication]:
        """Nobody has to be told."""
        return ()

    def interpret(
        self, topic: str, payload: bytes, *, is_retained: bool, t_receive_ns: int
    ) -> tuple[Sequence[Observed], Sequence[Publication]]:
        """Return what one message says by every rule that its topic matches."""
        found: list[Observed] = []
        matching = chain.from_iterable(self._with_wildcards.iter_match(topic))
        for rule in (*self._by_topic.get(topic, ()), *matching):
            found += self._by_rule(rule, topic, payload, t_receive_ns, is_retained=is_retained)
        return found, ()

    def holds_until_ns(self, now_ns: int) -> int | None:
        """Return now where the plant file says that only changes are published."""
        return now_ns if self._device.on_change else None

    def _by_rule(
        self, rule: JsonRule, topic: str, payload: bytes, t_receive_ns: int, *, is_retained: bool
    ) -> list[Observed]:
        stream = rule.values[0].stream
        try:
            content = json.loads(payload)
            t_source_ns = self._time_ns(rule, content, t_receive_ns)
            quality = _quality(rule, content)
        except (ValueError, TypeError, RecursionError, KeyError, OverflowError) as wrong:
            return [Unusable(stream, f"{topic}: {type(wrong).__name__} {wrong}"[:300])]
        if is_retained and rule.time is None:
            # What the broker had kept: nobody knows how old it is.
            quality = Quality.STALE
        found: list[Observed] = []
        for source in rule.values:
            value = _look_up(content, source.path)
            if value is _ABSENT:
                if not source.is_optional:
                    found.append(Unusable(source.stream, f"{topic} has no {source.path!r}"))
                continue
            found.append(_reading(source, value, quality, t_source_ns, t_receive_ns))
        return found

    @staticmethod
    def _time_ns(rule: JsonRule, content: object, t_receive_ns: int) -> int:
        if rule.time is None:
            return t_receive_ns
        stamp = _look_up(content, rule.time)
        if rule.time_unit == "iso8601":
            moment = datetime.fromisoformat(str(stamp))
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
            return round(moment.timestamp() * 1_000_000) * 1_000
        if isinstance(stamp, bool) or not isinstance(stamp, int | float):
            raise TypeError(f"the time {rule.time!r} must be a number, got {stamp!r:.50}")
        if isinstance(stamp, int):
            return stamp * _NANOSECONDS[rule.time_unit]
        return round(stamp * _NANOSECONDS[rule.time_unit])


_ABSENT = object()


def _look_up(content: object, path: str) -> object:
    found: Any = content
    for part in path.split(".") if path else ():
        if isinstance(found, dict) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            return _ABSENT
    return found


def _quality(rule: JsonRule, content: object) -> Quality:
    if rule.quality is None:
        return Quality.GOOD
    said = _look_up(content, rule.quality)
    return Quality.GOOD if any(said == good for good in rule.good) else Quality.BAD


def _reading(
    source: JsonSource, value: object, quality: Quality, t_source_ns: int, t_receive_ns: int
) -> Reading:
    number = _number(value)
    if math.isnan(number) and quality is Quality.GOOD:
        quality = Quality.BAD
    times = (t_source_ns, t_source_ns, t_receive_ns)
    return Reading(source.stream, source.tag, number, quality, *times)


def _number(value: object) -> float:
    """Return a number, a boolean, or a text that is a number; else NaN."""
    if isinstance(value, str):
        value = value[:MAX_NUMBER_CHARACTERS]
    if not isinstance(value, bool | int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
