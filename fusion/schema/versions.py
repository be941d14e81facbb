"""The released schemas of the payloads: files in ``avro/``, none of which ever changes or goes.

A value on the broker is Avro's single-object encoding (Avro 1.12 specification, "Single-object
encoding"): a mark of two bytes, the CRC-64-AVRO fingerprint of the writer's schema in eight bytes,
little-endian, and the body. The newest version is what this product writes and what it reads into.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

MARK = b"\xc3\x01"
HEADER_BYTES = len(MARK) + 8


@dataclass(frozen=True, slots=True)
class PayloadSchema:
    """One schema in which the values of one ``ce_type`` can be written."""

    ce_type: str
    label: str
    """Names it to people, for example ``fusion.audio.v2``."""
    text: str
    """Compact JSON."""
    parsed: Any
    """As fastavro wants it."""
    header: bytes
    """What every value written with it begins with."""

    @property
    def fingerprint(self) -> str:
        """CRC-64-AVRO of the parsing canonical form: 16 hex digits, in the order of the bytes."""
        return self.header[len(MARK) :].hex()


def make_schema(content: Any, *, label: str | None = None) -> PayloadSchema:
    """Return the schema of ``content``, a record that is named like the ``ce_type`` it is for.

    Without a ``label`` the fingerprint names it.

    Example:
        >>> empty = make_schema({"type": "record", "name": "fusion.smell", "fields": []})
        >>> empty.ce_type, empty.label, empty.header.hex()
        ('fusion.smell', 'fusion.smell 8066ac3e8cbd1783', 'c3018066ac3e8cbd1783')
    """
    parsed: Any = fastavro.parse_schema(content)
    digest = fingerprint(to_parsing_canonical_form(parsed), "CRC-64-AVRO")
    return PayloadSchema(
        ce_type=parsed["name"],
        label=label or f"{parsed['name']} {digest}",
        text=json.dumps(content, separators=(",", ":")),
        parsed=parsed,
        header=MARK + bytes.fromhex(digest),
    )


def newest(schemas: Iterable[PayloadSchema]) -> dict[str, PayloadSchema]:
    """Return the last of each ``ce_type`` in ``schemas``, by ``ce_type``."""
    return {schema.ce_type: schema for schema in schemas}


def _load() -> tuple[PayloadSchema, ...]:
    folder = resources.files("fusion.schema").joinpath("avro")
    texts: dict[tuple[str, int], str] = {}
    for file in folder.iterdir():
        modality, number, _ = file.name.split(".")
        texts[modality, int(number.removeprefix("v"))] = file.read_text(encoding="utf-8")
    return tuple(
        make_schema(json.loads(texts[modality, number]), label=f"fusion.{modality}.v{number}")
        for modality, number in sorted(texts)
    )


RELEASED = _load()
"""Every version ever released, oldest first inside a ``ce_type``."""

NEWEST = newest(RELEASED)
