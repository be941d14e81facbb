"""What the predicted embedding adds to the linear base, kept only where it helps unseen rows.

The embedding expected k ticks ahead is decoded to what the base misses in the rows of that tick, by
ridge regression on a frozen model. Each tag's share of the correction is the one that least squares
gives on unseen rows, and no more than each quarter of them gives: a correction that does not help
all of the time is not kept.

Shapes: N windows, K ticks ahead, S rows of a tick, H = K S rows ahead, G tags, F features,
D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from fusion.errors import InputError

Floats = NDArray[np.floating]
FILE = "embedding_forecast.safetensors"
PENALTIES = (0.03, 0.3, 3.0, 30.0)
"""In units of the windows' number times a feature's variance."""
NUM_PARTS = 4


@dataclass(frozen=True, slots=True)
class EmbeddingForecast:
    """Decodes predicted embeddings to rows ahead, standardised."""

    mean_KF: Floats
    weights_KFO: Floats
    """O = S x G, the rows of one tick."""
    offset_KO: Floats
    share_G: Floats
    """How much of the correction is kept of each tag, 0 to 1."""
    penalty: float

    def decode(self, features_NKF: Floats) -> Floats:
        """Return the whole correction of the rows ahead, [N, H, G], before any share is taken."""
        centred_NKF = features_NKF - self.mean_KF
        rows_NKO = np.einsum("nkf,kfo->nko", centred_NKF, self.weights_KFO, optimize=True)
        return (rows_NKO + self.offset_KO).reshape(len(features_NKF), -1, len(self.share_G))

    def correction(self, features_NKF: Floats) -> Floats:
        """Return what is added to the base, [N, H, G]."""
        return self.decode(features_NKF) * self.share_G

    def save(self, folder: Path) -> None:
        """Write it into a model's folder."""
        arrays = {
            "mean": self.mean_KF,
            "weights": self.weights_KFO,
            "offset": self.offset_KO,
            "share": self.share_G,
            "penalty": np.array([self.penalty]),
        }
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> EmbeddingForecast:
        """Return the one of the model version in ``folder``.

        Raises:
            InputError: It is not there.
        """
        path = folder / FILE
        if not path.is_file():
            raise InputError(f"a model folder must hold {FILE}, {folder} does not; train it again")
        a = load_file(path)
        penalty = float(a["penalty"][0])
        return cls(a["mean"], a["weights"], a["offset"], a["share"], penalty)


def features_of(z_now_ND: Floats, z_ahead_NKD: Floats) -> Floats:
    """Return the embedding expected at each tick and the step to it from now, [N, K, 2 D]."""
    step_NKD = z_ahead_NKD - z_now_ND[:, None]
    return np.concatenate([z_ahead_NKD, step_NKD], axis=-1)


def fit_embedding_forecast(
    features_NKF: Floats,
    missed_NHG: Floats,
    unseen_features_NKF: Floats,
    unseen_missed_NHG: Floats,
) -> EmbeddingForecast:
    """Return the decoder fitted on what the base misses; penalty and shares from unseen windows.

    Windows are in the order of time. A value that is not known counts as not missed.
    """
    num_ticks, num_tags = features_NKF.shape[1], missed_NHG.shape[2]
    target_NKO = np.nan_to_num(missed_NHG).reshape(len(missed_NHG), num_ticks, -1)
    mean_KF, offset_KO = features_NKF.mean(axis=0), target_NKO.mean(axis=0)
    x_KNF = (features_NKF - mean_KF).transpose(1, 0, 2)
    y_KNO = (target_NKO - offset_KO).transpose(1, 0, 2)
    grams_KFF, products_KFO = x_KNF.swapaxes(1, 2) @ x_KNF, x_KNF.swapaxes(1, 2) @ y_KNO
    eye = np.eye(grams_KFF.shape[1])
    scale = np.trace(grams_KFF, axis1=1, axis2=2)[:, None, None] / len(eye)
    unseen_missed = np.nan_to_num(unseen_missed_NHG)
    best, least = None, np.inf
    for penalty in PENALTIES:
        weights_KFO = np.linalg.solve(grams_KFF + (penalty * scale + 1e-9) * eye, products_KFO)
        whole = EmbeddingForecast(mean_KF, weights_KFO, offset_KO, np.ones(num_tags), penalty)
        decoded_NHG = whole.decode(unseen_features_NKF)
        error = float(((unseen_missed - decoded_NHG) ** 2).mean())
        if best is None or error < least:
            share_G = kept_share(decoded_NHG, unseen_missed)
            best = EmbeddingForecast(mean_KF, weights_KFO, offset_KO, share_G, penalty)
            least = error
    assert best is not None, "there is at least one penalty"
    return best


def kept_share(correction_NHG: Floats, missed_NHG: Floats) -> Floats:
    """Return the share of each tag's correction that every quarter of the time calls for, [G].

    Example:
        >>> missed = np.array([2.0, 2.0, 2.0, -2.0]).reshape(4, 1, 1)
        >>> kept_share(0.5 * abs(missed), missed).tolist()  # does not help at the end
        [0.0]
        >>> kept_share(2 * missed, missed).tolist()
        [0.5]
    """
    shares_QG = [
        (correction * missed).sum(axis=(0, 1)) / np.maximum((correction**2).sum(axis=(0, 1)), 1e-12)
        for correction, missed in zip(
            np.array_split(correction_NHG, NUM_PARTS),
            np.array_split(missed_NHG, NUM_PARTS),
            strict=True,
        )
    ]
    return np.clip(np.min(shares_QG, axis=0), 0.0, 1.0)
