"""Every error this product raises on purpose.

::

    FusionError
    ├── InputError (also a ValueError)   somebody has to change an input
    │   ├── PlantError                   the plant description
    │   ├── SettingsError                where things are
    │   ├── TopicMismatchError           topics that are not as the plant describes them
    │   ├── RecipeError                  what to train
    │   ├── SchemaError                  a writer's schema that cannot be read here
    │   ├── ManifestMismatchError        a model that does not fit the plant
    │   ├── UntrustedModelError          a model that nobody trusted has signed, or was altered
    │   └── ParityError                  a runtime that answers otherwise than the model did
    ├── RecordError                      one record cannot be used; goes to dead-letters
    ├── CollapseError                    a training run that lost its embedding
    ├── FencedError                      another process has taken this one's place
    ├── DeviceUnavailableError           retriable
    │   └── DeviceRefusedError           it answers and says no: a password, a certificate, a right
    ├── BrokerUnavailableError           retriable
    │   └── SpoolFullError               the broker is away and no more may wait on disk
    ├── InferenceUnavailableError        retriable
    │   ├── ModelBrokenError             a model whose answers cannot be scored
    │   └── ModelLoadingError            a model that the server is loading; it was asked nothing
    ├── LakeUnavailableError             retriable
    ├── ObjectStoreUnavailableError      retriable
    ├── TrackingUnavailableError         retriable
    │   └── TrackingRefusedError         it answers and says no; not retriable
    ├── TrainingCutOffError              retriable
    ├── AlarmLogUnavailableError         retriable
    ├── PeopleUnavailableError           retriable
    ├── NotifierUnavailableError         retriable
    ├── IdentityUnavailableError         retriable
    ├── IdentityRefusedError             an answer of the identity provider that proves nobody
    └── ObjectTooLargeError              an object is larger than its reader allows

A message says what must hold, what came, and what to change.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class FusionError(Exception):
    """Base of everything that this product raises on purpose.

    ``retriable`` says whether the same call can succeed later without anybody changing anything.
    """

    retriable: ClassVar[bool] = False


class InputError(FusionError, ValueError):
    """Something that a person wrote is wrong, and only a person can mend it."""


class PlantError(InputError):
    """The plant description breaks a rule."""


class SettingsError(InputError):
    """A setting (environment variable or option) breaks a rule."""


class TopicMismatchError(InputError):
    """Topics are there already, and not as the plant description wants them."""


class RecipeError(InputError):
    """A training recipe breaks a rule, or the data cannot feed it."""


class SchemaError(InputError):
    """A schema that a sender writes with breaks a rule, or cannot be resolved to ours."""


class ManifestMismatchError(InputError):
    """A model was trained for another plant than the one it is asked to serve."""


class UntrustedModelError(InputError):
    """A model that no trusted key has signed, or that is not as it was signed. It is not opened."""


class ParityError(InputError):
    """A runtime or a quantised network answers the golden windows otherwise than the model did."""


class DeadLetterReason(StrEnum):
    """Why a record could not be used; the ``reason`` header of its dead letter."""

    HEADERS = "headers"
    TOO_LARGE = "too-large"
    UNDECODABLE = "undecodable"
    WRONG_SCHEMA = "wrong-schema"
    UNKNOWN_SCHEMA = "unknown-schema"
    UNKNOWN_STREAM = "unknown-stream"
    UNKNOWN_ALARM = "unknown-alarm"
    STREAM_MISMATCH = "stream-mismatch"
    WRONG_PARTITION = "wrong-partition"
    FUTURE_TIME = "future-time"
    CLAIM_MISSING = "claim-missing"
    CLAIM_MISMATCH = "claim-mismatch"
    CLAIM_UNAVAILABLE = "claim-unavailable"


class RecordError(FusionError):
    """One record cannot be used. The stream goes on; the record goes to ``dead-letters``."""

    def __init__(self, reason: DeadLetterReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class CollapseError(FusionError):
    """The embedding lost its information during training; the run stopped itself."""


class FencedError(FusionError):
    """Another process took this one's place as reader or writer; this one must not go on."""


class DeviceUnavailableError(FusionError):
    """A device of the plant did not answer, or fell silent."""

    retriable = True


class DeviceRefusedError(DeviceUnavailableError):
    """A device answered and said no. Somebody has to change something, perhaps over there."""


class BrokerUnavailableError(FusionError):
    """The broker did not answer."""

    retriable = True


class SpoolFullError(BrokerUnavailableError):
    """The broker is away and no more messages may wait on disk; nothing of this call was kept."""


class InferenceUnavailableError(FusionError):
    """The inference server did not answer."""

    retriable = True


class ModelBrokenError(InferenceUnavailableError):
    """A model cannot be loaded, fails, or answers what is no number.

    Retriable: nothing is scored until another version takes its place, and nothing is lost.
    """


class ModelLoadingError(InferenceUnavailableError):
    """A server is still loading a model; the model itself was asked nothing yet."""


class LakeUnavailableError(FusionError):
    """The lake did not answer, or another writer was faster."""

    retriable = True


class ObjectStoreUnavailableError(FusionError):
    """The object store did not answer, or refused this process."""

    retriable = True


class TrackingUnavailableError(FusionError):
    """What keeps training runs did not answer."""

    retriable = True


class TrackingRefusedError(TrackingUnavailableError):
    """What keeps training runs answered and said no: a right, or something that it cannot take."""

    retriable = False


class TrainingCutOffError(FusionError):
    """Processes of a training ended without an answer; another try goes on from there."""

    retriable = True


class AlarmLogUnavailableError(FusionError):
    """What keeps the alarms' history did not answer, or refused this process."""

    retriable = True


class PeopleUnavailableError(FusionError):
    """The database of the console's people did not answer, or refused this process."""

    retriable = True


class NotifierUnavailableError(FusionError):
    """A notification could not be handed over; nobody may have heard of the alarm."""

    retriable = True


class IdentityUnavailableError(FusionError):
    """The identity provider did not answer; nobody can log in through it now."""

    retriable = True


class IdentityRefusedError(FusionError):
    """What came back from the identity provider does not prove who somebody is."""


class ObjectTooLargeError(FusionError):
    """An object is larger than its reader allows; none of it was read."""
