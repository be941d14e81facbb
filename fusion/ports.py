"""What the product needs from the outside world, as small protocols.

Every port has an embedded implementation that needs no server and a real one; both pass the same
contract suite in ``tests/contract``. Only ``flows/wiring`` chooses between them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fusion.schema import Lost, Message, Payload, Quality, Record, TopicPartition


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


class Source(Protocol):
    """Reads records of some topics, in order per partition.

    Not to be shared between threads.
    """

    def poll(self, *, timeout_s: float) -> list[Record]:
        """Return the next records, at most one fetch; an empty list when none came in time.

        Raises:
            BrokerUnavailableError: The broker did not answer.
            FencedError: Another process took this member's place in the group.
            InputError: A log ends before the position; its topic was made anew.
        """
        ...

    def assigned(self) -> dict[TopicPartition, int]:
        """Return the partitions that this source reads now, each with a stamp.

        A stamp changes when a partition was taken away and given back, however short the time in
        between: what was known of it must then be read anew. So it does when its topic was deleted
        and made anew. Changes only inside ``poll`` and ``keep_alive``.
        """
        ...

    def keep_alive(self) -> None:
        """Stay a member of the group while the records of the last poll are being worked on.

        Reads nothing: no position of a partition that stays assigned moves.
        """
        ...

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        """Give no records of ``partitions`` from now on, and again those of all others."""
        ...

    def positions(self) -> dict[TopicPartition, int]:
        """Return the offset of the next record that ``poll`` would give, per partition."""
        ...

    def committed(
        self, partitions: Collection[TopicPartition] | None = None
    ) -> dict[TopicPartition, int]:
        """Return the committed offset of this group, per partition; absent where none is.

        Of ``partitions``, or of all that are assigned. It waits for a transaction that is about to
        commit one of them: ask only for those whose former writers are shut out.
        """
        ...

    def start_offsets(self) -> dict[TopicPartition, int]:
        """Return the offset of the oldest record that the broker still has, per partition."""
        ...

    def end_offsets(self) -> dict[TopicPartition, int]:
        """Return the offset that the next published record will get, per partition."""
        ...

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Continue reading at ``positions``; other partitions stay where they are."""
        ...

    def take_lost(self) -> list[Lost]:
        """Return what was skipped since the last call: deleted before ``poll`` came to it.

        Nothing of what :meth:`seek` has gone back to since: it will be met again. A group that
        never read begins at the oldest record and loses nothing.
        """
        ...

    def close(self) -> None:
        """Leave the group and free everything. Commits nothing."""
        ...


class Publisher(Protocol):
    """Writes messages. When a call returns, the messages are durable."""

    def publish(
        self,
        messages: Sequence[Message],
        *,
        commit: Mapping[TopicPartition, int] | None = None,
    ) -> None:
        """Store ``messages`` and, with them or not at all, the group's ``commit`` positions.

        Raises:
            BrokerUnavailableError: Not known to be stored. A writer without ``commit`` calls again
                (readers drop repeats by epoch and number); one with ``commit`` opens a new
                publisher, which ends what this one had begun, and goes on from what is committed.
            FencedError: Another process took over as the writer; nothing was stored.
        """
        ...

    def close(self) -> None:
        """Free everything."""
        ...


class Inference(Protocol):
    """Runs the networks of one model version."""

    def infer(
        self, network: str, inputs: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.float32]]:
        """Return the named outputs of ``network`` (``encoder`` or ``predictor``).

        Raises:
            InferenceUnavailableError: The server did not answer in time; nothing was scored.
            ModelBrokenError: The network cannot answer these inputs, or cannot be loaded.
        """
        ...

    def close(self) -> None:
        """Free everything."""
        ...


