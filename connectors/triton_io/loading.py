"""Loading and unloading networks: a load runs beside the calls, which keep their deadlines."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from connectors.triton_io.access import TritonAccess
from connectors.triton_io.failures import failure_of, first_line
from fusion.errors import InferenceUnavailableError, ModelBrokenError, ModelLoadingError

LOAD_DEADLINE_S = 20.0
UNLOAD_DEADLINE_S = 3.0
"""For one network, where a stream waits for it: a server that hangs is only told."""


class Loading:
    """Loads what a client misses, each network once at a time. For several threads."""

    def __init__(self, access: TritonAccess) -> None:
        self._access = access
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[None]] = {}
        self._missed_since_s: dict[str, float] = {}

    def load(self, name: str, *, patience_s: float) -> None:
        """Return when the server has ``name`` loaded.

        Raises:
            ModelLoadingError: Not within ``patience_s``; loading goes on.
            InferenceUnavailableError: The server is away, or takes longer than any network may.
            ModelBrokenError: It cannot load it.
        """
        with self._lock:
            since_s = self._missed_since_s.setdefault(name, time.monotonic())
            loads = self._under_way.get(name) or self._begin(name)
        try:
            loads.result(timeout=patience_s)
        except TimeoutError:
            problem = f"Triton must load {name}, and has been at it for"
            took_s = time.monotonic() - since_s
            if took_s > LOAD_DEADLINE_S:
                raise InferenceUnavailableError(
                    f"{problem} {took_s:.0f} s, where {LOAD_DEADLINE_S:g} s may pass; look at the "
                    "server's log"
                ) from None
            raise ModelLoadingError(f"{problem} {took_s:.1f} s; it is asked again") from None
        finally:
            if loads.done():
                self._end(name, loads)

    def answered(self, name: str) -> None:
        """Note that the network called ``name`` has answered: trying to load it is over.

        A load that was given up here may have ended well on the server; the next one, perhaps
        after days, must not count from then on.
        """
        with self._lock:
            self._missed_since_s.pop(name, None)
            loads = self._under_way.get(name)
            if loads is not None and loads.done():
                del self._under_way[name]

    def _begin(self, name: str) -> Future[None]:
        loads = self._under_way[name] = Future()
        # A daemon: a server that hangs must not keep this process from ending.
        threading.Thread(target=self._run, args=(name, loads), daemon=True).start()
        return loads

    def _run(self, name: str, loads: Future[None]) -> None:
        try:
            with contextlib.closing(self._access.open()) as client:
                load_model(client, name)
        except BaseException as error:  # noqa: BLE001 whoever waits raises it
            loads.set_exception(error)
        else:
            loads.set_result(None)

    def _end(self, name: str, loads: Future[None]) -> None:
        """Forget a load that has told how it ended: the next one begins anew."""
        with self._lock:
            if self._under_way.get(name) is loads:
                del self._under_way[name]
            since_s = self._missed_since_s.get(name, math.inf)
            # What failed for being late goes on being late with the next try.
            if loads.exception() is None or time.monotonic() - since_s < LOAD_DEADLINE_S:
                self._missed_since_s.pop(name, None)


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
        if failure_of(error) in {"refused", "late"}:
            raise InferenceUnavailableError(
                f"Triton must load {name}, but: {first_line(error)}; it is asked again"
            ) from None
        raise ModelBrokenError(
            f"Triton must be able to load {name}, but: {first_line(error)}; export the model "
            "again (`fusion export`), and look at the server's log"
        ) from None


def unload_models(
    access: TritonAccess, names: Iterable[str], *, deadline_s: float = LOAD_DEADLINE_S
) -> None:
    """Free what the server holds of ``names``, or keeps of a try to load them.

    Each is tried, for ``deadline_s``, whatever became of the others.

    Raises:
        InferenceUnavailableError: The server did not say of each that it is freed.
    """
    failed: list[str] = []
    with contextlib.closing(access.open()) as client:
        for name in names:
            try:
                client.unload_model(name, client_timeout=deadline_s)
            except InferenceServerException as error:
                failed.append(f"{name}: {first_line(error)}")
    if failed:
        raise InferenceUnavailableError(
            f"Triton at {access.address} must unload models within {deadline_s:g} s each, but: "
            f"{'; '.join(failed)}; look at the server's log, or restart it to free them"
        )
