"""Nodes by what the plant file calls them, and the units that the server states for them."""

# pyright: reportPrivateImportUsage=false, reportArgumentType=false
# (asyncua exports nothing by name, and its types are those of the wire.)

from __future__ import annotations

import re
from collections.abc import Sequence

from asyncua import Client, ua

from fusion.errors import InputError
from fusion.plant.devices import NodeSource

NODES_PER_REQUEST = 500
_BY_URI = re.compile(r"^nsu=([^;]+);(.+)$")


async def find_nodes(
    client: Client, sources: Sequence[NodeSource]
) -> tuple[tuple[NodeSource, ...], list[ua.NodeId]]:
    """Return the sources and the server's own id of each.

    Raises:
        InputError: A node id cannot be read, or its namespace is not on the server.
    """
    namespaces = await client.get_namespace_array()
    found: list[ua.NodeId] = []
    for source in sources:
        text = source.node
        if by_uri := _BY_URI.match(text):
            uri, rest = by_uri.groups()
            if uri not in namespaces:
                raise InputError(
                    f"the namespace of {text!r} must be on the server, which has {namespaces}; "
                    "correct the node id"
                )
            text = f"ns={namespaces.index(uri)};{rest}"
        try:
            found.append(ua.NodeId.from_string(text))
        except (ua.UaError, ValueError) as wrong:
            raise InputError(
                f"node must be a node id such as 'nsu=urn:plc;s=Line1.Speed', got {source.node!r}: "
                f"{wrong}"
            ) from wrong
    return tuple(sources), found


async def read_units(
    client: Client, sources: Sequence[NodeSource], node_ids: Sequence[ua.NodeId]
) -> dict[str, str]:
    """Return the display names of the EngineeringUnits (Part 8, 5.6.4) that nodes have, by tag."""
    properties = await read_properties(client, node_ids, "EngineeringUnits")
    return {
        source.tag: str(unit.DisplayName.Text)
        for source, unit in zip(sources, properties, strict=True)
        if isinstance(unit, ua.EUInformation) and unit.DisplayName.Text
    }


async def read_properties(client: Client, node_ids: Sequence[ua.NodeId], name: str) -> list[object]:
    """Return the value of the property ``name`` of each node; None where it has none."""
    found: list[object] = [None] * len(node_ids)
    for start in range(0, len(node_ids), NODES_PER_REQUEST):
        part = node_ids[start : start + NODES_PER_REQUEST]
        paths = [_property_path(node_id, name) for node_id in part]
        results = await client.uaclient.translate_browsepaths_to_nodeids(paths)
        there = {
            start + index: result.Targets[0].TargetId
            for index, result in enumerate(results)
            if result.StatusCode.is_good() and result.Targets
        }
        if not there:
            continue
        values = await client.uaclient.read_attributes(list(there.values()), ua.AttributeIds.Value)
        for index, value in zip(there, values, strict=True):
            if value.Value is not None and (value.StatusCode is None or value.StatusCode.is_good()):
                found[index] = value.Value.Value
    return found


def _property_path(node_id: ua.NodeId, name: str) -> ua.BrowsePath:
    return ua.BrowsePath(
        StartingNode=node_id,
        RelativePath=ua.RelativePath(
            Elements=[
                ua.RelativePathElement(
                    ReferenceTypeId=ua.NodeId(ua.ObjectIds.HasProperty),
                    IsInverse=False,
                    IncludeSubtypes=True,
                    TargetName=ua.QualifiedName(name, 0),
                )
            ]
        ),
    )
