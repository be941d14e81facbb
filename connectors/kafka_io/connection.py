"""What the cluster's failures are called here."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from kafka.errors import (
    AuthorizationError,
    CorruptRecordError,
    FencedInstanceIdError,
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    InvalidTxnStateError,
    KafkaError,
    ProducerFencedError,
    UnsupportedCodecError,
)

from connectors.kafka_io.access import require_access
from connectors.kafka_io.settings import KafkaSettings
from fusion.errors import BrokerUnavailableError, FencedError, SettingsError

FENCED = (FencedInstanceIdError, InvalidProducerEpochError, ProducerFencedError)


def taken_over(fenced: KafkaError) -> FencedError:
    """Return what the broker's refusal of this process means, and what to do."""
    or_what = (
        ", or the broker has given up a transaction of this one"
        if isinstance(fenced, InvalidProducerEpochError)
        else ""
    )
    return FencedError(
        "only one process may read and write for a partition of a plant, and a newer one has "
        f"taken over{or_what} ({type(fenced).__name__}); stop this one, or change its "
        "FUSION_REPLICA"
    )


@contextlib.contextmanager
def unavailable(settings: KafkaSettings) -> Iterator[None]:
    """Say what went wrong with the cluster in the product's own errors."""
    try:
        yield
    except FENCED as fenced:
        raise taken_over(fenced) from fenced
    except (InvalidTxnStateError, InvalidProducerIdMappingError) as forgotten:
        raise BrokerUnavailableError(
            f"the broker at {settings.bootstrap_servers} must know the transaction that it is to "
            f"go on with, but has ended or forgotten it ({type(forgotten).__name__}); nobody has "
            "taken over: a new publisher goes on from what is committed"
        ) from forgotten
    except CorruptRecordError as spoilt:
        raise BrokerUnavailableError(
            "every batch of records must have the checksum that it was written with, but: "
            f"{spoilt}; reading waits there: mend the broker's disk, let the partition be copied "
            "from another replica, or delete its records up to there (kafka-delete-records)"
        ) from spoilt
    except UnsupportedCodecError as unknown:
        raise SettingsError(
            "records must be compressed with what can be read here (gzip, lz4, zstd), but: "
            f"{unknown}; set compression.type of the senders or the topic to zstd, or install the "
            "codec (for snappy: python-snappy)"
        ) from unknown
    except AuthorizationError as forbidden:
        raise _forbidden(settings, forbidden) from forbidden
    except KafkaError as failed:
        # A user that may write nowhere gets no producer id, which kafka-python tells in words only.
        if "AuthorizationFailedError" in str(failed):
            raise _forbidden(settings, failed) from failed
        require_access(settings)
        raise BrokerUnavailableError(
            f"the broker at {settings.bootstrap_servers} must answer, but: "
            f"{type(failed).__name__}: {failed}; check that it runs and FUSION_KAFKA_BOOTSTRAP"
        ) from failed


def _forbidden(settings: KafkaSettings, refused: KafkaError) -> SettingsError:
    return SettingsError(
        f"{settings.username or 'this client'} must be allowed on the cluster at "
        f"{settings.bootstrap_servers} what it asks for, but: {type(refused).__name__}: {refused}; "
        "grant it (fusion acls apply), or set another FUSION_KAFKA_USERNAME"
    )


def within(timeout_s: float, call: Callable[[], object], *, what: str) -> None:
    """Do ``call``, and give up after ``timeout_s``.

    kafka-python waits without end for the outcome of a transaction. The thread that waits is left
    behind; it ends with the producer, which must not be used any more.

    Raises:
        BrokerUnavailableError: There was no outcome in time.
    """
    failure: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 raised again below, in the caller's thread
            failure.append(error)

    waiting = threading.Thread(target=run, name=f"kafka {what}", daemon=True)
    waiting.start()
    waiting.join(timeout_s)
    if waiting.is_alive():
        raise BrokerUnavailableError(
            f"the broker must answer {what} within {timeout_s:g} s, and did not; whether it was "
            "stored shows when a new publisher is opened; check the broker"
        )
    if failure:
        raise failure[0]
