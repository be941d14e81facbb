"""What a connector of a device must be, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fusion.schema import Payload, Quality


class Reading(NamedTuple):
    """One value of one tag, as its device says it."""

    stream: str
    tag: str
    value: float
    """In the device's unit; NaN where there is none."""
    quality: Quality
    t_source_ns: int
    """When the instrument measured; the server's or the receiver's time where nobody says."""
    t_server_ns: int
    """When a server between saw it; the source's time where there is none."""
    t_receive_ns: int
    status: int = 0
    """The raw status of the protocol; 0 where there is none."""


class Unusable(NamedTuple):
    """Something that a device said and that cannot be used: counted, told, and gone on from."""

    stream: str
    why: str


class Withheld(NamedTuple):
    """Something that was there and is not recorded on purpose: counted, and missing downstream."""

    stream: str
    num_values: int


Observed = Reading | Payload | Unusable | Withheld


class SpeechDetector(Protocol):
    """Hears whether somebody speaks. Knows one microphone; not for several threads."""

    @property
    def frame_samples(self) -> int:
        """How many samples it listens to at once."""
        ...

    def probability(self, frame_N: NDArray[np.int16]) -> float:
        """Return how likely there is speech in the next ``frame_samples`` samples, 0 to 1."""
        ...

    def forget(self) -> None:
        """Begin anew: what comes next does not follow on what came before."""
        ...


class DeviceSession(Protocol):
    """One connection to one device of a plant, open from the start. Not for several threads.

    What it knows is the protocol. Scaling, ranges, deadbands, limits, health, reconnecting and
    sending are :class:`fusion.edge.DeviceRun`'s, the same for every device.
    """

    @property
    def units(self) -> Mapping[str, str]:
        """The unit that the device itself states, by tag; empty where it states none."""
        ...

    @property
    def is_ended(self) -> bool:
        """Whether nothing will ever come again, as after the last file."""
        ...

    @property
    def holds_until_ns(self) -> int | None:
        """Until when, by the device's clock, every reading holds that no later one has replaced.

        Of protocols that tell changes only, as long as they are known to be connected; None where
        every value is told again.
        """
        ...

    def read(self, *, timeout_s: float) -> Sequence[Observed]:
        """Return what came since the last call; nothing when nothing came in time.

        Bounded: one call returns what fits into memory many times over, and while nobody calls,
        the device waits or its own queue drops the oldest and says so in the quality.

        Raises:
            DeviceUnavailableError: The connection is lost, or its watchdog saw no sign of life.
            DeviceRefusedError: The device takes us no longer.
            InputError: The plant file asks for what the device does not have.
        """
        ...

    def position(self) -> str:
        """Return how far everything has come that was read; a new session goes on from there."""
        ...

    def close(self) -> None:
        """Say goodbye if the device listens, and free everything. Never hangs, never fails."""
        ...


@runtime_checkable
class TakesReceipts(Protocol):
    """A session whose device keeps what it said until it has a receipt, and else says it again."""

    @property
    def awaits_receipt(self) -> bool:
        """Whether the device seems to say no more before it has a receipt."""
        ...

    def receipt(self) -> None:
        """Take note that all that was read is with the broker or its spool. Never fails."""
        ...
