"""How people away from the screen are reached: channels and routes, described in a file.

Secrets never stand in it: it names the environment variables that hold them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from fusion.alarms.routing import Route
from fusion.errors import InputError
from fusion.plant.described import Described, Name

MAX_FILE_BYTES = 1024 * 1024


def _is_free(name: str) -> str:
    if name.startswith("FUSION_"):
        raise ValueError(f"{name} would be taken for a setting; give it a name without FUSION_")
    return name


Variable = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,99}$"), AfterValidator(_is_free)]
"""Of the environment; not one of the product's own settings."""


class WebhookChannel(Described):
    """Notices as JSON to one address."""

    kind: Literal["webhook"]
    url_from: Variable = Field(description="Variable that holds the address.")
    secret_from: Variable | None = Field(
        default=None, description="Variable that holds what notices are signed with."
    )


class EmailChannel(Described):
    """Notices as mail to one list of people."""

    kind: Literal["email"]
    host: str = Field(min_length=1)
    port: int = Field(default=587, ge=1, le=65_535)
    sender: str = Field(min_length=3, pattern=r"^\S+@\S+$")
    recipients: tuple[Annotated[str, Field(pattern=r"^\S+@\S+$")], ...] = Field(
        min_length=1, max_length=100
    )
    security: Literal["starttls", "tls", "plain"] = "starttls"
    username: str | None = None
    password_from: Variable | None = Field(
        default=None, description="Variable that holds the password of username."
    )

    @model_validator(mode="after")
    def _password_is_safe(self) -> Self:
        if (self.username is None) != (self.password_from is None):
            raise ValueError("username and password_from belong together; give both or none")
        if self.username is not None and self.security == "plain":
            raise ValueError("a password must not be sent in the open; use starttls or tls")
        return self


Channel = Annotated[WebhookChannel | EmailChannel, Field(discriminator="kind")]


class Notifications(Described):
    """Who is told of what, and how they are reached."""

    channels: dict[Name, Channel] = Field(min_length=1, max_length=100)
    routes: tuple[Route, ...] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _routes_lead_somewhere(self) -> Self:
        names = [route.name for route in self.routes]
        if len(set(names)) < len(names):
            raise ValueError(f"each route must have a name of its own, got {names}; rename one")
        asked = {r.channel for r in self.routes}
        asked |= {r.escalate_to for r in self.routes if r.escalate_to is not None}
        if unknown := sorted(asked - set(self.channels)):
            raise ValueError(
                f"routes must go to channels of this file, which are {sorted(self.channels)}, got "
                f"{unknown}; add them or mend the routes"
            )
        for route in self.routes:
            if (route.escalate_to is None) != (route.escalate_after_s is None):
                raise ValueError(
                    f"escalate_to and escalate_after_s of {route.name} belong together; give both "
                    "or none"
                )
        return self


def parse_notifications(text: str, *, origin: str) -> Notifications:
    """Return what the YAML ``text`` describes; ``origin`` names it in messages.

    Raises:
        InputError: Every mistake found, one a line.

    Example:
        >>> parse_notifications("routes: []", origin="n.yaml")
        Traceback (most recent call last):
        fusion.errors.InputError: n.yaml must say who is told of what, but:...
    """
    if len(text.encode()) > MAX_FILE_BYTES:
        raise InputError(f"{origin} must be smaller than {MAX_FILE_BYTES} bytes; shorten it")
    try:
        content: Any = yaml.safe_load(text)
        return Notifications.model_validate(content)
    except yaml.YAMLError as broken:
        raise InputError(f"{origin} must be YAML; {broken}") from broken
    except ValidationError as invalid:
        lines = [
            f"  {'.'.join(map(str, each['loc'])) or 'the file'}: "
            f"{each['msg'].removeprefix('Value error, ')}"
            for each in invalid.errors(include_url=False, include_input=False)
        ]
        raise InputError(
            "\n".join([f"{origin} must say who is told of what, but:", *lines])
        ) from invalid
