"""What the documents say is so: commands, options, settings, generated pages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.reference.commands import command_tree, leaves
from flows.reference.pages import pages
from flows.settings import NOT_SETTINGS, Settings
from fusion.training.recipe import RECIPES

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(p for p in (ROOT / "docs").rglob("*.md") if p.parent.name != "reference"),
    ]
)
COMMANDS = dict(leaves(command_tree()))
_BLOCK = re.compile(r"(<!-- tested -->\n)?```(?:sh|console|bash)\n(.*?)```", re.DOTALL)
_PLACEHOLDER = re.compile(r"[…<>]|\.\.\.")


def examples(document: Path, *, only_tested: bool = False) -> Iterator[list[str]]:
    """Yield the words of each line that calls ``fusion``, without variables in front of it."""
    for is_tested, block in _BLOCK.findall(document.read_text(encoding="utf-8")):
        if only_tested and not is_tested:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)
            if words and words[0] in {"fusion", ".venv/bin/fusion"}:
                yield words[1:]


def parsed(words: list[str]) -> None:
    """Parse a call as the command line would, and do nothing."""
    command: Any = command_tree()
    while hasattr(command, "commands"):
        assert words, f"{command.name} needs a command behind it"
        assert words[0] in command.commands, f"there is no {words[0]!r} below {command.name}"
        command, words = command.commands[words[0]], words[1:]
    command.make_context(command.name, list(words))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_example_is_a_call_that_the_command_line_takes(document: Path) -> None:
    wrong: list[str] = []
    for words in examples(document):
        if any(_PLACEHOLDER.search(word) for word in words):
            continue
        try:
            parsed(list(words))
        except Exception as refused:  # noqa: BLE001 whatever is wrong is listed
            wrong.append(f"fusion {shlex.join(words)}: {refused or type(refused).__name__}")
    assert not wrong, "\n".join(wrong)


def test_examples_are_found_and_wrong_ones_are_noticed() -> None:
    assert len(list(examples(ROOT / "README.md"))) > 20
    for wrong in (["plant", "chek", "x"], ["train"], ["train", "p.yaml", "--sed", "1"]):
        with pytest.raises(Exception, match=r"chek|PLANT|plant_file|sed"):
            parsed(wrong)


def test_examples_that_are_marked_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(ROOT)
    ran = 0
    for document in DOCUMENTS:
        for words in examples(document, only_tested=True):
            outcome = CliRunner().invoke(app, words, catch_exceptions=False)
            assert outcome.exit_code == 0, (document.name, words, outcome.output)
            ran += 1
    assert ran >= 3


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_settings_that_documents_name_exist(document: Path) -> None:
    known = {f"FUSION_{name}".upper() for name in Settings.model_fields} | NOT_SETTINGS
    named = set(re.findall(r"\bFUSION_[A-Z][A-Z0-9_]*[A-Z0-9](?![A-Z0-9_*])", document.read_text()))
    assert named <= known, sorted(named - known)


@pytest.mark.parametrize("page", sorted(pages()))
def test_a_reference_page_says_what_the_product_can_do_now(page: str) -> None:
    kept = ROOT / "docs" / "reference" / page
    assert kept.read_text(encoding="utf-8") == pages()[page], (
        "run `make reference`, commit the page"
    )


def test_every_command_and_option_says_what_it_does() -> None:
    for name, command in COMMANDS.items():
        assert (command.help or "").strip(), name
        for parameter in command.params:
            if parameter.name != "help":
                assert (parameter.help or "").strip(), (name, parameter.name)


def test_recipes_that_documents_and_help_name_exist() -> None:
    helps = [command.help or "" for command in COMMANDS.values()]
    texts = [*helps, *(document.read_text(encoding="utf-8") for document in DOCUMENTS)]
    named = {name for text in texts for name in re.findall(r"--recipe ([a-z]\w*)", text)}
    assert {"standard"} <= named <= set(RECIPES)


def test_every_setting_says_what_it_does() -> None:
    assert [n for n, field in Settings.model_fields.items() if not field.description] == []


def test_every_page_of_the_site_is_in_its_navigation_once() -> None:
    named = re.findall(
        r"^ +- (?:[^:\n]+: )?([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M
    )
    assert len(named) == len(set(named))
    outside = {"architecture.md"}  # (docs/hooks.py makes it of ARCHITECTURE.md)
    missing = {page for page in named if not (ROOT / "docs" / page).is_file()} - outside
    assert not missing
