"""Cameras and microphones: times, hostile bytes, and what is not there."""

from __future__ import annotations

import contextlib
import io
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.media import CameraSession, SoundUrlSession
from connectors.media.capture_time import MAX_RELAX, CaptureTime
from connectors.sound_card import SoundCardSession
from fusion.errors import DeviceUnavailableError, InputError
from fusion.plant import NANOSECONDS
from fusion.plant.devices import CameraDevice, SoundCardDevice, SoundUrlDevice
from fusion.ports import Unusable
from fusion.schema import AudioChunk, VideoFrame
from tests.clocks import START_NS
from tests.peers.peer import CAMERA, CLOCK, MICROPHONE, plant_with


@given(st.lists(st.integers(0, NANOSECONDS), min_size=1, max_size=50))
def test_without_reports_a_time_is_late_by_the_least_delay_at_most(delays_ns: list[int]) -> None:
    time = CaptureTime(lambda: None)
    least_ns = delays_ns[0]
    for index, delay_ns in enumerate(delays_ns):
        presented_ns = index * NANOSECONDS // 10
        captured_ns = START_NS + presented_ns
        found_ns = time.ns(presented_ns, t_receive_ns=captured_ns + delay_ns)
        least_ns = min(least_ns, delay_ns)
        slack_ns = round(MAX_RELAX * (index + 1) * 1.2 * NANOSECONDS)
        assert least_ns <= found_ns - captured_ns <= least_ns + slack_ns
    assert not time.is_sent


def test_a_report_of_the_sender_counts_whenever_it_comes() -> None:
    said: list[int | None] = [None]
    time = CaptureTime(lambda: said[0])
    assert time.ns(0, t_receive_ns=START_NS + 7) == START_NS + 7
    said[0] = START_NS // 1_000
    assert time.is_sent
    assert time.ns(40, t_receive_ns=START_NS + 10**9) == START_NS + 40


def film(num_frames: int = 6) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mpegts") as made:
        stream = made.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(num_frames):
            pixels_HW3 = np.full((48, 64, 3), 20 * index, np.uint8)
            made.mux(stream.encode(av.VideoFrame.from_ndarray(pixels_HW3, format="rgb24")))
        made.mux(stream.encode())
    return buffer.getvalue()


FILM = film()


def read_all(path: Path) -> list[object]:
    told = {"name": "camera1", "protocol": "camera", "stream": "camera", "url": str(path)}
    plant = plant_with(CAMERA, [told])
    device = plant.devices[0]
    assert isinstance(device, CameraDevice)
    found: list[object] = []
    try:
        session = CameraSession(plant, device, clock=CLOCK)
    except (DeviceUnavailableError, InputError):
        return found
    try:
        for _ in range(200):
            found += session.read(timeout_s=0.1)
    except DeviceUnavailableError:
        pass
    finally:
        session.close()
    return found


def test_a_film_is_a_camera_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "film.ts"
    path.write_bytes(FILM)
    found = read_all(path)
    assert found, "frames that come faster than they were taken are thinned, but not all"
    assert all(isinstance(frame, VideoFrame) for frame in found)


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(FILM) - 1), st.integers(0, 255)), min_size=1, max_size=60
    ),
    end=st.integers(1, len(FILM)),
)
def test_damaged_pictures_end_the_connection_and_nothing_else(
    tmp_path: Path, changes: list[tuple[int, int]], end: int
) -> None:
    damaged = bytearray(FILM)
    for at, byte in changes:
        damaged[at] = byte
    path = tmp_path / "damaged.ts"
    path.write_bytes(damaged[:end])
    for frame in read_all(path):
        assert isinstance(frame, VideoFrame)
        assert frame.pixels_HW3.shape == (48, 64, 3)


def test_lost_sound_is_told_counted_and_not_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    with av.open(path, "w") as file:
        track = file.add_stream("pcm_s16le", rate=16_000, layout="mono")
        # A quarter of a second is there, a second is not, and a quarter is there again.
        for at in [*range(0, 4_000, 1_000), *range(20_000, 24_000, 1_000)]:
            frame = av.AudioFrame.from_ndarray(np.ones((1, 1_000), np.int16), "s16", "mono")
            frame.pts, frame.sample_rate, frame.time_base = at, 16_000, Fraction(1, 16_000)
            file.mux(track.encode(frame))
        file.mux(track.encode(None))
    told = {"name": "mic1", "protocol": "sound-url", "stream": "microphone", "url": str(path)}
    plant = plant_with(MICROPHONE, [told | {"chunk_s": 0.2}])
    device = plant.devices[0]
    assert isinstance(device, SoundUrlDevice)
    found: list[object] = []
    with (
        closing(SoundUrlSession(plant, device, clock=CLOCK)) as session,
        contextlib.suppress(DeviceUnavailableError),
    ):
        for _ in range(100):
            found += session.read(timeout_s=0.1)
    (lost,) = [each.why for each in found if isinstance(each, Unusable)]
    # The container counts in milliseconds, of 16 samples each.
    num_lost = int(lost.removesuffix(" samples were lost on the way"))
    assert abs(num_lost - 16_000) <= 16
    chunks = [each for each in found if isinstance(each, AudioChunk)]
    assert [each.sample_index for each in chunks if each.sample_index >= 4_000] == [
        4_000 + num_lost
    ]
    assert all(len(each.samples_N) <= 4_000 for each in chunks)


def test_a_stream_without_sound_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "film.ts"
    path.write_bytes(FILM)
    told = {"name": "mic1", "protocol": "sound-url", "stream": "microphone", "url": str(path)}
    plant = plant_with(MICROPHONE, [told])
    device = plant.devices[0]
    assert isinstance(device, SoundUrlDevice)
    with pytest.raises(InputError, match="must have sound"):
        SoundUrlSession(plant, device, clock=CLOCK)


def test_a_card_that_is_not_there_is_unavailable() -> None:
    told = {"name": "mic2", "protocol": "sound-card", "stream": "microphone"}
    plant = plant_with(MICROPHONE, [told | {"card": "no such card"}])
    device = plant.devices[0]
    assert isinstance(device, SoundCardDevice)
    with pytest.raises(DeviceUnavailableError, match=r"sound card|PortAudio"):
        SoundCardSession(plant, device, clock=CLOCK)


@pytest.mark.parametrize("url", ["rtsp://user:pass@camera/1", "file.mp4", "javascript:1"])
def test_addresses_with_a_password_or_of_nothing_are_refused(url: str) -> None:
    told = {"name": "camera1", "protocol": "camera", "stream": "camera", "url": url}
    with pytest.raises(ValueError, match="url"):
        plant_with(CAMERA, [told])
