"""What the console needs from outside: ``flows/console.py`` builds it, tests bring their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fusion.plant import Plant
from fusion.ports import Clock, Publisher, Source
from fusion.rollout.states import Entry
from fusion.schema import AlarmEvent, TagForecast


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture as it goes into a page; ``uri`` is a data URI."""

    uri: str
    caption: str
    alt: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart drawn for a desk and for a phone, as data URIs."""

    wide_uri: str
    narrow_uri: str
    alt: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What could be seen and heard when an alarm was raised, beside the normal."""

    frames: tuple[Shot, ...] = ()
    spectrogram: Chart | None = None
    sound_said: str = ""
    sound_uri: str | None = None
    normal_sound_uri: str | None = None
    sensor_or_process: str = ""
    """What leaving out one sense after the other says; "" where it says nothing."""


class Witness(Protocol):
    """Looks up what the senses recorded. Called from a thread of its own; may take seconds."""

    def look(self, event: AlarmEvent, *, quiet_ns: int | None) -> Evidence:
        """Return what was seen and heard when ``event`` raised its alarm.

        ``quiet_ns`` is a moment of normal running to show beside it; None where none is known.

        Raises:
            InputError: The records of that time are gone, or there never were any.
            FusionError: Something that is needed is away; ask again.
        """
        ...

    def newest_frame(self, plant: Plant, stream: str) -> bytes | None:
        """Return the newest picture of a camera as JPEG; None where it sent none."""
        ...


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of one model version."""

    version: str
    recipe: str
    num_train_ticks: int
    num_calibration_ticks: int
    code_version: str
    is_newest: bool
    gauges: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is expected of one tag under one plan, at each horizon, in its unit."""

    tag: str
    unit: str
    low: tuple[float, ...]
    median: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan of a what-if: set-points, and what is expected to come of them."""

    name: str
    is_no_change: bool
    confidence: str
    limits: tuple[TagForecast, ...]
    outlooks: tuple[Outlook, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """Plans side by side, from the newest moment in the lake. Advice only."""

    t_ns: int
    model_version: str
    horizons_s: tuple[float, ...]
    absent: tuple[str, ...]
    """Streams that said nothing at that moment."""
    plans: tuple[Plan, ...]


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything that a console is given."""

    plants: Sequence[Plant]
    clock: Clock
    open_source: Callable[[Sequence[str]], Source]
    """Reads the topics that exist of those named, from their beginning; commits nothing."""
    open_publisher: Callable[[], Publisher]
    witness: Witness
    models_of: Callable[[Plant], Sequence[ModelCard]]
    """The model versions of a plant, newest first."""
    steps_of: Callable[[Plant], Sequence[Entry]]
    """Every step that its versions took, oldest first. Raises InputError if it is no journal."""
    what_if: Callable[[Plant, Mapping[str, float]], Compared]
    """Compares these set-points with no change; takes seconds. Raises InputError without data."""
