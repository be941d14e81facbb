"""What was seen and heard at an alarm, for the console: broker → ticks → pictures and sound."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from console.ports import Chart, Evidence, Shot
from flows import wiring
from flows.clip import ClipFrame, webm_of
from flows.demo.maps import Maps
from flows.demo.moments import SOUND_TICKS, moment_of, tick_of_ns
from flows.demo.second_look import SecondLook
from flows.gates import open_stored_gate
from flows.looking_back import newest_record, records_between
from flows.models import model_folder
from flows.report.drawing import Picture
from flows.report.evidence import Shown, show
from flows.settings import Settings
from fusion.alignment import Observation
from fusion.errors import InputError
from fusion.plant import Plant
from fusion.schema import AlarmEvent, Envelope, VideoFrame, decode_payload
from fusion.stream.intake import align_recorded

MAX_MODELS = 4
CLIP_BEFORE_S, CLIP_AFTER_S = 8.0, 4.0


class RecordedWitness:
    """Looks at what the broker still has; one thread at a time per method."""

    def __init__(self, plants: Sequence[Plant], settings: Settings) -> None:
        self._plants = {str(plant.address): plant for plant in plants}
        self._settings = settings
        self._looks = lru_cache(MAX_MODELS)(self._load)

    def look(self, event: AlarmEvent, *, quiet_ns: int | None) -> Evidence:
        """Return what was seen and heard when ``event`` raised its alarm.

        ``quiet_ns`` is a moment of normal running to show beside it.

        Raises:
            InputError: The broker no longer has the records of that time.
            BrokerUnavailableError: It did not answer.
        """
        plant = self._plants[event.state.plant]
        version = "" if event.score is None else event.score.model_version
        maps, again = self._looks(event.state.plant, version)
        tick = tick_of_ns(event.t_ns, plant)
        quiet = None if quiet_ns is None else tick_of_ns(quiet_ns, plant)
        wanted = range(tick - SOUND_TICKS + 1, tick + 1)
        if again is not None and event.state.finding == "surprise":
            wanted = range(min(wanted.start, again.ticks_up_to(tick).start), tick + 1)
        kept = self._ticks(plant, wanted)
        if not kept:
            raise InputError(
                "the broker no longer has what the senses sent at that time; the lake has it where "
                "`fusion ingest` ran"
            )
        if quiet is not None:
            kept |= self._ticks(plant, range(quiet - SOUND_TICKS + 1, quiet + 1))
        if maps is not None:
            for at in range(tick - SOUND_TICKS + 1, tick + 1):
                if at in kept:
                    maps.draw(kept[at])
        return _evidence(show(moment_of(event, tick, quiet, kept, plant, maps, again)))

    def clip(self, event: AlarmEvent, stream: str) -> bytes | None:
        """Return what the camera ``stream`` saw around the alarm, as WebM; None where nothing.

        Raises:
            BrokerUnavailableError: It did not answer.
        """
        plant = self._plants[event.state.plant]
        raised = tick_of_ns(event.t_ns, plant)
        first, last = (round(s / plant.tick_s) for s in (CLIP_BEFORE_S, CLIP_AFTER_S))
        kept = self._ticks(plant, range(raised - first + 1, raised + last + 1))
        seen = [o for _, o in sorted(kept.items()) if o.is_present(stream)]
        frames = [
            ClipFrame(frame_HW3, is_after=observation.tick >= raised)
            for observation in seen
            for frame_HW3 in _frames(observation, stream)
        ]
        per_tick = len(frames) / max(1, len(seen))
        return webm_of(frames, rate_hz=per_tick / plant.tick_s) if frames else None

    def newest_frame(self, plant: Plant, stream: str) -> bytes | None:
        """Return the newest picture of a camera as JPEG; None where it sent none."""
        topic = plant.topic("video")
        if not wiring.topics_there(self._settings, [topic]):
            return None
        with contextlib.closing(
            wiring.open_source(self._settings, [topic], "console-frames")
        ) as source:
            record = newest_record(source, subject=plant.stream_address(stream))
        if record is None:
            return None
        resolved = wiring.open_stored_resolver(self._settings, plant).resolve(record)
        frame = decode_payload(Envelope.from_headers(record.headers), resolved.value)
        assert isinstance(frame, VideoFrame), "the topic carries pictures"
        jpeg = io.BytesIO()
        Image.fromarray(frame.pixels_HW3).save(jpeg, format="JPEG", quality=85)
        return jpeg.getvalue()

    def _ticks(self, plant: Plant, ticks: range) -> dict[int, Observation]:
        records = records_between(
            lambda topics: wiring.open_source(self._settings, topics, "console-evidence"),
            wiring.topics_there(self._settings, plant.sense_topics),
            start_ns=ticks.start * plant.tick_ns,
            stop_ns=ticks.stop * plant.tick_ns,
            key=str(plant.address),
        )
        with open_stored_gate(plant, self._settings) as gate:
            return {o.tick: o for o in align_recorded(records, plant, gate) if o.tick in ticks}

    def _load(self, address: str, version: str) -> tuple[Maps | None, SecondLook | None]:
        plant = self._plants[address]
        folder = model_folder(self._settings, plant, version)
        if folder is None:
            return None, None
        return Maps(plant, folder), SecondLook(plant, folder)


def _frames(observation: Observation, stream: str) -> list[NDArray[np.uint8]]:
    """Return the pictures of one tick, oldest first."""
    seen = observation.senses[stream].astype(np.uint8)
    return [seen] if seen.ndim == 3 else list(seen)


def _evidence(shown: Shown) -> Evidence:
    return Evidence(
        frames=tuple(Shot(f.uri, f.caption, f.alt) for f in shown.frames),
        spectrogram=_chart(shown.spectrograms),
        sound_said=shown.sound_said,
        sound_uri=shown.sound_uri,
        normal_sound_uri=shown.normal_sound_uri,
        sensor_or_process=shown.sensor_or_process,
    )


def _chart(drawn: Picture | None) -> Chart | None:
    if drawn is None:
        return None
    return Chart(wide_uri=drawn.wide.uri, narrow_uri=drawn.narrow.uri, alt=drawn.alt)
