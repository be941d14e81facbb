"""OPC UA servers, by asyncua."""

from connectors.opcua.browsing import Discovered, browse
from connectors.opcua.history import HistoryPatience
from connectors.opcua.session import OpcUaSession

__all__ = ["Discovered", "HistoryPatience", "OpcUaSession", "browse"]
