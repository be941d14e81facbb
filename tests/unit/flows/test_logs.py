"""What processes say to programs: one JSON object a line, about which record, and no secret."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

from pydantic import SecretStr

from flows.logs import HIDDEN, json_formatter
from flows.settings import Settings
from tests.conftest import ROOT, free_port

SECRET = "hunter2-and-more"


def _said(*words: str, **variables: str) -> list[dict[str, object]]:
    """Return the lines of a command that runs with JSON logs."""
    environment = os.environ | {"FUSION_LOG_FORMAT": "json", "PYTHONPATH": str(ROOT)} | variables
    ran = subprocess.run(
        [sys.executable, "-m", "flows.cli", *words],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert SECRET not in ran.stdout + ran.stderr
    return [json.loads(line) for line in ran.stderr.splitlines()]


def test_every_line_of_a_service_is_json_and_no_password_is_in_it(tmp_path: Path) -> None:
    lines = _said(
        "live",
        "plants/rig.yaml",
        "--until-caught-up",
        FUSION_DATA_DIR=str(tmp_path),
        FUSION_BROKER="kafka",
        FUSION_KAFKA_BOOTSTRAP=f"127.0.0.1:{free_port()}",
        FUSION_KAFKA_SECURITY="sasl_ssl",
        FUSION_KAFKA_USERNAME="eva",
        FUSION_KAFKA_PASSWORD=SECRET,
    )
    assert lines, "it says why it cannot start"
    assert {"time", "level", "message", "process"} <= set(lines[-1])
    assert (lines[-1]["level"], lines[-1]["process"]) == ("ERROR", "live")


def test_a_secret_that_an_error_quotes_is_hidden_and_fields_of_a_record_are_kept() -> None:
    settings = Settings(
        alarm_history_url=SecretStr(f"postgresql://eva:{SECRET}@127.0.0.1/x"),
    )
    fields = {"plant": "a/b", "stream": "ear", "topic": "t", "partition": 3, "offset": 17}
    record = logging.makeLogRecord(
        {"msg": "cannot reach %s", "args": (f"x:{SECRET}@y",), "levelname": "WARNING", **fields}
    )
    line = json_formatter(settings, "live").format(record)
    told = json.loads(line)
    assert told["message"] == f"cannot reach x:{HIDDEN}@y"
    assert {name: told[name] for name in fields} == fields
