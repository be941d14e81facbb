"""NVIDIA Triton Inference Server: a client for the ``Inference`` port, and the server itself."""

from connectors.triton_io.access import (
    ClientTls,
    TritonAccess,
    is_answering,
    is_open_to_anyone,
    is_serving,
    ready_models,
)
from connectors.triton_io.client import Asking, TritonInference
from connectors.triton_io.configuration import (
    PYTHON_MODEL,
    Backend,
    Batching,
    Device,
    model_config,
)
from connectors.triton_io.loading import UNLOAD_DEADLINE_S, unload_models
from connectors.triton_io.server import ServerTls, Status, TritonServer

__all__ = [
    "PYTHON_MODEL",
    "UNLOAD_DEADLINE_S",
    "Asking",
    "Backend",
    "Batching",
    "ClientTls",
    "Device",
    "ServerTls",
    "Status",
    "TritonAccess",
    "TritonInference",
    "TritonServer",
    "is_answering",
    "is_open_to_anyone",
    "is_serving",
    "model_config",
    "ready_models",
    "unload_models",
]
