"""Settings come from FUSION_ variables; one that nobody knows is a mistake, never ignored."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from flows import wiring
from flows.cli.learn import show_settings
from flows.settings import Settings
from flows.terminal import CONSOLE
from fusion.errors import SettingsError

SECRET = "never-to-be-shown"


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
    monkeypatch.setenv("FUSION_KAFKA_REPLICATION", "many")
    with pytest.raises(SettingsError, match=r"FUSION_KAFKA_REPLICATION.*'many'"):
        Settings.load()


S3 = {
    "FUSION_OBJECTS": "s3://bucket/some/prefix",
    "FUSION_OBJECTS_ACCESS_KEY": "user",
    "FUSION_OBJECTS_SECRET_KEY": "hidden",
}


def test_objects_lie_in_the_data_folder_unless_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FUSION_DATA_DIR", str(tmp_path))
    assert Settings.load().objects_uri == str(tmp_path / "objects")
    monkeypatch.setenv("FUSION_OBJECTS", "elsewhere")
    assert Settings.load().objects_uri == "elsewhere"


def test_a_secret_comes_from_its_variable_or_its_file_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in S3.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert settings.objects_secret == "hidden"
    assert "hidden" not in repr(settings) + str(settings.objects_secret_key)
    (tmp_path / "key").write_text("of the file\n")
    monkeypatch.setenv("FUSION_OBJECTS_SECRET_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(SettingsError, match="got both; unset one") as caught:
        _ = Settings.load().objects_secret
    assert "hidden" not in str(caught.value)
    monkeypatch.delenv("FUSION_OBJECTS_SECRET_KEY")
    assert Settings.load().objects_secret == "of the file"
    (tmp_path / "key").unlink()
    with pytest.raises(SettingsError, match="FUSION_OBJECTS_SECRET_KEY_FILE must name a readable"):
        _ = Settings.load().objects_secret


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"FUSION_OBJECTS": "gs://bucket"}, r"a folder or s3://bucket/prefix, got 'gs://bucket'"),
        ({"FUSION_OBJECTS": "s3://b"}, "a folder or s3://bucket/prefix"),
        ({"FUSION_OBJECTS_ACCESS_KEY": ""}, "needs FUSION_OBJECTS_ACCESS_KEY and"),
        ({"FUSION_OBJECTS_SECRET_KEY": ""}, "needs FUSION_OBJECTS_ACCESS_KEY and"),
        ({"FUSION_OBJECTS_CA_FILE": "absent.pem"}, "FUSION_OBJECTS_CA_FILE must name a readable"),
    ],
)
def test_what_an_object_store_needs_is_asked_for(
    changed: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (S3 | changed).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=says):
        wiring.open_objects(Settings.load())


def load(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(f"FUSION_KAFKA_{name}", value)
    return Settings.load()


LOGIN = {"SECURITY": "sasl_ssl", "USERNAME": "fusion"}


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"CA_FILE": "ca.pem"}, "FUSION_KAFKA_CA_FILE would not be used.*plaintext"),
        ({"PASSWORD": SECRET}, "FUSION_KAFKA_PASSWORD would not be used.*plaintext"),
        ({"SECURITY": "ssl", "USERNAME": "x"}, "FUSION_KAFKA_USERNAME would not be used.*=ssl"),
        ({"SECURITY": "ssl", "CERT_FILE": "c.pem"}, "got only FUSION_KAFKA_CERT_FILE; set"),
        ({"SECURITY": "ssl", "KEY_FILE": "k.pem"}, "got only FUSION_KAFKA_KEY_FILE; set"),
        ({"SECURITY": "sasl_ssl"}, "needs FUSION_KAFKA_USERNAME.*none of them"),
        (LOGIN, "one of FUSION_KAFKA_PASSWORD and .*got FUSION_KAFKA_USERNAME;"),
        (LOGIN | {"PASSWORD": SECRET, "PASSWORD_FILE": "p"}, "unset what is too much"),
        ({"SECURITY": "sasl_ssl", "PASSWORD": SECRET}, "needs FUSION_KAFKA_USERNAME"),
        ({"SECURITY": "tls"}, "FUSION_KAFKA_SECURITY: .*'tls'"),
        (LOGIN | {"PASSWORD": SECRET, "SASL_MECHANISM": "PLAIN"}, "MECHANISM: .*'PLAIN'"),
        (LOGIN | {"PASSWORD": ""}, "FUSION_KAFKA_PASSWORD: .*a value that is not shown"),
    ],
)
def test_settings_of_the_connection_that_do_not_fit_together_are_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: str
) -> None:
    with pytest.raises(SettingsError, match=wanted) as refused:
        load(monkeypatch, **variables)
    everything = "".join(traceback.format_exception(refused.value))
    assert SECRET not in everything


def test_the_password_is_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load(monkeypatch, **LOGIN, PASSWORD=SECRET)
    show_settings()
    shown = capsys.readouterr()
    assert "FUSION_KAFKA_PASSWORD" in shown.err + shown.out
    texts = [shown.err, shown.out, repr(settings), str(settings), settings.model_dump_json()]
    assert [text for text in texts if SECRET in text] == []
    password = settings.read_kafka_password()
    assert password is not None
    assert password.get_secret_value() == SECRET


def test_a_password_in_an_address_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(CONSOLE, "width", 400)  # (no value is folded)
    monkeypatch.setenv("FUSION_MLFLOW_URI", f"postgresql://eva:{SECRET}@db.example/runs")
    show_settings()
    shown = capsys.readouterr()
    assert SECRET not in shown.err + shown.out
    assert "postgresql://db.example/runs" in shown.err + shown.out


def test_a_password_comes_from_its_file_without_the_end_of_the_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(f" {SECRET} \r\n")
    settings = load(monkeypatch, **LOGIN, PASSWORD_FILE=str(file))
    password = settings.read_kafka_password()
    assert password is not None
    assert password.get_secret_value() == f" {SECRET} "


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff" + SECRET.encode()])
def test_a_password_file_that_holds_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    settings = load(monkeypatch, **LOGIN, PASSWORD_FILE=str(file))
    with pytest.raises(SettingsError, match=rf"FUSION_KAFKA_PASSWORD_FILE.*{file}") as refused:
        settings.read_kafka_password()
    assert SECRET not in "".join(traceback.format_exception(refused.value))
