"""The only place that connects to devices of a plant. What a protocol needs is imported for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import SecretStr

from flows import wiring
from flows.settings import read_setting
from fusion.edge import SpeechSieve, WithoutSpeech
from fusion.errors import SettingsError
from fusion.plant import AudioStream, Plant
from fusion.plant.devices import (
    CameraDevice,
    Device,
    FilmFilesDevice,
    InfluxDevice,
    Login,
    ModbusDevice,
    MqttDevice,
    MqttJsonDevice,
    OpcUaDevice,
    SoundCardDevice,
    SoundFilesDevice,
    SoundUrlDevice,
    SparkplugDevice,
    TableFilesDevice,
)
from fusion.ports import Clock, DeviceSession

if TYPE_CHECKING:
    from connectors.onvif import FoundCamera
    from connectors.opcua import Discovered

# ruff: noqa: PLC0415 each process speaks one protocol, and importing another costs memory


def session_opener(plant: Plant, device: Device) -> Callable[[str | None], DeviceSession]:
    """Return what connects to ``device`` and goes on from a position.

    Raises:
        SettingsError: A password that the plant file refers to is not there.
    """
    clock = wiring.open_clock()
    if isinstance(device, TableFilesDevice | SoundFilesDevice | FilmFilesDevice):
        from connectors.recordings import FolderSession

        return lambda position: FolderSession(plant, device, position, clock=clock)
    if isinstance(device, OpcUaDevice):
        return _opcua_opener(device, clock)
    if isinstance(device, MqttJsonDevice | SparkplugDevice):
        return _mqtt_opener(device, clock)
    if isinstance(device, ModbusDevice):
        from connectors.modbus import ModbusSession

        return lambda _position: ModbusSession(device, clock=clock)
    if isinstance(device, InfluxDevice):
        from connectors.influxdb import InfluxSession

        password = read_password(device.name, device.login)
        return lambda position: InfluxSession(device, position, clock=clock, password=password)
    if isinstance(device, CameraDevice | SoundUrlDevice | SoundCardDevice):
        return _sense_opener(plant, device, clock)
    raise AssertionError(f"a device of the plant file is not wired: {device.protocol}")


def _opcua_opener(device: OpcUaDevice, clock: Clock) -> Callable[[str | None], DeviceSession]:
    from connectors.opcua import HistoryPatience, OpcUaSession

    password, patience = read_password(device.name, device.login), HistoryPatience()
    return lambda position: OpcUaSession(
        device, position, clock=clock, password=password, patience=patience
    )


def _mqtt_opener(device: MqttDevice, clock: Clock) -> Callable[[str | None], DeviceSession]:
    from connectors.mqtt import JsonRules, MqttSession, SparkplugHost

    password = read_password(device.name, device.login)

    def open_session(_position: str | None) -> DeviceSession:
        if isinstance(device, MqttJsonDevice):
            return MqttSession(device, JsonRules(device), clock=clock, password=password)
        host = SparkplugHost(device, clock=clock)
        return MqttSession(device, host, clock=clock, password=password)

    return open_session


def _sense_opener(
    plant: Plant, device: CameraDevice | SoundUrlDevice | SoundCardDevice, clock: Clock
) -> Callable[[str | None], DeviceSession]:
    if isinstance(device, SoundCardDevice):
        from connectors.sound_card import SoundCardSession

        return _without_speech(
            plant, device, lambda _position: SoundCardSession(plant, device, clock=clock)
        )
    from connectors.media import CameraSession, SoundUrlSession

    password = read_password(device.name, device.login)
    if isinstance(device, CameraDevice):
        return lambda _position: CameraSession(plant, device, clock=clock, password=password)
    return _without_speech(
        plant,
        device,
        lambda _position: SoundUrlSession(plant, device, clock=clock, password=password),
    )


def _without_speech(
    plant: Plant,
    device: SoundUrlDevice | SoundCardDevice,
    open_session: Callable[[str | None], DeviceSession],
) -> Callable[[str | None], DeviceSession]:
    """Return ``open_session`` with the speech filter around it, where the plant file asks for it.

    Raises:
        InputError: The extra is not installed, or does not take the stream's rate.
    """
    rule = device.speech_filter
    if rule is None:
        return open_session
    from connectors.silero_speech import SileroDetector

    stream = plant.stream(device.stream)
    assert isinstance(stream, AudioStream), "the plant file was checked"
    detector = SileroDetector(sample_rate_hz=stream.sample_rate_hz)

    def open_filtered(position: str | None) -> DeviceSession:
        detector.forget()
        sieve = SpeechSieve(device.stream, detector, rule, sample_rate_hz=stream.sample_rate_hz)
        return WithoutSpeech(open_session(position), sieve)

    return open_filtered


def read_password(device: str, login: Login | None) -> SecretStr | None:
    """Return the password of ``login``, from where the plant file says; None without a login.

    Raises:
        SettingsError: The variable is not set, or the file cannot be read or is empty.
    """
    if login is None:
        return None
    if login.password_env is not None:
        password = os.environ.get(login.password_env, "")
        where = f"the environment variable {login.password_env}"
    else:
        assert login.password_file is not None, "the plant file was checked"
        password = read_setting(f"password_file of {device}", login.password_file).rstrip("\r\n")
        where = f"the file {login.password_file}"
    if not password:
        raise SettingsError(
            f"the password of {login.username!r} at device {device!r} must be in {where}, and "
            "nothing is there; put it there, the plant file itself never holds it"
        )
    return SecretStr(password)


def find_cameras(*, wait_s: float, most: int) -> list[FoundCamera]:
    """Return the cameras of this network that answer an ONVIF probe.

    Raises:
        DeviceUnavailableError: This machine cannot ask.
    """
    from connectors import onvif

    return onvif.find_cameras(wait_s=wait_s, most=most)


def browse_opcua(
    device: OpcUaDevice, *, most: int, on_progress: Callable[[int], None]
) -> list[Discovered]:
    """Return what an OPC UA server has.

    Raises:
        DeviceUnavailableError, DeviceRefusedError: The server did not answer, or said no.
    """
    from connectors.opcua import browse

    return browse(
        device, read_password(device.name, device.login), most=most, on_progress=on_progress
    )
