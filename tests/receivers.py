"""Who hears of alarms: a real HTTP server that keeps what was posted, and a real SMTP server."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import IS_CI, free_port


class Receiver(ThreadingHTTPServer):
    """Keeps what was posted; answers what ``status`` says."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.status = 204

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?token=hidden"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        receiver = self.server
        assert isinstance(receiver, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        receiver.posts.append((dict(self.headers), body))
        self.send_response(receiver.status)
        if receiver.status == 302:
            self.send_header("Location", receiver.url)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 its own name
        """Nothing to say."""


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """Yield a receiver that listens."""
    with Receiver(port) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def mail_server(folder: Path, port: int | None = None) -> Iterator[int]:
    """Debian's aiosmtpd in a process of its own, which keeps mail as files."""
    if not Path("/usr/lib/python3/dist-packages/aiosmtpd").is_dir():
        assert not IS_CI, "deploy/prepare-tests.sh installs Debian's python3-aiosmtpd"
        pytest.skip("mail needs Debian's package python3-aiosmtpd")
    port = port or free_port()
    handler = ["-c", "aiosmtpd.handlers.Mailbox", str(folder)]
    command = ["/usr/bin/python3", "-m", "aiosmtpd", "-n", "-l", f"127.0.0.1:{port}", *handler]
    process = subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(timeout=10)
