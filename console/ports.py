"""What the console needs from outside: ``flows/console.py`` builds it, tests bring their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from console.rights import Grant
from fusion.plant import Plant
from fusion.ports import AlarmLog, Clock, IdentityProvider, Publisher, Source
from fusion.rollout.judging import Seen
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

    def clip(self, event: AlarmEvent, stream: str) -> bytes | None:
        """Return what a camera saw around the moment when ``event`` raised its alarm, as WebM.

        None where it sent nothing then. Raises as :meth:`look` does.
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
class Beside:
    """What live processes counted of a version under test and of the one beside it."""

    t_ns: int
    tested: str
    beside: str
    seen: Mapping[str, Seen]


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
class Step:
    """What somebody asks of the versions of a plant."""

    plants: Sequence[Plant]
    """All plants of the prefix: they share their versions."""
    version: str
    """To promote; "" rolls back."""
    revision: int
    """Of the journal of the versions, as it was seen."""
    who: str
    why: str
    to_champion: bool = False


@dataclass(frozen=True, slots=True)
class SignOn:
    """Log-in through an identity provider, and what its claims mean here."""

    provider: IdentityProvider
    back_uri: str
    """Where it sends people back to: ``/login/oidc/back`` of this console."""
    name_claim: str
    roles_claim: str
    """Dots go deeper: ``realm_access.roles``."""
    grants: Mapping[str, Grant]
    """What each value of the claim of roles gives."""


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
    figures_of: Callable[[Plant, int], Sequence[Beside]]
    """What each live process counted since that revision of the journal of the versions."""
    what_if: Callable[[Plant, Mapping[str, float]], Compared]
    """Compares these set-points with no change; takes seconds. Raises InputError without data."""
    take_step: Callable[[Step], str]
    """Takes a version further, or back, and says in words where the versions are then; may take a
    minute. Raises InputError if that step is not possible, or another one was faster."""
    open_alarm_log: Callable[[], AlarmLog]
    """What keeps the journal of the alarms longer than the broker does."""
    sign_on: SignOn | None = None
    """None: people log in with passwords of the console only."""
