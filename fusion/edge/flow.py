"""What one stream of a device says, made ready to send, and how the stream does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from fusion.alignment.clocks import StreamClock
from fusion.alignment.event_time import stamps
from fusion.edge.checking import TagRules
from fusion.edge.holding import Held
from fusion.edge.rows import RowGatherer
from fusion.errors import InputError
from fusion.plant import NANOSECONDS, AudioStream, Plant, StreamSender, TelemetryStream, VideoStream
from fusion.plant.devices import Device, Mask
from fusion.plant.sending import Trace
from fusion.ports import Clock, Reading
from fusion.schema import (
    MAX_CLAIMED_BYTES,
    AudioChunk,
    Message,
    Payload,
    StreamFlow,
    TelemetryBatch,
    VideoFrame,
)


class StreamOutflow:
    """Turns what a device says of one stream into messages, and counts.

    Memory is bounded: ``take`` is due when :attr:`is_full`.
    """

    def __init__(
        self,
        plant: Plant,
        device: Device,
        stream: str,
        *,
        epoch: str,
        clock: Clock,
        trace: Trace | None = None,
    ) -> None:
        self._stream = plant.stream(stream)
        self._clock = clock
        source = f"edge-{device.name}"
        self._sender = StreamSender(plant, stream, source=source, epoch=epoch, trace=trace)
        self._masks = _Masks(device.privacy_masks)
        self._rows: RowGatherer | None = None
        self._rules: TagRules | None = None
        self._held = Held(self._stream.max_age_s)
        if isinstance(self._stream, TelemetryStream):
            self._rows = RowGatherer(self._stream)
            self._rules = TagRules(self._stream, device.tag_sources)
        self._period_ns = (
            round(NANOSECONDS / self._stream.rate_hz)
            if isinstance(self._stream, VideoStream)
            else 0
        )
        self._frame_slot: int | None = None
        self._payloads: list[Payload] = []
        self._source_clock = StreamClock()
        self._num_records = self._num_values = self._num_thinned = 0
        self._num_gaps = self._num_unusable = self._num_withheld = 0
        self._why_unusable = ""
        self._last_seen_ns: int | None = None
        self._last_seen_monotonic_ns: int | None = None
        self._told = (0, clock.monotonic_ns())

    @property
    def is_full(self) -> bool:
        """Whether enough has gathered for a record of its own."""
        num_cells = 0 if self._rows is None else self._rows.num_cells
        return bool(self._payloads) or num_cells >= 100_000

    def add_readings(self, readings: Sequence[Reading]) -> None:
        """Take single readings."""
        assert self._rows is not None, "the plant file was checked: tags are of telemetry streams"
        self._note_seen()
        self._rows.add(readings)
        self._held.note(readings)

    def repeat(self, t_ns: int) -> None:
        """Say again what still holds at ``t_ns`` and was not said for a while."""
        if self._rows is None:
            return
        if repeated := self._held.repeat(t_ns, t_receive_ns=self._clock.now_ns()):
            self._note_seen()
            self._rows.add(repeated)

    def forget(self) -> None:
        """Hold nothing any longer: the device is not there to say otherwise."""
        self._held = Held(self._stream.max_age_s)

    def add(self, payload: Payload) -> None:
        """Take a batch, a chunk or a frame.

        Raises:
            InputError: It is not as the plant file describes the stream.
        """
        self._note_seen()
        if isinstance(payload, TelemetryBatch):
            self._take_rows()
            self._payloads.append(payload)
        elif isinstance(payload, AudioChunk):
            _require_rate(payload, self._stream)
            self._payloads.append(payload)
        elif self._is_wanted(payload):
            self._payloads.append(self._masks.cover(payload))

    def refuse(self, why: str) -> None:
        """Count something that the device said and that cannot be used."""
        self._note_seen()
        self._num_unusable += 1
        self._why_unusable = why[:500]

    def withhold(self, num_values: int) -> None:
        """Count something that the device said and that is not to be recorded."""
        self._note_seen()
        self._num_withheld += num_values

    def take(self) -> list[Message]:
        """Return everything that was gathered, as messages in order."""
        self._take_rows()
        payloads, self._payloads = self._payloads, []
        messages: list[Message] = []
        for payload in payloads:
            judged = payload
            if isinstance(payload, TelemetryBatch):
                assert self._rules is not None
                judged = self._rules.apply(payload)
            if judged is None:
                continue
            message = self._sender.message(judged)
            if len(message.value) > MAX_CLAIMED_BYTES:
                self.refuse(f"a record has {len(message.value)} bytes, too many for any broker")
                continue
            self._num_records += 1
            self._num_values += _num_values(judged)
            now_ns = self._clock.now_ns()
            self._source_clock.note(stamps(judged, self._stream), t_broker_ns=now_ns)
            messages.append(message)
        return messages

    def health(self) -> StreamFlow:
        """Return how the stream does; the rate is that since the last call."""
        now_ns = self._clock.monotonic_ns()
        num_before, t_before_ns = self._told
        self._told = (self._num_records, now_ns)
        passed_s = max((now_ns - t_before_ns) / NANOSECONDS, 1e-3)
        offset_ns = self._source_clock.offset_ns()
        rules, rows = self._rules, self._rows
        return StreamFlow(
            stream=self._stream.name,
            records=self._num_records,
            values=self._num_values,
            rate_hz=(self._num_records - num_before) / passed_s,
            bad=0 if rules is None else rules.num_bad,
            out_of_range=0 if rules is None else rules.num_out_of_range,
            held_back=0 if rules is None else rules.num_held_back,
            thinned=self._num_thinned + (0 if rows is None else rows.num_thinned),
            withheld=self._num_withheld,
            untimed=0 if rows is None else rows.num_untimed,
            gaps=self._num_gaps,
            unusable=self._num_unusable,
            why_unusable=self._why_unusable,
            offset_s=None if offset_ns is None else offset_ns / NANOSECONDS,
            drift_ppm=self._source_clock.drift_ppm(),
            clock_jumps=self._source_clock.num_jumps,
            last_seen_ns=self._last_seen_ns,
        )

    def _take_rows(self) -> None:
        if self._rows is not None:
            self._payloads.extend(self._rows.take())

    def _note_seen(self) -> None:
        now_ns = self._clock.monotonic_ns()
        before_ns = self._last_seen_monotonic_ns
        if before_ns is not None:
            self._num_gaps += now_ns - before_ns > self._stream.max_age_s * NANOSECONDS
        self._last_seen_ns, self._last_seen_monotonic_ns = self._clock.now_ns(), now_ns

    def _is_wanted(self, frame: VideoFrame) -> bool:
        """Whether it is the first frame of its period: a camera may send more than it should."""
        # (A camera's own jitter must not cost the frame that comes a little early.)
        slot = (frame.t_capture_ns + self._period_ns // 4) // self._period_ns
        if self._frame_slot is not None and slot == self._frame_slot:
            self._num_thinned += 1
            return False
        self._frame_slot = slot
        return True


class _Masks:
    """Blackens what must not be seen."""

    def __init__(self, masks: Sequence[Mask]) -> None:
        self._masks = masks
        self._is_hidden_HW = np.zeros((0, 0), np.bool_)

    def cover(self, frame: VideoFrame) -> VideoFrame:
        """Return ``frame`` with every masked pixel black."""
        if not self._masks:
            return frame
        height_px, width_px = frame.pixels_HW3.shape[:2]
        if self._is_hidden_HW.shape != (height_px, width_px):
            drawn = Image.new("1", (width_px, height_px))
            for mask in self._masks:
                corners = [(x * width_px, y * height_px) for x, y in mask.corners]
                ImageDraw.Draw(drawn).polygon(corners, fill=1, outline=1)
            self._is_hidden_HW = np.asarray(drawn)
        pixels_HW3 = frame.pixels_HW3.copy()
        pixels_HW3[self._is_hidden_HW] = 0
        return VideoFrame(frame.stream, frame.t_capture_ns, pixels_HW3, frame.t_receive_ns)


def _require_rate(chunk: AudioChunk, stream: object) -> None:
    assert isinstance(stream, AudioStream)
    if chunk.sample_rate_hz != stream.sample_rate_hz:
        raise InputError(
            f"stream {stream.name!r} must have {stream.sample_rate_hz} Hz, its device gives "
            f"{chunk.sample_rate_hz} Hz; correct sample_rate_hz in the plant file"
        )


def _num_values(payload: Payload) -> int:
    if isinstance(payload, TelemetryBatch):
        return int((payload.quality_RC <= 3).sum())
    return len(payload.samples_N) if isinstance(payload, AudioChunk) else 1
