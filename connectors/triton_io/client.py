"""The ``Inference`` port over gRPC: each call has a deadline, and ends in an answer or an error.

An inference changes nothing on the server, so asking again is safe; it is done only when the server
refused or could not be reached. What came too late is not asked again here: a server that is too
busy would get busier. The live process holds its stream back, and asks when it is ready to.
"""

from __future__ import annotations

import functools
import random
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from connectors.triton_io.access import TritonAccess
from connectors.triton_io.breaker import Breaker
from connectors.triton_io.configuration import MAX_BATCH
from connectors.triton_io.shared_memory import Slots
from connectors.triton_io.together import Together
from fusion.errors import InferenceUnavailableError, ModelBrokenError

Inputs = Mapping[str, NDArray[np.generic]]
Outputs = dict[str, NDArray[np.float32]]
LOAD_DEADLINE_S = 20.0
MAX_TRIES = 3
MAX_JITTER_S = 0.05
_NOT_LOADED = ("unknown model", "is not ready", "has no available versions")
_NOT_REGISTERED = "shared memory region"
_Failure = Literal["refused", "late", "not-loaded", "not-registered", "broken"]


@dataclass(frozen=True, slots=True)
class Asking:
    """How a client asks."""

    deadline_s: float = 2.0
    """For one call, with all of its tries."""
    uses_shared_memory: bool = False
    """Arrays go through memory that both sides map; only where the server runs on this machine."""
    joins_threads: bool = False
    """What several threads ask while a request is under way goes into one request."""


class TritonInference:
    """Implements :class:`fusion.ports.Inference` for one model version on a server.

    ``names`` are the networks' names in the model repository. A network that is not loaded, as
    after a restart of the server, is loaded at the first question. May be asked by several threads
    at once: the server puts what comes together into one batch.
    """

    def __init__(
        self, access: TritonAccess, names: Mapping[str, str], asking: Asking | None = None
    ) -> None:
        self._names = dict(names)
        self._access = access
        self._asking = asking or Asking()
        self._client = access.open()
        # A network that hangs must not keep another one from being asked.
        self._breakers = {
            network: Breaker(f"{name} at {access.address}", time.monotonic)
            for network, name in names.items()
        }
        self._load_lock = threading.Lock()
        self._random = random.Random()  # noqa: S311 jitter, no secret
        self._slots = Slots(self._client) if self._asking.uses_shared_memory else None
        self._together = {
            network: Together(functools.partial(self._ask, network), max_rows=MAX_BATCH)
            for network in names
        }

    def infer(self, network: str, inputs: Inputs) -> Outputs:
        """Return the named outputs of ``network``.

        Raises:
            InferenceUnavailableError: The server did not answer in time; nothing was scored.
            ModelBrokenError: It answered that the model cannot.
        """
        num_rows = len(next(iter(inputs.values())))
        if num_rows <= MAX_BATCH:
            if self._asking.joins_threads:
                return self._together[network].infer(inputs)
            return self._ask(network, inputs)
        parts = [
            self._ask(network, {k: v[begin : begin + MAX_BATCH] for k, v in inputs.items()})
            for begin in range(0, num_rows, MAX_BATCH)
        ]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def close(self) -> None:
        """Free the connection and the shared memory."""
        if self._slots is not None:
            self._slots.close()
        self._client.close()

    def _ask(self, network: str, inputs: Inputs) -> Outputs:
        breaker = self._breakers[network]
        breaker.enter()
        deadline_s = time.monotonic() + self._asking.deadline_s
        for tries_left in reversed(range(MAX_TRIES)):
            try:
                answer = self._call(network, inputs, deadline_s)
            except InferenceServerException as error:
                why = _failure(error)
                if why == "broken":
                    breaker.succeeded()  # (the server answers)
                    raise ModelBrokenError(self._said(network, error)) from None
                if why in {"not-loaded", "not-registered"} and tries_left:
                    self._mend(network, why, breaker)
                    deadline_s = time.monotonic() + self._asking.deadline_s
                    continue
                if why != "refused" or not tries_left or not self._wait(deadline_s):
                    breaker.failed()
                    raise InferenceUnavailableError(self._said(network, error)) from None
            else:
                breaker.succeeded()
                return answer
        raise AssertionError("the last try returns or raises")

    def _call(self, network: str, inputs: Inputs, deadline_s: float) -> Outputs:
        left_s = max(deadline_s - time.monotonic(), 1e-3)
        name = self._names[network]
        if self._slots is not None:
            return self._slots.infer(name, inputs, left_s)
        tensors: list[triton.InferInput] = []
        for key, array in inputs.items():
            kind = np_to_triton_dtype(array.dtype)
            tensors.append(triton.InferInput(key, list(array.shape), kind))
            tensors[-1].set_data_from_numpy(array)
        answer: Any = self._client.infer(
            name,
            tensors,
            client_timeout=left_s,
            timeout=round(left_s * 1e6),  # (what nobody waits for any more leaves the queue)
        )
        return {each.name: answer.as_numpy(each.name) for each in answer.get_response().outputs}

    def _wait(self, deadline_s: float) -> bool:
        """Return after a moment of chance; False, at once, when the deadline would pass."""
        pause_s = self._random.uniform(0, MAX_JITTER_S)
        if time.monotonic() + pause_s >= deadline_s:
            return False
        time.sleep(pause_s)
        return True

    def _mend(self, network: str, why: _Failure, breaker: Breaker) -> None:
        """Load the network, or register the shared memory, that a restarted server has forgotten.

        Raises:
            InferenceUnavailableError: The server is away.
            ModelBrokenError: It cannot load the network.
        """
        if why == "not-registered":
            assert self._slots is not None, "only shared memory is registered"
            self._slots.forget()
            return
        try:
            with self._load_lock:
                load_model(self._client, self._names[network])
        except ModelBrokenError:
            breaker.succeeded()
            raise
        except InferenceUnavailableError:
            breaker.failed()
            raise

    def _said(self, network: str, error: InferenceServerException) -> str:
        return (
            f"Triton at {self._access.address} must answer for {self._names[network]} within "
            f"{self._asking.deadline_s:g} s, but: {_first_line(error)}; see `fusion triton status` "
            "and the server's log"
        )


