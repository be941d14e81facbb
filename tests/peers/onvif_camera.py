"""Cameras as WSDiscovery publishes them: ``python -m tests.peers.onvif_camera COUNT``."""

from __future__ import annotations

import sys

from wsdiscovery import QName, Scope  # pyright: ignore[reportMissingTypeStubs] it has none
from wsdiscovery.publishing import (  # pyright: ignore[reportMissingTypeStubs]
    ThreadedWSPublishing,
)

VIDEO = QName("http://www.onvif.org/ver10/network/wsdl", "NetworkVideoTransmitter")
PRINTER = QName("http://schemas.microsoft.com/windows/2006/08/wdp/print", "PrintDeviceType")


def main() -> None:
    publishing = ThreadedWSPublishing()
    publishing.start()
    for number in range(int(sys.argv[1])):
        scopes = [
            Scope(f"onvif://www.onvif.org/{said}")
            for said in (f"name/Hall%20{number}", "hardware/CAM-1", "location/press")
        ]
        address = f"http://192.0.2.{number + 1}/onvif/device_service"
        publishing.publishService(types=[VIDEO], scopes=scopes, xAddrs=[address])
    publishing.publishService(types=[PRINTER], scopes=[], xAddrs=["http://192.0.2.99/print"])
    print("ready", flush=True)  # noqa: T201
    sys.stdin.read()


if __name__ == "__main__":
    main()
