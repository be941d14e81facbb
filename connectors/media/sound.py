"""The sound of an address as a device: one channel at the stream's rate, in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import av
import numpy as np
from numpy.typing import NDArray
from pydantic import SecretStr

from connectors.media.capture_time import CaptureTime
from connectors.media.opening import explained, open_media
from fusion.errors import DeviceUnavailableError, InputError
from fusion.plant import NANOSECONDS, AudioStream, Plant
from fusion.plant.devices import SoundUrlDevice
from fusion.ports import Clock, Observed, Unusable
from fusion.schema import AudioChunk

_PCM16 = np.iinfo(np.int16)
MIN_LOSS_NS = 5_000_000
"""A smaller step in the count is its rounding: some containers count in milliseconds."""


class SoundUrlSession:
    """Implements :class:`fusion.ports.DeviceSession` for sound over a network.

    ``sample_index`` counts the samples that were read; beside each chunk's own time it tells how
    fast the sender's crystal runs. Samples that were lost on the way, as the sender's own count
    shows, are told, end their chunk and are counted as if they had been read: nothing is filled in.

    Raises:
        DeviceUnavailableError, DeviceRefusedError: No connection.
        InputError: What is there has no sound.
    """

    def __init__(
        self,
        plant: Plant,
        device: SoundUrlDevice,
        *,
        clock: Clock,
        password: SecretStr | None = None,
    ) -> None:
        stream = plant.stream(device.stream)
        assert isinstance(stream, AudioStream), "the plant file was checked"
        self._device, self._stream, self._clock = device, stream, clock
        self._container = open_media(device, password)
        if not self._container.streams.audio:
            self.close()
            raise InputError(f"{device.url} must have sound, and has none; correct the address")
        self._frames: Iterator[av.AudioFrame] = self._container.decode(
            self._container.streams.audio[0]
        )
        self._resampler = av.AudioResampler("s16", "mono", stream.sample_rate_hz)
        self._time = CaptureTime(lambda: self._container.start_time_realtime)
        self._parts: list[NDArray[np.int16]] = []
        self._num_gathered = self._num_sent = 0
        self._t_start_ns = 0
        self._next_ns: int | None = None

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
        """Return the next chunk when it is complete; waits for the next packet.

        That takes at most ``read_timeout_s``, also where that is longer than ``timeout_s``.
        """
        del timeout_s
        try:
            frame = self._next_frame()
        except DeviceUnavailableError:
            if not self._parts:
                raise
            # What was heard before goes first; the next call finds the same end.
            return [self._chunk(self._clock.now_ns())]
        if frame.pts is None or frame.time_base is None:
            return []
        t_receive_ns = self._clock.now_ns()
        presentation_ns = round(frame.pts * frame.time_base * NANOSECONDS)
        length_ns = frame.samples * NANOSECONDS // frame.sample_rate
        # (A packet is received when its last sample is there.)
        t_frame_ns = self._time.ns(presentation_ns + length_ns, t_receive_ns=t_receive_ns)
        found = self._note_loss(presentation_ns, t_receive_ns)
        self._next_ns = presentation_ns + length_ns
        if not self._parts:
            self._t_start_ns = t_frame_ns - length_ns
        frame.pts = None  # the resampler need not count: nothing is dropped or filled in
        for part in self._resampler.resample(frame):
            samples_N = part.to_ndarray().reshape(-1).astype(np.int16, copy=False)
            self._parts.append(samples_N)
            self._num_gathered += len(samples_N)
        if self._num_gathered < self._device.chunk_s * self._stream.sample_rate_hz:
            return found
        return [*found, self._chunk(t_receive_ns)]

    def position(self) -> str:
        """Return nothing: what was not heard is gone."""
        return ""

    def close(self) -> None:
        """Close the connection."""
        self._container.close()

    def _next_frame(self) -> av.AudioFrame:
        with explained(self._device):
            frame = next(self._frames, None)
        if frame is None:
            raise DeviceUnavailableError(
                f"{self._device.name} at {self._device.url} must go on, and it ended; "
                "connecting again"
            )
        return frame

    def _note_loss(self, presentation_ns: int, t_receive_ns: int) -> list[Observed]:
        """Return what came before a gap in the sender's count, and that there is one."""
        lost_ns = 0 if self._next_ns is None else presentation_ns - self._next_ns
        if lost_ns < MIN_LOSS_NS:
            return []
        found: list[Observed] = [self._chunk(t_receive_ns)] if self._parts else []
        num_lost = lost_ns * self._stream.sample_rate_hz // NANOSECONDS
        self._num_sent += num_lost
        return [*found, Unusable(self._stream.name, f"{num_lost} samples were lost on the way")]

    def _chunk(self, t_receive_ns: int) -> AudioChunk:
        samples_N = np.concatenate(self._parts)
        self._parts, self._num_gathered = [], 0
        index, self._num_sent = self._num_sent, self._num_sent + len(samples_N)
        is_clipped_N = (samples_N == _PCM16.max) | (samples_N == _PCM16.min)
        return AudioChunk(
            stream=self._stream.name,
            t_start_ns=self._t_start_ns,
            sample_rate_hz=self._stream.sample_rate_hz,
            sample_index=index,
            gain_db=0.0,
            num_clipped=int(is_clipped_N.sum()),
            samples_N=samples_N,
            t_receive_ns=t_receive_ns,
        )
