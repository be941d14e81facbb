"""What a model version consists of, file by file, and who vouches for that.

``contents.json`` lists size and SHA-256 of every file of a version; ``contents.sig`` is an Ed25519
signature (RFC 8032) of that list. A version is trusted when a trusted key has signed the list and
every file is exactly as listed. Files are read once: what is checked is what is copied.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fusion.errors import InputError, SettingsError, UntrustedModelError

CONTENTS_FILE = "contents.json"
SIGNATURE_FILE = "contents.sig"
Parsed = TypeVar("Parsed", bound=BaseModel)
NOT_LISTED = frozenset({CONTENTS_FILE, SIGNATURE_FILE})
MAX_FILES = 256
MAX_FILE_BYTES = 2**31
"""No ONNX file can be larger: it is one protobuf message."""
MAX_LIST_BYTES = 1024 * 1024
CHUNK_BYTES = 1024 * 1024

_CONTEXT = b"industrial-fusion model contents v1\n"
"""Signed in front of the list, so that a signature made for anything else is none here."""
_PUBLIC_KEY = re.compile(
    rb"-----BEGIN PUBLIC KEY-----\r?\n.+?-----END PUBLIC KEY-----\r?\n?", re.DOTALL
)


class ListedFile(BaseModel):
    """One file of a version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_bytes: int = Field(ge=0, le=MAX_FILE_BYTES)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Contents(BaseModel):
    """Every file of a version but the list and its signature."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["model-contents/1"] = "model-contents/1"
    files: dict[str, ListedFile] = Field(min_length=1, max_length=MAX_FILES)


class Signature(BaseModel):
    """Who signed the list, and the signature."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithm: Literal["ed25519"] = "ed25519"
    key: str = Field(description="Fingerprint of the public key.")
    signature: str = Field(description="Base64.")


@dataclass(frozen=True, slots=True)
class Verified:
    """A version that is as a trusted key has signed it."""

    key: str
    contents: Contents


def write_contents(folder: Path, signing_key: Ed25519PrivateKey | None = None) -> Contents:
    """Return what ``folder`` holds, written into it; signed where there is a key.

    Raises:
        InputError: It holds what is no plain file, or too much.
    """
    names = sorted(name for name in _names(folder) if name not in NOT_LISTED)
    contents = Contents(files={name: _listed(folder / name) for name in names})
    text = contents.model_dump_json(indent=1).encode()
    (folder / SIGNATURE_FILE).unlink(missing_ok=True)  # (it was another list's)
    (folder / CONTENTS_FILE).write_bytes(text)
    if signing_key is not None:
        signed = Signature(
            key=fingerprint(signing_key.public_key()),
            signature=base64.b64encode(signing_key.sign(_CONTEXT + text)).decode(),
        )
        (folder / SIGNATURE_FILE).write_text(signed.model_dump_json(indent=1), encoding="utf-8")
    return contents


def require_trusted(
    folder: Path, trusted: Sequence[Ed25519PublicKey], *, copy_to: Path | None = None
) -> Verified:
    """Return who signed the version in ``folder``, when it is as signed to the last byte.

    With ``copy_to``, an empty folder, the bytes that were checked are written there.

    Raises:
        UntrustedModelError: It is not signed by a trusted key, or a file is not as listed; the
            message names the file.
    """
    text = _read_small(folder, CONTENTS_FILE)
    signature = _parse(Signature, folder, SIGNATURE_FILE, _read_small(folder, SIGNATURE_FILE))
    key = _require_signed(folder, text, signature, trusted)
    # Only now is the list believed, and only as far as it goes.
    contents = _parse(Contents, folder, CONTENTS_FILE, text)
    there = set(_names(folder)) - NOT_LISTED
    if extra := sorted(there - contents.files.keys()):
        raise _altered(folder, f"{extra[0]} is there and not in the signed list")
    for name, listed in contents.files.items():
        if name not in there:
            raise _altered(folder, f"{name} is in the signed list and not there")
        _require_as_listed(folder, name, listed, copy_to)
    if copy_to is not None:
        (copy_to / CONTENTS_FILE).write_bytes(text)
        (copy_to / SIGNATURE_FILE).write_text(signature.model_dump_json(indent=1), encoding="utf-8")
    return Verified(key, contents)


def require_bounded(folder: Path) -> None:
    """Return when nothing in ``folder`` is too large to be opened.

    Raises:
        InputError: Names what is.
    """
    for name in _names(folder):
        num_bytes = (folder / name).stat().st_size
        if num_bytes > MAX_FILE_BYTES:
            raise InputError(
                f"a file of a model may have {MAX_FILE_BYTES} bytes, {name} of {folder} has "
                f"{num_bytes}; export the model again"
            )


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the name of a public key: the beginning of its SHA-256, in hexadecimal digits."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:32]


