"""Who may do what on the broker: a policy that is written once, filled in for each plant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import yaml
from pydantic import ValidationError

from fusion.errors import InputError
from fusion.plant.described import Described
from fusion.plant.description import Plant
from fusion.plant.topics import topics_of

Resource = Literal["topic", "group", "transactional_id"]
Operation = Literal["read", "write", "create", "alter", "describe", "describe_configs",
                    "alter_configs", "delete"]  # fmt: skip


class Rule(Described):
    """Operations on some topics, groups or transactional ids.

    ``topics`` are kinds, such as ``scores``; ``*`` is every topic of the plant's prefix. In names
    ``{prefix}`` is the plant's, and a name with ``{number}`` stands for one per partition number. A
    name that ends with ``*`` is a prefix.
    """

    topics: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    transactional_ids: tuple[str, ...] = ()
    allow: tuple[Operation, ...]


class Policy(Described):
    """What every principal may do, and what each may do beside it."""

    everybody: tuple[Rule, ...] = ()
    principals: dict[str, tuple[Rule, ...]]


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """One principal may do one thing with one resource, or with all whose names begin so."""

    principal: str
    resource: Resource
    name: str
    is_prefix: bool
    operation: Operation


def parse_policy(text: str, *, origin: str) -> Policy:
    """Return the policy that the YAML ``text`` says.

    Raises:
        InputError: It is none; the message says where.
    """
    try:
        return Policy.model_validate(yaml.safe_load(text))
    except (ValidationError, yaml.YAMLError) as invalid:
        raise InputError(f"{origin} must be a policy of access, but: {invalid}") from invalid


def grants_of(policy: Policy, plants: Sequence[Plant]) -> list[Grant]:
    """Return every grant of ``policy`` for ``plants``, in order, each once.

    Raises:
        InputError: The policy names a kind of topic that no plant can have.
    """
    found: set[Grant] = set()
    for plant in plants:
        for principal, rules in policy.principals.items():
            for rule in (*policy.everybody, *rules):
                found.update(_grants(principal, rule, plant))
    return sorted(found)


def _grants(principal: str, rule: Rule, plant: Plant) -> list[Grant]:
    named: list[tuple[Resource, str]] = [("topic", _topic(kind, plant)) for kind in rule.topics]
    named.extend(("group", name) for each in rule.groups for name in _filled(each, plant))
    ids = (name for each in rule.transactional_ids for name in _filled(each, plant))
    named.extend(("transactional_id", name) for name in ids)
    return [
        Grant(principal, resource, name.removesuffix("*"), name.endswith("*"), operation)
        for resource, name in named
        for operation in rule.allow
    ]


def _topic(kind: str, plant: Plant) -> str:
    # A plant without a camera may get one; the doctor makes its topic when it is asked.
    others = ("telemetry", "audio", "video", "doctor", "*")
    known = {*(topic.removeprefix(plant.topic("")) for topic in topics_of(plant)), *others}
    if kind not in known:
        raise InputError(f"a policy must name kinds of topics ({sorted(known)}), got {kind!r}")
    return plant.topic(kind)


def _filled(name: str, plant: Plant) -> list[str]:
    numbers = range(plant.topics.partitions) if "{number}" in name else (0,)
    return [name.replace("{prefix}", plant.prefix).replace("{number}", str(n)) for n in numbers]
