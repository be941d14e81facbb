"""What backfills found, as one Delta table per topic prefix; each replacement is one commit.

Columns: plant, model_version, data_version, kind, number, tick, t_ns, id, surprise, body. A
partition of the table is a model version. ``number`` counts what was said inside the replaced
ticks; ``body`` is the JSON that the live process publishes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import DeltaTable, Field, Schema, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError
from deltalake.schema import PrimitiveType

from fusion.errors import LakeUnavailableError
from fusion.ports import Finding

_COLUMNS = {
    "plant": pl.String,
    "model_version": pl.String,
    "data_version": pl.String,
    "kind": pl.String,
    "number": pl.Int64,
    "tick": pl.Int64,
    "t_ns": pl.Int64,
    "id": pl.String,
    "surprise": pl.Float64,
    "body": pl.String,
}
_DELTA_TYPES = {pl.String: "string", pl.Int64: "long", pl.Float64: "double"}
_SCHEMA = Schema([Field(n, PrimitiveType(_DELTA_TYPES[kind])) for n, kind in _COLUMNS.items()])
_TABLE_PROPERTIES: dict[str, str | None] = {
    "delta.dataSkippingStatsColumns": "plant,tick,t_ns",
}


class DeltaFindings:
    """Implements :class:`fusion.ports.FindingTable` in ``folder``, of the local disk.

    Example:
        >>> import tempfile
        >>> table = DeltaFindings(tempfile.mkdtemp() + "/rig")
        >>> found = Finding("score", "e/s/a:7:v1", 7, 4_000_000_000, 0.5, b"{}")
        >>> told = {"plant": "e/s/a", "model_version": "v1"}
        >>> for _ in range(2):
        ...     table.replace([found], data_version="rig.audio@3", ticks=range(7, 8), **told)
        >>> list(table.read(**told)) == [found]
        True
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def replace(
        self,
        findings: Sequence[Finding],
        *,
        plant: str,
        model_version: str,
        data_version: str,
        ticks: range,
    ) -> None:
        """Put ``findings`` in the place of all that was kept of ``ticks``, or change nothing.

        Raises:
            LakeUnavailableError: Another writer was faster, or the disk failed; call again.
        """
        rows = [
            {
                "plant": plant,
                "model_version": model_version,
                "data_version": data_version,
                "kind": each.kind,
                "number": number,
                "tick": each.tick,
                "t_ns": each.t_ns,
                "id": each.id,
                "surprise": each.surprise,
                "body": each.body.decode(),
            }
            for number, each in enumerate(findings)
        ]
        replaced = (
            f"model_version = {_quoted(model_version)} AND plant = {_quoted(plant)} "
            f"AND tick >= {ticks.start} AND tick < {ticks.stop}"
        )
        try:
            table = DeltaTable.create(
                str(self._folder),
                _SCHEMA,
                mode="ignore",
                partition_by=["model_version"],
                configuration=_TABLE_PROPERTIES,
            )
            write_deltalake(
                table,
                pl.DataFrame(rows, schema=_COLUMNS),
                mode="overwrite",
                predicate=replaced,
                writer_properties=WriterProperties(compression="ZSTD", compression_level=1),
            )
        except (DeltaError, OSError) as failed:
            raise LakeUnavailableError(
                f"the table of findings {self._folder} must take ticks {ticks.start} to "
                f"{ticks.stop}, but the commit failed: {failed}; run the backfill again"
            ) from failed

    def read(self, *, plant: str, model_version: str) -> Iterator[Finding]:
        """Yield what is kept, in the order in which it was said.

        Raises:
            LakeUnavailableError: It cannot be read.
        """
        if not DeltaTable.is_deltatable(str(self._folder)):
            return
        wanted = (pl.col("plant") == plant) & (pl.col("model_version") == model_version)
        try:
            frame = pl.scan_delta(str(self._folder)).filter(wanted).collect()
        except (DeltaError, OSError, pl.exceptions.PolarsError) as failed:
            raise LakeUnavailableError(
                f"the table of findings {self._folder} must be readable, but: {failed}; look at "
                "the disk"
            ) from failed
        for row in frame.sort("tick", "number").iter_rows(named=True):
            yield _finding(row)


def _finding(row: dict[str, Any]) -> Finding:
    return Finding(
        row["kind"], row["id"], row["tick"], row["t_ns"], row["surprise"], row["body"].encode()
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
