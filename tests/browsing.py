"""Somebody in front of Debian's Chromium, and a Kafka that can be killed under them."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import KAFKA_SCRIPT, free_port, run_kafka

PATIENCE_MS = 60_000
CHROMIUM = shutil.which("chromium") or ""


@dataclass
class Kafka:
    """A broker that can be killed and comes back with its data."""

    environment: dict[str, str]

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.environment['KAFKA_PORT']}"

    def kill(self) -> None:
        run_kafka(KAFKA_SCRIPT, "kill", environment=self.environment)

    def start(self) -> None:
        run_kafka(KAFKA_SCRIPT, "start", environment=self.environment)


@contextlib.contextmanager
def own_kafka(folder: Path) -> Iterator[Kafka]:
    """Yield a broker on free ports that nobody else uses."""
    broker = Kafka(
        {
            "KAFKA_PORT": str(free_port()),
            "KAFKA_CONTROLLER_PORT": str(free_port()),
            "KAFKA_DATA": str(folder),
        }
    )
    broker.start()
    try:
        yield broker
    finally:
        run_kafka(KAFKA_SCRIPT, "stop", environment=broker.environment)


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Yield a browser that finds no host but this machine."""
    with sync_playwright() as driver:
        arguments = [
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--autoplay-policy=no-user-gesture-required",
        ]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")  # (Chromium's does not work for root)
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@dataclass
class Seat:
    """Somebody in front of a browser."""

    page: Page
    base: str
    requests: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])

    def go(self, path: str) -> None:
        self.page.goto(self.base + path)

    def shows(self, selector: str, text: str) -> None:
        expect(self.page.locator(selector)).to_contain_text(text, timeout=PATIENCE_MS)

    def log_in(self, name: str, password: str) -> None:
        self.go("/login")
        self.page.fill("[name=name]", name)
        self.page.fill("[name=password]", password)
        self.page.click("button.main")
        self.page.wait_for_url(self.base + "/")

    def faults(self) -> list[str]:
        """Return what is seriously wrong with the page as it is: axe's findings, overflow."""
        overflow = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        found = [
            f"{each['id']}: {[node['html'][:120] for node in each['nodes']][:3]}"
            for each in Axe().run(self.page).response["violations"]
            if each["impact"] in {"serious", "critical"}
        ]
        return [*found, *([f"scrolls sideways by {overflow} px"] if overflow > 0 else [])]


Sit = Callable[[str], Seat]


@contextlib.contextmanager
def seats(browser: Browser, base: str, password: str) -> Iterator[Sit]:
    """Yield what seats a person; at the end no page may have failed, or asked another host."""
    taken: list[Seat] = []

    def take(name: str) -> Seat:
        context = browser.new_context(reduced_motion="reduce")
        seat = Seat(context.new_page(), base)
        seat.page.on("request", lambda request: seat.requests.append(request.url))
        seat.page.on("pageerror", lambda error: seat.errors.append(str(error)))
        seat.page.on(
            "console",
            lambda m: seat.errors.append(m.text) if "Security Policy" in m.text else None,
        )
        taken.append(seat)
        seat.log_in(name, password)
        return seat

    try:
        yield take
        for seat in taken:
            assert seat.errors == []
            assert [u for u in seat.requests if not u.startswith((base + "/", "data:"))] == []
    finally:
        for seat in taken:
            seat.page.context.close()
