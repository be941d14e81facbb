"""How a process reaches a Triton server: address, mutual TLS, and one question."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import grpc
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from fusion.errors import InferenceUnavailableError, SettingsError

MAX_MESSAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Files (PEM) of mutual TLS: whom to trust, and who this client is."""

    ca_file: Path
    cert_file: Path
    key_file: Path

    def require_readable(self) -> None:
        """Return when all files can be read.

        Raises:
            SettingsError: Names the first that cannot; the client library would say nothing.
        """
        for path in (self.ca_file, self.cert_file, self.key_file):
            try:
                path.read_bytes()
            except OSError as unreadable:
                raise SettingsError(
                    f"a file of TLS must be readable, but {path}: {unreadable.strerror}; mend "
                    "FUSION_TRITON_CA_FILE, FUSION_TRITON_CERT_FILE or FUSION_TRITON_KEY_FILE"
                ) from unreadable


@dataclass(frozen=True, slots=True)
class TritonAccess:
    """Where the server is, ``host:port`` of its gRPC, and by which certificate."""

    address: str
    tls: ClientTls | None = None

    def open(self) -> triton.InferenceServerClient:
        """Return a client of its own connection. Nothing is sent yet."""
        if self.tls is not None:
            self.tls.require_readable()
        files = self.tls
        return triton.InferenceServerClient(
            self.address,
            ssl=files is not None,
            root_certificates=None if files is None else str(files.ca_file),
            certificate_chain=None if files is None else str(files.cert_file),
            private_key=None if files is None else str(files.key_file),
            channel_args=[
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                # gRPC's own pause grows to two minutes; a server that is back must be found sooner.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1_000),
                # Clients of one address share a connection otherwise, with its backoff.
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )


def ready_models(
    access: TritonAccess, names: Iterable[str], *, timeout_s: float = 2.0
) -> dict[str, bool]:
    """Return, of each of the networks called ``names``, whether the server has it loaded.

    Raises:
        InferenceUnavailableError: The server does not answer.
    """
    with contextlib.closing(access.open()) as client:
        try:
            client.is_server_ready(client_timeout=timeout_s)
            return {
                name: bool(client.is_model_ready(name, client_timeout=timeout_s)) for name in names
            }
        except InferenceServerException as away:
            raise InferenceUnavailableError(
                f"Triton at {access.address} must answer within {timeout_s:g} s, but: "
                f"{away.message()}; start it (`fusion triton start`), or mend FUSION_TRITON_ADDRESS"
            ) from away


def is_serving(access: TritonAccess, *, timeout_s: float = 1.0) -> bool:
    """Whether a server answers at the address and says that it is ready."""
    with contextlib.closing(access.open()) as client:
        try:
            return bool(client.is_server_ready(client_timeout=timeout_s))
        except InferenceServerException:
            return False


def is_answering(access: TritonAccess, *, timeout_s: float = 1.0) -> bool:
    """Whether a server answers at the address, ready or not."""
    with contextlib.closing(access.open()) as client:
        try:
            return bool(client.is_server_live(client_timeout=timeout_s))
        except InferenceServerException:
            return False


def is_open_to_anyone(address: str, *, timeout_s: float = 2.0) -> bool:
    """Whether the server at ``address`` answers a client that shows no certificate."""
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            stub.ServerLive(messages.ServerLiveRequest(), timeout=timeout_s)  # type: ignore[attr-defined]
        except grpc.RpcError:
            return False
        return True
