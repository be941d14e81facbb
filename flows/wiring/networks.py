"""Where the networks run: in this process, or on Triton."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from connectors.local_inference import OnnxInference
from connectors.triton_io import (
    UNLOAD_DEADLINE_S,
    Asking,
    ClientTls,
    ServerTls,
    TritonAccess,
    TritonInference,
    TritonServer,
    ready_models,
    unload_models,
)
from flows.settings import Settings
from fusion.errors import SettingsError
from fusion.ports import Inference


def open_inference(model_dir: Path) -> Inference:
    """Return the networks of the model version in ``model_dir``, run in this process."""
    return OnnxInference(model_dir)


def open_triton_inference(
    settings: Settings, names: Mapping[str, str], *, deadline_s: float | None = None
) -> Inference:
    """Return the networks called ``names`` in Triton's repository. Nothing is asked yet.

    Raises:
        SettingsError: A file of TLS cannot be read, or shared memory cannot be used here.
    """
    asking = Asking(
        deadline_s or settings.triton_deadline_s,
        uses_shared_memory=settings.triton_shared_memory,
        joins_threads=True,
    )
    return TritonInference(_triton(settings), names, asking)


def unload_from_triton(settings: Settings, names: Iterable[str]) -> None:
    """Free what the server holds of the networks called ``names``, if it holds them.

    Raises:
        InferenceUnavailableError: The server did not say of each that it does.
    """
    unload_models(_triton(settings), names, deadline_s=UNLOAD_DEADLINE_S)


def triton_models(settings: Settings, names: Iterable[str]) -> dict[str, bool]:
    """Return, of each of the networks called ``names``, whether Triton has it loaded.

    Raises:
        InferenceUnavailableError: The server does not answer.
        SettingsError: A file of TLS cannot be read.
    """
    return ready_models(_triton(settings), names)


def triton_server(
    settings: Settings,
    *,
    metrics_port: int = 8002,
    cert: Path | None = None,
    key: Path | None = None,
    client_ca: Path | None = None,
) -> TritonServer:
    """Return the server of this machine, running or not. With ``cert`` it speaks mutual TLS only.

    Raises:
        SettingsError: Only some of the files of TLS are given.
    """
    access = _triton(settings)
    host, _, port = access.address.rpartition(":")
    return TritonServer(
        home=settings.triton_home,
        repository=settings.triton_repository_dir,
        run_dir=settings.data_dir / "triton-server",
        grpc_port=int(port),
        metrics_port=metrics_port,
        host=host,
        tls=_server_tls(access, cert, key, client_ca),
        client_tls=access.tls,
    )


def _server_tls(
    access: TritonAccess, cert: Path | None, key: Path | None, client_ca: Path | None
) -> ServerTls | None:
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None or client_ca is None or access.tls is None:
        raise SettingsError(
            "mutual TLS needs --cert, --key and --client-ca, and FUSION_TRITON_CA_FILE, "
            "..._CERT_FILE and ..._KEY_FILE to ask the server whether it is ready; give all"
        )
    return ServerTls(cert, key, client_ca)


def _triton(settings: Settings) -> TritonAccess:
    ca, cert, key = settings.triton_ca_file, settings.triton_cert_file, settings.triton_key_file
    tls = ClientTls(ca, cert, key) if ca and cert and key else None
    return TritonAccess(settings.triton_address, tls)
