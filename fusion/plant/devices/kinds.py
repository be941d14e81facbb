"""All kinds of devices; ``protocol`` says which one is meant."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fusion.plant.devices.files import FilmFilesDevice, SoundFilesDevice, TableFilesDevice
from fusion.plant.devices.mqtt import MqttJsonDevice, SparkplugDevice
from fusion.plant.devices.opcua import OpcUaDevice
from fusion.plant.devices.polled import InfluxDevice, ModbusDevice
from fusion.plant.devices.senses import CameraDevice, SoundCardDevice, SoundUrlDevice

MqttDevice = MqttJsonDevice | SparkplugDevice
Device = Annotated[
    TableFilesDevice
    | SoundFilesDevice
    | FilmFilesDevice
    | OpcUaDevice
    | MqttJsonDevice
    | SparkplugDevice
    | ModbusDevice
    | InfluxDevice
    | CameraDevice
    | SoundUrlDevice
    | SoundCardDevice,
    Field(discriminator="protocol"),
]
FilesDevice = TableFilesDevice | SoundFilesDevice | FilmFilesDevice
