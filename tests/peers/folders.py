"""Folders of files that grow by one file for each value said."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import numpy as np
import polars as pl
import soundfile

from connectors.recordings import FolderSession
from fusion.plant.devices import Device, FilmFilesDevice, SoundFilesDevice, TableFilesDevice
from tests.peers.peer import CAMERA, CLOCK, MICROPHONE, TELEMETRY, plant_with


class FolderPeer:
    """A watched folder; each value is one file, written aside and renamed into it."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder = folder / "shared"
        self._hidden = folder / "away"
        self._kind = kind
        self.ahead_s = 0.0
        self._numbers = itertools.count()
        files = {"name": "files", "folder": str(self._folder), "watch": True, "settle_s": 0}
        files["patterns"] = [f"*.{kind}"]
        timed = {"name_time_format": "%Y%m%dT%H%M%S.%f"}
        if kind in {"csv", "parquet"}:
            column = {"stream": "process", "tag": "level", "column": "level"}
            table = {"protocol": "table-files", "time_column": "time", "columns": [column]}
            self.plant = plant_with(TELEMETRY, [files | table])
        elif kind in {"wav", "flac"}:
            sound = {"protocol": "sound-files", "stream": "microphone", "chunk_s": 0.1}
            self.plant = plant_with(MICROPHONE, [files | sound | timed])
        else:
            film = {"protocol": "film-files", "stream": "camera"}
            self.plant = plant_with(CAMERA, [files | film | timed])
        self.device: Device = self.plant.devices[0]

    def open(self, position: str | None = None) -> FolderSession:
        assert isinstance(self.device, TableFilesDevice | SoundFilesDevice | FilmFilesDevice)
        return FolderSession(self.plant, self.device, position, clock=CLOCK)

    def start(self) -> None:
        if self._hidden.exists():
            self._hidden.rename(self._folder)
        self._folder.mkdir(exist_ok=True)

    def stop(self) -> None:
        if self._folder.exists():
            self._folder.rename(self._hidden)

    def say(self, value: float) -> None:
        written = datetime.fromtimestamp(time.time(), UTC)
        now = written + timedelta(seconds=self.ahead_s)
        name = written.strftime("%Y%m%dT%H%M%S.%f")
        fresh = self._folder.parent / f"{name}.{self._kind}"
        if self._kind == "csv":
            pl.DataFrame({"time": [now], "level": [value]}).write_csv(fresh)
        elif self._kind == "parquet":
            pl.DataFrame({"time": [now], "level": [value]}).write_parquet(fresh)
        elif self._kind in {"wav", "flac"}:
            soundfile.write(fresh, np.full(1_600, value / 100), 16_000)
        else:
            _write_film(fresh, value)
        fresh.rename(self._folder / fresh.name)


def _write_film(path: Path, value: float) -> None:
    with av.open(path, "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        pixels_HW3 = np.full((48, 64, 3), round(value * 2.55), np.uint8)
        frame = av.VideoFrame.from_ndarray(pixels_HW3, format="rgb24")
        film.mux(stream.encode(frame))
        film.mux(stream.encode())
