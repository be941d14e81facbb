"""What an OPC UA server remembers of the time in which nobody listened (Part 11, raw data)."""

# pyright: reportPrivateImportUsage=false, reportArgumentType=false
# (asyncua exports nothing by name, and its types are those of the wire.)

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from asyncua import Client, ua

from connectors.opcua.connecting import UNREADABLE
from connectors.opcua.values import datetime_of, reading_of
from fusion.plant import NANOSECONDS
from fusion.plant.devices import NodeSource, OpcUaDevice
from fusion.ports import Clock, Observed, Unusable

VALUES_PER_REQUEST = 1_000
MAX_ROUNDS = 1_000
"""Requests for one node: a million values, then the rest is said to be missing."""


class HistoryReader:
    """Asks node after node, a thousand values at once, from where each stream had come to."""

    def __init__(
        self,
        client: Client,
        device: OpcUaDevice,
        sources: Sequence[NodeSource],
        node_ids: Sequence[ua.NodeId],
        since_ns: Mapping[str, int],
        *,
        clock: Clock,
    ) -> None:
        self._client = client
        self._clock = clock
        self.end_ns = clock.now_ns()
        oldest_ns = self.end_ns - round(device.max_history_s * NANOSECONDS)
        self._left = deque(
            (source, node_id, max(since_ns[source.stream] + 1_000, oldest_ns))
            for source, node_id in zip(sources, node_ids, strict=True)
            if source.stream in since_ns
        )
        self._continue: bytes | None = None
        self._num_rounds = 0

    @property
    def is_done(self) -> bool:
        """Whether every node was asked for everything."""
        return not self._left

    async def next(self) -> list[Observed]:
        """Return the next part of the past; one request to the server."""
        if not self._left:
            return []
        source, node_id, start_ns = self._left[0]
        details = ua.ReadRawModifiedDetails(
            IsReadModified=False,
            StartTime=datetime_of(start_ns),
            EndTime=datetime_of(self.end_ns),
            NumValuesPerNode=VALUES_PER_REQUEST,
            ReturnBounds=False,
        )
        try:
            result = await self._client.get_node(node_id).history_read(details, self._continue)
        except UNREADABLE as wrong:
            # The other nodes' past must not wait for an answer that will never be readable.
            self._next_node()
            why = f"history of {source.node} cannot be read: {type(wrong).__name__} {wrong}"
            return [Unusable(source.stream, why)]
        if not result.StatusCode.is_good():
            self._next_node()
            return [Unusable(source.stream, f"history of {source.node}: {result.StatusCode.name}")]
        values = list(result.HistoryData.DataValues or ())
        t_receive_ns = self._clock.now_ns()
        readings = [reading_of(source, value, t_receive_ns=t_receive_ns) for value in values]
        # (Some servers give the value before the start too, asked or not.)
        found: list[Observed] = [each for each in readings if each.t_source_ns >= start_ns]
        self._num_rounds += 1
        came_again = result.ContinuationPoint == self._continue
        self._continue = result.ContinuationPoint or None
        if self._continue is not None and self._num_rounds >= MAX_ROUNDS:
            found.append(Unusable(source.stream, f"history of {source.node} is too long"))
            self._continue = None
        if self._continue is None or came_again:
            self._next_node()
        return found

    def _next_node(self) -> None:
        self._left.popleft()
        self._continue, self._num_rounds = None, 0