def load_model(client: triton.InferenceServerClient, name: str) -> None:
    """Return when the server has ``name`` loaded; at once when it has.

    Raises:
        InferenceUnavailableError: The server is away, or takes too long.
        ModelBrokenError: It cannot load it: it is not in the repository, or broken.
    """
    try:
        # Loading what is loaded would load it again, with a gap in between.
        if client.is_model_ready(name, client_timeout=LOAD_DEADLINE_S):
            return
        client.load_model(name, client_timeout=LOAD_DEADLINE_S)
    except InferenceServerException as error:
        if _failure(error) in {"refused", "late"}:
            raise InferenceUnavailableError(
                f"Triton must load {name}, but: {_first_line(error)}; it is asked again"
            ) from None
        raise ModelBrokenError(
            f"Triton must be able to load {name}, but: {_first_line(error)}; export the model "
            "again (`fusion export`), and look at the server's log"
        ) from None


def unload_models(access: TritonAccess, names: Iterable[str]) -> None:
    """Free what the server holds of ``names``.

    Raises:
        InferenceUnavailableError: The server is away.
    """
    client = access.open()
    try:
        for name in names:
            client.unload_model(name, client_timeout=LOAD_DEADLINE_S)
    except InferenceServerException as error:
        raise InferenceUnavailableError(
            f"Triton must unload models, but: {_first_line(error)}; try again"
        ) from None
    finally:
        client.close()


def _failure(error: InferenceServerException) -> _Failure:
    """Return what kind of failure ``error`` is: the client library gives texts only."""
    status, text = str(error.status()), str(error.message()).lower()
    if any(words in text for words in _NOT_LOADED):
        return "not-loaded"
    if _NOT_REGISTERED in text:
        return "not-registered"
    if "DEADLINE_EXCEEDED" in status or "deadline exceeded" in text:
        return "late"
    # The queue refuses with UNAVAILABLE too: it is full, or the request waited too long in it.
    return "refused" if "UNAVAILABLE" in status or "CANCELLED" in status else "broken"


def _first_line(error: InferenceServerException) -> str:
    text = str(error.message()).strip() or str(error.status())
    return text.splitlines()[0][:300]
