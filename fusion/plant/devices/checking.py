"""Whether the devices of a plant feed what the plant has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from fusion.plant.devices.kinds import Device


def check_devices(
    devices: Sequence[Device],
    *,
    modality: Mapping[str, str],
    tags: Mapping[str, Set[str]],
) -> None:
    """Check that every device feeds what the plant has, and no two feed the same.

    ``modality`` is that of every stream, ``tags`` are those of the telemetry streams.

    Raises:
        ValueError: A stream or tag is not there, is of another kind, or comes twice.
    """
    fed_by: dict[str, str] = {}
    for device in devices:
        for stream in device.streams:
            if modality.get(stream) != device.modality:
                known = sorted(name for name, kind in modality.items() if kind == device.modality)
                raise ValueError(
                    f"device {device.name!r} ({device.protocol}) must feed {device.modality} "
                    f"streams of this plant, got {stream!r}; those are {known}"
                )
            if stream in fed_by:
                raise ValueError(
                    f"a stream must come from one device, {stream!r} comes from "
                    f"{fed_by[stream]!r} and {device.name!r}; give each a stream of its own"
                )
            fed_by[stream] = device.name
        seen: set[str] = set()
        for source in device.tag_sources:
            if source.tag not in tags[source.stream] or source.tag in seen:
                raise ValueError(
                    f"device {device.name!r} must map each tag of {source.stream!r} once, got "
                    f"{source.tag!r}, which "
                    + ("came before" if source.tag in seen else "the stream does not have")
                    + "; correct the mapping"
                )
            seen.add(source.tag)
