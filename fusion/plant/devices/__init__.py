"""Where a plant's streams come from: one description for each device that an edge process reads.

A device says where it is and which of its values is which tag. It never holds a secret: a login
names the environment variable or the file that does.
"""

from __future__ import annotations

from fusion.plant.devices.checking import (
    check_devices,
)
from fusion.plant.devices.described import (
    Login,
    Mask,
    TagSource,
)
from fusion.plant.devices.files import (
    ColumnSource,
    FilmFilesDevice,
    SoundFilesDevice,
    TableFilesDevice,
)
from fusion.plant.devices.kinds import (
    Device,
    FilesDevice,
    MqttDevice,
)
from fusion.plant.devices.mqtt import (
    JsonRule,
    JsonSource,
    MetricSource,
    MqttJsonDevice,
    SparkplugDevice,
    Tls,
)
from fusion.plant.devices.opcua import (
    NodeSource,
    OpcUaDevice,
    OpcUaSecurity,
    UserCertificate,
)
from fusion.plant.devices.polled import (
    FieldSource,
    InfluxDevice,
    ModbusDevice,
    RegisterSource,
)
from fusion.plant.devices.senses import (
    SPEECH_RATES_HZ,
    CameraDevice,
    SoundCardDevice,
    SoundUrlDevice,
    SpeechFilter,
)

__all__ = [
    "SPEECH_RATES_HZ",
    "CameraDevice",
    "ColumnSource",
    "Device",
    "FieldSource",
    "FilesDevice",
    "FilmFilesDevice",
    "InfluxDevice",
    "JsonRule",
    "JsonSource",
    "Login",
    "Mask",
    "MetricSource",
    "ModbusDevice",
    "MqttDevice",
    "MqttJsonDevice",
    "NodeSource",
    "OpcUaDevice",
    "OpcUaSecurity",
    "RegisterSource",
    "SoundCardDevice",
    "SoundFilesDevice",
    "SoundUrlDevice",
    "SparkplugDevice",
    "SpeechFilter",
    "TableFilesDevice",
    "TagSource",
    "Tls",
    "UserCertificate",
    "check_devices",
]
