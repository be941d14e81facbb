"""Settings come from FUSION_ variables; one that nobody knows is a mistake, never ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.settings import Settings
from fusion.errors import SettingsError


def test_defaults_need_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FUSION_BROKER", raising=False)
    settings = Settings.load()
    assert settings.broker == "embedded"
    assert settings.broker_path == settings.data_dir / "broker.sqlite"


def test_a_variable_moves_everything_below_the_data_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FUSION_DATA_DIR", str(tmp_path))
    settings = Settings.load()
    assert settings.models_dir == tmp_path / "models"
    assert settings.lake_uri == str(tmp_path / "lake")
    assert settings.spool_folder == tmp_path / "spool"
    monkeypatch.setenv("FUSION_SPOOL_DIR", str(tmp_path / "other"))
    assert Settings.load().spool_folder == tmp_path / "other"


def test_a_misspelt_variable_is_named_with_the_nearest_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FUSION_BROKR", "kafka")
    with pytest.raises(
        SettingsError, match="FUSION_BROKR is not a setting; did you mean FUSION_BR"
    ):
        Settings.load()


def test_a_misspelt_variable_is_refused_in_small_letters_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("fusion_brokr", "kafka")
    with pytest.raises(
        SettingsError, match="fusion_brokr is not a setting; did you mean FUSION_BR"
    ):
        Settings.load()


def test_a_wrong_value_says_what_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_PARTITIONS", "0")
    with pytest.raises(SettingsError, match=r"FUSION_PARTITIONS.*'0'"):
        Settings.load()