def parse_signing_key(pem: bytes, *, origin: str) -> Ed25519PrivateKey:
    """Return the private key in ``pem`` (PKCS #8, no passphrase).

    Raises:
        SettingsError: It is none. What was read is not shown.
    """
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(
            f"{origin} must hold an Ed25519 private key as PEM (PKCS #8, without a passphrase), "
            "and does not; `fusion models keygen` makes one"
        ) from None
    return key


def parse_trusted_keys(pem: bytes, *, origin: str) -> tuple[Ed25519PublicKey, ...]:
    """Return the public keys in ``pem``, one PEM block behind the other.

    Raises:
        SettingsError: There is none, or one of another kind: nothing would be trusted by mistake.
    """
    found: list[Ed25519PublicKey] = []
    for block in _PUBLIC_KEY.findall(pem):
        try:
            key = load_pem_public_key(block)
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise SettingsError(f"every key in {origin} must be an Ed25519 public key as PEM")
        found.append(key)
    if not found or b"PRIVATE KEY" in pem:
        raise SettingsError(
            f"{origin} must hold public keys as PEM and nothing else, got {len(found)} of them"
            f"{' and a private key' if b'PRIVATE KEY' in pem else ''}; give the .pub files that "
            "`fusion models keygen` wrote"
        )
    return tuple(found)


def _require_signed(
    folder: Path, text: bytes, signature: Signature, trusted: Sequence[Ed25519PublicKey]
) -> str:
    by_name = {fingerprint(key): key for key in trusted}
    if signature.key not in by_name:
        raise UntrustedModelError(
            f"a model must be signed by a trusted key ({', '.join(sorted(by_name))}), {folder.name}"
            f" names {signature.key!r}; trust that key, or let somebody trusted sign the model"
        )
    try:
        made = base64.b64decode(signature.signature, validate=True)
        by_name[signature.key].verify(made, _CONTEXT + text)
    except (InvalidSignature, binascii.Error):
        raise _altered(folder, f"{CONTENTS_FILE} or {SIGNATURE_FILE} was changed") from None
    return signature.key


def _require_as_listed(folder: Path, name: str, listed: ListedFile, copy_to: Path | None) -> None:
    if copy_to is None:
        found = _read_bounded(folder / name, listed.num_bytes, None)
    else:
        with (copy_to / name).open("xb") as copy:
            found = _read_bounded(folder / name, listed.num_bytes, copy)
    if found != listed:
        raise _altered(folder, f"{name} is not the file that was signed")


def _names(folder: Path) -> list[str]:
    """Return the files of ``folder``.

    Raises:
        InputError: It is no folder of plain files.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as missing:
        raise InputError(f"a model must be a folder, but {missing}; give another one") from missing
    if len(entries) > MAX_FILES + len(NOT_LISTED):
        raise InputError(f"a model has at most {MAX_FILES} files, {folder} has {len(entries)}")
    for entry in entries:
        if not entry.is_file(follow_symlinks=False):
            raise UntrustedModelError(
                f"a model is a folder of plain files, and {entry.name} of {folder} is none; "
                "remove it"
            )
    return [entry.name for entry in entries]


def _listed(path: Path) -> ListedFile:
    return _read_bounded(path, MAX_FILE_BYTES, None)


def _read_bounded(path: Path, max_bytes: int, copy: BinaryIO | None) -> ListedFile:
    """Return what ``path`` is, read up to one byte beyond ``max_bytes``."""
    digest, num_bytes = hashlib.sha256(), 0
    # Nothing that was put in the file's place since the folder was listed is followed or waited on.
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise UntrustedModelError(f"{path.name} must be a plain file, and is none")
        while num_bytes <= max_bytes and (chunk := file.read(CHUNK_BYTES)):
            num_bytes += len(chunk)
            digest.update(chunk)
            if copy is not None and num_bytes <= max_bytes:
                copy.write(chunk)
    return ListedFile(num_bytes=min(num_bytes, MAX_FILE_BYTES), sha256=digest.hexdigest())


def _read_small(folder: Path, name: str) -> bytes:
    if name not in _names(folder):
        raise UntrustedModelError(
            f"a model must be signed where FUSION_MODEL_TRUSTED_KEYS_FILE is set, and {folder.name}"
            f" has no {name}; `fusion models sign` signs one that you have checked"
        )
    with (folder / name).open("rb") as file:
        text = file.read(MAX_LIST_BYTES + 1)
    if len(text) > MAX_LIST_BYTES:
        raise _altered(folder, f"{name} has more than {MAX_LIST_BYTES} bytes")
    return text


def _parse(kind: type[Parsed], folder: Path, name: str, text: bytes) -> Parsed:
    try:
        return kind.model_validate_json(text)
    except ValidationError as invalid:
        raise _altered(folder, f"{name} cannot be read ({invalid.error_count()} errors)") from None


def _altered(folder: Path, what: str) -> UntrustedModelError:
    return UntrustedModelError(
        f"the model {folder.name} must be as it was signed, but {what}; take the version from "
        "where it was made again, and find out who changed it"
    )