class Lake(Protocol):
    """Keeps every record that was read, each once."""

    def append(self, records: Sequence[Record]) -> int:
        """Store ``records`` that are not stored yet, and return how many were new.

        The records of one partition must come in offset order. Idempotent per offset range: a
        repeated call stores nothing twice.
        """
        ...

    def next_offsets(self) -> dict[TopicPartition, int]:
        """Return, per partition, the first offset that was never stored."""
        ...

    def read(self, topics: Sequence[str], *, version: str | None = None) -> list[Record]:
        """Return the stored records of ``topics`` in (topic, partition, offset) order."""
        ...

    def read_in_arrival_order(
        self,
        topics: Sequence[str],
        *,
        version: str | None = None,
        start: Mapping[TopicPartition, int] | None = None,
        stop: Mapping[TopicPartition, int] | None = None,
    ) -> Iterator[Record]:
        """Yield the stored records of ``topics`` as they came to the broker, in bounded memory.

        Records of one partition come in offset order. ``version`` is what :meth:`version` returned
        when a model saw the lake; None is now. Of a partition in ``start`` or ``stop`` come the
        offsets from there on, or below.
        """
        ...

    def num_records(
        self,
        topics: Sequence[str],
        *,
        version: str | None = None,
        start: Mapping[TopicPartition, int] | None = None,
    ) -> int:
        """Return about how many records of ``topics`` are stored from ``start`` on."""
        ...

    def offsets_at(
        self, topics: Sequence[str], t_event_ns: int, *, version: str | None = None
    ) -> dict[TopicPartition, int]:
        """Return, per partition, the first offset whose event time is ``t_event_ns`` or later.

        The event time is the envelope's; one that a broken clock set is not believed.
        """
        ...

    def read_headers(
        self, topics: Sequence[str], *, also: Collection[str] = ()
    ) -> Iterator[Mapping[str, str]]:
        """Yield the headers of every stored record of ``topics``; no value is read.

        Those of the versions ``also`` come with them, as far as they can still be read.
        """
        ...

    def version(self, topics: Sequence[str], *, at_ns: int | None = None) -> str:
        """Return a name for exactly what the lake holds of ``topics`` now, or held at a time."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One message of a backfill, as the live process would have published it."""

    kind: Literal["score", "alarm-event"]
    id: str
    tick: int
    t_ns: int
    surprise: float | None
    """Of a score: 1 is the alarm threshold."""
    body: bytes
    """The message's value."""


class FindingTable(Protocol):
    """Keeps what backfills found: per plant, model version and tick the newest run's."""

    def replace(
        self,
        findings: Sequence[Finding],
        *,
        plant: str,
        model_version: str,
        data_version: str,
        ticks: range,
    ) -> None:
        """Put ``findings`` in the place of all that was kept of ``ticks``, or change nothing.

        Raises:
            LakeUnavailableError: Another writer was faster, or the disk failed; call again.
        """
        ...

    def read(self, *, plant: str, model_version: str) -> Iterator[Finding]:
        """Yield what is kept, in the order in which it was said."""
        ...


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a store says of an object without reading it."""

    key: str
    num_bytes: int
    t_modified_ns: int


class ObjectStore(Protocol):
    """Keeps values that are too large for the broker, by key: names divided by ``/``."""

    def put(self, key: str, content: bytes) -> None:
        """Store ``content`` whole or not at all. When the call returns, it is durable.

        Raises:
            ObjectStoreUnavailableError: The store did not take it; call it again.
        """
        ...

    def get(self, key: str, *, max_bytes: int) -> bytes | None:
        """Return what lies at ``key``; None when nothing does.

        Raises:
            ObjectTooLargeError: It has more than ``max_bytes``; nothing of it was read.
            ObjectStoreUnavailableError: The store did not answer in time.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove what lies at ``key``, if anything does.

        Raises:
            ObjectStoreUnavailableError: The store did not answer in time; call it again.
        """
        ...

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield every object below the folder ``prefix``, in no order.

        Raises:
            ObjectStoreUnavailableError: The store did not answer in time.
        """
        ...


class Archive(ObjectStore, Protocol):
    """An object store that takes whole files, of any size."""

    def put_file(self, key: str, path: Path) -> None:
        """Store the file at ``path`` whole or not at all.

        Raises:
            ObjectStoreUnavailableError: The store did not take it, or the file is not there.
        """
        ...

    def fetch_file(self, key: str, path: Path) -> bool:
        """Write what lies at ``key`` to the new file ``path``; False when nothing does.

        Raises:
            ObjectStoreUnavailableError: The store did not answer in time, or the disk is full.
        """
        ...


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One line of a plant's alarm journal, with its place in the chain."""

    id: str
    plant: str
    name: str
    """Of the alarm."""
    transition: str
    t_ns: int
    number: int
    """In the plant's chain, from 1; 0 where an earlier release wrote it."""
    previous: str
    hash: str
    line: bytes
    """The line's own bytes, which the hash is of."""


class AlarmLog(Protocol):
    """Keeps the journal of alarms for as long as a plant must show it, to be asked by time."""

    def append(self, entries: Sequence[JournalEntry]) -> int:
        """Store ``entries`` that are not stored yet, all or none, and return how many were new.

        An entry is told by its id: what is appended again is kept once, as it first was.

        Raises:
            AlarmLogUnavailableError: Not known to be stored; call again.
        """
        ...

    def read(
        self, *, plant: str, start_ns: int, end_ns: int, name: str | None = None, limit: int = 1_000
    ) -> list[JournalEntry]:
        """Return the newest ``limit`` entries from ``start_ns`` up to, not including, ``end_ns``.

        In the order of their time, then of the chain.

        Raises:
            AlarmLogUnavailableError: It did not answer.
        """
        ...

    def head(self, plant: str) -> JournalEntry | None:
        """Return the entry with the highest number of a plant's chain; None without any.

        Raises:
            AlarmLogUnavailableError: It did not answer.
        """
        ...

    def close(self) -> None:
        """Free everything."""
        ...


