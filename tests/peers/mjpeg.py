"""ffmpeg as a camera that serves MJPEG over HTTP."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from connectors.media import CameraSession
from fusion.plant.devices import CameraDevice, Device
from tests.conftest import IS_CI, free_port
from tests.peers.peer import CAMERA, CLOCK, plant_with
from tests.peers.processes import ToldProcess


class MjpegPeer:
    """A camera whose brightness is what was said last."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("ffmpeg") is None:
            assert not IS_CI
            pytest.skip("ffmpeg is not installed; deploy/prepare-tests.sh does it")
        port = free_port()
        device = {
            "name": "camera2",
            "protocol": "camera",
            "stream": "camera",
            "url": f"http://127.0.0.1:{port}/video",
            "open_timeout_s": 3,
            "read_timeout_s": 2,
        }
        self.plant = plant_with(CAMERA, [device])
        self.device: Device = self.plant.devices[0]
        command = [sys.executable, "-m", "tests.peers.mjpeg_server", str(port)]
        self.server = ToldProcess(command, folder / "server.log")

    def open(self, position: str | None = None) -> CameraSession:
        assert isinstance(self.device, CameraDevice)
        return CameraSession(self.plant, self.device, clock=CLOCK)

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def say(self, value: float) -> None:
        self.server.tell(f"say {value}")
