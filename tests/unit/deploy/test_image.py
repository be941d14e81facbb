"""What the image is built from, and how."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deployed import PINNED, ROOT

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
FINAL = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]


def test_the_dockerfile_is_clean_by_hadolint() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    command = [str(linter), "--failure-threshold", "style", str(ROOT / "deploy" / "Dockerfile")]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout
    harmed = subprocess.run(
        [str(linter), "-"],
        input=DOCKERFILE.replace("python:3.11", "python", 1).replace("=19.6.0-1.2", ""),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "DL3008" in harmed.stdout, "a package without a version is found"


def sources() -> list[str]:
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()]


def test_files_that_it_is_built_from_exist_and_reach_the_builder() -> None:
    allowed = (ROOT / ".dockerignore").read_text().split()
    assert "*" in allowed, "only what is named reaches it"
    for source in sources():
        assert (ROOT / source).exists(), source
        assert f"!{source}" in allowed, source
    assert {line[1:] for line in allowed if line.startswith("!")} == set(sources())


def test_the_last_stage_has_no_rights_and_no_tools_for_building() -> None:
    assert re.search(r"^USER 10001:10001$", FINAL, re.MULTILINE)
    assert not re.search(r"\b(pip|uv|gcc|hatchling|build-essential|curl|git)\b", FINAL)
    (base,) = set(re.findall(r"^ARG PYTHON=(\S+)", DOCKERFILE, re.MULTILINE))
    assert PINNED.match(base)
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${PYTHON}"] * 2
    assert DOCKERFILE.count("--require-hashes") == 3


def versions(lock: str) -> dict[str, str]:
    entries = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", (ROOT / lock).read_text(), re.M)
    return dict(entries)


@pytest.mark.parametrize("lock", ["deploy/product.lock", "deploy/build.lock"])
def test_the_image_has_what_was_tested_and_no_tools_of_developers(lock: str) -> None:
    tested, built = versions("requirements.lock"), versions(lock)
    assert {name: tested.get(name) for name in built} == built, "make lock"
    assert not {"pytest", "ruff", "pyright", "playwright", "hypothesis"} & set(built)
