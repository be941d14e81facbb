"""Pictures of every page of the console at a desk, on a wall and on a phone, for the guide.

    python -m tests.e2e.operators.pictures MODEL FOLDER

MODEL is a model version of the rig (``fusion train``), FOLDER where the PNG files go.
"""

from __future__ import annotations

import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, expect

from tests.browsing import PATIENCE_MS, Seat, open_browser
from tests.e2e.operators.stack import PASSWORD, Stack, running_stack, wait_for_alarm

WIDTHS = {"desk": (1_440, 900), "wall": (3_840, 2_160), "phone": (390, 844)}
"""A wall is read from 3 metres: there the page is as large as the screen allows."""
MAX_WIDTH, MAX_HEIGHT, MAX_BYTES, NUM_COLOURS = 1_440, 2_600, 190_000, 128
PAGES = {
    "overview": "/",
    "alarms": "/alarms",
    "alarm": "ALARM",
    "asset": "ASSET",
    "journal": "/journal",
    "figures": "/kpi",
    "streams": "/streams",
    "models": "/models",
    "access": "/access",
    "account": "/account",
}


def take(browser: Browser, stack: Stack, folder: Path) -> None:
    """Write a picture of every page at every width into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(reduced_motion="reduce")
    seat = Seat(context.new_page(), stack.base)
    for name, (width, height) in WIDTHS.items():
        seat.page.set_viewport_size({"width": width, "height": height})
        seat.go("/login")
        _shoot(seat, folder / f"login-{name}.png", is_whole=False)
    seat.log_in("ada", PASSWORD)
    wait_for_alarm(seat, stack)
    seat.page.wait_for_timeout(6_000)
    for name, (width, height) in WIDTHS.items():
        seat.page.set_viewport_size({"width": width, "height": height})
        for page, path in PAGES.items():
            seat.go({"ALARM": stack.alarm, "ASSET": stack.asset}.get(path, path))
            seat.shows("#counts", "unacknowledged")
            _settle(seat, page, stack)
            _shoot(seat, folder / f"{page}-{name}.png", is_whole=name != "wall")
    context.close()


def _settle(seat: Seat, page: str, stack: Stack) -> None:
    """Wait until everything on the page is there."""
    if page == "alarm":
        film = seat.page.locator("#evidence video")
        expect(film).to_be_visible(timeout=PATIENCE_MS)
        stack.until("the film is there", lambda: film.evaluate("each => each.readyState") > 1)
        film.evaluate("each => { each.currentTime = 9; }")
        seat.page.fill("[name=level_setpoint]", "0.6")
        seat.page.click("button:has-text('Compare')")
        seat.shows("#what-if", "no change")
    if page == "asset":
        newest = seat.page.locator("[data-tag=motor_current] [data-newest]")
        expect(newest).not_to_have_text("–", timeout=PATIENCE_MS)
    seat.page.wait_for_timeout(500)


def _shoot(seat: Seat, path: Path, *, is_whole: bool) -> None:
    seat.page.evaluate("scrollTo(0, 0)")
    seat.page.wait_for_timeout(200)
    shot = Image.open(BytesIO(seat.page.screenshot(full_page=is_whole))).convert("RGB")
    shot = shot.crop((0, 0, shot.width, min(shot.height, MAX_HEIGHT)))
    if shot.width > MAX_WIDTH:
        size = (MAX_WIDTH, round(shot.height * MAX_WIDTH / shot.width))
        shot = shot.resize(size, Image.Resampling.LANCZOS)
    # Fewer colours would take the red first, and it says the most: rather less of a long page.
    for height in range(shot.height, 0, -200):
        part = shot.crop((0, 0, shot.width, height))
        part.quantize(NUM_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size <= MAX_BYTES:
            return


def main() -> None:
    """Make the stack, and take the pictures."""
    model, folder = Path(sys.argv[1]), Path(sys.argv[2])
    with (
        tempfile.TemporaryDirectory() as place,
        open_browser() as browser,
        running_stack(Path(place), model) as stack,
    ):
        stack.hire(browser)
        take(browser, stack, folder)


if __name__ == "__main__":
    main()
