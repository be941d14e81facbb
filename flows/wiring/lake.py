"""The lake."""

from __future__ import annotations

from connectors.delta_findings import DeltaFindings
from connectors.delta_lake import DeltaLake, DeltaUpkeep
from flows.settings import Settings
from fusion.plant import Plant
from fusion.ports import FindingTable, Lake
from fusion.upkeep import LakeUpkeep


def open_lake(settings: Settings) -> Lake:
    """Return the lake of raw records."""
    return DeltaLake(settings.lake_uri)


def open_findings(settings: Settings, plant: Plant) -> FindingTable:
    """Return the table of what backfills found."""
    return DeltaFindings(settings.findings_uri(plant.prefix))


def open_lake_upkeep(settings: Settings) -> LakeUpkeep:
    """Return what looks after the lake."""
    return DeltaUpkeep(settings.lake_uri)
