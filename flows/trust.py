"""Which models may be opened: any, or only those that a trusted key has signed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from flows.settings import Settings
from fusion.errors import InputError, SettingsError, UntrustedModelError
from fusion.manifest import load_manifest
from fusion.signing import (
    Contents,
    fingerprint,
    parse_signing_key,
    parse_trusted_keys,
    require_bounded,
    require_trusted,
    write_contents,
)

MAX_KEY_BYTES = 64 * 1024


@contextmanager
def trusted_model(model_dir: Path, settings: Settings) -> Iterator[Path]:
    """Yield the folder to open the version in ``model_dir`` from; nothing of it is left open after.

    Without trusted keys it is ``model_dir``. With them it is a private copy of exactly the bytes
    that were checked: who changes a file between the check and the use changes nothing.

    Raises:
        UntrustedModelError: Trusted keys are set, and none has signed it, or it was altered.
        InputError: It is no model, or too large.
    """
    with trusted_folder(model_dir, settings) as folder:
        if folder != model_dir and (signed := load_manifest(folder).version) != model_dir.name:
            raise UntrustedModelError(
                f"a model must lie in a folder of its version's name, but {model_dir.name} is "
                f"signed as {signed}; an old version under a new name would pass for the newest"
            )
        yield folder


@contextmanager
def trusted_folder(sealed_dir: Path, settings: Settings) -> Iterator[Path]:
    """Yield the same for whatever :func:`seal` has sealed; its name is for the caller to check.

    Raises:
        UntrustedModelError, InputError: As :func:`trusted_model` says.
    """
    keys = trusted_keys(settings)
    if keys is None:
        require_bounded(sealed_dir)
        yield sealed_dir
        return
    with tempfile.TemporaryDirectory(prefix="fusion-model-") as private:
        copy = Path(private) / sealed_dir.name
        copy.mkdir(mode=0o700)
        require_trusted(sealed_dir, keys, copy_to=copy)
        yield copy


def seal(folder: Path, settings: Settings) -> Contents:
    """Write the list of what a new version holds; sign it where the settings name a key.

    Raises:
        SettingsError: The key cannot be read.
    """
    return write_contents(folder, signing_key(settings))


def signing_key(settings: Settings) -> Ed25519PrivateKey | None:
    """Return the key that versions are signed with here; None where they are not.

    Raises:
        SettingsError: It cannot be read.
    """
    path = settings.model_signing_key_file
    if path is None:
        return None
    name = "FUSION_MODEL_SIGNING_KEY_FILE"
    return parse_signing_key(_read(path, name), origin=f"{name} ({path})")


def trusted_keys(settings: Settings) -> tuple[Ed25519PublicKey, ...] | None:
    """Return the keys whose models may be opened; None where any model may.

    Raises:
        SettingsError: They cannot be read, or there are none.
    """
    path = settings.model_trusted_keys_file
    if path is None:
        return None
    name = "FUSION_MODEL_TRUSTED_KEYS_FILE"
    return parse_trusted_keys(_read(path, name), origin=f"{name} ({path})")


def make_key_pair(path: Path) -> tuple[Path, Path, str]:
    """Write ``path``.key, readable by its owner only, and ``path``.pub; return both and the name.

    Raises:
        InputError: One of them is there already: a key that is lost cannot be made again.
    """
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    files = (path.with_name(f"{path.name}.key"), path.with_name(f"{path.name}.pub"))
    for file, text, mode in zip(files, (private, public), (0o600, 0o644), strict=True):
        try:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except OSError as refused:
            raise InputError(
                f"{file} must be a new file in a folder that is there, but: {refused.strerror}; "
                "give another name"
            ) from refused
        with os.fdopen(handle, "wb") as opened:
            opened.write(text)
    return (*files, fingerprint(key.public_key()))


def _read(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_KEY_BYTES + 1)
    except OSError as unreadable:
        raise SettingsError(
            f"{name} must name a file that this process may read, but {path}: "
            f"{unreadable.strerror}; mend the path or its rights"
        ) from unreadable
    if len(text) > MAX_KEY_BYTES:
        raise SettingsError(f"{name} must name a file of keys, but {path} is larger than any")
    return text
