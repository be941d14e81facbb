"""What kafka-python's clients are told of the connection, and what nobody else is."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from pydantic import SecretStr

from connectors.kafka_io import KafkaSettings, require_access
from fusion.errors import SettingsError

SECRET = "never-to-be-shown"


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


def secured(ca_file: Path) -> KafkaSettings:
    return KafkaSettings(
        "broker:9093",
        security="sasl_ssl",
        ca_file=ca_file,
        username="fusion",
        password=SecretStr(SECRET),
    )


def test_every_client_knows_every_option(ca_file: Path) -> None:
    options = secured(ca_file).client_options()
    for client in (KafkaConsumer, KafkaProducer, KafkaAdminClient):
        assert set(options) <= set(client.DEFAULT_CONFIG)
    assert options["sasl_plain_password"] == SECRET
    assert options["security_protocol"] == "SASL_SSL"
    assert options["ssl_cafile"] == str(ca_file)


def test_plaintext_says_no_more_than_where_and_how_soon_again() -> None:
    assert KafkaSettings("broker:9092").client_options() == {
        "bootstrap_servers": "broker:9092",
        "security_protocol": "PLAINTEXT",
        # kafka-python's own half a minute would find a broker again long after it is back.
        "reconnect_backoff_max_ms": 1_000,
    }


def test_neither_settings_nor_options_print_the_password(ca_file: Path) -> None:
    settings = secured(ca_file)
    printed = [repr(settings), str(settings), repr(settings.client_options())]
    printed.append(f"{settings.client_options()}")
    assert [text for text in printed if SECRET in text] == []


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=rf"FUSION_KAFKA_CA_FILE \({file}\)"):
        KafkaSettings("broker:9093", security="ssl", ca_file=file).client_options()


def test_a_key_of_another_certificate_is_refused(tmp_path: Path, ca_file: Path) -> None:
    authority = trustme.CA()
    one, other = authority.issue_cert("one.example"), authority.issue_cert("other.example")
    one.cert_chain_pems[0].write_to_path(str(tmp_path / "one.crt"))
    other.private_key_pem.write_to_path(str(tmp_path / "other.key"))
    settings = KafkaSettings(
        "broker:9093",
        security="ssl",
        ca_file=ca_file,
        cert_file=tmp_path / "one.crt",
        key_file=tmp_path / "other.key",
    )
    with pytest.raises(SettingsError, match="FUSION_KAFKA_KEY_FILE"):
        settings.client_options()


@pytest.mark.parametrize("server", ["127.0.0.1:1", "[::1]:1", "localhost:1, 127.0.0.1:1"])
def test_a_broker_that_is_away_has_refused_nobody(server: str) -> None:
    require_access(KafkaSettings(server))
