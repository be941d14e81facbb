"""A Sparkplug B host application: births, deaths, aliases, sequence numbers (Sparkplug 3.0.0).

A node says once (NBIRTH, DBIRTH) what its metrics are, then only what changed, by alias. Whoever
missed a message knows it by a gap in ``seq`` and asks for the births again, not too often.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from connectors.mqtt.interpreter import Publication
from connectors.mqtt.sparkplug_pb2 import Payload
from fusion.plant import NANOSECONDS
from fusion.plant.devices import MetricSource, SparkplugDevice
from fusion.ports import Clock, Observed, Reading, Unusable
from fusion.schema import Quality

NAMESPACE = "spBv1.0"
MAX_METRICS = 20_000
"""Of one node or device: a birth with more is refused."""
MAX_LAG_NS = 86_400 * NANOSECONDS
"""Further off is no clock, but nonsense in one message; what others hold is not dated by it."""
_MILLISECOND_NS = 1_000_000
_INT_BITS = {1: 8, 2: 16, 3: 32, 4: 64}
"""Signed data types and their bits; they travel as two's complement (6.4.1)."""
_QUALITY_GOOD, _QUALITY_STALE = 192, 500
_NODE_TYPES = {"NBIRTH", "NDATA", "NDEATH"}
_DEVICE_TYPES = {"DBIRTH", "DDATA", "DDEATH"}


@dataclass
class _Node:
    """What is known of one edge node."""

    is_born: bool = False
    seq: int = -1
    birth_seq: int | None = None
    """``bdSeq`` of its birth: a death certificate with another one is of an earlier session."""
    names: dict[str, dict[int, str]] = field(default_factory=dict[str, dict[int, str]])
    """Per device ("" is the node itself): alias to name."""
    t_asked_ns: int | None = None
    num_gaps: int = 0


