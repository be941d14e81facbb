"""Real speech (espeak-ng) over the noise of a machine: voices are not recorded, the machine is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from scipy import signal

from connectors.silero_speech import SileroDetector
from flows.device_wiring import session_opener
from fusion.edge import DeviceRun
from fusion.errors import DeviceUnavailableError, InputError
from fusion.plant import Plant
from fusion.ports import Withheld
from fusion.schema import AudioChunk, DeviceHealth, Message
from tests.conftest import IS_CI
from tests.peers.peer import CLOCK, MICROPHONE, plant_with

SENTENCE = (
    "Please close the valve on pump number three, then call the control room. "
    "The bearing is getting hot and we should stop the line before lunch."
)
QUIET_S = 5.0
"""Of the machine alone, before and after the voice."""


def machine_noise(num_samples: int, rate_hz: int) -> NDArray[np.float64]:
    """Return hum with harmonics, broad noise that swells, and a blow every second; RMS 1."""
    generator = np.random.default_rng(8)
    t_N = np.arange(num_samples) / rate_hz
    hum_N = sum(np.sin(2 * np.pi * 49.5 * k * t_N + k) / k for k in range(1, 30))
    band = signal.butter(2, [200, 4_000], "bandpass", fs=rate_hz, output="sos")
    broad_N = np.asarray(signal.sosfilt(band, generator.normal(size=num_samples)))
    sound_N = 0.5 * hum_N + broad_N * (1 + 0.5 * np.sin(2 * np.pi * 3 * t_N))
    blow_N = 5 * np.exp(-np.arange(rate_hz // 20) / (rate_hz / 80))
    for begin in range(0, num_samples - len(blow_N), rate_hz):
        sound_N[begin : begin + len(blow_N)] += blow_N * generator.normal(size=len(blow_N))
    return sound_N / sound_N.std()


def spoken(folder: Path, voice: str, rate_hz: int) -> NDArray[np.float64]:
    """Return the sentence as espeak-ng says it; RMS 1."""
    program = shutil.which("espeak-ng")
    if program is None:
        assert not IS_CI, "deploy/prepare-tests.sh installs Debian's espeak-ng"
        pytest.skip("the speech of this test needs Debian's package espeak-ng")
    file = folder / f"{voice}.wav"
    subprocess.run([program, "-v", voice, "-w", str(file), SENTENCE], check=True)
    said_N, said_hz = soundfile.read(file)
    said_N = signal.resample_poly(said_N, rate_hz, said_hz)
    return said_N / said_N.std()


def microphone(file: Path, rate_hz: int, **rule: float) -> Plant:
    stream = MICROPHONE | {"sample_rate_hz": rate_hz}
    device = {"name": "mic1", "protocol": "sound-url", "stream": "microphone", "url": str(file)}
    return plant_with(stream, [device | {"speech_filter": rule}])


def heard(plant: Plant, length: int) -> tuple[NDArray[np.bool_], int]:
    """Return which samples were given out, and how many were withheld."""
    is_recorded_N, num_withheld = np.zeros(length, bool), 0
    session = session_opener(plant, plant.devices[0])(None)
    try:
        while True:
            for each in session.read(timeout_s=0.1):
                if isinstance(each, AudioChunk):
                    begin = each.sample_index
                    is_recorded_N[begin : begin + len(each.samples_N)] = True
                else:
                    assert isinstance(each, Withheld)
                    num_withheld += each.num_values
    except DeviceUnavailableError:  # the file is at its end
        session.close()
    return is_recorded_N, num_withheld


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
@pytest.mark.parametrize("snr_db", [10.0, 0.0])
@pytest.mark.parametrize("voice", ["en-us+f2", "de+m3"])
def test_a_voice_is_not_recorded_and_the_machine_around_it_is(
    tmp_path: Path, voice: str, snr_db: float, rate_hz: int
) -> None:
    said_N = spoken(tmp_path, voice, rate_hz) * 0.03 * 10 ** (snr_db / 20)
    quiet = round(QUIET_S * rate_hz)
    mixed_N = 0.03 * machine_noise(len(said_N) + 2 * quiet, rate_hz)
    mixed_N[quiet:-quiet] += said_N
    soundfile.write(tmp_path / "mixed.wav", mixed_N, rate_hz, subtype="PCM_16")
    plant = microphone(tmp_path / "mixed.wav", rate_hz)
    is_recorded_N, num_withheld = heard(plant, len(mixed_N))
    assert int(is_recorded_N.sum()) + num_withheld == len(mixed_N)
    loudness_N = np.convolve(np.abs(said_N), np.ones(rate_hz // 20) / (rate_hz // 20), "same")
    is_loud_N = loudness_N > 0.1 * loudness_N.max()
    assert is_recorded_N[quiet:-quiet][is_loud_N].mean() <= 0.01
    margin = rate_hz
    around_N = np.r_[is_recorded_N[: quiet - margin], is_recorded_N[-quiet + margin :]]
    assert around_N.mean() >= 0.98


def test_a_machine_alone_stays(tmp_path: Path) -> None:
    noise_N = 0.03 * machine_noise(30 * 16_000, 16_000)
    soundfile.write(tmp_path / "machine.wav", noise_N, 16_000, subtype="PCM_16")
    is_recorded_N, _ = heard(microphone(tmp_path / "machine.wav", 16_000), len(noise_N))
    assert is_recorded_N.mean() >= 0.98


def test_recordings_of_real_fans_stay(shared_data: Path, tmp_path: Path) -> None:
    files = sorted((shared_data / "mimii_sample" / "fan_id00").glob("*.flac"))
    assert files
    for file in files[:4]:
        sound_N, rate_hz = soundfile.read(file, always_2d=True)
        assert rate_hz == 16_000
        mono = tmp_path / "fan.wav"
        soundfile.write(mono, sound_N[:, 0], rate_hz, subtype="PCM_16")
        is_recorded_N, _ = heard(microphone(mono, rate_hz), len(sound_N))
        assert is_recorded_N.mean() >= 0.98


class Nowhere:
    """Takes messages and keeps no position."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def publish(self, messages: list[Message], **_: object) -> None:
        self.messages += messages

    def load(self) -> None:
        return None

    def save(self, position: str) -> None:
        pass


def test_what_is_withheld_is_in_the_health_of_the_stream(tmp_path: Path) -> None:
    said_N = 0.1 * spoken(tmp_path, "en-us+f2", 16_000)
    soundfile.write(tmp_path / "voice.wav", said_N, 16_000, subtype="PCM_16")
    plant = microphone(tmp_path / "voice.wav", 16_000)
    device, nowhere = plant.devices[0], Nowhere()
    told, states = list[DeviceHealth](), list[str]()
    run = DeviceRun(
        plant,
        device,
        open_session=session_opener(plant, device),
        publisher=nowhere,  # type: ignore[arg-type]
        positions=nowhere,
        clock=CLOCK,
        on_state=lambda state, _why: states.append(state),
        on_health=told.append,
    )
    while "connecting" not in states:  # the file is at its end
        run.step()
    run.close()
    flow = told[-1].streams[0]
    assert flow.withheld >= 0.8 * len(said_N)
    assert flow.withheld + flow.values == len(said_N)


def test_a_rate_that_the_filter_cannot_hear_is_explained() -> None:
    with pytest.raises(InputError, match="16000, 32000, 48000"):
        SileroDetector(sample_rate_hz=44_100)
