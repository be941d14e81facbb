"""What an OPC UA server has: every variable that is a number, with unit and range if it says."""

# pyright: reportPrivateImportUsage=false, reportArgumentType=false
# (asyncua exports nothing by name, and its types are those of the wire.)

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asyncua import Client, ua
from pydantic import SecretStr

from connectors.opcua.connecting import connect, explained
from connectors.opcua.nodes import NODES_PER_REQUEST, read_properties
from connectors.opcua.values import number_of
from fusion.plant.devices import OpcUaDevice

MAX_VISITED = 100_000
_NUMBERS = range(1, 12)
"""Boolean to Double, as the identifiers of their types count (Part 6, table 1)."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """One variable that could be a tag."""

    path: tuple[str, ...]
    """Browse names from the Objects folder down."""
    node: str
    """Node id with its namespace's URI, as a plant file names it."""
    unit: str | None
    range: tuple[float, float] | None
    value: float
    """What it is now; NaN where it has no value."""
    is_writable: bool
    description: str


def browse(
    device: OpcUaDevice,
    password: SecretStr | None,
    *,
    most: int,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[Discovered]:
    """Return at most ``most`` variables below the Objects folder, but none of the server itself.

    Raises:
        DeviceUnavailableError, DeviceRefusedError: No connection.
    """
    with asyncio.Runner() as runner, explained(device):
        return runner.run(_browse(device, password, most, on_progress))


async def _browse(
    device: OpcUaDevice, password: SecretStr | None, most: int, on_progress: Callable[[int], None]
) -> list[Discovered]:
    client = await connect(device, password)
    try:
        found = await _variables(client, most, on_progress)
        return await _described(client, found)
    finally:
        with contextlib.suppress(Exception):  # The list is there; how the server parts is its own.
            await client.disconnect()


async def _variables(
    client: Client, most: int, on_progress: Callable[[int], None]
) -> list[tuple[tuple[str, ...], ua.ReferenceDescription]]:
    """Walk the hierarchy breadth first, each node once."""
    start = client.get_objects_node().nodeid
    waiting: deque[tuple[tuple[str, ...], ua.NodeId]] = deque([((), start)])
    seen = {start, ua.NodeId(ua.ObjectIds.Server)}
    found: list[tuple[tuple[str, ...], ua.ReferenceDescription]] = []
    while waiting and len(found) < most and len(seen) < MAX_VISITED:
        path, node_id = waiting.popleft()
        children = await client.get_node(node_id).get_references(
            ua.ObjectIds.HierarchicalReferences,
            ua.BrowseDirection.Forward,
            ua.NodeClass.Object | ua.NodeClass.Variable,
        )
        for child in children:
            child_id = ua.NodeId(
                child.NodeId.Identifier, child.NodeId.NamespaceIndex, child.NodeId.NodeIdType
            )
            is_property = child.ReferenceTypeId == ua.NodeId(ua.ObjectIds.HasProperty)
            if child_id in seen or is_property:
                continue
            seen.add(child_id)
            child_path = (*path, child.BrowseName.Name)
            waiting.append((child_path, child_id))
            if child.NodeClass == ua.NodeClass.Variable and child_id.NamespaceIndex != 0:
                found.append((child_path, child))
        on_progress(len(found))
    return found[:most]


async def _described(
    client: Client, found: list[tuple[tuple[str, ...], ua.ReferenceDescription]]
) -> list[Discovered]:
    namespaces = await client.get_namespace_array()
    ids = [
        ua.NodeId(each.NodeId.Identifier, each.NodeId.NamespaceIndex, each.NodeId.NodeIdType)
        for _, each in found
    ]
    types = await _attribute(client, ids, ua.AttributeIds.DataType)
    ranks = await _attribute(client, ids, ua.AttributeIds.ValueRank)
    # Arrays, pictures and texts are not even read: 500 of them would be too large an answer.
    is_one_number = [
        _is_number(kind) and _may_be_one(rank) for kind, rank in zip(types, ranks, strict=True)
    ]
    found = [each for each, is_it in zip(found, is_one_number, strict=True) if is_it]
    ids = [each for each, is_it in zip(ids, is_one_number, strict=True) if is_it]
    values = await _attribute(client, ids, ua.AttributeIds.Value)
    levels: list[Any] = await _attribute(client, ids, ua.AttributeIds.UserAccessLevel)
    texts = await _attribute(client, ids, ua.AttributeIds.Description)
    units = await read_properties(client, ids, "EngineeringUnits")
    ranges = await read_properties(client, ids, "EURange")
    listed: list[Discovered] = []
    for index, (path, _) in enumerate(found):
        if isinstance(values[index], list):
            continue
        unit, limits = units[index], ranges[index]
        listed.append(
            Discovered(
                path=path,
                node=_text(ids[index], namespaces),
                unit=unit.DisplayName.Text if isinstance(unit, ua.EUInformation) else None,
                range=(limits.Low, limits.High)
                if isinstance(limits, ua.Range) and limits.Low < limits.High
                else None,
                value=number_of(values[index]),
                is_writable=isinstance(levels[index], int) and bool(levels[index] & 2),
                description=getattr(texts[index], "Text", None) or "",
            )
        )
    return listed


async def _attribute(
    client: Client, ids: list[ua.NodeId], attribute: ua.AttributeIds
) -> list[object]:
    found: list[object] = []
    for start in range(0, len(ids), NODES_PER_REQUEST):
        part = ids[start : start + NODES_PER_REQUEST]
        results = await client.uaclient.read_attributes(part, attribute)
        found += [None if each.Value is None else each.Value.Value for each in results]
    return found


def _is_number(data_type: object) -> bool:
    return (
        isinstance(data_type, ua.NodeId)
        and data_type.NamespaceIndex == 0
        and data_type.Identifier in _NUMBERS
    )


def _may_be_one(rank: object) -> bool:
    """Return whether a value of this ValueRank may be a scalar (Part 3, 5.6.2): below 0."""
    return not isinstance(rank, int) or rank < 0


def _text(node_id: ua.NodeId, namespaces: list[str]) -> str:
    _, _, rest = node_id.to_string().rpartition(";")
    return f"nsu={namespaces[node_id.NamespaceIndex]};{rest}"
