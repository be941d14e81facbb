"""A broker that asks who is there: who is let in, and what the others are told."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kafka.errors import KafkaTimeoutError
from pydantic import SecretStr

from connectors.kafka_io import (
    KafkaPublisher,
    KafkaSettings,
    KafkaSource,
    apply_topics,
    describe_topics,
    require_access,
)
from connectors.kafka_io.connection import unavailable
from flows import wiring
from flows.cli import main
from flows.settings import Settings
from fusion.errors import SettingsError
from fusion.plant import TopicSpec
from fusion.schema import Message, TopicPartition
from fusion.stream.reading import read_to_end
from tests.conftest import SecureKafka

RIG = Path(__file__).parents[2] / "plants" / "rig.yaml"
NUM_TOPICS = 13


def with_password(secure: SecureKafka, **changed: object) -> KafkaSettings:
    settings = KafkaSettings(
        secure.sasl_bootstrap,
        security="sasl_ssl",
        ca_file=secure.ca_file,
        username=secure.username,
        password=SecretStr(secure.password),
    )
    return replace(settings, **changed)  # type: ignore[arg-type]


def with_certificate(secure: SecureKafka, **changed: object) -> KafkaSettings:
    settings = KafkaSettings(
        secure.mtls_bootstrap,
        security="ssl",
        ca_file=secure.ca_file,
        cert_file=secure.cert_file,
        key_file=secure.key_file,
    )
    return replace(settings, **changed)  # type: ignore[arg-type]


@contextlib.contextmanager
def everything_logged() -> Iterator[list[str]]:
    """Collect every line that the client logs, down to its debugging."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, handler = logging.getLogger("kafka"), Collector()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "certificate"])
def test_the_whole_way_of_a_record_is_secured(
    secure_kafka: SecureKafka, unique: str, mechanism: str
) -> None:
    settings = (
        with_certificate(secure_kafka)
        if mechanism == "certificate"
        else with_password(secure_kafka, sasl_mechanism=mechanism)
    )
    with everything_logged() as lines, contextlib.ExitStack() as stack:
        require_access(settings)
        spec = TopicSpec(1, retention_ms=3_600_000)
        apply_topics(settings, {unique: spec}, update_configs=False)
        assert describe_topics(settings, [unique]) == {unique: spec}
        publisher = KafkaPublisher(settings, group=unique, transactional_id=f"tx-{unique}")
        stack.callback(publisher.close)
        publisher.publish(
            [Message(unique, "k", b"secret plant")], commit={TopicPartition(unique, 0): 0}
        )
        source = KafkaSource(settings, [unique], unique)
        stack.callback(source.close)
        # The end of a transaction reaches its partitions a moment after the publisher knows of it.
        batches = (source.poll(timeout_s=0.5) for _ in range(40))
        assert [record.value for record in next(filter(None, batches))] == [b"secret plant"]
        assert source.committed() == {TopicPartition(unique, 0): 0}
    assert any("onfig" in line for line in lines), "the client logs its configuration"
    assert [line for line in lines if secure_kafka.password in line] == []


REFUSED = {
    "wrong password": (
        lambda s: with_password(s, password=SecretStr("wrong-" + s.password)),
        r"user 'fusion' or the password is wrong.*FUSION_KAFKA_PASSWORD",
    ),
    "unknown user": (
        lambda s: with_password(s, username="nobody"),
        r"user 'nobody' or the password is wrong.*FUSION_KAFKA_USERNAME",
    ),
    "untrusted broker": (
        lambda s: with_password(s, ca_file=s.other_ca_file),
        r"its certificate is not to be trusted.*FUSION_KAFKA_CA_FILE",
    ),
    "another name than the certificate's": (
        # The same address, in a way of writing it that no certificate has.
        lambda s: with_password(s, bootstrap_servers=s.sasl_bootstrap.replace(".0.0.", ".")),
        r"its certificate is not to be trusted.*by a name in it",
    ),
    "no certificate": (
        lambda s: with_certificate(s, cert_file=None, key_file=None),
        r"TLS with no certificate of this client fails.*FUSION_KAFKA_CERT_FILE",
    ),
    "password where a certificate is wanted": (
        lambda s: replace(
            with_password(s),
            bootstrap_servers=s.mtls_bootstrap,
            cert_file=s.cert_file,
            key_file=s.key_file,
        ),
        r"it offers no log-in.*the port of SASL_SSL",
    ),
    "plaintext": (
        lambda s: KafkaSettings(s.sasl_bootstrap),
        r"it speaks TLS there and this client plaintext.*FUSION_KAFKA_SECURITY",
    ),
}


