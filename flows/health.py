"""Whether a process is alive, whether it is ready, and its metrics: three answers over HTTP.

*Live* is false when the loop has stopped going round, or when a partition has records to read and
none was read for a minute: a supervisor should then restart the process. *Ready* is false until
the process belongs to its group, while the broker or inference is away, and while records come but
no tick closes. Restarting would not help there.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from fusion.errors import SettingsError
from fusion.plant import NANOSECONDS
from fusion.ports import Clock
from fusion.stream.progress import ProgressWatch
from fusion.stream.standstill import Standstill

if TYPE_CHECKING:
    from fusion.stream.figures import LiveFigures

MAX_SILENCE_S = 120.0
"""Longer than any wait for the broker or for inference that the loop makes between two beats."""


Answer = tuple[bool, dict[str, Any]]
"""Whether all is well, and what was seen."""


class Answers(Protocol):
    """What a long-running process can say of itself. Asked by threads of the server."""

    def live(self) -> Answer:
        """Return whether a restart would not help, and what was seen."""
        ...

    def ready(self) -> Answer:
        """Return whether it does its work, and what was seen."""
        ...


class Health:
    """What the live loop last said of itself. Written by it, read by the server's threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._beat_ns = clock.monotonic_ns()
        self._progress = ProgressWatch()
        self._away: str | None = "not started"
        self._standstill = Standstill()

    def beat(self, progress: ProgressWatch) -> None:
        """Note that the loop goes round, and where reading stands."""
        seen = ProgressWatch()
        seen.lags, seen.lost = dict(progress.lags), dict(progress.lost)
        seen.has_joined = progress.has_joined
        self._progress, self._away = seen, progress.waits_for
        self._beat_ns = self._clock.monotonic_ns()

    def figures(self, figures: LiveFigures) -> None:
        """Note how the plants do."""
        self._standstill.see(figures)

    def away(self, reason: str) -> None:
        """Note that the broker is away, and that the process tries again."""
        self._away, self._progress, self._beat_ns = (
            reason,
            ProgressWatch(),
            self._clock.monotonic_ns(),
        )

    def live(self) -> Answer:
        """Return whether a restart would not help, and what was seen."""
        now_ns = self._clock.monotonic_ns()
        silence_s = (now_ns - self._beat_ns) / NANOSECONDS
        stuck = {
            f"{part.topic}/{part.partition}": {
                "lag": lag.offsets,
                "still_for_s": round((now_ns - lag.still_since_ns) / NANOSECONDS, 1),
            }
            # Who waits for inference goes round, and reads on when it is back: nothing is stuck.
            for part, lag in (
                self._progress.stuck(now_ns=now_ns) if self._away is None else {}
            ).items()
        }
        is_live = silence_s <= MAX_SILENCE_S and not stuck
        return is_live, {"silent_for_s": round(silence_s, 1), "stuck": stuck}

    def ready(self) -> Answer:
        """Return whether the process reads its partitions, how far it is behind, what it lost.

        A member of a group that has more members than partitions has none, and is ready for one.
        """
        lags = {f"{p.topic}/{p.partition}": lag.offsets for p, lag in self._progress.lags.items()}
        lost = {f"{p.topic}/{p.partition}": n for p, n in self._progress.lost.items()}
        still_s = self._standstill.stuck_s()
        is_ready = self._away is None and self._progress.has_joined and not still_s
        seen = {"waits_for": self._away, "lag": lags, "lost": lost}
        return is_ready, seen | {"no_tick_closes_for_s": still_s}


@contextlib.contextmanager
def serve_health(
    health: Answers, address: str, registry: CollectorRegistry | None = None
) -> Iterator[str | None]:
    """Answer at ``address`` (``host:port``; nothing when it is empty), and yield where.

    With ``registry`` its metrics are at ``/metrics``. Whoever can reach the address can read them:
    they tell names of plants and streams, no values and no secrets.

    Raises:
        SettingsError: The port is taken, or is not this machine's.
    """
    if not address:
        yield None
        return
    host, _, port = address.rpartition(":")
    try:
        server = http.server.ThreadingHTTPServer((host, int(port)), _handler(health, registry))
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


def _handler(
    health: Answers, registry: CollectorRegistry | None
) -> type[http.server.BaseHTTPRequestHandler]:
    answers = {"/health/live": health.live, "/health/ready": health.ready}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics" and registry is not None:
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(HTTPStatus.OK, content_type, encode(registry))
            elif path in answers:
                is_well, seen = answers[path]()
                status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
                body = json.dumps({"ok": is_well} | seen).encode()
                self._answer(status, "application/json", body)
            else:
                self.send_error(HTTPStatus.NOT_FOUND, f"ask {' or '.join(answers)}")

        def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the base's name
            """Say nothing: probes come every few seconds."""

    return Handler
