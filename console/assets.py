"""The files that pages load, each with the hash that browsers check it against.

Libraries in ``static/vendor`` are as their makers released them; ``vendor.sha256`` holds what they
must be. Everything is served by the console itself: a plant's network needs no other.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "static"
MANIFEST = FOLDER / "vendor.sha256"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file under ``/static``."""

    url: str
    integrity: str
    """Its SHA-384 as Subresource Integrity writes it (W3C SRI, section 3.1)."""


def load_assets() -> dict[str, Asset]:
    """Return every file by its path below ``static``; each version has a URL of its own."""
    assets: dict[str, Asset] = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file():
            content, name = path.read_bytes(), path.relative_to(FOLDER).as_posix()
            digest = base64.b64encode(hashlib.sha384(content).digest()).decode()
            version = hashlib.sha256(content).hexdigest()[:12]
            assets[name] = Asset(f"/static/{name}?v={version}", f"sha384-{digest}")
    return assets


def read_manifest() -> dict[str, str]:
    """Return the SHA-256 (hex) that each vendored file must have, by its name."""
    lines = MANIFEST.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}
