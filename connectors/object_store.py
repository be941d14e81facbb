"""Object stores through obstore: a folder of this machine, or anything that speaks S3.

Every call ends within bounds. Reading is tried once, because its caller knows how long it may wait;
storing is tried three times, because nobody else would.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from fusion.errors import InputError, ObjectStoreUnavailableError, ObjectTooLargeError
from fusion.ports import StoredObject

CONNECT_TIMEOUT = timedelta(seconds=2)
READ_TIMEOUT = timedelta(seconds=5)
"""Without a single byte."""
REQUEST_TIMEOUT = timedelta(seconds=60)
"""For a whole request: 64 MiB at 1.1 MB/s."""
PUT_RETRIES = 2
PIECE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Where the bucket is, and who asks. ``prefix`` is the folder in it, "" for all of it.

    ``endpoint`` is the address of a server that speaks S3; None is Amazon's own of ``region``.
    Plain HTTP only where the endpoint begins with ``http://``.
    """

    bucket: str
    prefix: str
    endpoint: str | None
    region: str
    access_key: str
    secret_key: str
    ca_certificate: bytes | None = None

    def __repr__(self) -> str:
        return f"S3Settings({self.endpoint or 'amazonaws.com'}, {self.bucket}/{self.prefix})"


class LocalObjectStore:
    """Implements :class:`fusion.ports.ObjectStore` in a folder.

    Example:
        >>> import tempfile
        >>> store = LocalObjectStore(Path(tempfile.mkdtemp()))
        >>> store.put("rig/a", b"frame")
        >>> store.get("rig/a", max_bytes=5), store.get("rig/b", max_bytes=5)
        (b'frame', None)
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._where = str(folder)

    def put(self, key: str, content: bytes) -> None:
        """Store ``content``: written beside its place, moved there, then forced to the disk."""
        with _unavailable(self._where):
            store = self._open()
            _require_plain(key)
            obstore.put(store, key, content, use_multipart=False)
            path = self._folder / key
            for each in (path, path.parent, path.parent.parent):
                _to_disk(each)

    def put_file(self, key: str, path: Path) -> None:
        """Store the file at ``path``, of any size."""
        with _unavailable(self._where):
            store = self._open()
            _require_plain(key)
            obstore.put(store, key, path)
            stored = self._folder / key
            for each in (stored, stored.parent):
                _to_disk(each)

    def fetch_file(self, key: str, path: Path) -> bool:
        """Write what lies at ``key`` to ``path``; False when nothing does."""
        with _unavailable(self._where):
            return _fetch(LocalStore(self._folder), key, path)

    def get(self, key: str, *, max_bytes: int) -> bytes | None:
        """Return what lies at ``key``; None when nothing does.

        A folder that is not there is a store that is away, a disk that is not mounted for example:
        what lies there must not be taken for lost.
        """
        with _unavailable(self._where):
            return _get(LocalStore(self._folder), key, max_bytes)

    def delete(self, key: str) -> None:
        """Remove what lies at ``key``, if anything does."""
        with _unavailable(self._where):
            _delete(self._open(), key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield every object below the folder ``prefix``."""
        with _unavailable(self._where):
            yield from _list(self._open(), prefix)

    def _open(self) -> LocalStore:
        return LocalStore(self._folder, mkdir=True)


