"""Window outputs to calibrated surprise, shares, evidence and forecasts."""

from fusion.scoring.calibration import Calibration, is_alone
from fusion.scoring.evidence import Evidence
from fusion.scoring.fitting import fit_calibration
from fusion.scoring.scorer import Scorer, shares_of

__all__ = ["Calibration", "Evidence", "Scorer", "fit_calibration", "is_alone", "shares_of"]
