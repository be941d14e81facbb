"""Which reference pages there are, and what stands on each."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

import fusion.errors
from flows.cli.demo import PLANTS
from flows.plant_files import load_plant
from flows.reference.commands import commands_page
from flows.reference.markdown import WRITTEN, code, plain, table
from flows.settings import PREFIX, SECRETS, Settings
from fusion.errors import DeadLetterReason, FusionError
from fusion.model import ModelConfig
from fusion.plant import Plant, topics_of
from fusion.plant.topics import policy_text, retention_text
from fusion.schema.versions import NEWEST
from fusion.training import RECIPES, Recipe

RIG = PLANTS / "rig.yaml"
TOPICS = {
    "telemetry": ("address of the asset", "Avro `fusion.telemetry`: packed rows of tags"),
    "audio": ("address of the asset", "Avro `fusion.audio`: FLAC or PCM16"),
    "video": ("address of the asset", "Avro `fusion.video`: one JPEG picture"),
    "alarm-commands": ("address of the asset", "JSON: what people ask of an alarm"),
    "scores": ("address of the asset", "JSON: one finding for each tick"),
    "alarm-events": ("address of the asset", "JSON: the journal, a chain of hashes"),
    "dead-letters": (
        "key of the refused record",
        "the refused record whole; the reason in headers",
    ),
    "stream-health": ("address of the stream", "JSON: rates, gaps, skew of a stream; devices"),
    "schemas": ("fingerprint", "Avro schemas that other writers use"),
    "dead-letter-replays": ("position of a dead letter", "which dead letters were sent again"),
    "checkpoints": ("address of the asset", "JSON: what a restart goes on from"),
    "alarms": ("`config:` or `state:`, address, name", "JSON: definitions and states of alarms"),
    "feedback": ("`episode:` or `verdict:`, address, id", "JSON: episodes and what people said"),
}
"""By kind: the key, and what a record is."""


def pages() -> dict[str, str]:
    """Return every page by its file name."""
    return {
        "commands.md": commands_page(),
        "settings.md": _settings(),
        "plant-file.md": _plant_file(),
        "topics.md": _topics(),
        "recipes.md": _recipes(),
        "errors.md": _errors(),
    }


def _page(*parts: str) -> str:
    title, *rest = parts
    return "\n\n".join([title, WRITTEN, *rest]) + "\n"


def _settings() -> str:
    rows = [
        (
            code(f"{PREFIX}{name.upper()}"),
            _type(_fields(Settings)[name]),
            "" if name in SECRETS or field.default in {None, ""} else code(str(field.default)),
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]
    return _page(
        "# Settings",
        "Environment variables, and nothing else, say where things are. One that begins with "
        f"`{PREFIX}` and is not in this list is refused. `fusion settings` shows the values in "
        "force; secrets are never shown. What a plant is stands in the "
        "[plant file](plant-file.md), what to train in the [recipe](recipes.md).",
        table(["variable", "type", "default", "meaning"], rows),
    )


def _plant_file() -> str:
    schema = Plant.model_json_schema()
    parts = [
        "# The plant file",
        "YAML. `fusion plant check FILE` explains every mistake, `fusion plant schema` prints this "
        "as JSON Schema. A field that is not listed is refused. Examples stand in "
        "[connect your plant](../connect-your-plant.md).",
        _section("Plant", schema, heading="## The file"),
    ]
    parts += [_section(name, each) for name, each in schema["$defs"].items()]
    return _page(*parts)


def _section(name: str, schema: dict[str, Any], heading: str = "") -> str:
    required = schema.get("required", ())
    rows = [
        (
            code(field),
            _type(each),
            "required" if field in required else _json(each.get("default")),
            plain(each.get("description", "")),
        )
        for field, each in schema["properties"].items()
    ]
    described = " ".join(schema.get("description", "").split())
    heads = [
        heading or f"## {name}",
        described,
        table(["field", "type", "default", "meaning"], rows),
    ]
    return "\n\n".join(part for part in heads if part)


def _topics() -> str:
    plant = load_plant(RIG)
    rows = []
    for topic, spec in topics_of(plant).items():
        kind = topic.removeprefix(plant.topic(""))
        key, holds = TOPICS[kind]
        together = spec.partitions == plant.topics.partitions and kind in _together(plant)
        partitions = "`topics.partitions`" if together else "1"
        rows.append(
            (
                code(f"PREFIX.{kind}"),
                partitions,
                policy_text(spec),
                retention_text(spec),
                key,
                holds,
            )
        )
    schemas = [
        f"### {each.label}\n\nFingerprint `{each.fingerprint}`.\n\n"
        f"```json\n{json.dumps(json.loads(each.text), indent=1)}\n```"
        for _, each in sorted(NEWEST.items())
    ]
    return _page(
        "# Topics",
        "Every plant of one prefix shares these. `fusion topics apply PLANT` creates them. "
        "Retention is the default of `topics.retention_h`.",
        table(["topic", "partitions", "clean-up", "kept", "key", "holds"], rows),
        "## Avro schemas",
        "Of what the senses say, as written now. Packed columns are little-endian, row by row; "
        "times are nanoseconds since 1970. Who writes with another schema publishes it on "
        "`PREFIX.schemas` ([decision 10](../adr/0010-schema-evolution.md)).",
        *schemas,
    )


def _together(plant: Plant) -> set[str]:
    """Return the kinds that have as many partitions as the plant file says."""
    many = plant.topics.model_copy(update={"partitions": 7})
    specs = topics_of(plant.model_copy(update={"topics": many}))
    return {topic.removeprefix(plant.topic("")) for topic, s in specs.items() if s.partitions == 7}


def _recipes() -> str:
    recipe = RECIPES["standard"]()
    names = list(RECIPES)
    rows = []
    for holder, at in ((Recipe, ""), (ModelConfig, "model.")):
        for name, field in holder.model_fields.items():
            if name == "model":
                continue
            values = [
                code(str(getattr(made().model if at else made(), name)))
                for made in RECIPES.values()
            ]
            rows.append((code(f"{at}{name}"), *values, field.description or ""))
    return _page(
        "# Recipes",
        f"What `fusion train --recipe NAME` is free to choose ({', '.join(names)}). All of it "
        f"stands in the manifest of the model. `{recipe.name}` is the one for every plant and "
        "benchmark; [training](../training.md) says how to see whether a run is well.",
        table(["field", *names, "meaning"], rows),
    )


def _errors() -> str:
    tree = inspect.getdoc(fusion.errors) or ""
    drawn = inspect.cleandoc(tree.partition("::")[2].partition("A message says")[0])
    rows = [
        (
            code(each.__name__),
            "75" if each.retriable else "2",
            (inspect.getdoc(each) or "").partition("\n\n")[0].replace("``", "`"),
        )
        for each in _below(FusionError)
    ]
    reasons = ", ".join(code(reason.value) for reason in DeadLetterReason)
    return _page(
        "# Errors",
        "Whatever the product raises on purpose is one of these. A message says what must hold, "
        "what came, and what to change. Exit status 75: the same call can succeed later.",
        f"```text\n{drawn}\n```",
        table(["error", "exit status", "meaning"], rows),
        "## Reasons of dead letters",
        f"{reasons}. `fusion dead-letters list PLANT` counts them, `show` explains one.",
    )


def _below(kind: type[FusionError]) -> Iterator[type[FusionError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)


def _fields(model: type[Settings]) -> dict[str, Any]:
    return model.model_json_schema()["properties"]


def _type(schema: dict[str, Any]) -> str:
    """Return a field's type in words; choices are listed."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema or "const" in schema:
        return ", ".join(code(str(each)) for each in schema.get("enum", [schema.get("const")]))
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            kinds = [_type(each) for each in schema[several] if each.get("type") != "null"]
            return " or ".join(kinds)
    if schema.get("type") == "array":
        return _array_type(schema)
    kind = "path" if schema.get("format") == "path" else schema.get("type", "")
    words = {"string": "text", "integer": "whole number", "boolean": "true or false"}
    return words.get(kind, kind)


def _array_type(schema: dict[str, Any]) -> str:
    if "prefixItems" in schema:
        return f"[{', '.join(_type(each) for each in schema['prefixItems'])}]"
    return f"list of {_type(schema['items'])}" if "items" in schema else "list"


def _json(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return ""
    return "see there" if isinstance(value, dict) else code(json.dumps(value))
