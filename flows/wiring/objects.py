"""The store of large records and of backups."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from connectors.object_store import LocalObjectStore, S3ObjectStore, S3Settings
from flows.settings import Settings, read_setting
from flows.wiring.clock import open_clock
from fusion.errors import SettingsError
from fusion.plant import Plant
from fusion.ports import Archive
from fusion.stream.claim_resolver import ClaimResolver


def open_archive(settings: Settings, where: str) -> Archive:
    """Return the store of backups at ``where``: a folder, or s3://bucket/prefix.

    A bucket is reached with the keys of the object store (FUSION_OBJECTS_...).

    Raises:
        SettingsError: ``where`` is neither, or not there, or a key is absent.
    """
    if "://" not in where and not Path(where).is_dir():
        raise SettingsError(
            f"the folder of the backups must be there already, and {where} is not: mount its disk, "
            "or make it"
        )
    return open_objects(settings.model_copy(update={"objects": where}))


def open_objects(settings: Settings) -> LocalObjectStore | S3ObjectStore:
    """Return the store of large records. Nothing is connected or created yet.

    Raises:
        SettingsError: FUSION_OBJECTS is no folder and no s3://bucket/prefix, or a key is absent.
    """
    uri = settings.objects_uri
    if "://" not in uri:
        return LocalObjectStore(Path(uri))
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*?))?/?", uri)
    if found is None:
        raise SettingsError(
            f"FUSION_OBJECTS must be a folder or s3://bucket/prefix, got {uri!r}; mend it"
        )
    access_key, secret_key = settings.objects_access_key, settings.objects_secret
    if not access_key or not secret_key:
        raise SettingsError(
            f"{uri} needs FUSION_OBJECTS_ACCESS_KEY and FUSION_OBJECTS_SECRET_KEY (or ..._FILE), "
            "and one is absent; set both"
        )
    authority = settings.objects_ca_file
    return S3ObjectStore(
        S3Settings(
            bucket=found[1],
            prefix=found[2] or "",
            endpoint=settings.objects_endpoint,
            region=settings.objects_region,
            access_key=access_key,
            secret_key=secret_key,
            ca_certificate=None
            if authority is None
            else read_setting("FUSION_OBJECTS_CA_FILE", authority).encode(),
        )
    )


def open_resolver(
    settings: Settings, plant: Plant, *, wait: Callable[[float], None] | None = None
) -> ClaimResolver:
    """Return what fetches large records for a live process, waiting with ``wait`` (seconds)."""
    return ClaimResolver(open_objects(settings), prefix=plant.prefix, clock=open_clock(), wait=wait)


def open_stored_resolver(settings: Settings, plant: Plant) -> ClaimResolver:
    """Return what fetches large records for stored work: it waits for nothing.

    What is missing now stays so; when the store is away, the work as a whole fails, to be repeated.
    """
    return ClaimResolver(
        open_objects(settings),
        prefix=plant.prefix,
        clock=open_clock(),
        patience_s=None,
        missing_pauses_s=(),
    )
