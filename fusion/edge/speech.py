"""A microphone without the voices: spans in which somebody speaks are withheld before all else.

A frame is given out when so much was judged behind it as the margin is long::

    judged     . . . . s s s . . . . .        s: speech
    withheld       . . s s s . .              the margin is withheld with it
    given out  . .               . . .        in pieces that say where they lie
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fusion.errors import DeviceUnavailableError
from fusion.plant import NANOSECONDS
from fusion.plant.devices import SpeechFilter
from fusion.ports import DeviceSession, Observed, SpeechDetector, Withheld
from fusion.schema import AudioChunk

_PCM16 = np.iinfo(np.int16)


class SpeechSieve:
    """Takes the chunks of one stream and gives out what nobody speaks in.

    Args:
        stream: Its name.
        detector: Hears speech.
        rule: From which probability on, and how much around it.
        sample_rate_hz: Of every chunk.
    """

    def __init__(
        self, stream: str, detector: SpeechDetector, rule: SpeechFilter, *, sample_rate_hz: int
    ) -> None:
        self._stream = stream
        self._detector = detector
        self._threshold = rule.threshold
        self._rate_hz = sample_rate_hz
        self._size = detector.frame_samples
        self._margin = math.ceil(rule.margin_s * sample_rate_hz / self._size)
        self._past: list[bool] = []
        """Of the frames given out last: their margin reaches into what comes."""
        self._begin = -1
        self._samples_N = np.zeros(0, np.int16)
        self._is_speech: list[bool] = []
        self._anchors: deque[AudioChunk] = deque()

    def take(self, chunk: AudioChunk) -> list[Observed]:
        """Return what may be recorded of what came up to now, and how much may not."""
        found: list[Observed] = []
        if chunk.sample_index != self._begin + len(self._samples_N):
            found = self.finish()
            self._detector.forget()
            self._begin = chunk.sample_index
        self._anchors.append(chunk)
        self._samples_N = np.concatenate([self._samples_N, chunk.samples_N])
        while len(self._samples_N) >= (len(self._is_speech) + 1) * self._size:
            self._judge(self._samples_N[len(self._is_speech) * self._size :][: self._size])
        return found + self._give_out(max(0, len(self._is_speech) - self._margin))

    def finish(self) -> list[Observed]:
        """Return all that waits: nothing follows on it."""
        rest_N = self._samples_N[len(self._is_speech) * self._size :]
        if len(rest_N):
            self._judge(np.pad(rest_N, (0, self._size - len(rest_N))))
        return self._give_out(len(self._is_speech))

    def _judge(self, frame_N: NDArray[np.int16]) -> None:
        self._is_speech.append(self._detector.probability(frame_N) >= self._threshold)

    def _give_out(self, num_frames: int) -> list[Observed]:
        """Return the first ``num_frames`` frames, in pieces."""
        flags = self._past + self._is_speech
        found: list[Observed] = []
        num_withheld, first = 0, 0
        for index in range(num_frames + 1):
            is_withheld = index < num_frames and self._is_near_speech(flags, index)
            if index == num_frames or is_withheld:
                if first < index:
                    found.append(self._piece(first * self._size, index * self._size))
                first = index + 1
            if is_withheld:
                num_withheld += len(self._samples_N[index * self._size :][: self._size])
        if num_withheld:
            found.append(Withheld(self._stream, num_withheld))
        self._past = (self._past + self._is_speech[:num_frames])[-self._margin :]
        self._is_speech = self._is_speech[num_frames:]
        given = min(num_frames * self._size, len(self._samples_N))
        self._samples_N = self._samples_N[given:]
        self._begin += given
        while len(self._anchors) > 1 and self._anchors[1].sample_index <= self._begin:
            self._anchors.popleft()
        return found

    def _is_near_speech(self, flags: Sequence[bool], index: int) -> bool:
        """Return whether there is speech in the frame ``index`` of those that wait, or near it."""
        at = index + len(self._past)
        return any(flags[max(0, at - self._margin) : at + self._margin + 1])

    def _piece(self, begin: int, end: int) -> AudioChunk:
        samples_N = self._samples_N[begin:end]
        index = self._begin + begin
        # Its time is that of the chunk in which it begins: nobody's crystal is believed for longer.
        anchor = next(each for each in reversed(self._anchors) if each.sample_index <= index)
        passed_ns = (index - anchor.sample_index) * NANOSECONDS // self._rate_hz
        return AudioChunk(
            stream=self._stream,
            t_start_ns=anchor.t_start_ns + passed_ns,
            sample_rate_hz=self._rate_hz,
            sample_index=index,
            gain_db=anchor.gain_db,
            num_clipped=int(((samples_N == _PCM16.max) | (samples_N == _PCM16.min)).sum()),
            samples_N=samples_N,
            t_receive_ns=self._anchors[-1].t_receive_ns,
        )


class WithoutSpeech:
    """Implements :class:`fusion.ports.DeviceSession` around the session of a microphone.

    What is withheld is counted (:class:`fusion.ports.Withheld`) and missing downstream: a tick
    without enough sound is absent there, as after a loss on the way.
    """

    def __init__(self, session: DeviceSession, sieve: SpeechSieve) -> None:
        self._session = session
        self._sieve = sieve
        self._broken: DeviceUnavailableError | None = None

    @property
    def units(self) -> Mapping[str, str]:
        """Sound has none."""
        return self._session.units

    @property
    def is_ended(self) -> bool:
        """As the microphone's: never."""
        return self._session.is_ended

    @property
    def holds_until_ns(self) -> int | None:
        """A sound is of its moment."""
        return None

    def read(self, *, timeout_s: float) -> Sequence[Observed]:
        """Return what may be recorded of what came, later than it came by the margin."""
        if self._broken is not None:
            raise self._broken
        try:
            observed = self._session.read(timeout_s=timeout_s)
        except DeviceUnavailableError as lost:
            if not (found := self._sieve.finish()):
                raise
            self._broken = lost  # What came before is judged: it goes first.
            return found
        found = []
        for each in observed:
            found += self._sieve.take(each) if isinstance(each, AudioChunk) else [each]
        return found

    def position(self) -> str:
        """As the microphone's: what was not heard is gone."""
        return self._session.position()

    def close(self) -> None:
        """Close the microphone's session."""
        self._session.close()
