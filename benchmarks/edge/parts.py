"""What is measured, part after part: a plant, the peers that speak for it, and what they say."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from benchmarks.broker import ROOT
from benchmarks.edge import plants
from tests.conftest import free_port
from tests.peers.mqtt import Mosquitto
from tests.peers.opcua import require_node_opcua
from tests.peers.processes import ToldProcess
from tests.peers.rtsp import SYSTEM_PYTHON, require_gstreamer


class Part(ABC):
    """One protocol under load. ``title`` and ``per_s`` stand in the page."""

    title: str
    unit: str
    per_s: float
    """How many units are said in a second."""

    @abstractmethod
    def plant(self) -> dict[str, Any]:
        """Return the plant file's content."""

    @abstractmethod
    def start(self) -> None:
        """Start the peers."""

    @abstractmethod
    def stop(self) -> None:
        """Stop them."""

    @abstractmethod
    def pids(self) -> list[int]:
        """Return the processes of the peers."""

    def say(self, number: int) -> bool:
        """Let all tags have the value ``number`` now; return whether this part has tags."""
        del number
        return False


class OpcUaTags(Part):
    """node-opcua, a foreign stack, as one large server."""

    title = "10,000 tags, OPC UA (node-opcua)"
    unit, per_s = "values", float(plants.NUM_TAGS)

    def __init__(self, folder: Path) -> None:
        require_node_opcua()
        self._port = free_port()
        script = str(ROOT / "tests" / "peers" / "node_opcua_server.js")
        command = ["node", script, str(self._port), str(plants.NUM_TAGS)]
        self._server = ToldProcess(command, folder / "node-opcua.log")

    def plant(self) -> dict[str, Any]:
        """Return the plant file's content."""
        return plants.tags_of_opcua(self._port)

    def start(self) -> None:
        """Start the peers."""
        self._server.start()

    def stop(self) -> None:
        """Stop the peers."""
        self._server.stop()

    def pids(self) -> list[int]:
        """Return the processes of the peers."""
        return [self._server.pid]

    def say(self, number: int) -> bool:
        """Let all tags have the value ``number`` now."""
        self._server.tell(f"flood {number}")
        return True


class MqttTags(Part):
    """Debian's mosquitto, and sensors that publish JSON with QoS 1."""

    unit, per_s = "values", float(plants.NUM_TAGS)

    def __init__(self, folder: Path, *, tags_per_message: int) -> None:
        self._tags_per_message = tags_per_message
        num_messages = plants.NUM_TAGS // tags_per_message
        self.title = f"10,000 tags, MQTT JSON, {num_messages:,} messages a second"
        self._broker = Mosquitto(folder)
        module, port = "benchmarks.edge.mqtt_sensors", self._broker.port
        sizes = [str(plants.NUM_TAGS), str(tags_per_message)]
        command = [sys.executable, "-m", module, str(port), *sizes]
        self._sensors = ToldProcess(command, folder / "sensors.log")

    def plant(self) -> dict[str, Any]:
        """Return the plant file's content."""
        return plants.tags_of_mqtt(self._broker.port, tags_per_message=self._tags_per_message)

    def start(self) -> None:
        """Start the peers."""
        self._broker.start()
        self._sensors.start()

    def stop(self) -> None:
        """Stop the peers."""
        self._sensors.stop()
        self._broker.stop()

    def pids(self) -> list[int]:
        """Return the processes of the peers."""
        return [self._sensors.pid, self._broker.pid]

    def say(self, number: int) -> bool:
        """Let all tags have the value ``number`` now."""
        self._sensors.tell(f"flood {number}")
        return True


class Senses(Part):
    """GStreamer's RTSP server as eight cameras, or as eight microphones."""

    def __init__(self, folder: Path, kind: str) -> None:
        require_gstreamer()
        self._kind, self._port = kind, free_port()
        if kind == "camera":
            size = f"{plants.WIDTH_PX} x {plants.HEIGHT_PX}"
            self.title = f"8 cameras, RTSP H.264, {plants.FRAMES_HZ} frames/s, {size}"
            self.unit, self.per_s = "frames", float(plants.NUM_SENSES * plants.FRAMES_HZ)
        else:
            self.title = "8 microphones, RTSP/RTP L16, 16 kHz"
            self.unit, self.per_s = "samples", float(plants.NUM_SENSES * plants.SAMPLES_HZ)
        script = str(Path(__file__).with_name("rtsp_senses.py"))
        command = [SYSTEM_PYTHON, script, str(self._port), kind, str(plants.NUM_SENSES)]
        self._server = ToldProcess(command, folder / "gstreamer.log")

    def plant(self) -> dict[str, Any]:
        """Return the plant file's content."""
        if self._kind == "camera":
            return plants.cameras(self._port)
        return plants.microphones(self._port)

    def start(self) -> None:
        """Start the peers."""
        self._server.start()

    def stop(self) -> None:
        """Stop the peers."""
        self._server.stop()

    def pids(self) -> list[int]:
        """Return the processes of the peers."""
        return [self._server.pid]


def make_part(name: str, folder: Path) -> Part:
    """Return the part called ``name`` on the command line."""
    if name == "opcua":
        return OpcUaTags(folder)
    if name == "mqtt":
        return MqttTags(folder, tags_per_message=100)
    if name == "mqtt-single":
        return MqttTags(folder, tags_per_message=1)
    return Senses(folder, "camera" if name == "cameras" else "sound")


NAMES = ("opcua", "mqtt", "mqtt-single", "cameras", "microphones")
