"""What a clone must be: locked, free of this machine's paths, and as its documents say."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = [
    "requirements.lock",
    "deploy/bootstrap.lock",
    "deploy/metrics.lock",
    "deploy/build.lock",
    "deploy/product.lock",
    "benchmarks/peers.lock",
    "docs/requirements.lock",
    "deploy/audit.lock",
    "deploy/triton/triton.lock",
]


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.parametrize("name", LOCKS)
def test_locks_hold_names_versions_and_hashes_only(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    entries = re.split(r"\n(?=[a-z0-9])", text)
    assert all(re.match(r"[a-zA-Z0-9._-]+(\[[a-z0-9,]+\])?==", entry) for entry in entries)
    assert all("--hash=sha256:" in entry for entry in entries)


def test_no_file_knows_the_machine_that_it_was_written_on() -> None:
    wanted = re.compile(rb"(/roo[t]/|/hom[e]/[a-z]|" + re.escape(str(ROOT).encode()) + rb"/)")
    own = Path(__file__)
    found = [path.name for path in tracked() if path != own and wanted.search(path.read_bytes())]
    assert found == []


def test_the_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = set(re.findall(r"\bmake ([a-z][a-z-]+)", (ROOT / "README.md").read_text()))
    assert {"demo", "test"} <= asked <= targets


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_links_between_documents_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / document).read_text()):
        assert (ROOT / target).exists(), target


def test_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for name in re.findall(r"`((?:fusion|connectors|flows|tests)/[\w/.]+\.py)`", text):
        assert (ROOT / name).is_file(), name


def test_an_installed_product_has_all_that_its_commands_read(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", tmp_path], cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    parts = ("fusion/", "connectors/", "flows/", "console/", "plants/")
    names = {path.relative_to(ROOT).as_posix() for path in tracked()}
    assert {name for name in names if name.startswith(parts)} <= packed
