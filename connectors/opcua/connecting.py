"""A connection to an OPC UA server, secured as the plant file says."""

# pyright: reportPrivateImportUsage=false, reportArgumentType=false
# (asyncua exports nothing by name, and its types are those of the wire.)

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asyncua import Client, ua
from asyncua.common.utils import NotEnoughData
from asyncua.crypto import security_policies
from asyncua.crypto.uacrypto import CertProperties
from cryptography import x509
from pydantic import SecretStr

from connectors.opcua.bounding import BoundedClient
from fusion.errors import DeviceRefusedError, DeviceUnavailableError, FusionError, InputError
from fusion.plant.devices import OpcUaDevice, OpcUaSecurity, UserCertificate

_POLICIES = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128Sha256RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256Sha256RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
_REFUSED = re.compile(
    r"BadUserAccessDenied|BadIdentityToken|BadSecurity|BadCertificate|BadApplicationSignature"
    r"|BadUserSignature|certificate mismatch|No matching endpoints"
)


UNREADABLE = (
    ua.uaerrors.UaStructParsingError,
    NotEnoughData,
    struct.error,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    RecursionError,
)
"""What asyncua's decoder raises over bytes that break the protocol, such as a length below zero."""


@contextmanager
def explained(device: OpcUaDevice) -> Iterator[None]:
    """Say what a failure of asyncua means for the plant.

    Raises:
        DeviceRefusedError: The server answered and does not want us.
        DeviceUnavailableError: Anything else that the network or the server did.
    """
    try:
        yield
    except FusionError:
        raise
    except UNREADABLE as wrong:
        raise DeviceUnavailableError(
            f"{device.name} at {device.endpoint} must speak OPC UA, but its answer cannot be read: "
            f"{type(wrong).__name__} {wrong}; connecting again, look at the server"
        ) from wrong
    except (ua.UaError, OSError, TimeoutError, EOFError) as failed:
        why = f"{type(failed).__name__}: {failed}".rstrip(": ")
        where = f"{device.name} must be reached at {device.endpoint}, but {why}"
        if _REFUSED.search(why):
            raise DeviceRefusedError(
                f"{where}; check login, policy and certificates on both sides (the server has to "
                "trust certificate_file)"
            ) from failed
        raise DeviceUnavailableError(f"{where}; check the server and the network") from failed


async def connect(device: OpcUaDevice, password: SecretStr | None) -> BoundedClient:
    """Return a client that is connected, with a session of its own."""
    client = BoundedClient(
        device.endpoint, timeout=device.timeout_s, watchdog_intervall=device.watchdog_s
    )
    client.name = client.description = f"fusion-edge-{device.name}"
    if device.security is not None:
        await _secure(client, device.security)
    if device.login is not None:
        assert password is not None, "wiring reads it"
        client.set_user(device.login.username)
        client.set_password(password.get_secret_value())
    if device.user_certificate is not None:
        await _log_in(client, device.user_certificate)
    try:
        await client.connect()
    except BaseException as failed:
        await drop(client)
        if client.bound.broken is not None:
            raise client.bound.broken from failed
        raise
    return client


async def drop(client: Client) -> None:
    """Close the socket without a word: the server does not answer, or never did."""
    client.disconnect_socket()
    # The transport closes in the next turns of the loop.
    for _ in range(3):
        await asyncio.sleep(0)


async def _secure(client: Client, security: OpcUaSecurity) -> None:
    _require_files(
        "security",
        security.certificate_file,
        security.key_file,
        security.server_certificate_file,
    )
    client.application_uri = _application_uri(security)
    mode = {
        "Sign": ua.MessageSecurityMode.Sign,
        "SignAndEncrypt": ua.MessageSecurityMode.SignAndEncrypt,
    }[security.mode]
    try:
        await client.set_security(
            _POLICIES[security.policy],
            CertProperties(security.certificate_file),
            CertProperties(security.key_file),
            server_certificate=CertProperties(security.server_certificate_file),
            mode=mode,
        )
    except ValueError as wrong:
        raise InputError(
            f"{security.certificate_file} and {security.key_file} must be a certificate and its "
            f"key in PEM or DER, without a passphrase, but: {wrong}"
        ) from wrong


async def _log_in(client: Client, user: UserCertificate) -> None:
    _require_files("user_certificate", user.certificate_file, user.key_file)
    try:
        await client.load_client_certificate(str(user.certificate_file))
        await client.load_private_key(user.key_file)
    except (ValueError, TypeError) as wrong:
        raise InputError(
            f"{user.certificate_file} and {user.key_file} must be a certificate and its key in PEM "
            f"or DER (the names end so), without a passphrase, but: {wrong}"
        ) from wrong


def _require_files(field: str, *files: Path) -> None:
    for file in files:
        if not file.is_file():
            raise InputError(
                f"{field} must name files that this process can read, and {file} is none; "
                "correct the path"
            )


def _application_uri(security: OpcUaSecurity) -> str:
    """Return the URI in our certificate: servers compare it with what the client says it is."""
    content = security.certificate_file.read_bytes()
    try:
        load = (
            x509.load_pem_x509_certificate
            if content.startswith(b"-----")
            else x509.load_der_x509_certificate
        )
        names = load(content).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound) as wrong:
        raise InputError(
            f"{security.certificate_file} must be a certificate with an application URI in its "
            f"subject alternative name (OPC UA Part 6, 6.2.2), but: {wrong}"
        ) from wrong
    if not uris:
        raise InputError(
            f"{security.certificate_file} must have an application URI in its subject alternative "
            "name (OPC UA Part 6, 6.2.2), and has none; issue it with URI:urn:..."
        )
    return uris[0]
