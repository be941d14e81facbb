"""GStreamer's RTSP server as a camera with a microphone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr

from connectors.media import CameraSession, SoundUrlSession
from fusion.plant.devices import CameraDevice, Device, SoundUrlDevice
from tests.conftest import IS_CI, ROOT, free_port
from tests.peers.peer import CAMERA, CLOCK, MICROPHONE, plant_with
from tests.peers.processes import ToldProcess

SYSTEM_PYTHON = "/usr/bin/python3"


def require_gstreamer() -> None:
    """Skip where it cannot be had; in CI it must be there (deploy/prepare-tests.sh)."""
    wanted = "import gi; gi.require_version('GstRtspServer', '1.0')"
    found = subprocess.run([SYSTEM_PYTHON, "-c", wanted], capture_output=True, check=False)
    if found.returncode != 0:
        assert not IS_CI, found.stderr
        pytest.skip("GStreamer's RTSP server is not installed; deploy/prepare-tests.sh does it")


class RtspPeer:
    """A camera whose brightness, and a microphone whose loudness, is what was said last."""

    def __init__(self, folder: Path, kind: str, login: tuple[str, str] | None = None) -> None:
        require_gstreamer()
        port = free_port()
        device = {
            "url": f"rtsp://127.0.0.1:{port}/live",
            "open_timeout_s": 3,
            "read_timeout_s": 2,
        } | ({} if login is None else {"login": {"username": login[0], "password_env": "PEER"}})
        if kind == "camera":
            camera = {"name": "camera1", "protocol": "camera", "stream": "camera"}
            self.plant = plant_with(CAMERA, [device | camera])
        else:
            sound = {"name": "mic1", "protocol": "sound-url", "stream": "microphone"}
            self.plant = plant_with(MICROPHONE, [device | sound | {"chunk_s": 0.1}])
        self.device: Device = self.plant.devices[0]
        script = str(ROOT / "tests" / "peers" / "rtsp_server.py")
        program = [SYSTEM_PYTHON, script, str(port), *(login or ())]
        self.server = ToldProcess(program, folder / "server.log")

    def open(
        self, position: str | None = None, password: str | None = None
    ) -> CameraSession | SoundUrlSession:
        secret = None if password is None else SecretStr(password)
        if isinstance(self.device, CameraDevice):
            return CameraSession(self.plant, self.device, clock=CLOCK, password=secret)
        assert isinstance(self.device, SoundUrlDevice)
        return SoundUrlSession(self.plant, self.device, clock=CLOCK, password=secret)

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def say(self, value: float) -> None:
        self.server.tell(f"say {value}")
