"""Whether the live process is alive, and whether it is ready: two answers over HTTP.

*Live* is false when the loop has stopped going round, or when a partition has records to read and
none was read for a minute: a supervisor should then restart the process. *Ready* is false until
the process reads something, and while the broker is away. Restarting would not help there.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fusion.errors import SettingsError
from fusion.plant import NANOSECONDS
from fusion.ports import Clock
from fusion.stream.progress import ProgressWatch

MAX_SILENCE_S = 120.0
"""Longer than any wait for the broker or for inference that the loop makes between two beats."""


class Health:
    """What the loop last said of itself. Written by the loop, read by the server's threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._beat_ns = clock.monotonic_ns()
        self._progress = ProgressWatch()
        self._away: str | None = "not started"

    def beat(self, progress: ProgressWatch) -> None:
        """Note that the loop goes round, and where reading stands."""
        seen = ProgressWatch()
        seen.lags = dict(progress.lags)
        self._progress, self._away, self._beat_ns = seen, None, self._clock.monotonic_ns()

    def away(self, reason: str) -> None:
        """Note that the broker is away, and that the process tries again."""
        self._away, self._progress, self._beat_ns = (
            reason,
            ProgressWatch(),
            self._clock.monotonic_ns(),
        )

    def live(self) -> tuple[bool, dict[str, Any]]:
        """Return whether a restart would not help, and what was seen."""
        now_ns = self._clock.monotonic_ns()
        silence_s = (now_ns - self._beat_ns) / NANOSECONDS
        stuck = {
            f"{part.topic}/{part.partition}": {
                "lag": lag.offsets,
                "still_for_s": round((now_ns - lag.still_since_ns) / NANOSECONDS, 1),
            }
            for part, lag in self._progress.stuck(now_ns=now_ns).items()
        }
        is_live = silence_s <= MAX_SILENCE_S and not stuck
        return is_live, {"silent_for_s": round(silence_s, 1), "stuck": stuck}

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the process reads its partitions, and how far it is behind."""
        lags = {f"{p.topic}/{p.partition}": lag.offsets for p, lag in self._progress.lags.items()}
        is_ready = self._away is None and bool(lags)
        return is_ready, {"waits_for": self._away, "lag": lags}


@contextlib.contextmanager
def serve_health(health: Health, address: str) -> Iterator[str | None]:
    """Answer at ``address`` (``host:port``; nothing when it is empty), and yield where.

    Raises:
        SettingsError: The port is taken, or is not this machine's.
    """
    if not address:
        yield None
        return
    host, _, port = address.rpartition(":")
    try:
        server = http.server.ThreadingHTTPServer((host, int(port)), _handler(health))
    except OSError as taken:
        raise SettingsError(
            f"FUSION_HEALTH_ADDRESS must be free on this machine, got {address}: {taken}; "
            "give another port, or leave it empty"
        ) from taken
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    try:
        yield f"{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _handler(health: Health) -> type[http.server.BaseHTTPRequestHandler]:
    answers = {"/health/live": health.live, "/health/ready": health.ready}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in answers:
                self.send_error(HTTPStatus.NOT_FOUND, f"ask {' or '.join(answers)}")
                return
            is_well, seen = answers[self.path]()
            body = json.dumps({"ok": is_well} | seen).encode()
            self.send_response(HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the base's name
            """Say nothing: probes come every few seconds."""

    return Handler
