"""What an OPC UA server remembers of the time in which nobody listened (Part 11, raw data)."""

# pyright: reportPrivateImportUsage=false, reportArgumentType=false
# (asyncua exports nothing by name, and its types are those of the wire.)

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asyncua import ua

from connectors.opcua.bounding import BoundedClient
from connectors.opcua.connecting import UNREADABLE
from connectors.opcua.values import datetime_of, reading_of
from fusion.plant import NANOSECONDS
from fusion.plant.devices import NodeSource, OpcUaDevice
from fusion.ports import Clock, Observed, Unusable

VALUES_PER_REQUEST = 1_000
MIN_VALUES_PER_REQUEST = 2
"""The value before the start, which some servers give asked or not, and one behind it."""
MAX_VALUES = 1_000_000
"""Of one node; then the rest is said to be missing."""
MAX_EMPTY_ROUNDS = 1_000
"""Answers without a value that promise more of one node."""
MAX_FAILURES = 6
"""Of one node, each time for a tenth of the values: a thousand, a hundred, ten, and two thrice."""


@dataclass
class _Trouble:
    num_failures: int = 0
    why: str = ""
    ended_at: int | None = None
    """How much of the past had come when the connection ended last and the bound was kept."""


class HistoryPatience:
    """What is remembered of nodes whose past ended the connection, over all connections.

    An answer that is too large (:mod:`connectors.opcua.bounding`) ends it, and so does one that
    never comes. Asking for the same again would end it again, for ever.

    Example:
        >>> patience = HistoryPatience()
        >>> patience.note_end("a", TimeoutError(), num_come=0)  # It may have been the network,
        >>> patience.num_values("a")
        1000
        >>> patience.note_end("a", TimeoutError(), num_come=0)  # and hardly twice at one place.
        >>> patience.num_values("a")
        100
        >>> patience.forget("a")
        >>> patience.num_values("a")
        1000
    """

    def __init__(self) -> None:
        self._troubles: defaultdict[str, _Trouble] = defaultdict(_Trouble)

    def num_values(self, node: str) -> int:
        """Return for how many values of ``node`` to ask at once; 0 for none, ever."""
        num_failures = self._troubles[node].num_failures
        if num_failures >= MAX_FAILURES:
            return 0
        return max(MIN_VALUES_PER_REQUEST, VALUES_PER_REQUEST // 10**num_failures)

    def why(self, node: str) -> str:
        """Return what the last failure of ``node`` was."""
        return self._troubles[node].why

    def note_too_much(self, node: str, broken: ConnectionError) -> None:
        """Note that an answer with the past of ``node`` broke the bound: a failure."""
        trouble = self._troubles[node]
        trouble.num_failures += 1
        trouble.why, trouble.ended_at = _told(broken), None

    def note_end(self, node: str, failed: Exception, *, num_come: int) -> None:
        """Note an end that may have had other reasons: a failure the second time at one place.

        Networks fail, and what they do is not the node's; but a server may also hang, or hang up,
        over one request. ``num_come`` is how much of the past had come before it.
        """
        trouble = self._troubles[node]
        trouble.num_failures += num_come == trouble.ended_at
        trouble.why, trouble.ended_at = _told(failed), num_come

    def forget(self, node: str) -> None:
        """Forget the failures of ``node``: its past was read whole."""
        self._troubles.pop(node, None)


def _told(failed: Exception) -> str:
    return f"{type(failed).__name__} {failed}".rstrip()


class HistoryReader:
    """Asks node after node, a thousand values at once, from where each stream had come to."""

    def __init__(
        self,
        client: BoundedClient,
        device: OpcUaDevice,
        sources: Sequence[NodeSource],
        node_ids: Sequence[ua.NodeId],
        since_ns: Mapping[str, int],
        *,
        clock: Clock,
        patience: HistoryPatience,
    ) -> None:
        self._client = client
        self._clock = clock
        self._patience = patience
        self.end_ns = clock.now_ns()
        oldest_ns = self.end_ns - round(device.max_history_s * NANOSECONDS)
        self._left = deque(
            (source, node_id, max(since_ns[source.stream] + 1_000, oldest_ns))
            for source, node_id in zip(sources, node_ids, strict=True)
            if source.stream in since_ns
        )
        self._read_whole: list[str] = []
        self._continue: bytes | None = None
        self._num_values = self._num_empty = self._last_ns = 0

    @property
    def is_done(self) -> bool:
        """Whether every node was asked for everything."""
        return not self._left

    async def next(self) -> list[Observed]:
        """Return the next part of the past; one request to the server."""
        if not self._left:
            return []
        source, node_id, start_ns = self._left[0]
        num_values = self._patience.num_values(source.node)
        if not num_values:
            self._next_node()
            why = self._patience.why(source.node)
            what = f"history of {source.node} is left out: asking {MAX_FAILURES} times ended the"
            return [Unusable(source.stream, f"{what} connection, at last by {why}")]
        try:
            result = await self._ask(source.node, node_id, start_ns, num_values)
        except UNREADABLE as wrong:
            # The other nodes' past must not wait for an answer that will never be readable.
            self._next_node()
            why = f"history of {source.node} cannot be read: {type(wrong).__name__} {wrong}"
            return [Unusable(source.stream, why)]
        if not result.StatusCode.is_good():
            self._next_node()
            return [Unusable(source.stream, f"history of {source.node}: {result.StatusCode.name}")]
        return self._part(source, start_ns, num_values, result)

    async def _ask(
        self, node: str, node_id: ua.NodeId, start_ns: int, num_values: int
    ) -> ua.HistoryReadResult:
        details = ua.ReadRawModifiedDetails(
            IsReadModified=False,
            StartTime=datetime_of(start_ns),
            EndTime=datetime_of(self.end_ns),
            NumValuesPerNode=num_values,
            ReturnBounds=False,
        )
        try:
            return await self._client.get_node(node_id).history_read(details, self._continue)
        except UNREADABLE:
            raise
        except Exception as failed:
            # (asyncua tells who waits only that the connection is closed.)
            if (broken := self._client.bound.broken) is not None:
                self._patience.note_too_much(node, broken)
            else:
                num_come = self._num_values + self._num_empty
                self._patience.note_end(node, failed, num_come=num_come)
            raise

    def _part(
        self, source: NodeSource, start_ns: int, num_asked: int, result: ua.HistoryReadResult
    ) -> list[Observed]:
        values = list(result.HistoryData.DataValues or ())
        t_receive_ns = self._clock.now_ns()
        readings = [reading_of(source, value, t_receive_ns=t_receive_ns) for value in values]
        # (Some servers give the value before the start too, asked or not.)
        found: list[Observed] = [each for each in readings if each.t_source_ns >= start_ns]
        self._num_values += len(values)
        self._num_empty += not values
        # (node-opcua's continuation points are all the same; that nothing newer comes tells more.)
        last_ns = max((each.t_source_ns for each in readings), default=self._last_ns)
        stands_still = bool(values) and last_ns <= self._last_ns
        self._last_ns = last_ns
        self._continue = result.ContinuationPoint or None
        # Some servers give as many as were asked for and no continuation point, although there
        # are more (asyncua's own does).
        is_full = self._continue is None and len(values) >= num_asked
        if self._continue is None and not is_full:
            self._read_whole.append(source.node)
            self._next_node()
        elif is_full and not found:
            why = f"history of {source.node} gives nothing but values from before what is asked for"
            found.append(Unusable(source.stream, why))
            self._next_node()
        elif stands_still:
            found.append(Unusable(source.stream, f"history of {source.node} repeats itself"))
            self._next_node()
        elif self._num_values >= MAX_VALUES or self._num_empty >= MAX_EMPTY_ROUNDS:
            found.append(Unusable(source.stream, f"history of {source.node} is too long"))
            self._next_node()
        elif is_full:
            self._left[0] = (source, self._left[0][1], last_ns + 1_000)
        return found

    def _next_node(self) -> None:
        self._left.popleft()
        if not self._left:
            # (Not before: until all is read, each connection asks for all again, and a node that
            # was forgotten would end some of those that another node's past still needs.)
            for node in self._read_whole:
                self._patience.forget(node)
        self._continue = None
        self._num_values = self._num_empty = self._last_ns = 0
