"""What a foreign writer's schema must be: small, plain, and resolvable to what this product reads.

Anybody who may write to the broker may publish a schema, and values are decoded by it. So it must
not be able to say more than a payload needs: records inside records could recurse deeper than the
stack, and items of no bytes would make millions of objects out of a few bytes.
"""

from __future__ import annotations

import json
from typing import Any, cast

from fastavro.schema import SchemaParseException, to_parsing_canonical_form

from fusion.errors import SchemaError
from fusion.schema.versions import PayloadSchema, make_schema

MAX_SCHEMA_BYTES = 64 * 1024

_PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
_PROMOTED = {
    "long": ("int",),
    "float": ("int", "long"),
    "double": ("int", "long", "float"),
    "string": ("bytes",),
    "bytes": ("string",),
}
"""What a reader's primitive also takes (Avro 1.12 specification, "Schema Resolution")."""


def parse_foreign(schema_json: bytes) -> PayloadSchema:
    """Return the schema that ``schema_json`` describes, reduced to what its fingerprint covers.

    Defaults, aliases and logical types of a writer are not needed to read what it wrote; without
    them two schemas of one fingerprint decode alike.

    Raises:
        SchemaError: Too large, no schema, or not plain.
    """
    if len(schema_json) > MAX_SCHEMA_BYTES:
        raise SchemaError(
            f"a writer schema must not be larger than {MAX_SCHEMA_BYTES} bytes, got "
            f"{len(schema_json)}; leave out what is not needed to read the values"
        )
    try:
        canonical = to_parsing_canonical_form(make_schema(json.loads(schema_json)).parsed)
        schema = make_schema(json.loads(canonical))
        _require_plain(schema.parsed)
    except SchemaError:
        raise
    except (
        SchemaParseException,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as broken:
        raise SchemaError(
            "a writer schema must be the JSON of an Avro record, but reading stopped with "
            f"{type(broken).__name__}: {broken}; publish it with fusion.schema.schema_messages"
        ) from broken
    return schema


def require_resolvable(writer: PayloadSchema, reader: PayloadSchema) -> None:
    """Do nothing when all that ``writer`` can write can be read into ``reader``.

    Raises:
        SchemaError: Names the first field that cannot be resolved.
    """
    written = {field["name"]: field["type"] for field in writer.parsed["fields"]}
    for field in reader.parsed["fields"]:
        name, wanted = field["name"], field["type"]
        if name not in written:
            if "default" in field:
                continue
            raise SchemaError(
                f"a writer of {reader.ce_type} must write field {name!r}, {writer.label} does not; "
                f"{reader.label} has no default for it: write the field, or read with a version "
                "that can do without"
            )
        if not _resolves(written[name], wanted):
            raise SchemaError(
                f"field {name!r} of {writer.label} must be readable as {json.dumps(wanted)}, got "
                f"{json.dumps(written[name])}; a changed type needs a new field with another name"
            )


def _resolves(writer: Any, reader: Any) -> bool:
    if isinstance(writer, list):
        branches = cast("list[Any]", writer)
        return bool(branches) and all(_resolves(branch, reader) for branch in branches)
    if isinstance(writer, str) or isinstance(reader, str):
        return writer == reader or writer in _PROMOTED.get(str(reader), ())
    if writer["type"] != reader["type"]:
        return False
    if reader["type"] == "array":
        return _resolves(writer["items"], reader["items"])
    # The released schemas are made of primitives, arrays and enumerations.
    assert reader["type"] == "enum", reader
    return writer["name"] == reader["name"] and set(writer["symbols"]) <= set(reader["symbols"])


def _require_plain(record: Any) -> None:
    if record["type"] != "record":
        raise SchemaError(f"a payload must be an Avro record, got {record['type']!r}")
    names = [field["name"] for field in record["fields"]]
    if len(set(names)) != len(names):
        raise SchemaError(f"a payload must name each field once, got {names}")
    for field in record["fields"]:
        if not _is_plain(field["type"]):
            raise SchemaError(
                f"field {field['name']!r} must be a primitive, an enumeration, a fixed, or a "
                f"union, array or map of them, got {json.dumps(field['type'])}; "
                "records inside and items of no bytes are not read"
            )


def _is_plain(kind: Any, *, is_item: bool = False) -> bool:
    if isinstance(kind, str):
        return kind in _PRIMITIVES and not (is_item and kind == "null")
    if isinstance(kind, list):
        return all(_is_plain(branch) for branch in cast("list[Any]", kind))
    if kind["type"] == "array":
        return _is_plain(kind["items"], is_item=True)
    if kind["type"] == "map":
        return _is_plain(kind["values"], is_item=True)
    return kind["type"] == "enum" or (kind["type"] == "fixed" and kind["size"] >= 1)
