"""What-if: what a plant would do under other set-points, and which would serve a goal better."""

from fusion.planning.goal import Goal, Term, parse_goal
from fusion.planning.outlook import Outlook, PlanReader
from fusion.planning.space import SetpointSpace
from fusion.planning.what_if import Candidate, Confidence, Search, what_if

__all__ = [
    "Candidate",
    "Confidence",
    "Goal",
    "Outlook",
    "PlanReader",
    "Search",
    "SetpointSpace",
    "Term",
    "parse_goal",
    "what_if",
]
