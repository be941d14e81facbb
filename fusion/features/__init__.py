"""Ticks to what the networks read: log-mel spectra, pictures, standardised tags."""

from fusion.features.extraction import (
    Normaliser,
    TickFeatures,
    extract,
    fit_normaliser,
    held,
    log_mel,
    shrink,
)
from fusion.features.layout import Layout, StreamLayout, layout_of

__all__ = [
    "Layout",
    "Normaliser",
    "StreamLayout",
    "TickFeatures",
    "extract",
    "fit_normaliser",
    "held",
    "layout_of",
    "log_mel",
    "shrink",
]
