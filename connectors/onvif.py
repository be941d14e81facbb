"""Cameras that answer an ONVIF probe in this network (WS-Discovery 1.0 by multicast).

Every answer is at most one datagram of bytes from outside: its size, their number and the time are
bounded, and XML that brings definitions of its own is refused, as SOAP forbids it.
"""

from __future__ import annotations

import contextlib
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree as ET

import psutil

from fusion.errors import DeviceUnavailableError

MULTICAST = ("239.255.255.250", 3702)
MAX_ANSWER_BYTES = 65_535
MAX_ANSWERS = 4_096
"""Also of one camera, which may answer on every interface."""
TIMES_SENT, SEND_APART_S = 2, 0.3
"""Datagrams get lost; the answers of one camera count once."""
_SCOPES = "onvif://www.onvif.org/"
_SPACES = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "d": "http://schemas.xmlsoap.org/ws/2005/04/discovery",
    "n": "http://www.onvif.org/ver10/network/wsdl",
}
_PROBE = """\
<?xml version="1.0" encoding="UTF-8"?>\
<s:Envelope xmlns:s="{s}" xmlns:a="{a}" xmlns:d="{d}" xmlns:n="{n}"><s:Header>\
<a:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</a:Action>\
<a:MessageID>urn:uuid:{number}</a:MessageID>\
<a:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To></s:Header><s:Body><d:Probe>\
<d:Types>n:NetworkVideoTransmitter</d:Types>\
</d:Probe></s:Body></s:Envelope>"""


@dataclass(frozen=True, slots=True)
class FoundCamera:
    """What a camera says of itself before anybody has logged in."""

    host: str
    name: str
    hardware: str
    location: str
    service: str
    """The address of its ONVIF device service."""


def find_cameras(*, wait_s: float, most: int) -> list[FoundCamera]:
    """Return at most ``most`` cameras that answered within ``wait_s``, by host.

    Raises:
        DeviceUnavailableError: No interface of this machine can send by multicast.
    """
    found: dict[str, FoundCamera] = {}
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        asking.bind(("", 0))
        t_end_s = time.monotonic() + wait_s
        for _ in range(TIMES_SENT):
            _ask(asking)
            for answer in _answers(asking, min(t_end_s, time.monotonic() + SEND_APART_S)):
                _note(answer, found, most)
        for answer in _answers(asking, t_end_s):
            _note(answer, found, most)
    return sorted(found.values(), key=lambda camera: (camera.host, camera.service))


def read_answer(answer: bytes) -> dict[str, FoundCamera]:
    """Return the cameras in one answer by the address that stays theirs; nothing for other bytes.

    Example:
        >>> read_answer(b"no XML")
        {}
    """
    if b"<!DOCTYPE" in answer or b"<!ENTITY" in answer:
        return {}
    try:
        matches = ET.fromstring(answer).findall(".//d:ProbeMatch", _SPACES)  # noqa: S314 see above
    except (ET.ParseError, ValueError, LookupError):
        return {}
    found: dict[str, FoundCamera] = {}
    for match in matches:
        services = _text(match, "d:XAddrs").split()
        hosts = [host for service in services if (host := _host(service))]
        if not hosts:
            continue
        scopes = [unquote(scope)[:200] for scope in _text(match, "d:Scopes").split()]
        found[_text(match, "a:EndpointReference/a:Address") or services[0]] = FoundCamera(
            host=hosts[0],
            name=_scope(scopes, "name"),
            hardware=_scope(scopes, "hardware"),
            location=_scope(scopes, "location"),
            service=services[0][:500],
        )
    return found


def _ask(asking: socket.socket) -> None:
    """Send the probe out of every interface."""
    probe = _PROBE.format(number=uuid.uuid4(), **_SPACES).encode()
    why: OSError | None = None
    num_sent = 0
    for addresses in psutil.net_if_addrs().values():
        for each in addresses:
            if each.family != socket.AF_INET:
                continue
            try:
                own = socket.inet_aton(each.address)
                asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
                asking.sendto(probe, MULTICAST)
                num_sent += 1
            except OSError as failed:
                why = failed  # (an interface that is down, or knows no multicast)
    if not num_sent:
        raise DeviceUnavailableError(
            f"cameras are asked by multicast to {MULTICAST[0]}:{MULTICAST[1]}, and no interface of "
            f"this machine can send it: {why}; look at the network"
        )


def _answers(asking: socket.socket, t_end_s: float) -> Iterator[bytes]:
    for _ in range(MAX_ANSWERS):
        left_s = t_end_s - time.monotonic()
        if left_s <= 0:
            return
        asking.settimeout(left_s)
        try:
            yield asking.recv(MAX_ANSWER_BYTES)
        except TimeoutError:
            return
        except OSError:
            continue  # (an answer of the network that somebody's port is closed)


def _note(answer: bytes, found: dict[str, FoundCamera], most: int) -> None:
    for key, camera in read_answer(answer).items():
        if len(found) < most:
            found.setdefault(key, camera)


def _text(match: ET.Element, path: str) -> str:
    return (match.findtext(path, "", _SPACES) or "").strip()


def _scope(scopes: list[str], kind: str) -> str:
    start = f"{_SCOPES}{kind}/"
    return next((scope.removeprefix(start) for scope in scopes if scope.startswith(start)), "")


def _host(service: str) -> str | None:
    try:
        parts = urlsplit(service)
    except ValueError:
        return None
    return parts.hostname if parts.scheme in {"http", "https"} else None