class SparkplugHost:
    """Implements :class:`connectors.mqtt.interpreter.Interpreter` for Sparkplug B."""

    def __init__(self, device: SparkplugDevice, *, clock: Clock) -> None:
        self._device = device
        self._clock = clock
        self._nodes = {source.node: _Node() for source in device.metrics}
        self._by_name: dict[tuple[str, str, str], list[MetricSource]] = {}
        for source in device.metrics:
            key = (source.node, source.device, source.metric)
            self._by_name.setdefault(key, []).append(source)
        self._devices = {(source.node, source.device) for source in device.metrics}
        self._lag_ns = 0
        self._t_connect_ms = clock.now_ns() // _MILLISECOND_NS
        self._state_topic = f"{NAMESPACE}/STATE/{device.host_id}" if device.host_id else None

    @property
    def keeps_session(self) -> bool:
        """No (5.3, clean session): what a node said before it is born again is not understood."""
        return False

    @property
    def filters(self) -> Sequence[str]:
        """Everything that the nodes of the plant file say, and what is said of this host (4.2)."""
        group = f"{NAMESPACE}/{self._device.group}"
        nodes = tuple(f"{group}/+/{node}{rest}" for node in self._nodes for rest in ("", "/+"))
        return nodes if self._state_topic is None else (self._state_topic, *nodes)

    @property
    def will(self) -> Publication | None:
        """What the broker is to say when this host is gone; of the time at which it connected."""
        return self._state(self._t_connect_ms, is_online=False)

    def on_connect(self) -> Sequence[Publication]:
        """Say that the host is there, and ask every node for its births: nobody keeps them."""
        for node in self._nodes.values():
            node.is_born = False
        state = self._state(self._t_connect_ms, is_online=True)
        asked = [each for name in self._nodes for each in self._ask_rebirth(name)]
        return ([] if state is None else [state]) + asked

    def on_close(self) -> Sequence[Publication]:
        """Say that the host leaves: after a goodbye the broker says nothing for it (5.14)."""
        now_ms = self._clock.now_ns() // _MILLISECOND_NS
        state = self._state(max(now_ms, self._t_connect_ms), is_online=False)
        return [] if state is None else [state]

    def holds_until_ns(self, now_ns: int) -> int | None:
        """Return now, by the nodes' clocks: they report by exception."""
        return now_ns - self._lag_ns

    def interpret(
        self, topic: str, payload: bytes, *, is_retained: bool, t_receive_ns: int
    ) -> tuple[Sequence[Observed], Sequence[Publication]]:
        """Return the readings of one message, and a request for births where one is missing."""
        if topic == self._state_topic:
            return self._on_own_state(topic, payload, is_retained=is_retained)
        if is_retained:
            return (), ()
        return self._on_node_topic(topic, payload, t_receive_ns)

    def _on_node_topic(
        self, topic: str, payload: bytes, t_receive_ns: int
    ) -> tuple[Sequence[Observed], Sequence[Publication]]:
        parts = topic.split("/")
        if len(parts) not in {4, 5} or parts[3] not in self._nodes:
            return (), ()
        kind, name, device = parts[2], parts[3], parts[4] if len(parts) == 5 else ""
        if kind not in (_DEVICE_TYPES if device else _NODE_TYPES):
            return (), ()
        said = Payload()
        try:
            said.ParseFromString(payload)
        except DecodeError as broken:
            return [Unusable(self._stream(name), f"{topic}: {broken}")], self._ask_rebirth(name)
        if len(said.metrics) > MAX_METRICS:
            why = f"{topic}: {len(said.metrics)} metrics, more than {MAX_METRICS}"
            return [Unusable(self._stream(name), why)], ()
        if kind == "NDEATH":
            return self._on_node_death(name, said, t_receive_ns), ()
        return self._on_message(kind, name, device, said, t_receive_ns)

    def _on_message(
        self, kind: str, name: str, device: str, said: Payload, t_receive_ns: int
    ) -> tuple[Sequence[Observed], Sequence[Publication]]:
        node = self._nodes[name]
        if kind == "NBIRTH":
            node.is_born, node.seq, node.names = True, said.seq, {}
            node.birth_seq = _birth_seq(said)
            node.t_asked_ns = None
        elif not node.is_born:
            return (), self._ask_rebirth(name)
        elif said.seq != (node.seq + 1) % 256:
            node.num_gaps += 1
            node.is_born = False
            why = (
                f"{name}: seq must be {(node.seq + 1) % 256}, got {said.seq}: a message is missing"
            )
            return [Unusable(self._stream(name), why)], self._ask_rebirth(name)
        node.seq = said.seq
        if device and (name, device) not in self._devices:
            return (), ()  # Only its number counts: nobody bounds how many a node may invent.
        if kind.endswith("BIRTH"):
            node.names[device] = {
                metric.alias: metric.name for metric in said.metrics if metric.HasField("alias")
            }
        elif kind == "DDEATH":
            node.names.pop(device, None)
            return self._stale(name, t_receive_ns, device=device), ()
        elif device not in node.names:
            return (), self._ask_rebirth(name)
        return self._metrics(name, device, said, t_receive_ns)

    def _metrics(
        self, name: str, device: str, said: Payload, t_receive_ns: int
    ) -> tuple[Sequence[Observed], Sequence[Publication]]:
        names = self._nodes[name].names[device]
        found: list[Observed] = []
        for metric in said.metrics:
            called = metric.name or (names.get(metric.alias) if metric.HasField("alias") else None)
            if called is None:
                self._nodes[name].is_born = False
                return found, self._ask_rebirth(name)
            found += [
                self._reading(source, metric, said, t_receive_ns)
                for source in self._by_name.get((name, device, called), ())
            ]
        return found, ()

    def _reading(
        self, source: MetricSource, metric: Payload.Metric, said: Payload, t_receive_ns: int
    ) -> Reading:
        stamp_ms = metric.timestamp or said.timestamp
        t_source_ns = stamp_ms * _MILLISECOND_NS or t_receive_ns
        lag_ns = t_receive_ns - t_source_ns
        if not metric.is_historical and stamp_ms and abs(lag_ns) <= MAX_LAG_NS:
            # (A lag of a moment is the way; of an hour, another clock. Both belong to what holds.)
            self._lag_ns = lag_ns
        value, quality = _value(metric), _quality(metric)
        if math.isnan(value) and quality is Quality.GOOD:
            quality = Quality.BAD
        return Reading(
            source.stream, source.tag, value, quality, t_source_ns, t_source_ns, t_receive_ns
        )

    def _on_node_death(self, name: str, said: Payload, t_receive_ns: int) -> list[Reading]:
        node = self._nodes[name]
        birth_seq = _birth_seq(said)
        if None not in {birth_seq, node.birth_seq} and birth_seq != node.birth_seq:
            return []  # of a session before this one: its broker was late
        node.is_born, node.names = False, {}
        return self._stale(name, t_receive_ns, device=None)

    def _stale(self, name: str, t_receive_ns: int, *, device: str | None) -> list[Reading]:
        """Say of every tag of a node, or of one of its devices, that its value is old."""
        t_ns = t_receive_ns - self._lag_ns
        return [
            Reading(source.stream, source.tag, math.nan, Quality.STALE, t_ns, t_ns, t_receive_ns)
            for source in self._device.metrics
            if source.node == name and device in {None, source.device}
        ]

    def _ask_rebirth(self, name: str) -> list[Publication]:
        node, now_ns = self._nodes[name], self._clock.monotonic_ns()
        patience_ns = round(self._device.rebirth_s * NANOSECONDS)
        if node.t_asked_ns is not None and now_ns - node.t_asked_ns < patience_ns:
            return []
        node.t_asked_ns = now_ns
        command = Payload(timestamp=self._clock.now_ns() // _MILLISECOND_NS)
        command.metrics.add(name="Node Control/Rebirth", datatype=11, boolean_value=True)
        topic = f"{NAMESPACE}/{self._device.group}/NCMD/{name}"
        return [Publication(topic, command.SerializeToString())]

    def _on_own_state(
        self, topic: str, payload: bytes, *, is_retained: bool
    ) -> tuple[Sequence[Observed], Sequence[Publication]]:
        """Contradict who says that this host is gone, such as a will that comes late (5.3)."""
        try:
            said = json.loads(payload)
        except (ValueError, RecursionError) as wrong:
            why = f"{topic}: {type(wrong).__name__} {wrong}"[:300]
            return [Unusable(self._device.streams[0], why)], ()
        is_gone = isinstance(said, dict) and said.get("online") is False
        state = self._state(self._t_connect_ms, is_online=True)
        return (), [state] if is_gone and not is_retained and state is not None else []

    def _state(self, stamp_ms: int, *, is_online: bool) -> Publication | None:
        if self._state_topic is None:
            return None
        said = json.dumps({"online": is_online, "timestamp": stamp_ms})
        return Publication(self._state_topic, said.encode(), is_retained=True, qos=1)

    def _stream(self, name: str) -> str:
        return next(source.stream for source in self._device.metrics if source.node == name)


def _birth_seq(said: Payload) -> int | None:
    for metric in said.metrics:
        if metric.name == "bdSeq":
            return metric.long_value or metric.int_value
    return None


def _value(metric: Payload.Metric) -> float:
    """Return the metric as a number; NaN where it is null, a text, or of another kind."""
    kind = metric.WhichOneof("value")
    if metric.is_null or kind is None or kind == "string_value":
        return math.nan
    value = getattr(metric, kind)
    bits = _INT_BITS.get(metric.datatype)
    if bits is not None and kind in {"int_value", "long_value"}:
        value &= (1 << bits) - 1
        value -= (1 << bits) if value >> (bits - 1) else 0
    return float(value)


def _quality(metric: Payload.Metric) -> Quality:
    """Return what the property ``Quality`` says (6.4.8): 0 bad, 192 good, 500 stale."""
    if "Quality" not in metric.properties.keys:
        return Quality.GOOD
    index = list(metric.properties.keys).index("Quality")
    if index >= len(metric.properties.values):
        return Quality.UNCERTAIN
    said = metric.properties.values[index]
    code = said.int_value or said.long_value
    if code == _QUALITY_GOOD:
        return Quality.GOOD
    return Quality.STALE if code == _QUALITY_STALE else Quality.BAD
