"""The linear base against an obvious oracle, and what the embedding may add."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from fusion.errors import InputError, RecipeError
from fusion.scoring.embedding_forecast import features_of, fit_embedding_forecast, kept_share
from fusion.scoring.forecaster import Forecaster
from fusion.scoring.linear_forecast import PENALTIES, fit_linear_forecast


def waves(num_rows: int, seed: int = 0) -> np.ndarray:
    """Two tags: a wave, and a slower one on a drift; with some noise."""
    draw = np.random.default_rng(seed)
    at = np.arange(num_rows)
    rows = np.column_stack([np.sin(at / 4), np.sin(at / 9) + at / num_rows])
    return rows + draw.normal(scale=0.05, size=rows.shape)


def test_the_fit_is_the_mean_of_ridge_regressions_on_every_window() -> None:
    rows = waves(300)
    fit = fit_linear_forecast([rows[:200]], [rows[180:]], lookback_rows=20, horizon_rows=5)
    wanted: list[list[np.ndarray]] = []
    for tag in range(2):
        windows = np.stack([rows[at : at + 25, tag] for at in range(176)])
        level = windows[:, 19:20]
        wanted.append([windows[:, :20] - level, windows[:, 20:] - level])
    scale = np.mean([np.trace(x.T @ x) / 20 for x, _ in wanted])
    if len(fit.weights_KLH) == 1:
        wanted = [[np.concatenate(both) / np.sqrt(2) for both in zip(*wanted, strict=True)]]
    for (x, y), found in zip(wanted, fit.weights_KLH, strict=True):
        ridge = [
            Ridge(alpha=float(p * scale), fit_intercept=False).fit(x, y).coef_.T for p in PENALTIES
        ]
        assert found == pytest.approx(np.mean(ridge, axis=0), abs=1e-6)


def test_a_constant_added_to_the_past_is_added_to_the_forecast() -> None:
    rows = waves(300)
    fit = fit_linear_forecast([rows[:200]], [rows[180:]], lookback_rows=20, horizon_rows=5)
    past = rows[None, 200:220]
    assert fit.forecast(past + 7.0) == pytest.approx(fit.forecast(past) + 7.0)


def test_a_forecast_needs_its_lookback_and_survives_missing_values() -> None:
    rows = waves(300)
    fit = fit_linear_forecast([rows[:200]], [rows[180:]], lookback_rows=20, horizon_rows=5)
    with pytest.raises(ValueError, match="must have 20 rows, got 10"):
        fit.forecast(rows[None, :10])
    past = rows[None, 200:220].copy()
    past[0, 3, 0] = np.nan
    assert np.isfinite(fit.forecast(past)).all()
    with pytest.raises(RecipeError, match="at least 25 rows"):
        fit_linear_forecast([rows[:24]], [], lookback_rows=20, horizon_rows=5)


def test_an_embedding_that_knows_what_the_base_misses_is_kept_and_noise_is_not() -> None:
    draw = np.random.default_rng(0)
    known = draw.normal(size=(800, 2, 3))
    missed = np.repeat(known[..., :1], 4, axis=1).reshape(800, 8, 1) * np.array([1.0, 0.0])
    missed += draw.normal(scale=0.5, size=missed.shape)
    found = fit_embedding_forecast(known[:500], missed[:500], known[500:], missed[500:])
    assert found.share_G[0] > 0.8
    assert found.share_G[1] < 0.5
    left = missed[500:] - found.correction(known[500:])
    assert (left**2).mean() < 0.6 * (missed[500:] ** 2).mean()


def test_shares_lie_between_0_and_1() -> None:
    draw = np.random.default_rng(0)
    share = kept_share(draw.normal(size=(50, 3, 4)), draw.normal(scale=9, size=(50, 3, 4)))
    assert ((share >= 0) & (share <= 1)).all()


def test_a_saved_forecaster_says_the_same(tmp_path: Path) -> None:
    rows, draw = waves(300), np.random.default_rng(0)
    base = fit_linear_forecast([rows[:200]], [rows[180:]], lookback_rows=20, horizon_rows=4)
    features = features_of(draw.normal(size=(60, 3)), draw.normal(size=(60, 2, 3)))
    missed = draw.normal(size=(60, 4, 2))
    embedding = fit_embedding_forecast(features[:40], missed[:40], features[40:], missed[40:])
    forecaster = Forecaster(base, embedding, np.zeros((2, 4, 2)))
    forecaster.save(tmp_path)
    past = rows[None, 200:220]
    said = Forecaster.load(tmp_path).forecast(past, features[:1])
    assert said == pytest.approx(forecaster.forecast(past, features[:1]))
    with pytest.raises(InputError, match="train it again"):
        Forecaster.load(tmp_path / "elsewhere")
