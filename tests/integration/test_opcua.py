"""OPC UA as plants have it: certificates and a login, history after an outage, a draft plant."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import SecretStr

from connectors.opcua import OpcUaSession
from flows.discovery import draft_plant
from fusion.errors import DeviceRefusedError, InputError
from fusion.plant import parse_plant
from fusion.plant.devices import OpcUaDevice
from fusion.schema import Quality
from tests.conftest import free_port
from tests.peers.opcua import OpcUaPeer, secured_node_server, secured_server
from tests.peers.peer import CLOCK, read_until

pytestmark = pytest.mark.xdist_group("opcua")


def issue(folder: Path, name: str, usage: x509.ObjectIdentifier) -> None:
    """Write a self-signed certificate as OPC UA wants it (Part 6, 6.2.2), DER, and its key, PEM."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names = [
        x509.UniformResourceIdentifier(f"urn:tests:{name}"),
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    usages = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usages, critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .sign(key, hashes.SHA256())
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    (folder / f"{name}.der").write_bytes(der)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / f"{name}-key.pem").write_bytes(pem)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    issue(folder, "server", ExtendedKeyUsageOID.SERVER_AUTH)
    issue(folder, "edge", ExtendedKeyUsageOID.CLIENT_AUTH)
    issue(folder, "stranger", ExtendedKeyUsageOID.CLIENT_AUTH)
    issue(folder, "user", ExtendedKeyUsageOID.CLIENT_AUTH)
    (folder / "trusted").mkdir()
    (folder / "trusted" / "edge.der").write_bytes((folder / "edge.der").read_bytes())
    return folder


@pytest.fixture(scope="module")
def secured(certificates: Path) -> Iterator[OpcUaDevice]:
    port = free_port()
    server = secured_server(port, certificates)
    server.start()
    yield OpcUaDevice.model_validate(
        {
            "name": "plc",
            "protocol": "opcua",
            "endpoint": f"opc.tcp://127.0.0.1:{port}/plc",
            "nodes": [
                {"node": "nsu=urn:tests:plc;s=Line1.Tag0", "stream": "process", "tag": "level"}
            ],
            "security": {
                "policy": "Basic256Sha256",
                "certificate_file": str(certificates / "edge.der"),
                "key_file": str(certificates / "edge-key.pem"),
                "server_certificate_file": str(certificates / "server.der"),
            },
            "login": {"username": "operator", "password_env": "PLC_PASSWORD"},
        }
    )
    server.stop()


def opened(device: OpcUaDevice, password: str = "right") -> OpcUaSession:
    return OpcUaSession(device, None, clock=CLOCK, password=SecretStr(password))


def changed(device: OpcUaDevice, **security: object) -> OpcUaDevice:
    assert device.security is not None
    return device.model_copy(update={"security": device.security.model_copy(update=security)})


def test_a_signed_and_encrypted_channel_with_a_login_reads(secured: OpcUaDevice) -> None:
    with closing(opened(secured)) as session:
        assert read_until(session, bool)[0].value == 0.0


def test_a_wrong_password_is_refused_and_not_told(secured: OpcUaDevice) -> None:
    with pytest.raises(DeviceRefusedError) as raised:
        opened(secured, "secret-but-wrong")
    assert "secret-but-wrong" not in str(raised.value)
    assert "login" in str(raised.value)


def test_another_stack_refuses_a_wrong_password_and_takes_the_right_one(
    secured: OpcUaDevice, certificates: Path, tmp_path: Path
) -> None:
    port = free_port()
    server = secured_node_server(port, tmp_path, certificates / "edge.der")
    server.start()
    try:
        own = tmp_path / "own" / "certs" / "certificate.pem"
        device = changed(secured, server_certificate_file=own)
        device = device.model_copy(update={"endpoint": f"opc.tcp://127.0.0.1:{port}/plc"})
        with pytest.raises(DeviceRefusedError, match="login") as raised:
            opened(device, "secret-but-wrong")
        assert "secret-but-wrong" not in str(raised.value)
        with closing(opened(device)) as session:
            assert read_until(session, bool)[0].value == 0.0
    finally:
        server.stop()


def test_a_user_is_known_by_certificate(secured: OpcUaDevice, certificates: Path) -> None:
    def device_of(name: str, key: str) -> OpcUaDevice:
        told = secured.model_dump(mode="json", exclude_none=True)
        del told["login"]
        files = {"certificate_file": f"{name}.der", "key_file": f"{key}-key.pem"}
        paths = {field: str(certificates / file) for field, file in files.items()}
        return OpcUaDevice.model_validate(told | {"user_certificate": paths})

    with closing(opened(device_of("user", "user"))) as session:
        assert read_until(session, bool)[0].value == 0.0
    with pytest.raises(DeviceRefusedError, match="must be reached"):
        opened(device_of("stranger", "stranger"))
    # Whoever has the certificate but not its key, is nobody.
    with pytest.raises(DeviceRefusedError, match="must be reached"):
        opened(device_of("user", "stranger"))


def test_a_stranger_is_refused(secured: OpcUaDevice, certificates: Path) -> None:
    stranger = changed(
        secured,
        certificate_file=certificates / "stranger.der",
        key_file=certificates / "stranger-key.pem",
    )
    with pytest.raises(DeviceRefusedError):
        opened(stranger)


def test_another_server_than_the_trusted_one_is_refused(
    secured: OpcUaDevice, certificates: Path
) -> None:
    with pytest.raises((DeviceRefusedError, DeviceRefusedError.__base__)):  # type: ignore[arg-type]
        opened(changed(secured, server_certificate_file=certificates / "stranger.der"))


def test_a_file_that_is_not_there_is_explained(secured: OpcUaDevice, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must name files that this process can read"):
        opened(changed(secured, key_file=tmp_path / "none.key"))


@pytest.fixture(scope="module", params=["asyncua", "node-opcua"])
def peer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpcUaPeer]:
    made = OpcUaPeer(tmp_path_factory.mktemp("peer"), request.param, num_tags=3, history=True)
    made.start()
    yield made
    made.stop()


def test_the_past_is_read_after_an_outage_once(peer: OpcUaPeer) -> None:
    with closing(peer.open()) as session:
        peer.say(10.0)
        read_until(session, lambda found: any(each.value == 10.0 for each in found))
        position = session.position()
    for value in (20.0, 30.0, 40.0):
        peer.say(value)
    with closing(peer.open(position)) as session:
        peer.say(50.0)
        found = read_until(session, lambda found: any(each.value == 50.0 for each in found))
    good = [each for each in found if each.quality is Quality.GOOD]
    assert [each.value for each in good if each.value < 40.0] == [20.0, 30.0]
    assert len({(each.value, each.t_source_ns) for each in good}) == len(good)


def test_bad_quality_is_kept(peer: OpcUaPeer) -> None:
    with closing(peer.open()) as session:
        peer.say_bad(0x80350000)
        read_until(session, lambda found: any(e.quality is Quality.BAD for e in found))


def test_a_draft_plant_is_nearly_right(peer: OpcUaPeer) -> None:
    assert isinstance(peer.device, OpcUaDevice)
    text, num_tags = draft_plant(peer.device.endpoint, None, most=100)
    assert num_tags == 3
    draft = yaml.safe_load(text)
    first = draft["streams"][0]["tags"][0]
    assert (first["name"], first["unit"], first["range"]) == ("tag0", "%", [0.0, 100.0])
    plant = parse_plant(text, origin="draft")
    (device,) = plant.devices
    assert isinstance(device, OpcUaDevice)
    assert device.nodes[0].node == "nsu=urn:tests:plc;s=Line1.Tag0"
