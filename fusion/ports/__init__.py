"""What the product needs from the outside world, as small protocols.

Every port has an embedded implementation that needs no server and a real one; both pass the same
contract suite in ``tests/contract``. Only ``flows/wiring`` chooses between them.
"""

from fusion.ports.alarms import AlarmLog, JournalEntry, Notice, Notifier
from fusion.ports.broker import Publisher, Source
from fusion.ports.clock import Clock
from fusion.ports.devices import (
    DeviceSession,
    Observed,
    Reading,
    SpeechDetector,
    TakesReceipts,
    Unusable,
    Withheld,
)
from fusion.ports.identity import Departure, Identity, IdentityProvider
from fusion.ports.inference import Inference
from fusion.ports.storage import Archive, Finding, FindingTable, Lake, ObjectStore, StoredObject
from fusion.ports.tracking import RegisteredModel, TrackedRun, Tracking

__all__ = [
    "AlarmLog",
    "Archive",
    "Clock",
    "Departure",
    "DeviceSession",
    "Finding",
    "FindingTable",
    "Identity",
    "IdentityProvider",
    "Inference",
    "JournalEntry",
    "Lake",
    "Notice",
    "Notifier",
    "ObjectStore",
    "Observed",
    "Publisher",
    "Reading",
    "RegisteredModel",
    "Source",
    "SpeechDetector",
    "StoredObject",
    "TakesReceipts",
    "TrackedRun",
    "Tracking",
    "Unusable",
    "Withheld",
]
