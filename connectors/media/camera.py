"""A camera as a device: frames at the stream's rate and size, with the time of capture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import av
import numpy as np
from pydantic import SecretStr

from connectors.media.capture_time import CaptureTime
from connectors.media.opening import explained, open_media
from fusion.errors import DeviceUnavailableError, InputError
from fusion.plant import NANOSECONDS, Plant, VideoStream
from fusion.plant.devices import CameraDevice
from fusion.ports import Clock, Observed
from fusion.schema import VideoFrame


class CameraSession:
    """Implements :class:`fusion.ports.DeviceSession` for one camera.

    Every frame is decoded, as the codec needs; only those that the stream wants are scaled and
    given out, whatever moves or does not move in them.

    Raises:
        DeviceUnavailableError, DeviceRefusedError: No connection.
        InputError: What is there has no pictures.
    """

    def __init__(
        self,
        plant: Plant,
        device: CameraDevice,
        *,
        clock: Clock,
        password: SecretStr | None = None,
    ) -> None:
        stream = plant.stream(device.stream)
        assert isinstance(stream, VideoStream), "the plant file was checked"
        self._device, self._stream, self._clock = device, stream, clock
        self._container = open_media(device, password)
        if not self._container.streams.video:
            self.close()
            raise InputError(f"{device.url} must have pictures, and has none; correct the address")
        video = self._container.streams.video[0]
        video.thread_type = "SLICE"  # frame threads would hold frames back
        self._frames: Iterator[av.VideoFrame] = self._container.decode(video)
        self._time = CaptureTime(lambda: self._container.start_time_realtime)
        self._slot: int | None = None

    @property
    def units(self) -> Mapping[str, str]:
        """Pictures have none."""
        return {}

    @property
    def is_ended(self) -> bool:
        """A camera never ends."""
        return False

    @property
    def holds_until_ns(self) -> int | None:
        """A picture is of one moment."""
        return None

    def read(self, *, timeout_s: float) -> Sequence[Observed]:
        """Return the next frame, or nothing if it is one too many; waits for the camera's next.

        That takes at most ``read_timeout_s``, also where that is longer than ``timeout_s``.
        """
        del timeout_s
        with explained(self._device):
            frame = next(self._frames, None)
        if frame is None:
            raise DeviceUnavailableError(
                f"{self._device.name} at {self._device.url} must go on, and it ended; "
                "connecting again"
            )
        t_receive_ns = self._clock.now_ns()
        if frame.pts is None or frame.time_base is None:
            return []
        presentation_ns = round(frame.pts * frame.time_base * NANOSECONDS)
        t_capture_ns = self._time.ns(presentation_ns, t_receive_ns=t_receive_ns)
        if not self._is_wanted(t_capture_ns):
            return []
        pixels_HW3 = frame.to_ndarray(
            format="rgb24",
            width=self._stream.width_px,
            height=self._stream.height_px,
            interpolation="AREA",
        ).astype(np.uint8, copy=False)
        return [VideoFrame(self._stream.name, t_capture_ns, pixels_HW3, t_receive_ns)]

    def position(self) -> str:
        """Return nothing: what was not seen is gone."""
        return ""

    def close(self) -> None:
        """Close the connection."""
        self._container.close()

    def _is_wanted(self, t_capture_ns: int) -> bool:
        """Whether it may be the first frame of its period; scaling the others would be in vain."""
        # Four times finer than the stream: which of these is sent, is decided once for all cameras.
        slot = round(t_capture_ns * self._stream.rate_hz * 4 / NANOSECONDS)
        is_new, self._slot = slot != self._slot, slot
        return is_new
