"""What MkDocs does besides: pages from outside of ``docs/``, links out of it, the rest of the nav.

Links from a page into the source tree become plain text: the site is read without the sources.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
FROM_ROOT = {"architecture.md": "ARCHITECTURE.md", "contributing.md": "CONTRIBUTING.md"}
"""Pages of the site that are files of the repository's root."""
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#|mailto:)([^)\s]+)\)")


def on_config(config: Any) -> Any:
    """Return the configuration with every page in the navigation."""
    named = set(_named(config.nav))
    docs = Path(config.docs_dir)
    there = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    there += [page for page in FROM_ROOT if page not in named]
    rest = [page for page in there if page not in named]
    decisions = [page for page in rest if page.startswith("adr/")]
    measured = [page for page in rest if page.startswith("benchmarks/")]
    _section(config.nav, "Benchmarks").extend(measured)
    _section(config.nav, "Explanation").append({"Decisions": decisions})
    _section(config.nav, "How to").extend(
        page for page in rest if page not in {*decisions, *measured}
    )
    return config


def on_files(files: Files, config: Any) -> Files:
    """Return the files with those of the repository's root among them."""
    for page, source in FROM_ROOT.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        text = text.replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Return the page with links that leave the site as plain text."""
    here = PurePosixPath(page.file.src_uri).parent

    def mended(found: re.Match[str]) -> str:
        text, target = found[1], found[2].partition("#")[0]
        parts: list[str] = []
        for part in (here / target).parts:
            if part == ".." and parts and parts[-1] != "..":
                parts.pop()
            else:
                parts.append(part)
        path = "/".join(parts)
        if files.get_file_from_path(path) is not None:
            return found[0]
        outside = path.removeprefix("../")
        for site, source in FROM_ROOT.items():
            if outside == source:
                return f"[{text}]({'../' * len(here.parts)}{site})"
        is_source = (ROOT / outside).exists() if path.startswith("../") else _is_source(path)
        return text if is_source else found[0]

    return _LINK.sub(mended, markdown)


def _is_source(path: str) -> bool:
    """Whether a page of the root links to a file of the repository, or a page to a folder."""
    return (ROOT / path).exists() or (ROOT / "docs" / path).is_dir()


def _named(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    below = nav.values() if isinstance(nav, dict) else nav
    return [page for each in below for page in _named(each)]


def _section(nav: list[Any], title: str) -> list[Any]:
    return next(each[title] for each in nav if title in each)
