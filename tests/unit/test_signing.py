"""A model that was signed opens as it was signed, to the last byte, or not at all."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import InputError, SettingsError, UntrustedModelError
from fusion.signing import (
    CONTENTS_FILE,
    SIGNATURE_FILE,
    fingerprint,
    parse_signing_key,
    parse_trusted_keys,
    require_bounded,
    require_trusted,
    write_contents,
)

KEY = Ed25519PrivateKey.generate()
TRUSTED: tuple[Ed25519PublicKey, ...] = (
    Ed25519PrivateKey.generate().public_key(),
    KEY.public_key(),
)


def pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


FILES = ("encoder.onnx", "predictor.onnx", "normaliser.safetensors", "manifest.json")


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a version's, signed; whoever changes it puts it right again."""
    folder = tmp_path_factory.mktemp("signed") / "1"
    folder.mkdir()
    for number, name in enumerate(FILES):
        (folder / name).write_bytes(random.Random(number).randbytes(1000 + number))
    write_contents(folder, KEY)
    return folder


def test_what_is_signed_is_trusted_and_copied_whole(signed: Path, tmp_path: Path) -> None:
    verified = require_trusted(signed, TRUSTED, copy_to=tmp_path)
    assert verified.key == fingerprint(KEY.public_key())
    names = sorted(path.name for path in signed.iterdir())
    assert sorted(verified.contents.files) == sorted({*names} - {CONTENTS_FILE, SIGNATURE_FILE})
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    # The copy is a signed version itself.
    assert require_trusted(tmp_path, TRUSTED) == verified


@given(data=st.data())
def test_any_flipped_bit_of_any_file_is_refused(signed: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(signed.iterdir())), label="file")
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1), label="byte")
    flipped = bytearray(whole)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7), label="bit")
    path.write_bytes(flipped)
    try:
        listed = path.name not in {CONTENTS_FILE, SIGNATURE_FILE}
        with pytest.raises(UntrustedModelError, match=path.name if listed else "must be"):
            require_trusted(signed, TRUSTED)
    finally:
        path.write_bytes(whole)
    require_trusted(signed, TRUSTED)


@given(data=st.data())
def test_any_cut_or_longer_file_is_refused(signed: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(signed.iterdir())), label="file")
    whole = path.read_bytes()
    cut = whole[: data.draw(st.integers(0, len(whole) - 1), label="bytes")]
    is_cut = path.name == SIGNATURE_FILE or data.draw(st.booleans(), label="cut")
    path.write_bytes(cut if is_cut else whole + b"x")
    try:
        with pytest.raises(UntrustedModelError):
            require_trusted(signed, TRUSTED)
    finally:
        path.write_bytes(whole)


def test_what_comes_goes_or_hides_is_refused(signed: Path, tmp_path: Path) -> None:
    extra, away = tmp_path / "extra", tmp_path / "away"
    linked, nested = tmp_path / "linked", tmp_path / "nested"
    for copy in (extra, away, linked, nested):
        shutil.copytree(signed, copy)
    (extra / "embedding_forecast.safetensors").write_bytes(b"more")
    (away / "encoder.onnx").unlink()
    (linked / "encoder.onnx").unlink()
    (linked / "encoder.onnx").symlink_to(signed / "encoder.onnx")
    (nested / "more").mkdir()
    for folder, said in (
        (extra, "embedding_forecast.safetensors is there and not in the signed list"),
        (away, "encoder.onnx is in the signed list and not there"),
        (linked, "plain files, and encoder.onnx"),
        (nested, "plain files, and more"),
    ):
        with pytest.raises(UntrustedModelError, match=said):
            require_trusted(folder, TRUSTED)


def test_a_pipe_is_not_waited_for(signed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "1"
    shutil.copytree(signed, folder)
    (folder / "encoder.onnx").unlink()
    os.mkfifo(folder / "encoder.onnx")
    with pytest.raises(UntrustedModelError, match="plain files"):
        require_trusted(folder, TRUSTED)


def test_nobody_else_vouches(signed: Path, tmp_path: Path) -> None:
    with pytest.raises(UntrustedModelError, match="signed by a trusted key"):
        require_trusted(signed, [Ed25519PrivateKey.generate().public_key()])
    for name in ("unsigned", "bare"):
        shutil.copytree(signed, tmp_path / name)
        write_contents(tmp_path / name)
        if name == "bare":
            (tmp_path / name / CONTENTS_FILE).unlink()
        with pytest.raises(UntrustedModelError, match="fusion models sign"):
            require_trusted(tmp_path / name, TRUSTED)
    # Somebody else's signature under a trusted name.
    forged = tmp_path / "forged"
    shutil.copytree(signed, forged)
    write_contents(forged, other := Ed25519PrivateKey.generate())
    text = (forged / SIGNATURE_FILE).read_text()
    ours, theirs = fingerprint(KEY.public_key()), fingerprint(other.public_key())
    (forged / SIGNATURE_FILE).write_text(text.replace(theirs, ours))
    with pytest.raises(UntrustedModelError, match="was changed"):
        require_trusted(forged, TRUSTED)


def test_a_new_list_takes_the_old_signature_away(signed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "1"
    shutil.copytree(signed, folder)
    write_contents(folder)
    assert not (folder / SIGNATURE_FILE).exists()


def test_nothing_is_read_that_is_larger_than_any_model(tmp_path: Path) -> None:
    with (tmp_path / "encoder.onnx").open("wb") as file:
        file.truncate(2**31 + 1)  # (a hole: it takes no room)
    with pytest.raises(InputError, match=r"may have 2147483648 bytes, encoder\.onnx"):
        require_bounded(tmp_path)
    (tmp_path / CONTENTS_FILE).write_bytes(b" " * 1024 * 1024 + b"{}")
    (tmp_path / SIGNATURE_FILE).write_text("{}")
    with pytest.raises(UntrustedModelError, match=r"contents\.json has more than"):
        require_trusted(tmp_path, TRUSTED)


def test_keys_of_another_kind_are_no_keys() -> None:
    text = pem(KEY) + pem(Ed25519PrivateKey.generate())
    assert fingerprint(KEY.public_key()) in {
        fingerprint(key) for key in parse_trusted_keys(text, origin="keys")
    }
    curve = generate_private_key(SECP256R1()).public_key()
    other = curve.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for wrong in (b"", b"-----BEGIN PRIVATE KEY-----" + pem(KEY), pem(KEY) + other):
        with pytest.raises(SettingsError):
            parse_trusted_keys(wrong, origin="keys")
    with pytest.raises(SettingsError, match="Ed25519 private key"):
        parse_signing_key(pem(KEY), origin="key")