@dataclass(frozen=True, slots=True)
class Notice:
    """What people away from the screen are told of an alarm."""

    id: str
    """The same notice always has the same id: receivers may drop repeats."""
    subject: str
    text: str
    priority: str
    plant: str
    name: str
    t_ns: int


class Notifier(Protocol):
    """Tells people: one channel of messages."""

    def notify(self, notice: Notice) -> None:
        """Hand ``notice`` over. When the call returns, the other side has taken it.

        Raises:
            NotifierUnavailableError: It did not take it; call again with the same notice.
        """
        ...


class TrackedRun(Protocol):
    """One training run where it is kept."""

    @property
    def run_id(self) -> str:
        """What it is called there."""
        ...

    def log(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Keep measurements: in each row ``step``, and values by name. Repeats do no harm.

        Raises:
            TrackingUnavailableError: Not known to be kept; call again.
        """
        ...

    def attach(self, files: Sequence[Path], *, folder: str) -> None:
        """Keep copies of ``files`` in a folder of the run. Repeats replace; it may have ended.

        Raises:
            TrackingUnavailableError: Not known to be kept; call again.
        """
        ...

    def tag(self, tags: Mapping[str, str]) -> None:
        """Keep ``tags``, in the place of former ones of these names; it may have ended.

        Raises:
            TrackingUnavailableError: Not known to be kept; call again.
        """
        ...

    def finish(self, *, model_version: str) -> None:
        """Mark the run as done; ``model_version`` is what it made.

        Raises:
            TrackingUnavailableError: Not known to be kept; call again.
        """
        ...

    def fail(self, reason: str) -> None:
        """Mark the run as failed, and say why.

        Raises:
            TrackingUnavailableError: Not known to be kept; call again.
        """
        ...


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A model version in the registry, with the run that made it."""

    version: str
    """As the product calls it; the registry has a number of its own."""
    run_id: str
    run_name: str
    status: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    """Of the run."""
    aliases: tuple[str, ...]


class Tracking(Protocol):
    """Keeps what training runs were made of and what they did, to be compared.

    And a registry of the model versions that came out; ``aliases`` name what some of them do.
    """

    def start(
        self,
        *,
        experiment: str,
        name: str,
        params: Mapping[str, str | float],
        key: str | None = None,
    ) -> TrackedRun:
        """Return a new run among those of ``experiment``; ``params`` are what it was made of.

        With ``key`` it is the run that was begun with it before, if any: it goes on.

        Raises:
            TrackingUnavailableError: It did not answer; no run may be expected there.
        """
        ...

    def register(self, name: str, version: str, *, run_id: str, folder: str) -> None:
        """Enter ``version`` of the model ``name``, made by a run that has its files in ``folder``.

        What is entered already stays as it is.

        Raises:
            TrackingUnavailableError: Not known to be entered; call again.
        """
        ...

    def point(self, name: str, aliases: Mapping[str, str | None]) -> None:
        """Let each alias name that version of the model, or none.

        A version that was never registered is named by nothing. Repeats do no harm.

        Raises:
            TrackingUnavailableError: Not all may be as asked; call again.
        """
        ...

    def registered(self, name: str, version: str) -> RegisteredModel | None:
        """Return what is known of a version; None where it was never registered.

        Raises:
            TrackingUnavailableError: It did not answer.
        """
        ...


class Clock(Protocol):
    """The time, so that tests can advance it."""

    def now_ns(self) -> int:
        """Return the time since 1970-01-01 UTC in nanoseconds.

        For stamps, and to judge event times. It jumps when somebody sets the machine's clock.
        """
        ...

    def monotonic_ns(self) -> int:
        """Return the time since some moment in nanoseconds; it never jumps.

        For every interval: pauses, patience, silence. Means nothing beside another clock's.
        """
        ...

    def sleep(self, duration_s: float) -> None:
        """Return after ``duration_s`` seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Departure:
    """Where a browser is sent to log in, and what must be kept until it comes back."""

    url: str
    kept: Mapping[str, str]
    """Secrets that tie the answer to this browser."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody whom the identity provider knows."""

    subject: str
    """Issuer and subject: never given to anybody else."""
    claims: Mapping[str, object]


class IdentityProvider(Protocol):
    """Says who somebody is, by OpenID Connect. Called from threads; may take seconds."""

    def depart(self, back_uri: str) -> Departure:
        """Return where to send somebody who comes back to ``back_uri``.

        Raises:
            IdentityUnavailableError: It did not answer.
            IdentityRefusedError: It is not the one that was configured.
        """
        ...

    def arrive(self, kept: Mapping[str, str], back_uri: str, answer: Mapping[str, str]) -> Identity:
        """Return who came back with ``answer``, the parameters of the request to ``back_uri``.

        Raises:
            IdentityUnavailableError: It did not answer.
            IdentityRefusedError: The answer proves nobody: the log-in was refused, is another
                browser's, or a token is forged, old or for somebody else.
        """
        ...
