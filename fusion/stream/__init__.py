"""The live chain: records to alarms, every record accounted for."""
