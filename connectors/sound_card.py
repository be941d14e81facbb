"""A microphone at a sound card of this machine, by PortAudio."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from types import ModuleType

import numpy as np

from fusion.errors import DeviceUnavailableError
from fusion.plant import NANOSECONDS, AudioStream, Plant
from fusion.plant.devices import SoundCardDevice
from fusion.ports import Clock, Observed, Unusable
from fusion.schema import AudioChunk

_PCM16 = np.iinfo(np.int16)


class SoundCardSession:
    """Implements :class:`fusion.ports.DeviceSession` for one channel of a sound card.

    A chunk's time is when its last sample was there, less its length; ``sample_index`` counts the
    card's own samples, so that its drift against this machine's clock can be told.

    Raises:
        DeviceUnavailableError: PortAudio or the card is not there, or cannot do the stream's rate.
    """

    def __init__(self, plant: Plant, device: SoundCardDevice, *, clock: Clock) -> None:
        stream = plant.stream(device.stream)
        assert isinstance(stream, AudioStream), "the plant file was checked"
        self._device, self._stream, self._clock = device, stream, clock
        self._num_read = 0
        sounddevice = _port_audio(device)
        try:
            self._card = sounddevice.InputStream(
                samplerate=stream.sample_rate_hz,
                device=device.card,
                channels=device.channel + 1,
                dtype="int16",
                blocksize=0,
            )
            self._card.start()
        except (ValueError, sounddevice.PortAudioError) as failed:
            raise DeviceUnavailableError(
                f"{device.name} must be a sound card that records {stream.sample_rate_hz} Hz on "
                f"channel {device.channel}, but: {failed}; `python -m sounddevice` lists the cards "
                "(Debian: libportaudio2)"
            ) from failed

    @property
    def units(self) -> Mapping[str, str]:
        """Sound has none."""
        return {}

    @property
    def is_ended(self) -> bool:
        """A microphone never ends."""
        return False

    @property
    def holds_until_ns(self) -> int | None:
        """A sound is of its moment."""
        return None

    def read(self, *, timeout_s: float) -> Sequence[Observed]:
        """Return the next chunk when it is there; else nothing, after ``timeout_s``."""
        sounddevice = _port_audio(self._device)
        wanted = round(self._device.chunk_s * self._stream.sample_rate_hz)
        try:
            if self._card.read_available < wanted:
                self._clock.sleep(timeout_s)
                return []
            block, has_overflowed = self._card.read(wanted)
        except sounddevice.PortAudioError as lost:
            raise DeviceUnavailableError(
                f"{self._device.name} must go on, but: {lost}; is the card still plugged in?"
            ) from lost
        # What lies in the card's buffer behind this block was recorded since.
        behind = self._card.read_available
        t_receive_ns = self._clock.now_ns() - behind * NANOSECONDS // self._stream.sample_rate_hz
        samples_N = np.ascontiguousarray(block[:, self._device.channel], np.int16)
        length_ns = wanted * NANOSECONDS // self._stream.sample_rate_hz
        chunk = AudioChunk(
            stream=self._stream.name,
            t_start_ns=t_receive_ns - length_ns,
            sample_rate_hz=self._stream.sample_rate_hz,
            sample_index=self._num_read,
            gain_db=0.0,
            num_clipped=int(((samples_N == _PCM16.max) | (samples_N == _PCM16.min)).sum()),
            samples_N=samples_N,
            t_receive_ns=t_receive_ns,
        )
        self._num_read += wanted
        if has_overflowed:
            return [Unusable(self._stream.name, "the card's buffer overflowed"), chunk]
        return [chunk]

    def position(self) -> str:
        """Return nothing: what was not heard is gone."""
        return ""

    def close(self) -> None:
        """Stop recording."""
        self._card.close()


def _port_audio(device: SoundCardDevice) -> ModuleType:
    """Return the binding of PortAudio; importing it fails where the library is not installed."""
    try:
        return importlib.import_module("sounddevice")
    except OSError as absent:
        raise DeviceUnavailableError(
            f"{device.name} needs the library PortAudio, and it is not on this machine: {absent}; "
            "install it (Debian: libportaudio2)"
        ) from absent
