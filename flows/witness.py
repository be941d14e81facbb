"""What cameras and microphones recorded, for the console.

PyTorch, matplotlib and the encoder of films are imported when somebody first asks for evidence.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from console.ports import Evidence
from flows import wiring
from flows.gates import open_stored_gate
from flows.looking_back import newest_record, records_between
from flows.settings import Settings
from fusion.alignment import Observation, tick_of
from fusion.plant import Plant
from fusion.schema import AlarmEvent, Envelope, VideoFrame, decode_payload
from fusion.stream.intake import align_recorded

if TYPE_CHECKING:
    from flows.second_sight import SecondSight

CLIP_BEFORE_S, CLIP_AFTER_S = 8.0, 4.0


class RecordedWitness:
    """Looks at what the broker still has; one thread at a time per method."""

    def __init__(self, plants: Sequence[Plant], settings: Settings) -> None:
        self._plants = {str(plant.address): plant for plant in plants}
        self._settings = settings

    def look(self, event: AlarmEvent, *, quiet_ns: int | None) -> Evidence:
        """Return what was seen and heard when ``event`` raised its alarm.

        ``quiet_ns`` is a moment of normal running to show beside it.

        Raises:
            InputError: The broker no longer has the records of that time.
            BrokerUnavailableError: It did not answer.
        """
        return self._sight.look(event, quiet_ns=quiet_ns)

    def clip(self, event: AlarmEvent, stream: str) -> bytes | None:
        """Return what the camera ``stream`` saw around the alarm, as WebM; None where nothing.

        Raises:
            BrokerUnavailableError: It did not answer.
        """
        from flows.clip import ClipFrame, webm_of  # noqa: PLC0415 as said above

        plant = self._plants[event.state.plant]
        raised = tick_of(event.t_ns, plant) - 1
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

    @cached_property
    def _sight(self) -> SecondSight:
        from flows.second_sight import SecondSight  # noqa: PLC0415 as said above

        return SecondSight(self._plants, self._settings, self._ticks)


def _frames(observation: Observation, stream: str) -> list[NDArray[np.uint8]]:
    """Return the pictures of one tick, oldest first."""
    seen = observation.senses[stream].astype(np.uint8)
    return [seen] if seen.ndim == 3 else list(seen)
