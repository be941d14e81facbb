"""What normal is for one vector: how far it may lie from its centre, and in which directions.

Distances are Mahalanobis distances of running averages (MEWMA; Lowry, Woodall, Champ & Rigdon
1992). Two things make them hold beyond the run that they are learned from:

- Averages over many ticks are few independent ones. Their covariance leans on that of the ticks
  themselves, the more so the fewer they are.
- What moved slower than half of the run was seen at most twice: a warming motor, a season. It says
  that this direction drifts, not where it ends. The covariance grows in these directions.

Shapes: N ticks, V values of the vector, D shapes of drift.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

Vectors = NDArray[np.float64]

SHRINK = 0.05
"""Weight of the diagonal: correlated ticks are fewer than they look."""
DRIFT_SHAPES = 4
"""Legendre polynomials 1 to 4 over the run: all that turns slower than twice in it."""
DRIFT_GROWTH = 27.0
"""A line that goes on for as long again as the run lasted is there ``sqrt(27)`` of its own standard
deviations from the run's mean: ``(3/2)^2 / (1/12)``."""
MIN_DEVIATION = 1e-3
"""A reading that never moved must not make every later step infinitely surprising."""


def log_distance(centred_NV: Vectors, whitener_VV: Vectors) -> Vectors:
    """Return the logarithm of each vector's distance from its centre, per dimension, [...].

    Example:
        >>> log_distance(np.array([[3.0, 3.0]]), np.eye(2)).round(3).tolist()
        [1.099]
    """
    white_NV = centred_NV @ whitener_VV.T
    return np.log(np.sqrt(np.mean(white_NV**2, axis=-1)) + 1e-6)


def limited(centred_NV: Vectors, whitener_VV: Vectors, *, most: float) -> Vectors:
    """Return the vectors, shortened until their distance is at most ``most``."""
    distance_N = np.exp(log_distance(centred_NV, whitener_VV))[..., None]
    return centred_NV * np.minimum(1.0, most / distance_N)


def fit_whitener(centred_NV: Vectors, *, weight: float = 1.0) -> Vectors:
    """Return W that makes running averages white, [V, V]; ``weight`` is that of the newest tick.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=(4_000, 3))
        >>> distance = log_distance(noise, fit_whitener(noise))
        >>> bool(abs(np.exp(2 * distance).mean() - 1) < 0.05)
        True
    """
    shapes_ND = _drift_shapes(len(centred_NV))
    drift_DV: Vectors = np.linalg.lstsq(shapes_ND, centred_NV, rcond=None)[0].astype(np.float64)
    steady_NV = centred_NV - shapes_ND @ drift_DV
    covariance_VV = _steady_covariance(steady_NV, weight)
    reach_D = DRIFT_GROWTH * _beyond_noise(drift_DV, shapes_ND, _steady_covariance(steady_NV, 1.0))
    covariance_VV += (drift_DV.T * reach_D * (shapes_ND**2).mean(axis=0)) @ drift_DV
    values_V, axes_VV = np.linalg.eigh(covariance_VV)
    floor = max(1e-9 * float(values_V.max()), 1e-12)
    return (axes_VV / np.sqrt(np.maximum(values_V, floor))).T


def running_averages(vectors_NV: Vectors, weight: float) -> Vectors:
    """Return the exponentially weighted average after each tick; before the first it is 0.

    Example:
        >>> running_averages(np.ones((3, 1)), 0.5).ravel().tolist()
        [0.5, 0.75, 0.875]
    """
    # Only who fits needs it: whoever scores starts a second earlier without.
    from scipy.signal import lfilter  # noqa: PLC0415

    return np.asarray(lfilter([weight], [1.0, weight - 1.0], vectors_NV, axis=0))


def _drift_shapes(num_ticks: int) -> Vectors:
    """Return the slow shapes, centred, [N, D]."""
    time_N = np.linspace(-1.0, 1.0, num_ticks)
    shapes_ND = legendre.legvander(time_N, DRIFT_SHAPES)[:, 1:]
    return shapes_ND - shapes_ND.mean(axis=0)


def _beyond_noise(drift_DV: Vectors, shapes_ND: Vectors, ticks_VV: Vectors) -> Vectors:
    """Return the part of each drift that noise does not explain, 0 to 1.

    A shrinkage like that of James & Stein (1961), by what noise reaches one time in twenty.
    """
    size = drift_DV.shape[1]
    squared_D = (drift_DV * np.linalg.solve(ticks_VV, drift_DV.T).T).sum(axis=1)
    # Noise gives a chi-squared variable, here by its mean and twice its standard deviation.
    of_noise_D = (size + 2 * np.sqrt(2 * size)) / (shapes_ND**2).sum(axis=0)
    return np.maximum(0.0, 1 - of_noise_D / np.maximum(squared_D, 1e-300))


def _steady_covariance(steady_NV: Vectors, weight: float) -> Vectors:
    """Return the covariance of averages of ``steady_NV``, well enough known to be inverted."""
    num_ticks, size = steady_NV.shape
    ticks_VV = np.atleast_2d(np.cov(steady_NV, rowvar=False))
    if weight < 1:
        averages_VV = np.atleast_2d(np.cov(running_averages(steady_NV, weight), rowvar=False))
        # So many independent averages are in the run (Lowry et al. 1992, equation 6).
        known = num_ticks * weight / (2 - weight)
        share = known / (known + size)
        alike_VV = ticks_VV * (np.trace(averages_VV) / max(float(np.trace(ticks_VV)), 1e-12))
        ticks_VV = share * averages_VV + (1 - share) * alike_VV
    diagonal_V = np.diag(ticks_VV).copy()
    diagonal_V = np.maximum(diagonal_V, MIN_DEVIATION * max(float(diagonal_V.mean()), 1e-6))
    shrunk_VV = (1 - SHRINK) * ticks_VV
    shrunk_VV[np.diag_indices_from(shrunk_VV)] = diagonal_V
    return shrunk_VV
