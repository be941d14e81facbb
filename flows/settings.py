"""Settings: where things are. Environment variables with the prefix ``FUSION_``, and nothing else.

What the plant is stands in the plant file, what to train in the recipe.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from fusion.errors import SettingsError

PREFIX = "FUSION_"
NOT_SETTINGS = {"FUSION_SHARED_DATA"}
"""Read by options of single commands, not by every process."""


class Settings(BaseSettings):
    """Where this process finds its broker, its lake and its models."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    broker: Literal["embedded", "kafka"] = Field(
        default="embedded", description="One SQLite file on this machine, or Apache Kafka."
    )
    data_dir: Path = Field(
        default=Path("out"), description="Folder of the embedded broker, the lake and the models."
    )
    kafka_bootstrap: str = Field(
        default="127.0.0.1:9092", description="Host and port of one or more Kafka brokers."
    )
    partitions: int = Field(
        default=1, ge=1, le=1_000, description="Partitions of each sense topic, when created."
    )

    replica: str = Field(
        default="1",
        pattern=r"^[a-zA-Z0-9._-]{0,100}$",
        description="Name of this live process among those of its plants. Equal after a restart: "
        "its partitions wait for it. Empty: they move to others as soon as it leaves.",
    )
    session_timeout_s: float = Field(
        default=30.0,
        ge=6,
        le=1_800,
        description="After this long without a sign of life, others take over a live process.",
    )
    health_address: str = Field(
        default="",
        pattern=r"^$|^[a-zA-Z0-9.:-]+:\d{1,5}$",
        description="Host and port where `fusion live` answers /health/live and /health/ready; "
        "empty: it does not.",
    )
    spool_dir: Path | None = Field(
        default=None,
        description="What waits for Kafka while it is away; without it spool in FUSION_DATA_DIR.",
    )
    spool_max_mb: int = Field(
        default=1024, ge=1, description="What may wait there, for each sender."
    )
    objects: str = Field(
        default="",
        description="Where large records lie: a folder (default: objects in the data folder), or "
        "s3://bucket/prefix.",
    )
    objects_endpoint: str | None = Field(
        default=None,
        description="Address of a server that speaks S3, such as https://s3.plant.example; without "
        "it Amazon's. Plain HTTP only where it begins with http://.",
    )
    objects_region: str = Field(default="us-east-1", description="Region of the bucket.")
    objects_access_key: str | None = Field(default=None, description="Access key of the bucket.")
    objects_secret_key: SecretStr | None = Field(default=None, description="Secret key, or ...")
    objects_secret_key_file: Path | None = Field(
        default=None, description="... a file that holds the secret key."
    )
    objects_ca_file: Path | None = Field(
        default=None, description="Certificate (PEM) of the authority to trust beside the usual."
    )

    @property
    def spool_folder(self) -> Path:
        """The folder of one spool per sender."""
        return self.spool_dir or self.data_dir / "spool"

    @property
    def broker_path(self) -> Path:
        """The embedded broker's file."""
        return self.data_dir / "broker.sqlite"

    @property
    def lake_uri(self) -> str:
        """The folder of the Delta tables."""
        return str(self.data_dir / "lake")

    @property
    def objects_uri(self) -> str:
        """The folder or the bucket of large records."""
        return self.objects or str(self.data_dir / "objects")

    @property
    def objects_secret(self) -> str | None:
        """The secret key of the object store, from its variable or its file; None where none is.

        Raises:
            SettingsError: Both are given, or the file cannot be read.
        """
        if self.objects_secret_key_file is None:
            key = self.objects_secret_key
            return None if key is None else key.get_secret_value()
        if self.objects_secret_key is not None:
            raise SettingsError(
                "only one of FUSION_OBJECTS_SECRET_KEY and FUSION_OBJECTS_SECRET_KEY_FILE may be "
                "set, got both; unset one"
            )
        return read_setting("FUSION_OBJECTS_SECRET_KEY_FILE", self.objects_secret_key_file).strip()

    @property
    def models_dir(self) -> Path:
        """The folder of the model versions."""
        return self.data_dir / "models"

    @classmethod
    def load(cls) -> Settings:
        """Return the settings of this process.

        Raises:
            SettingsError: A ``FUSION_`` variable is not known, or its value breaks a rule.
        """
        known = {f"{PREFIX}{name}".upper() for name in cls.model_fields} | NOT_SETTINGS
        for name in sorted(os.environ):
            # Pydantic takes names in any case, so they are refused in any case.
            if name.upper().startswith(PREFIX) and name.upper() not in known:
                near = difflib.get_close_matches(name.upper(), known, n=1)
                raise SettingsError(
                    f"{name} is not a setting"
                    + (f"; did you mean {near[0]}?" if near else "")
                    + f" Known: {', '.join(sorted(known))}"
                )
        try:
            return cls()
        except ValidationError as invalid:
            lines = [
                f"  {PREFIX}{str(error['loc'][0]).upper()}: {error['msg']}, got {error['input']!r}"
                for error in invalid.errors(include_url=False)
            ]
            raise SettingsError("\n".join(["settings break a rule:", *lines])) from invalid


def read_setting(name: str, path: Path) -> str:
    """Return the text of the file that the variable ``name`` names.

    Raises:
        SettingsError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as unreadable:
        raise SettingsError(
            f"{name} must name a readable text file, but {path}: {unreadable}; mend the path"
        ) from unreadable
