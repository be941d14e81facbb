"""Which versions of the lake are named, so that a vacuum keeps them, and times that people write.

A model's manifest names the version that it was trained on; with it training can be repeated, and a
question about the model answered from what it saw.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence

from flows.settings import Settings
from fusion.errors import InputError
from fusion.manifest import MANIFEST_FILE, load_manifest
from fusion.upkeep import parse_lake_version

Named = Mapping[int, Sequence[str]]
"""Versions of one topic, each with those that name it."""


def model_data_versions(settings: Settings) -> dict[str, str]:
    """Return the lake's version that each model in the models' folder was trained on.

    Raises:
        InputError: A manifest cannot be read, so nobody knows what it names.
    """
    root = settings.models_dir
    found: dict[str, str] = {}
    for path in sorted(root.glob(f"*/*/{MANIFEST_FILE}")):
        if path.parent.name.startswith("."):  # (being written)
            continue
        name = path.parent.relative_to(root).as_posix()
        found[name] = load_manifest(path.parent).data_version
    return found


def examined_versions(settings: Settings) -> dict[str, str]:
    """Return the lake's version that each frozen examination is made of."""
    found: dict[str, str] = {}
    for path in sorted(settings.retraining_dir.glob("*/examinations/*.json")):
        said = json.loads(path.read_text(encoding="utf-8"))["data_version"]
        found[f"{path.parents[1].name}/{path.stem}"] = said
    return found


def named_versions(settings: Settings, keep: Sequence[str] = ()) -> dict[str, Named]:
    """Return, per topic, the versions that models, examinations or ``keep`` name.

    Raises:
        InputError: A manifest cannot be read, or one of ``keep`` is no version's name.
    """
    names = [(f"model {name}", said) for name, said in model_data_versions(settings).items()]
    names += [(f"examination {name}", said) for name, said in examined_versions(settings).items()]
    names += [("--keep", said) for said in keep]
    found: dict[str, dict[int, list[str]]] = {}
    for who, said in names:
        for topic, number in parse_lake_version(said).items():
            if number is not None:
                found.setdefault(topic, {}).setdefault(number, []).append(who)
    return dict(found)


def parse_moment(text: str) -> int:
    """Return an ISO 8601 time with its zone in nanoseconds since 1970 UTC.

    Raises:
        InputError: It is none.

    Example:
        >>> parse_moment("1970-01-01T01:00:01+01:00")
        1000000000
    """
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InputError(
            f"a time must say its zone, like 2026-11-25T10:00Z or 2026-11-25T11:00+01:00, "
            f"got {text!r}"
        )
    since = moment - datetime.datetime.fromtimestamp(0, datetime.UTC)
    return since // datetime.timedelta(microseconds=1) * 1000
