"""Which files a table is made of, so that a copy of them is the table as it was."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import polars as pl
from deltalake import DeltaTable

from connectors.delta_lake.tables import must_give, open_table

LOG = "_delta_log"
_LOG_FILE = re.compile(r"(\d{20})(\.checkpoint(\.[\w.-]+)?\.parquet|\.json)")


def table_files(root: Path, name: str, *, also: Collection[int] = ()) -> tuple[int, list[str]]:
    """Return the newest version of the table ``name``, and its files, below the table's folder.

    The log ends with that version, whatever is committed meanwhile. Data files are those of the
    version and of the versions ``also``, as far as these can still be read: it is the newest one
    that must be whole.

    Raises:
        LakeUnavailableError: The table cannot be read.
    """
    table, folder = open_table(root, name), root / name
    version = table.version()
    with must_give(name):
        log = [
            f"{LOG}/{path.name}"
            for path in sorted((folder / LOG).iterdir())
            if (found := _LOG_FILE.fullmatch(path.name)) and int(found[1]) <= version
        ]
        data = set(_data(table))
        for number in sorted(set(also)):
            if number < version:
                earlier = _data(open_table(root, name, number))
                data.update(path for path in earlier if (folder / path).is_file())
    # The log last: a copy that was cut off is no table.
    return version, [*sorted(data), *log]


def _data(table: DeltaTable) -> list[str]:
    actions = pl.DataFrame(table.get_add_actions(flatten=True))
    return [] if actions.is_empty() else actions["path"].to_list()