@pytest.mark.parametrize("reason", sorted(REFUSED))
def test_a_refused_client_says_what_to_change_and_does_not_try_again(
    secure_kafka: SecureKafka, reason: str
) -> None:
    make, wanted = REFUSED[reason]
    settings = make(secure_kafka)
    # At once when asked, and also from what kafka-python makes of a refusal: a time-out.
    with pytest.raises(SettingsError, match=wanted) as asked:
        require_access(settings)
    with pytest.raises(SettingsError, match=wanted) as explained, unavailable(settings):
        raise KafkaTimeoutError("Unable to bootstrap")
    for error in (asked.value, explained.value):
        assert not error.retriable
        assert secure_kafka.password not in "".join(traceback.format_exception(error))


def test_a_command_with_a_wrong_password_ends_with_2(
    secure_kafka: SecureKafka,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    password_file = tmp_path / "password"
    for name, value in {
        "BROKER": "kafka",
        "KAFKA_BOOTSTRAP": secure_kafka.sasl_bootstrap,
        "KAFKA_SECURITY": "sasl_ssl",
        "KAFKA_CA_FILE": str(secure_kafka.ca_file),
        "KAFKA_USERNAME": secure_kafka.username,
        "KAFKA_PASSWORD_FILE": str(password_file),
    }.items():
        monkeypatch.setenv(f"FUSION_{name}", value)
    monkeypatch.setattr(sys, "argv", ["fusion", "topics", "show", str(RIG)])

    def run(password: str) -> tuple[object, str]:
        password_file.write_text(password)
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err

    code, said = run(f"wrong-{secure_kafka.password}")
    assert code == 2
    assert "SettingsError" in said
    assert secure_kafka.password not in said.replace("\n", "")
    code, said = run(f"{secure_kafka.password}\n")
    assert code == 0
    assert said.count("missing") == NUM_TOPICS


def test_a_password_that_was_changed_costs_a_sender_no_record(
    secure_kafka: SecureKafka, unique: str, tmp_path: Path
) -> None:
    password_file = tmp_path / "password"
    password_file.write_text(secure_kafka.password)
    where = Settings(
        broker="kafka",
        kafka_bootstrap=secure_kafka.sasl_bootstrap,
        kafka_security="sasl_ssl",
        kafka_ca_file=secure_kafka.ca_file,
        kafka_username=secure_kafka.username,
        kafka_password_file=password_file,
        data_dir=tmp_path,
    )
    apply_topics(with_password(secure_kafka), {unique: TopicSpec(1)}, update_configs=False)

    def send(number: int) -> None:
        with contextlib.closing(wiring.open_spool(where, unique)) as sender:
            sender.publish([Message(unique, "k", b"%d" % number)])
            assert sender.flush(60)

    send(0)
    password_file.write_text("rotated")
    with contextlib.closing(wiring.open_spool(where, unique)) as sender:

        def send_until_told() -> None:
            # Whether the broker's answer comes in the first call is the broker's affair.
            sender.publish([Message(unique, "k", b"1")])
            assert not sender.flush(60), "it cannot be sent"

        with pytest.raises(SettingsError, match="password"):
            send_until_told()
        assert sender.waiting_records >= 1
        assert isinstance(sender.last_error, SettingsError)
    password_file.write_text(secure_kafka.password)
    send(2)
    with contextlib.closing(KafkaSource(with_password(secure_kafka), [unique], unique)) as source:
        values = [record.value for record in read_to_end(source)]
    assert list(dict.fromkeys(values)) == [b"0", b"1", b"2"]
