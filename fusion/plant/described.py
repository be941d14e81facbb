"""What every part of a plant description is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
"""Lower case, digits, ``-`` and ``_``: fit for topics, addresses and file names."""


class Described(BaseModel):
    """Frozen, and a field that is not in the schema is a mistake, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
