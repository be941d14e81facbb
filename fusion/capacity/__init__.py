"""What a fleet of plants needs, by arithmetic on measured unit costs."""

from fusion.capacity.costs import UNIT_COSTS, UnitCost
from fusion.capacity.load import PlantLoad, load_of
from fusion.capacity.plan import CapacityPlan, Row, Sizing, plan_capacity

__all__ = [
    "UNIT_COSTS",
    "CapacityPlan",
    "PlantLoad",
    "Row",
    "Sizing",
    "UnitCost",
    "load_of",
    "plan_capacity",
]