class S3ObjectStore:
    """Implements :class:`fusion.ports.ObjectStore` in a bucket."""

    def __init__(self, settings: S3Settings) -> None:
        self._where = f"{settings.endpoint or 'Amazon S3'}, bucket {settings.bucket}"
        self._reads = _connect(settings, retries=0)
        self._writes = _connect(settings, retries=PUT_RETRIES)

    def put(self, key: str, content: bytes) -> None:
        """Store ``content`` in one request."""
        with _unavailable(self._where):
            _require_plain(key)
            obstore.put(self._writes, key, content, use_multipart=False)

    def put_file(self, key: str, path: Path) -> None:
        """Store the file at ``path``, of any size, in parts that are tried again."""
        with _unavailable(self._where):
            _require_plain(key)
            obstore.put(self._writes, key, path)

    def fetch_file(self, key: str, path: Path) -> bool:
        """Write what lies at ``key`` to ``path``; False when nothing does."""
        with _unavailable(self._where):
            return _fetch(self._writes, key, path)

    def get(self, key: str, *, max_bytes: int) -> bytes | None:
        """Return what lies at ``key``; None when nothing does."""
        with _unavailable(self._where):
            return _get(self._reads, key, max_bytes)

    def delete(self, key: str) -> None:
        """Remove what lies at ``key``, if anything does."""
        with _unavailable(self._where):
            _delete(self._writes, key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield every object below the folder ``prefix``."""
        with _unavailable(self._where):
            yield from _list(self._reads, prefix)


def _connect(settings: S3Settings, *, retries: int) -> S3Store:
    options: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": READ_TIMEOUT,
        "timeout": REQUEST_TIMEOUT,
        "allow_http": (settings.endpoint or "").startswith("http://"),
    }
    if settings.ca_certificate is not None:
        options["root_certificate"] = settings.ca_certificate
    where: dict[str, Any] = {} if settings.endpoint is None else {"endpoint": settings.endpoint}
    return S3Store(
        bucket=settings.bucket,
        prefix=settings.prefix or None,
        region=settings.region,
        virtual_hosted_style_request=settings.endpoint is None,
        # Servers differ in what they understand beside the plain requests.
        disable_bulk_delete=True,
        disable_tagging=True,
        skip_signature=False,
        client_options=options,  # pyright: ignore[reportArgumentType] built above
        retry_config={"max_retries": retries, "retry_timeout": REQUEST_TIMEOUT},
        # A provider, so that no AWS_ variable of the environment joins in.
        credential_provider=lambda: {
            "access_key_id": settings.access_key,
            "secret_access_key": settings.secret_key,
            "token": None,
            "expires_at": None,
        },
        **where,
    )


def _get(store: LocalStore | S3Store, key: str, max_bytes: int) -> bytes | None:
    _require_plain(key)
    try:
        found = obstore.get(store, key)
    except FileNotFoundError as missing:
        if "NoSuchBucket" in str(missing):
            raise
        return None
    num_bytes = found.meta["size"]
    if num_bytes > max_bytes:
        raise ObjectTooLargeError(
            f"the object {key} must not have more than {max_bytes} bytes, it has {num_bytes}"
        )
    return bytes(found.bytes())


def _fetch(store: LocalStore | S3Store, key: str, path: Path) -> bool:
    """Write an object to ``path`` piece by piece, each a request with bounds of its own."""
    _require_plain(key)
    try:
        num_bytes = obstore.head(store, key)["size"]
    except FileNotFoundError as missing:
        if "NoSuchBucket" in str(missing):
            raise
        return False
    with path.open("wb") as file:
        for start in range(0, num_bytes, PIECE_BYTES):
            length = min(PIECE_BYTES, num_bytes - start)
            file.write(obstore.get_range(store, key, start=start, length=length))
        file.flush()
        os.fsync(file.fileno())
    return True


def _delete(store: LocalStore | S3Store, key: str) -> None:
    _require_plain(key)
    try:
        obstore.delete(store, key)
    except FileNotFoundError as missing:
        if "NoSuchBucket" in str(missing):
            raise


def _list(store: LocalStore | S3Store, prefix: str) -> Iterator[StoredObject]:
    _require_plain(prefix)
    for batch in obstore.list(store, prefix):
        for found in batch:
            t_modified_ns = round(found["last_modified"].timestamp() * 1e9)
            yield StoredObject(found["path"], found["size"], t_modified_ns)


def _require_plain(key: str) -> None:
    levels = key.split("/")
    if any(level in {"", ".", ".."} or "\\" in level for level in levels):
        raise InputError(
            f"a key must be names divided by '/', none of them '.' or '..', got {key!r}; "
            "use the keys of fusion.stream.claims"
        )


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _unavailable(where: str) -> Iterator[None]:
    """Say what went wrong with the store in the product's own errors."""
    try:
        yield
    except (BaseError, OSError) as failed:
        # The first paragraph; the rest is obstore's view of its own inside.
        what = str(failed).partition("\n\nDebug source")[0]
        raise ObjectStoreUnavailableError(
            f"the object store at {where} must answer, but: {type(failed).__name__}: {what}; "
            "check that it runs, FUSION_OBJECTS and what belongs to it"
        ) from failed
