"""What a backfill keeps on disk until it is done: shard plans, and the evidence of finished shards.

::

    <data folder>/backfill/<prefix>/<plan>/shards/00000.json.gz ... complete.json
                                          /<model>/00000/00000.parquet ...

``<plan>`` names the records and how they were cut, ``<model>`` the model as well; both name the
code. Every file appears whole or not at all, so that a run which was stopped anywhere goes on with
what is finished.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import polars as pl

from fusion.errors import InputError
from fusion.scoring import Evidence
from fusion.stream.shard_plan import ShardPlan
from fusion.training.package import new_folder

FORMAT = 1
"""Raised when what lies in these files changes its meaning."""
TICKS_PER_FILE = 4096
_EVIDENCE = {"said": pl.String, "vectors": pl.Binary}
_COMPLETE = "complete.json"


def name_of(*parts: object) -> str:
    """Return a short name that equal ``parts`` share and others do not."""
    said = json.dumps([FORMAT, *(str(part) for part in parts)])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def digest_of(model_dir: Path) -> str:
    """Return a name for the content of a model's folder."""
    files = sorted(path for path in model_dir.iterdir() if path.is_file())
    return name_of(*(f"{f.name} {hashlib.sha256(f.read_bytes()).hexdigest()}" for f in files))


@contextlib.contextmanager
def only_here(folder: Path) -> Iterator[None]:
    """Keep other processes out of ``folder``, and remove what killed ones left half written.

    Raises:
        InputError: Another process works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as taken:
            raise InputError(
                f"one backfill of the same records and shards at a time may run, but another "
                f"process has {folder}; wait until it has ended"
            ) from taken
        for left in folder.rglob(".*.part"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield


def save_plan(shard: ShardPlan, folder: Path) -> Path:
    """Write ``shard`` into ``folder`` and return its file."""
    path = folder / f"{shard.number:05}.json.gz"
    _write(path, gzip.compress(shard.model_dump_json().encode(), compresslevel=3, mtime=0))
    return path


def load_plan(path: Path) -> ShardPlan:
    """Return the shard that :func:`save_plan` wrote."""
    return ShardPlan.model_validate_json(gzip.decompress(path.read_bytes()))


def complete_plan(folder: Path, num_shards: int) -> None:
    """Note that ``folder`` holds all shards of its plan."""
    _write(folder / _COMPLETE, json.dumps({"num_shards": num_shards}).encode())


def planned(folder: Path) -> list[Path] | None:
    """Return the files of a complete plan; None when there is none."""
    noted = folder / _COMPLETE
    if not noted.is_file():
        return None
    num_shards = json.loads(noted.read_bytes())["num_shards"]
    return [folder / f"{number:05}.json.gz" for number in range(num_shards)]


def save_evidence(evidence: Iterable[Evidence], folder: Path) -> int:
    """Write ``evidence`` as the new ``folder`` and return of how many ticks it is."""
    num_ticks = 0
    rows = (each.pack() for each in evidence)
    with new_folder(folder) as beside:
        while part := list(islice(rows, TICKS_PER_FILE)):
            frame = pl.DataFrame(part, schema=_EVIDENCE, orient="row")
            path = beside / f"{num_ticks // TICKS_PER_FILE:05}.parquet"
            frame.write_parquet(path, compression="zstd", compression_level=1)
            num_ticks += len(part)
    return num_ticks


def load_evidence(folder: Path) -> Iterator[Evidence]:
    """Yield what :func:`save_evidence` wrote."""
    for path in sorted(folder.glob("*.parquet")):
        for said, vectors in pl.read_parquet(path).iter_rows():
            yield Evidence.unpack(said, vectors)


def num_windows_in(folder: Path) -> int:
    """Return of how many ticks :func:`save_evidence` wrote there."""
    paths = sorted(folder.glob("*.parquet"))
    return sum(int(pl.scan_parquet(path).select(pl.len()).collect().item()) for path in paths)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.parent / f".{path.name}.{os.getpid()}.part"
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
