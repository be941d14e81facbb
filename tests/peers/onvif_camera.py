"""Cameras as WSDiscovery publishes them: ``python -m tests.peers.onvif_camera COUNT``."""

from __future__ import annotations

import sys

from wsdiscovery import QName, Scope  # pyright: ignore[reportMissingTypeStubs] it has none
from wsdiscovery.publishing import (  # pyright: ignore[reportMissingTypeStubs]
    ThreadedWSPublishing,
)

VIDEO = QName("http://www.onvif.org/ver10/network/wsdl", "NetworkVideoTransmitter")
PRINTER = QName("http://schemas.microsoft.com/windows/2006/08/wdp/print", "PrintDeviceType")


def publish(kind: QName, scopes: list[str], address: str) -> None:
    """Be one device: a publisher has one address that stays."""
    publishing = ThreadedWSPublishing()
    publishing.start()
    publishing.publishService(
        types=[kind], scopes=[Scope(scope) for scope in scopes], xAddrs=[address]
    )


def main() -> None:
    for number in range(int(sys.argv[1])):
        scopes = [
            f"onvif://www.onvif.org/{said}"
            for said in (f"name/Hall%20{number}", "hardware/CAM-1", "location/press")
        ]
        publish(VIDEO, scopes, f"http://192.0.2.{number + 1}/onvif/device_service")
    publish(PRINTER, [], "http://192.0.2.99/print")
    print("ready", flush=True)  # noqa: T201
    sys.stdin.read()


if __name__ == "__main__":
    main()
