"""NVIDIA Triton Inference Server: a client for the ``Inference`` port, and the server itself."""

from connectors.triton_io.access import (
    ClientTls,
    TritonAccess,
    is_answering,
    is_open_to_anyone,
    is_serving,
    ready_models,
)
from connectors.triton_io.client import Asking, TritonInference, unload_models
from connectors.triton_io.configuration import PYTHON_MODEL, Backend, Batching, model_config
from connectors.triton_io.server import ServerTls, Status, TritonServer

__all__ = [
    "PYTHON_MODEL",
    "Asking",
    "Backend",
    "Batching",
    "ClientTls",
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
