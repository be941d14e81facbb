"""A subscription to an OPC UA server that keeps times and status, and notices when it dies.

Everything happens inside :meth:`OpcUaSession.read`: between two calls the server's own queues hold
what comes, so a slow reader costs no memory here.
"""

# pyright: reportPrivateImportUsage=false, reportArgumentType=false
# (asyncua exports nothing by name, and its types are those of the wire.)

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from asyncua import Client, ua
from pydantic import SecretStr

from connectors.opcua.bounding import BoundedClient
from connectors.opcua.connecting import connect, drop, explained
from connectors.opcua.history import HistoryPatience, HistoryReader
from connectors.opcua.nodes import find_nodes, read_units
from connectors.opcua.values import come_to_ns, reading_of, time_ns
from fusion.errors import DeviceUnavailableError, InputError
from fusion.plant import NANOSECONDS
from fusion.plant.devices import NodeSource, OpcUaDevice
from fusion.ports import Clock, Observed, Reading, Unusable
from fusion.schema import Quality

ITEMS_PER_REQUEST = 1_000
MAX_WAITING = 500_000
"""Readings that came and were not given out: ten seconds of the largest server that is planned."""
CLOSE_S = 2.0
CLOCK_S = 0.5
"""How often the server is to tell its time. Not every stack stamps its keep-alives, so it is an
item of the subscription like any other."""
CLOCK_HANDLE = 0
"""Nodes count from 1."""
LAST_SEQUENCE = 2**32 - 1
"""Of notification messages; after it comes 1 (Part 4, 7.22 and 5.14.1.1)."""

_Result = TypeVar("_Result")


