"""Plant files on disk."""

from __future__ import annotations

from pathlib import Path

from fusion.errors import PlantError
from fusion.plant import Plant, parse_plant


def load_plant(path: Path) -> Plant:
    """Return the plant that the file at ``path`` describes.

    Raises:
        PlantError: The file cannot be read, or breaks rules; the message lists each.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as unreadable:
        raise PlantError(
            f"a plant file must be readable UTF-8 text; {path}: {unreadable}; "
            "give the path of a plant file such as plants/rig.yaml"
        ) from unreadable
    return parse_plant(text, origin=str(path))
