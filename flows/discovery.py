"""A draft plant file from what an OPC UA server has, or from the cameras of a network."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from flows.device_wiring import browse_opcua, find_cameras
from fusion.errors import InputError
from fusion.plant.devices import OpcUaDevice

STREAM = "process"
MAX_CAMERAS = 64
"""As many streams as a plant may have."""
_PLACEHOLDER = {"node": "i=2258", "stream": STREAM, "tag": "to-be-found"}


def draft_plant(
    endpoint: str,
    connection: Path | None,
    *,
    most: int,
    on_progress: Callable[[int], None] = lambda _: None,
) -> tuple[str, int]:
    """Return the YAML of a draft, and how many tags it has.

    Raises:
        InputError: The endpoint or the connection file breaks a rule, or nothing was found.
        DeviceUnavailableError, DeviceRefusedError: The server did not answer, or said no.
    """
    told: dict[str, Any] = {}
    if connection is not None:
        told = yaml.safe_load(connection.read_text(encoding="utf-8")) or {}
    reached = {"name": "plc", "protocol": "opcua", "endpoint": endpoint} | told
    try:
        device = OpcUaDevice.model_validate(reached | {"nodes": [_PLACEHOLDER]})
    except ValidationError as wrong:
        raise InputError(
            f"endpoint must be opc.tcp://host:port/path, and the connection file hold security and "
            f"login only: {wrong}"
        ) from wrong
    found = browse_opcua(device, most=most, on_progress=on_progress)
    if not found:
        raise InputError(
            f"{endpoint} must have variables that are numbers, and none was found that this login "
            "may see; ask for the right to browse"
        )
    names = tag_names([each.path for each in found])
    tags = [
        {
            "name": name,
            "unit": each.unit or "TODO",
            "range": list(each.range) if each.range else _guess(each.value),
            **({"description": each.description} if each.description else {}),
        }
        for name, each in zip(names, found, strict=True)
    ]
    nodes = [
        {"node": each.node, "stream": STREAM, "tag": name}
        for name, each in zip(names, found, strict=True)
    ]
    streams = [{"name": STREAM, "modality": "telemetry", "rate_hz": 1, "tags": tags}]
    return _HEAD + _draft(streams, [reached | {"nodes": nodes}]), len(tags)


def draft_cameras(*, wait_s: float, most: int) -> tuple[str, int]:
    """Return the YAML of a draft with every camera that answers, and how many those are.

    Raises:
        InputError: None answered.
        DeviceUnavailableError: This machine cannot ask.
    """
    found = find_cameras(wait_s=wait_s, most=min(most, MAX_CAMERAS))
    if not found:
        raise InputError(
            f"a camera must answer the ONVIF probe, and none did within {wait_s:g} s; multicast "
            "does not pass routers: ask from a machine in the cameras' own network, and look "
            "whether ONVIF is switched on in them"
        )
    # (Names of streams and devices are short, whatever a camera calls itself.)
    names = tag_names([(each.host[:15], each.name[:30] or "camera") for each in found])
    size = {"rate_hz": 5, "width_px": 640, "height_px": 360}
    streams = [{"name": name, "modality": "video"} | size for name in names]
    devices = [
        {
            "name": f"{name}-device",
            "protocol": "camera",
            "stream": name,
            "url": f"rtsp://{_authority(camera.host)}/TODO",
        }
        for name, camera in zip(names, found, strict=True)
    ]
    told = [
        f"#   {name}: {_one_line(camera.name)}, {_one_line(camera.hardware)}, "
        f"{_one_line(camera.location)}; {_one_line(camera.service)}\n"
        for name, camera in zip(names, found, strict=True)
    ]
    return _CAMERAS_HEAD + "".join(told) + _draft(streams, devices), len(found)


def _draft(streams: list[dict[str, Any]], devices: list[dict[str, Any]]) -> str:
    address = dict.fromkeys(("enterprise", "site", "area", "line", "cell", "asset"), "todo")
    plant = {"prefix": "todo", "address": address, "streams": streams, "devices": devices}
    return yaml.safe_dump(plant, sort_keys=False, width=100, allow_unicode=True)


def _authority(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _one_line(text: str) -> str:
    """Return what a camera says of itself, fit for a comment: nothing can end it."""
    return "".join(each if each.isprintable() else " " for each in text).strip() or "?"


def tag_names(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """Return a short name for each path: as many of its last parts as make it unique.

    Example:
        >>> tag_names([("Line1", "Pump", "Speed"), ("Line1", "Fan", "Speed"), ("Line1", "Flow")])
        ['pump_speed', 'fan_speed', 'flow']
    """
    names = [""] * len(paths)
    for depth in range(1, max(map(len, paths)) + 1):
        candidates = [_name(path[-depth:]) for path in paths]
        counts = Counter(candidates)
        for index, candidate in enumerate(candidates):
            if not names[index] and (counts[candidate] == 1 or depth >= len(paths[index])):
                names[index] = candidate
    seen: Counter[str] = Counter()
    for index, name in enumerate(names):
        seen[name] += 1
        names[index] = name if seen[name] == 1 else f"{name}_{seen[name]}"
    return names


def _name(parts: Sequence[str]) -> str:
    return re.sub(r"[^a-z0-9]+", "_", "_".join(parts).lower()).strip("_")[:120] or "tag"


def _guess(value: float) -> list[float]:
    """Return a range around what the value is now: a place to begin, for a person to correct."""
    size = 1.0 if math.isnan(value) or value == 0 else 10.0 ** math.ceil(math.log10(abs(value) * 2))
    return [-size if value < 0 else 0.0, size]


_HEAD = """\
# A draft from what the server has. Before it is used: write prefix and address, delete tags that do
# not matter, replace every TODO, correct ranges (those that the server does not state are guessed
# from one value), mark what operators set with setpoint: true, set rate_hz.
"""

_CAMERAS_HEAD = """\
# A draft from the cameras that answered an ONVIF probe. Before it is used: write prefix and
# address, replace TODO by the path of each camera's stream (its manual says it), add its login,
# delete cameras that do not matter, set rate and size. What the cameras say of themselves
# (name, hardware, place; the address of the ONVIF service):
"""
