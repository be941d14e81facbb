"""The lake as Delta tables: one table per topic, one commit per append and topic."""

from connectors.delta_lake.copying import table_files
from connectors.delta_lake.lake import DeltaLake
from connectors.delta_lake.maintenance import DeltaUpkeep

__all__ = ["DeltaLake", "DeltaUpkeep", "table_files"]
