"""Recorded files: their readers, and a folder of them as a device."""

from connectors.recordings.folder import FolderSession
from connectors.recordings.reading import (
    Scalar,
    event_times,
    film_frames,
    find_files,
    image_frames,
    read_table,
    sound_chunks,
    telemetry_batches,
)

__all__ = [
    "FolderSession",
    "Scalar",
    "event_times",
    "film_frames",
    "find_files",
    "image_frames",
    "read_table",
    "sound_chunks",
    "telemetry_batches",
]