class OpcUaSession:
    """Implements :class:`fusion.ports.DeviceSession` for one OPC UA server.

    ``patience`` is what the sessions before this one learnt of the server's history.

    Raises:
        DeviceUnavailableError, DeviceRefusedError: No connection.
        InputError: A namespace, or every node of the plant file, is not there.
    """

    def __init__(
        self,
        device: OpcUaDevice,
        position: str | None,
        *,
        clock: Clock,
        password: SecretStr | None = None,
        patience: HistoryPatience | None = None,
    ) -> None:
        self._device = device
        self._clock = clock
        self._patience = HistoryPatience() if patience is None else patience
        self._newest_ns: dict[str, int] = {} if position is None else json.loads(position)
        self._since_ns = dict(self._newest_ns)
        self._waiting: deque[Observed] = deque()
        self._came = asyncio.Event()
        self._sources: tuple[NodeSource, ...] = ()
        self._is_known: list[bool] = []
        self._units: dict[str, str] = {}
        self._holds_until_ns: int | None = None
        self._lost: str | None = None
        self._sequence = 0
        self._t_heard_ns = clock.monotonic_ns()
        self._t_server_ns = 0
        self._client: BoundedClient | None = None
        self._history: HistoryReader | None = None
        self._past_end_ns = 0
        # Its own loop: asyncua's tasks go on while somebody reads, and nobody else is bothered.
        self._runner = asyncio.Runner()
        try:
            with explained(device):
                self._run(self._open(password))
        except BaseException:
            self.close()
            raise

    @property
    def units(self) -> Mapping[str, str]:
        """The display names of the nodes' EngineeringUnits, by tag."""
        return self._units

    @property
    def is_ended(self) -> bool:
        """A server never ends."""
        return False

    @property
    def holds_until_ns(self) -> int | None:
        """The server's time when it last said that it is there."""
        return self._holds_until_ns

    def read(self, *, timeout_s: float) -> Sequence[Observed]:
        """Return the notifications that came, and values of the past while some are missing."""
        with explained(self._device):
            try:
                self._run(self._wait(timeout_s))
            except (OSError, ua.UaError) as failed:
                # asyncua tells who waits only that the connection is closed.
                raise (self._said_too_much() or failed) from failed
        if not self._waiting:
            self._require_life()
        found = list(self._waiting)
        self._waiting.clear()
        for each in found:
            if isinstance(each, Reading):
                before_ns = self._newest_ns.get(each.stream, 0)
                self._newest_ns[each.stream] = come_to_ns(before_ns, each)
        return found

    def position(self) -> str:
        """Return the newest source time of each stream; of none before its past is complete."""
        return json.dumps(self._newest_ns if self._history is None else self._since_ns)

    def close(self) -> None:
        """Close session and channel, or give up after two seconds."""
        client, self._client = self._client, None
        if client is not None:
            self._run(_part(client))
        self._runner.close()

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return self._runner.run(work)

    async def _open(self, password: SecretStr | None) -> None:
        device = self._device
        self._client = await asyncio.wait_for(
            connect(device, password), timeout=4 * device.timeout_s
        )
        self._sources, node_ids = await find_nodes(self._client, device.nodes)
        self._units = await read_units(self._client, self._sources, node_ids)
        # History first: what it gives is older than what the subscription will.
        if device.history and self._since_ns:
            self._history = HistoryReader(
                self._client,
                device,
                self._sources,
                node_ids,
                self._since_ns,
                clock=self._clock,
                patience=self._patience,
            )
            self._past_end_ns = self._history.end_ns
        await self._subscribe(self._client, node_ids)

    async def _subscribe(self, client: Client, node_ids: Sequence[ua.NodeId]) -> None:
        device = self._device
        publishing_s = min(device.publishing_s, device.watchdog_s / 3)
        keep_alive = max(1, round(CLOCK_S / publishing_s))
        made = await client.uaclient.create_subscription(
            ua.CreateSubscriptionParameters(
                RequestedPublishingInterval=publishing_s * 1_000,
                RequestedMaxKeepAliveCount=keep_alive,
                RequestedLifetimeCount=max(10 * keep_alive, round(60 / publishing_s)),
                MaxNotificationsPerPublish=10_000,
                PublishingEnabled=True,
                Priority=0,
            ),
            self._on_publish,
        )
        await client.uaclient.create_monitored_items(
            ua.CreateMonitoredItemsParameters(
                SubscriptionId=made.SubscriptionId,
                TimestampsToReturn=ua.TimestampsToReturn.Both,
                ItemsToCreate=[
                    _item(
                        CLOCK_HANDLE,
                        ua.NodeId(ua.ObjectIds.Server_ServerStatus_CurrentTime),
                        sampling_s=CLOCK_S,
                        queue_size=1,
                    )
                ],
            )
        )
        self._is_known = [True] * len(node_ids)
        for start in range(0, len(node_ids), ITEMS_PER_REQUEST):
            await self._monitor(client, made.SubscriptionId, node_ids, start)
        if not any(self._is_known):
            raise InputError(
                f"the nodes of {device.name} must be on its server, and none of "
                f"{len(node_ids)} is, not even {self._sources[0].node!r}; "
                "`fusion edge discover` lists what is there"
            )

    async def _monitor(
        self, client: Client, subscription: int, node_ids: Sequence[ua.NodeId], start: int
    ) -> None:
        part = range(start, min(start + ITEMS_PER_REQUEST, len(node_ids)))
        results = await client.uaclient.create_monitored_items(
            ua.CreateMonitoredItemsParameters(
                SubscriptionId=subscription,
                TimestampsToReturn=ua.TimestampsToReturn.Both,
                ItemsToCreate=[
                    _item(
                        index + 1,
                        node_ids[index],
                        sampling_s=self._device.sampling_s,
                        queue_size=self._device.queue_size,
                    )
                    for index in part
                ],
            )
        )
        for index, result in zip(part, results, strict=True):
            if result.StatusCode.is_good():
                continue
            self._is_known[index] = False
            source, now_ns = self._sources[index], self._clock.now_ns()
            bad = (now_ns, now_ns, now_ns, int(result.StatusCode.value))
            self._waiting += [
                Unusable(source.stream, f"{source.node}: {result.StatusCode.name}"),
                Reading(source.stream, source.tag, float("nan"), Quality.BAD, *bad),
            ]

    async def _on_publish(self, result: ua.PublishResult) -> None:
        """Take what the server tells; it comes in the order in which the server saw it."""
        t_receive_ns = self._clock.now_ns()
        if not self._follows(result.NotificationMessage):
            self._came.set()
            return
        for told in result.NotificationMessage.NotificationData or ():
            if isinstance(told, ua.DataChangeNotification):
                for item in told.MonitoredItems:
                    if item.ClientHandle == CLOCK_HANDLE:
                        self._note_clock(item.Value)
                    else:
                        self._take(self._sources[item.ClientHandle - 1], item.Value, t_receive_ns)
            elif isinstance(told, ua.StatusChangeNotification):
                self._lost = f"the server ended the subscription: {told.Status}"
        if len(self._waiting) > MAX_WAITING:
            self._lost = f"more than {MAX_WAITING} values came at once"
        self._came.set()

    def _follows(self, message: ua.NotificationMessage) -> bool:
        """Return whether no notification is missing before ``message``.

        asyncua drops what it cannot decode and goes on. What comes after a hole is not taken: a
        position behind the hole would hide it from the server's history.
        """
        next_number = self._sequence % LAST_SEQUENCE + 1
        is_keep_alive = not message.NotificationData  # it has the number of the one to come
        came = message.SequenceNumber
        if came != next_number and not (is_keep_alive and came <= self._sequence):
            self._lost = self._lost or (
                f"notification {next_number} is missing, {came} came: it was lost or cannot be read"
            )
        elif not is_keep_alive:
            self._sequence = came
        return self._lost is None

    def _take(self, source: NodeSource, data: ua.DataValue, t_receive_ns: int) -> None:
        reading = reading_of(source, data, t_receive_ns=t_receive_ns)
        if reading.t_source_ns <= self._said_ns(source.stream):
            # A new subscription begins with what was said before: it holds still.
            now_ns = max(self._t_server_ns, reading.t_server_ns, reading.t_source_ns)
            reading = reading._replace(t_source_ns=now_ns)
        self._waiting.append(reading)

    def _note_clock(self, data: ua.DataValue) -> None:
        """Take the server's time: that it goes on is the sign of life."""
        stamp = None if data.Value is None else data.Value.Value
        t_server_ns = time_ns(stamp) if isinstance(stamp, datetime) else 0
        if 0 < t_server_ns < self._t_server_ns - NANOSECONDS:
            self._lost = "the server's clock was set back; what it stamped before is in the future"
        elif t_server_ns > self._t_server_ns:
            self._t_server_ns = self._holds_until_ns = t_server_ns
            self._t_heard_ns = self._clock.monotonic_ns()

    def _said_ns(self, stream: str) -> int:
        """Return up to when everything of ``stream`` was said, or will be by its history."""
        since_ns = self._since_ns.get(stream, 0)
        return max(since_ns, self._past_end_ns) if since_ns else 0

    async def _wait(self, timeout_s: float) -> None:
        if self._history is not None and not self._waiting:
            self._waiting += await self._history.next()
            if self._history.is_done:
                self._history = None
        if self._waiting or self._lost is not None:
            return
        self._came.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._came.wait(), timeout_s)

    def _said_too_much(self) -> ConnectionError | None:
        return None if self._client is None else self._client.bound.broken

    def _require_life(self) -> None:
        # Why the connection was closed goes before what is missing for it.
        if (broken := self._said_too_much()) is not None:
            self._lost = str(broken)
        silent_s = (self._clock.monotonic_ns() - self._t_heard_ns) / NANOSECONDS
        if self._lost is None and silent_s > self._device.watchdog_s:
            self._lost = (
                f"the server's clock was not heard, or stood still, for {silent_s:.1f} s "
                f"(watchdog_s is {self._device.watchdog_s:g})"
            )
        if self._lost is not None:
            raise DeviceUnavailableError(
                f"{self._device.name} at {self._device.endpoint} is lost: {self._lost}; "
                "connecting again"
            )


async def _part(client: Client) -> None:
    try:
        await asyncio.wait_for(client.disconnect(), CLOSE_S)
    except Exception:  # noqa: BLE001 it may be what is broken; nothing more is wanted of it
        await drop(client)


def _item(
    handle: int, node_id: ua.NodeId, *, sampling_s: float, queue_size: int
) -> ua.MonitoredItemCreateRequest:
    return ua.MonitoredItemCreateRequest(
        ItemToMonitor=ua.ReadValueId(NodeId=node_id, AttributeId=ua.AttributeIds.Value),
        MonitoringMode=ua.MonitoringMode.Reporting,
        RequestedParameters=ua.MonitoringParameters(
            ClientHandle=handle,
            SamplingInterval=sampling_s * 1_000,
            # The same value measured again is news too.
            Filter=ua.DataChangeFilter(Trigger=ua.DataChangeTrigger.StatusValueTimestamp),
            QueueSize=queue_size,
            DiscardOldest=True,
        ),
    )
