"""One Prefect API for a run that works in several processes."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import wiring
from fusion.errors import InputError
from fusion.plant import NANOSECONDS

START_S, STOP_S, LOOK_S = 120, 10, 0.2
_COMMAND = ("-m", "prefect", "server", "start", "--no-ui", "--analytics-off")


@contextlib.contextmanager
def one_server(*, has_schedules: bool = False) -> Iterator[str]:
    """Let this process and its workers speak to one Prefect API; yield its address.

    It is the configured one, if any, else one of our own; with ``has_schedules`` that starts flows
    when their time has come.

    Without it each worker would start an ephemeral server of its own, and leave it running behind
    it. The server is out of Ctrl-C's reach: who is stopped must still be able to say so.

    Raises:
        InputError: The server does not start.
    """
    if configured := PREFECT_API_URL.value():
        yield configured
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    services = () if has_schedules else ("--no-services",)
    options = (*services, "--host", "127.0.0.1", "--port", str(port), "--log-level", "ERROR")
    server = subprocess.Popen(
        [sys.executable, *_COMMAND, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}/api"
    try:
        _wait(url, server)
        with temporary_settings({PREFECT_API_URL: url}):
            yield url
    finally:
        server.terminate()
        try:
            server.wait(STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    """Return once the server answers."""
    clock = wiring.open_clock()
    deadline_ns = clock.monotonic_ns() + START_S * NANOSECONDS
    while server.poll() is None and clock.monotonic_ns() < deadline_ns:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"{url}/health", timeout=LOOK_S * 10).close()  # noqa: S310 ours
            return
        clock.sleep(LOOK_S)
    raise InputError(
        f"Prefect's server must answer within {START_S} s, but it "
        + ("does not" if server.poll() is None else f"ended with status {server.returncode}")
        + "; start one yourself (`prefect server start`) and set PREFECT_API_URL to see why"
    )
