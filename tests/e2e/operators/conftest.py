"""The one run that all tests here share, and seats in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browsing import CHROMIUM, Sit, open_browser, seats
from tests.conftest import IS_CI
from tests.e2e.operators.stack import PASSWORD, Stack, running_stack


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if not CHROMIUM and not IS_CI:
        pytest.skip("needs Debian's chromium (deploy/prepare-tests.sh)")
    with open_browser() as chromium:
        yield chromium


@pytest.fixture(scope="package")
def stack(
    browser: Browser, model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack"), model_dir) as running:
        running.hire(browser)
        yield running


@pytest.fixture
def sit(browser: Browser, stack: Stack) -> Iterator[Sit]:
    with seats(browser, stack.base, PASSWORD) as take:
        yield take
