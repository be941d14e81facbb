"""Brings grants to the cluster's access control lists, and compares."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, get_args

from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)
from kafka.errors import NoError, SecurityDisabledError

from connectors.kafka_io.settings import KafkaSettings
from connectors.kafka_io.topics import administration
from fusion.errors import SettingsError
from fusion.plant import Grant
from fusion.plant.access import Operation, Resource

USER = "User:"
EVERYWHERE = "*"


def found_grants(settings: KafkaSettings, principals: Collection[str]) -> set[Grant]:
    """Return what the cluster allows ``principals`` on topics, groups and transactional ids.

    Raises:
        SettingsError: The cluster has no authorizer, or this user may not ask.
    """
    with administration(settings) as admin:
        return {
            grant
            for acl in _described(admin)
            if (grant := _to_grant(acl)) is not None and grant.principal in principals
        }


def apply_grants(
    settings: KafkaSettings, wanted: Collection[Grant], *, prune: bool
) -> tuple[list[Grant], list[Grant]]:
    """Create the grants of ``wanted`` that are missing; return those, and those that are too many.

    Too many is what ``wanted``'s principals may do beside it; with ``prune`` it is taken away.

    Raises:
        SettingsError: The cluster has no authorizer, or refuses; what was done before stays.
    """
    found = found_grants(settings, {grant.principal for grant in wanted})
    missing, surplus = sorted(set(wanted) - found), sorted(found - set(wanted))
    with administration(settings) as admin:
        if missing:
            _require_done(admin.create_acls(list(map(_to_acl, missing)))["failed"])
        if prune and surplus:
            answers = admin.delete_acls(list(map(_to_acl, surplus)))
            _require_done(error for _, _, error in answers if error is not NoError)
    return missing, surplus


def _described(admin: Any) -> list[ACL]:
    everything = ACLFilter(
        principal=None,
        host=None,
        operation=ACLOperation.ANY,
        permission_type=ACLPermissionType.ANY,
        resource_pattern=ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY),
    )
    try:
        found, error = admin.describe_acls(everything)
    except SecurityDisabledError:
        found, error = [], SecurityDisabledError
    if error is SecurityDisabledError:
        raise SettingsError(
            "the brokers must have an authorizer, or every user may do everything; set "
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer"
        )
    _require_done(each for each in (error,) if each is not NoError)
    return found


def _require_done(errors: Iterable[type[Exception]]) -> None:
    if names := sorted({error.__name__ for error in errors}):
        raise SettingsError(
            f"the brokers must change their access control lists, but: {', '.join(names)}; "
            "use a super user (super.users), or one with Alter on the cluster"
        )


def _to_acl(grant: Grant) -> ACL:
    pattern = ACLResourcePatternType.PREFIXED if grant.is_prefix else ACLResourcePatternType.LITERAL
    return ACL(
        principal=f"{USER}{grant.principal}",
        host=EVERYWHERE,
        operation=ACLOperation[grant.operation.upper()],
        permission_type=ACLPermissionType.ALLOW,
        resource_pattern=ResourcePattern(ResourceType[grant.resource.upper()], grant.name, pattern),
    )


def _to_grant(acl: ACL) -> Grant | None:
    """Return ``acl`` as a grant; None for what no grant can say, such as a denial."""
    kinds: dict[ResourceType, Resource] = {
        ResourceType.TOPIC: "topic",
        ResourceType.GROUP: "group",
        ResourceType.TRANSACTIONAL_ID: "transactional_id",
    }
    operations: dict[str, Operation] = {name: name for name in get_args(Operation)}
    pattern, operation = acl.resource_pattern, operations.get(acl.operation.name.lower())
    is_granted = acl.permission_type == ACLPermissionType.ALLOW and acl.principal is not None
    if pattern.resource_type not in kinds or operation is None or not is_granted:
        return None
    return Grant(
        principal=str(acl.principal).removeprefix(USER),
        resource=kinds[pattern.resource_type],
        name=pattern.resource_name,
        is_prefix=pattern.pattern_type == ACLResourcePatternType.PREFIXED,
        operation=operation,
    )
