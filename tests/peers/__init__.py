"""The other side of each connector, for its contract suite."""
