"""Pictures of what Prefect's own pages show of a plant's retrainings, as a browser draws them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from benchmarks.loop.services import Place

WIDTH_PX, HEIGHT_PX = 1280, 900
PATIENCE_MS = 60_000
SHOWN = {"quality": "rule", "evaluation": "figure", "gate": "rule", "plot": ""}
"""Artifacts of a retraining, and a word that their page must show."""


def take_pictures(place: Place, folder: Path) -> None:
    """Write a picture of the page of each artifact of the plant, the newest of its kind."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix = place.plant_file.stem
    with place.client() as client:
        found = {each.key: each.id for each in client.read_artifacts() if each.key}
    with sync_playwright() as driver:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        page = browser.new_page(viewport={"width": WIDTH_PX, "height": HEIGHT_PX})
        page.set_default_timeout(PATIENCE_MS)
        for name, word in SHOWN.items():
            at = place.api_url.removesuffix("/api")
            page.goto(f"{at}/artifacts/artifact/{found[f'{prefix}-{name}']}")
            expect(page.get_by_text(word).first).to_be_visible(timeout=PATIENCE_MS)
            page.wait_for_load_state("networkidle")  # (the names of runs come last)
            page.screenshot(path=folder / f"prefect-{name}.png")
        browser.close()
