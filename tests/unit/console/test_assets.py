"""Everything that pages load comes from the console, and is what its makers released."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from console.assets import FOLDER, load_assets, read_manifest
from console.rendering import FOLDER as TEMPLATES


def test_vendored_files_are_as_released() -> None:
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (FOLDER / "vendor").iterdir()
    }
    assert found == read_manifest()


def test_browsers_check_what_is_on_the_disk() -> None:
    for name, asset in load_assets().items():
        digest = hashlib.sha384((FOLDER / name).read_bytes()).digest()
        assert asset.integrity == f"sha384-{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize("template", sorted(TEMPLATES.glob("*.j2")), ids=lambda p: p.name)
def test_templates_have_nothing_that_the_policy_forbids(template: object) -> None:
    text = template.read_text()  # type: ignore[attr-defined]
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:|hx-on", text)
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)
    for tag in re.findall(r"<(?:script|link rel=\"stylesheet\")[^>]*>", text):
        assert "integrity=" in tag
    assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", text)
    assert "| safe" not in text.replace("{% for row in rows %}{{ row | safe }}", "")


def test_scripts_name_no_other_host() -> None:
    for script in FOLDER.glob("*.js"):
        assert "://" not in script.read_text()
