"""Makes what the services of docker-compose.yml keep secret, each in a folder of its own.

Runs before anything else, and again at every start: what is there stays, what is missing is made,
and a certificate that ends within 60 days is made anew. Nothing has a default, and nothing is
printed.

    python deploy/compose/make_secrets.py FOLDER
"""

from __future__ import annotations

import argparse
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

KAFKA_USERS = (
    "admin", "edge", "flows", "live", "console", "operator", "notifier", "historian", "repairer",
    "topics", "doctor",
)  # fmt: skip
"""The principals of deploy/kafka/acls.yaml that may have a service, and the super user."""
USES_OBJECTS = ("edge", "flows", "live", "console")
DATABASES = {"prefect": "prefect", "historian": "history"}
"""Who uses which database of PostgreSQL."""
TLS_SERVERS = {"kafka": "kafka", "console-tls": "console"}
"""Folder and host name of each service that speaks TLS."""
VALID = timedelta(days=397)
RENEW_BEFORE = timedelta(days=60)
GROUP_READS, OWNER_READS = 0o440, 0o400
"""Other services than the product's run as users of their own, in the group of these files."""


@dataclass(frozen=True)
class Keeper:
    """Writes files below ``root``, each once."""

    root: Path

    def keep(self, name: str, content: str | bytes, *, mode: int = GROUP_READS) -> None:
        """Write a file whole or not at all, replacing one that is there."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        beside = path.with_name(f".{path.name}.new")
        beside.unlink(missing_ok=True)
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content.encode() if isinstance(content, str) else content)
            os.fsync(file.fileno())
        beside.replace(path)

    def password(self, name: str) -> str:
        """Return what the file says, made at the first call: 256 bits."""
        path = self.root / name
        if not path.is_file():
            self.keep(name, secrets.token_urlsafe(32))
        return path.read_text(encoding="ascii")


@dataclass(frozen=True)
class Authority:
    """Who signs the certificates of this installation."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_secrets(root: Path, *, now: datetime) -> None:
    """Make everything below ``root`` that is not there yet."""
    keeper = Keeper(root)
    authority = _authority(keeper, now)
    ca = authority.certificate.public_bytes(Encoding.PEM)
    for folder, host in TLS_SERVERS.items():
        _certificate(keeper, f"{folder}/server.pem", host, authority, now)
    users = {user: keeper.password(f"{user}/kafka-password") for user in KAFKA_USERS}
    keeper.keep("kafka/users", "".join(f"{name} {word}\n" for name, word in users.items()))
    for user in KAFKA_USERS:
        keeper.keep(f"{user}/ca.pem", ca)
    _object_store(keeper)
    keeper.password("postgres/password")
    for user, database in DATABASES.items():
        word = keeper.password(f"postgres/{user}")
        # asyncpg takes the file only where nobody else may read it.
        keeper.keep(f"{user}/pgpass", f"postgres:5432:{database}:{user}:{word}\n", mode=OWNER_READS)
    keeper.password("grafana/admin-password")


def _object_store(keeper: Keeper) -> None:
    word = keeper.password("objects/secret-key")
    for user in USES_OBJECTS:
        keeper.keep(f"{user}/objects-secret-key", word)
    lines = {
        "s3proxy.endpoint": "http://0.0.0.0:9000",
        "s3proxy.authorization": "aws-v4",
        "s3proxy.identity": "fusion",
        "s3proxy.credential": word,
        "jclouds.provider": "filesystem-nio2",
        "jclouds.filesystem.basedir": "/data",
    }
    keeper.keep("objects/s3proxy.properties", "".join(f"{k}={v}\n" for k, v in lines.items()))


def _authority(keeper: Keeper, now: datetime) -> Authority:
    """Return the authority of this installation; its key is in a folder that no service mounts."""
    file = keeper.root / "authority" / "ca.pem"
    if not file.is_file():
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "industrial-fusion")])
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        made = (
            _builder(name, name, key, now, timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        keeper.keep("authority/ca.pem", _pem(key) + made.public_bytes(Encoding.PEM), mode=0o400)
    content = file.read_bytes()
    key = load_pem_private_key(content, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), "we made it"
    return Authority(x509.load_pem_x509_certificates(content)[0], key)


def _certificate(
    keeper: Keeper,
    name: str,
    host: str,
    authority: Authority,
    now: datetime,
) -> None:
    path = keeper.root / name
    if path.is_file():
        ends = x509.load_pem_x509_certificates(path.read_bytes())[0].not_valid_after_utc
        if ends - now > RENEW_BEFORE:
            return
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    names = x509.SubjectAlternativeName([x509.DNSName(host), x509.DNSName("localhost")])
    made = (
        _builder(subject, authority.certificate.subject, key, now, VALID)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )
    chain = made.public_bytes(Encoding.PEM) + authority.certificate.public_bytes(Encoding.PEM)
    keeper.keep(name, _pem(key) + chain)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    valid: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + valid)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    make_secrets(parser.parse_args().folder, now=datetime.now(UTC))
