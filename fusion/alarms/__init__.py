"""Findings to alarms: conditions with delays, acknowledgement, transitions."""

from fusion.alarms.engine import AlarmEngine

__all__ = ["AlarmEngine"]
