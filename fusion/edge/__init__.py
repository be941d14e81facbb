"""Reading the devices of a plant: everything that is the same for every protocol."""

from fusion.edge.running import DeviceRun, Positions, State

__all__ = ["DeviceRun", "Positions", "State"]
