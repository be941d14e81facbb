"""The ``Inference`` port over gRPC: each call has a deadline, and ends in an answer or an error.

An inference changes nothing on the server, so asking again is safe; it is done only when the server
refused or could not be reached. What came too late is not asked again here: a server that is too
busy would get busier. The live process holds its stream back, and asks when it is ready to.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from connectors.triton_io.access import TritonAccess
from connectors.triton_io.breaker import Breaker
from connectors.triton_io.configuration import MAX_BATCH
from connectors.triton_io.failures import Failure, failure_of, first_line
from connectors.triton_io.loading import Loading
from connectors.triton_io.shared_memory import Slots, left_s
from connectors.triton_io.together import Together
from fusion.errors import InferenceUnavailableError, ModelBrokenError, ModelLoadingError

Inputs = Mapping[str, NDArray[np.generic]]
Outputs = dict[str, NDArray[np.float32]]
MAX_TRIES = 3
MAX_JITTER_S = 0.05


@dataclass(frozen=True, slots=True)
class Asking:
    """How a client asks."""

    deadline_s: float = 2.0
    """For one call, with all of its tries, and with waiting for a network that is being loaded."""
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
        self._loading = Loading(access)
        self._random = random.Random()  # noqa: S311 jitter, no secret
        self._slots = Slots(self._client) if self._asking.uses_shared_memory else None
        self._together = {
            network: Together(functools.partial(self._ask, network), max_rows=MAX_BATCH)
            for network in names
        }

    def infer(self, network: str, inputs: Inputs) -> Outputs:
        """Return the named outputs of ``network``.

        Raises:
            InferenceUnavailableError: The server did not answer in time, or there was no memory to
                share with it; nothing was scored.
            ModelBrokenError: It answered that the model cannot.
            ModelLoadingError: It was still loading the network when the deadline passed.
        """
        num_rows = len(next(iter(inputs.values())))
        if num_rows <= MAX_BATCH:
            if self._asking.joins_threads:
                return self._together[network].infer(inputs)
            return self._ask(network, inputs)
        deadline_s = self._deadline_s()  # (one for the call, not one for each part)
        parts = [
            self._ask(
                network, {k: v[begin : begin + MAX_BATCH] for k, v in inputs.items()}, deadline_s
            )
            for begin in range(0, num_rows, MAX_BATCH)
        ]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def close(self) -> None:
        """Free the connection and the shared memory."""
        if self._slots is not None:
            self._slots.close()
        self._client.close()

    def _deadline_s(self) -> float:
        """Return when, on the monotonic clock, a call that begins now must have ended."""
        return time.monotonic() + self._asking.deadline_s

    def _ask(self, network: str, inputs: Inputs, deadline_s: float | None = None) -> Outputs:
        breaker = self._breakers[network]
        breaker.enter()
        deadline_s = deadline_s or self._deadline_s()
        for tries_left in reversed(range(MAX_TRIES)):
            try:
                answer = self._call(network, inputs, deadline_s)
            except InferenceServerException as error:
                why = failure_of(error)
                if why == "broken":
                    breaker.succeeded()  # (the server answers)
                    raise ModelBrokenError(self._said(network, error)) from None
                if why in {"not-loaded", "not-registered"} and tries_left:
                    self._mend(network, why, breaker, deadline_s)
                    continue
                if why != "refused" or not tries_left or not self._wait(deadline_s):
                    breaker.failed()
                    raise InferenceUnavailableError(self._said(network, error)) from None
            else:
                breaker.succeeded()
                self._loading.answered(self._names[network])
                return answer
        raise AssertionError("the last try returns or raises")

    def _call(self, network: str, inputs: Inputs, deadline_s: float) -> Outputs:
        name = self._names[network]
        if self._slots is not None:
            return self._slots.infer(name, inputs, deadline_s)
        tensors: list[triton.InferInput] = []
        for key, array in inputs.items():
            kind = np_to_triton_dtype(array.dtype)
            tensors.append(triton.InferInput(key, list(array.shape), kind))
            tensors[-1].set_data_from_numpy(array)
        timeout_s = left_s(deadline_s)
        answer: Any = self._client.infer(
            name,
            tensors,
            client_timeout=timeout_s,
            timeout=round(timeout_s * 1e6),  # (what nobody waits for any more leaves the queue)
        )
        return {each.name: answer.as_numpy(each.name) for each in answer.get_response().outputs}

    def _wait(self, deadline_s: float) -> bool:
        """Return after a moment of chance; False, at once, when the deadline would pass."""
        pause_s = self._random.uniform(0, MAX_JITTER_S)
        if time.monotonic() + pause_s >= deadline_s:
            return False
        time.sleep(pause_s)
        return True

    def _mend(self, network: str, why: Failure, breaker: Breaker, deadline_s: float) -> None:
        """Load the network, or forget the shared memory, that a restarted server does not know.

        Raises:
            InferenceUnavailableError: The server is away.
            ModelBrokenError: It cannot load the network.
            ModelLoadingError: It is at it.
        """
        if why == "not-registered":
            assert self._slots is not None, "only shared memory is registered"
            self._slots.forget()
            return
        try:
            self._loading.load(self._names[network], patience_s=left_s(deadline_s))
        except (ModelBrokenError, ModelLoadingError):
            breaker.succeeded()  # (the server answers)
            raise
        except InferenceUnavailableError:
            breaker.failed()
            raise

    def _said(self, network: str, error: InferenceServerException) -> str:
        return (
            f"Triton at {self._access.address} must answer for {self._names[network]} within "
            f"{self._asking.deadline_s:g} s, but: {first_line(error)}; see `fusion triton status` "
            "and the server's log"
        )
