"""Benchmarks by their official rules: metrics, baselines of equal care, published figures."""

from fusion.evaluation.cmapss import Cmapss
from fusion.evaluation.ett import Ett
from fusion.evaluation.protocol import Protocol
from fusion.evaluation.rig import Rig
from fusion.evaluation.skab import Skab
from fusion.evaluation.smd import Smd
from fusion.evaluation.tep import Tep

_ALL: tuple[Protocol, ...] = (Cmapss(), Ett(), Rig(), Skab(), Smd(), Tep())
PROTOCOLS: dict[str, Protocol] = {each.name: each for each in _ALL}
"""What ``fusion evaluate`` offers, by name."""

__all__ = ["PROTOCOLS", "Protocol"]
