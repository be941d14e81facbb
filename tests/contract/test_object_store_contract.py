"""The laws of an object store, the same for a folder and for a real server that speaks S3."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors import object_store
from connectors.object_store import LocalObjectStore, S3ObjectStore, S3Settings
from fusion.errors import InputError, ObjectStoreUnavailableError, ObjectTooLargeError
from fusion.ports import Archive, ObjectStore
from tests.conftest import S3Server, free_port, require_java

SLACK_NS = 5_000_000_000
"""Stores say the time of a change to the second, by their own clock."""


def s3(server: S3Server, **changes: object) -> S3ObjectStore:
    where = {
        "bucket": server.bucket,
        "prefix": "",
        "endpoint": server.endpoint,
        "region": "us-east-1",
        "access_key": server.access_key,
        "secret_key": server.secret_key,
    }
    return S3ObjectStore(S3Settings(**(where | changes)))  # type: ignore[arg-type]


@pytest.fixture(params=["folder", "s3", "s3-below-a-prefix"])
def store(request: pytest.FixtureRequest, tmp_path: Path, unique: str) -> Archive:
    if request.param == "folder":
        (tmp_path / "objects").mkdir()
        return LocalObjectStore(tmp_path / "objects")
    server = request.getfixturevalue("s3_server")
    return s3(server, prefix="" if request.param == "s3" else f"all/of/{unique}")


def test_whole_files_come_back_also_when_they_are_many_pieces(
    store: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "PIECE_BYTES", 1_000_000)
    for size in (0, 1, 7_654_321):
        content = random.Random(size).randbytes(size)
        (tmp_path / "sent").write_bytes(content)
        store.put_file("files/a/b", tmp_path / "sent")
        assert store.fetch_file("files/a/b", tmp_path / "came")
        assert (tmp_path / "came").read_bytes() == content
    assert not store.fetch_file("files/a/c", tmp_path / "never")
    assert not (tmp_path / "never").exists()
    with pytest.raises(ObjectStoreUnavailableError):
        store.put_file("files/a/d", tmp_path / "not there")


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=st.binary(max_size=2_000), name=st.text("abc019-_. ", min_size=1, max_size=20))
def test_gives_back_what_was_put(store: ObjectStore, content: bytes, name: str) -> None:
    key = f"back/day/x{name}x"
    store.put(key, content)
    assert store.get(key, max_bytes=len(content)) == content


def test_large_objects_pass(store: ObjectStore, unique: str) -> None:
    content = bytes(range(256)) * 4 * 1024 * 20
    store.put(f"{unique}/large", content)
    assert store.get(f"{unique}/large", max_bytes=len(content)) == content


def test_what_is_not_there_is_none(store: ObjectStore, unique: str) -> None:
    assert store.get(f"{unique}/nothing", max_bytes=10) is None
    store.delete(f"{unique}/nothing")


def test_an_object_above_the_bound_is_not_read(store: ObjectStore, unique: str) -> None:
    store.put(f"{unique}/six", b"sixsix")
    with pytest.raises(ObjectTooLargeError, match=r"not have more than 5 bytes, it has 6"):
        store.get(f"{unique}/six", max_bytes=5)


def test_putting_again_replaces_and_delete_removes(store: ObjectStore, unique: str) -> None:
    store.put(f"{unique}/key", b"one")
    store.put(f"{unique}/key", b"other")
    assert store.get(f"{unique}/key", max_bytes=10) == b"other"
    store.delete(f"{unique}/key")
    store.delete(f"{unique}/key")
    assert store.get(f"{unique}/key", max_bytes=10) is None
    assert list(store.list(unique)) == []


def test_lists_a_folder_with_size_and_time(store: ObjectStore, unique: str) -> None:
    began_ns = time.time_ns()
    for name, content in {"a/1": b"x", "a/2": b"yy", "b/3": b""}.items():
        store.put(f"{unique}/{name}", content)
    store.put(f"{unique}-neighbour/4", b"not below the folder")
    found = {each.key: each for each in store.list(unique)}
    assert {key: each.num_bytes for key, each in found.items()} == {
        f"{unique}/a/1": 1,
        f"{unique}/a/2": 2,
        f"{unique}/b/3": 0,
    }
    ended_ns = time.time_ns()
    for each in found.values():
        assert began_ns - SLACK_NS <= each.t_modified_ns <= ended_ns + SLACK_NS
    assert [each.key for each in store.list(f"{unique}/a")] != []
    assert list(store.list(f"{unique}/nothing")) == []


def test_a_listing_has_no_end_of_page(store: ObjectStore, unique: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.put(f"{unique}/{n}", b""), range(1_100)))
    assert len({each.key for each in store.list(unique)}) == 1_100


@pytest.mark.parametrize("key", ["../up", "/etc/passwd", "a//b", "a/./b", "", "a/../../b", "a\\b"])
def test_keys_that_could_lead_elsewhere_are_refused(store: ObjectStore, key: str) -> None:
    for call in (
        lambda: store.put(key, b""),
        lambda: store.get(key, max_bytes=1),
        lambda: store.delete(key),
    ):
        with pytest.raises(InputError, match="must be names divided by"):
            call()


def test_readers_see_whole_objects_only(store: ObjectStore, unique: str) -> None:
    contents = [bytes([n]) * 300_000 for n in range(2)]
    store.put(f"{unique}/key", contents[0])
    seen: set[bytes | None] = set()
    is_done = threading.Event()

    def read() -> None:
        while not is_done.is_set():
            seen.add(store.get(f"{unique}/key", max_bytes=300_000))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for n in range(20):
            store.put(f"{unique}/key", contents[n % 2])
    finally:
        is_done.set()
        reader.join()
    assert seen <= set(contents)


# ------------------------------------------------------------------ the store's own failures


def test_a_folder_that_is_away_is_no_empty_one(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path / "objects")
    store.put("a/b", b"kept")
    (tmp_path / "objects").rename(tmp_path / "elsewhere")
    with pytest.raises(ObjectStoreUnavailableError, match="objects"):
        store.get("a/b", max_bytes=4)
    assert not (tmp_path / "objects").exists(), "reading makes no folder in its place"
    (tmp_path / "elsewhere").rename(tmp_path / "objects")
    assert store.get("a/b", max_bytes=4) == b"kept"


def every_call(store: ObjectStore) -> list[Callable[[], object]]:
    return [
        lambda: store.put("a/b", b"x"),
        lambda: store.get("a/b", max_bytes=1),
        lambda: store.delete("a/b"),
        lambda: list(store.list("a")),
    ]


def refuses_all(store: ObjectStore, *, but_delete: bool = False) -> None:
    calls = every_call(store)
    if but_delete:
        del calls[2]
    for call in calls:
        with pytest.raises(ObjectStoreUnavailableError, match="FUSION_OBJECTS") as caught:
            call()
        assert caught.value.retriable


def test_nobody_there_is_unavailable(s3_server: S3Server) -> None:
    refuses_all(s3(s3_server, endpoint=f"http://127.0.0.1:{free_port()}"))


def test_a_wrong_secret_and_a_wrong_bucket_are_unavailable_and_nothing_is_missing(
    s3_server: S3Server,
) -> None:
    refuses_all(s3(s3_server, secret_key="wrong"))
    # This server says that deleting from a bucket that is not there went well.
    refuses_all(s3(s3_server, bucket="no-such-bucket"), but_delete=True)


def test_the_environment_of_other_tools_plays_no_part(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, unique: str
) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "other",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_SESSION_TOKEN": "other",
        "AWS_ENDPOINT": "http://127.0.0.1:1",
        "AWS_SKIP_SIGNATURE": "true",
    }.items():
        monkeypatch.setenv(name, value)
    store = s3(s3_server)
    store.put(f"{unique}/a", b"x")
    assert store.get(f"{unique}/a", max_bytes=1) == b"x"


def test_a_server_that_says_nothing_holds_nobody_for_long(
    s3_server: S3Server,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ObjectStoreUnavailableError):
            s3(s3_server, endpoint=address).get("a/b", max_bytes=1)


def test_a_server_that_comes_back_has_what_it_had(tmp_path: Path) -> None:
    require_java()
    server = S3Server(tmp_path)
    server.start()
    try:
        store = s3(server)
        store.put("a/b", b"kept")
        server.stop()
        refuses_all(store)
        server.start()
        assert store.get("a/b", max_bytes=4) == b"kept"
    finally:
        server.stop()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secured(authority: trustme.CA, tmp_path: Path) -> Iterator[S3Server]:
    """A server with a certificate of a plant's own authority."""
    require_java()
    issued = authority.issue_cert("127.0.0.1")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    certificate = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    server = S3Server(tmp_path, keystore=tmp_path / "server.p12")
    lock = serialization.BestAvailableEncryption(server.secret_key.encode())
    packed = pkcs12.serialize_key_and_certificates(b"s3", key, certificate, None, lock)  # type: ignore[arg-type]
    (tmp_path / "server.p12").write_bytes(packed)
    server.start()
    yield server
    server.stop()


def test_only_a_certificate_of_a_trusted_authority_is_believed(
    secured: S3Server, authority: trustme.CA
) -> None:
    store = s3(secured, ca_certificate=authority.cert_pem.bytes())
    store.put("a/b", b"over TLS")
    assert store.get("a/b", max_bytes=8) == b"over TLS"
    refuses_all(s3(secured))
    refuses_all(s3(secured, ca_certificate=trustme.CA().cert_pem.bytes()))


def test_secrets_are_not_shown() -> None:
    shown = repr(S3Settings("b", "p", None, "eu-west-1", "user", "hidden"))
    assert "hidden" not in shown
    assert "user" not in shown
