"""Settings: where things are. Environment variables with the prefix ``FUSION_``, and nothing else.

What the plant is stands in the plant file, what to train in the recipe.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from fusion.errors import SettingsError

PREFIX = "FUSION_"
NOT_SETTINGS = {"FUSION_SHARED_DATA"}
"""Read by options of single commands, not by every process."""
SECRETS = {
    "kafka_password",
    "alarm_history_url",
    "console_database",
    "console_oidc_client_secret",
}


class Settings(BaseSettings):
    """Where this process finds its broker, its lake and its models."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    broker: Literal["embedded", "kafka"] = Field(
        default="embedded", description="One SQLite file on this machine, or Apache Kafka."
    )
    data_dir: Path = Field(
        default=Path("out"), description="Folder of the embedded broker, the lake and the models."
    )
    kafka_bootstrap: str = Field(
        default="127.0.0.1:9092", description="Host and port of one or more Kafka brokers."
    )
    kafka_replication: int = Field(
        default=-1, ge=-1, le=9, description="Copies of each new topic; -1: the brokers' default."
    )
    kafka_security: Literal["plaintext", "ssl", "sasl_ssl"] = Field(
        default="plaintext",
        description="TLS, or TLS with user name and password; plaintext only where nobody listens.",
    )
    kafka_ca_file: Path | None = Field(
        default=None, description="PEM of the brokers' authority; without it, the system's."
    )
    kafka_cert_file: Path | None = Field(
        default=None, description="PEM of this client's certificate, where brokers ask for one."
    )
    kafka_key_file: Path | None = Field(
        default=None, description="PEM of its key, without a passphrase."
    )
    kafka_sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256"] = Field(
        default="SCRAM-SHA-512", description="How the password is proven; it is never sent."
    )
    kafka_username: str | None = Field(
        default=None, min_length=1, description="User name, for sasl_ssl."
    )
    kafka_password: SecretStr | None = Field(
        default=None, min_length=1, description="Its password; better in a file."
    )
    kafka_password_file: Path | None = Field(
        default=None, description="File that holds the password and nothing else."
    )

    @model_validator(mode="after")
    def _secured_consistently(self) -> Self:
        tls = {"kafka_ca_file", "kafka_cert_file", "kafka_key_file"}
        login = {"kafka_username", "kafka_password", "kafka_password_file"}
        given = {name for name in tls | login if getattr(self, name) is not None}
        allowed = {"plaintext": set[str](), "ssl": tls, "sasl_ssl": tls | login}
        if unused := sorted(given - allowed[self.kafka_security]):
            raise ValueError(
                f"{_variables(unused)} would not be used with FUSION_KAFKA_SECURITY="
                f"{self.kafka_security}; unset it, or set FUSION_KAFKA_SECURITY to ssl (files of "
                "TLS) or sasl_ssl (user name and password too)"
            )
        if len(given & {"kafka_cert_file", "kafka_key_file"}) == 1:
            raise ValueError(
                "FUSION_KAFKA_CERT_FILE and FUSION_KAFKA_KEY_FILE belong together, got only "
                f"{_variables(given & tls - {'kafka_ca_file'})}; set the other one too"
            )
        if self.kafka_security == "sasl_ssl" and (
            "kafka_username" not in given
            or len(given & {"kafka_password", "kafka_password_file"}) != 1
        ):
            raise ValueError(
                "FUSION_KAFKA_SECURITY=sasl_ssl needs FUSION_KAFKA_USERNAME and one of "
                "FUSION_KAFKA_PASSWORD and FUSION_KAFKA_PASSWORD_FILE, got "
                f"{_variables(given & login) or 'none of them'}; set what is missing, unset what "
                "is too much"
            )
        return self

    def secrets(self) -> list[str]:
        """Return every secret that this process was given, so that logs can leave them out."""
        held = [value for _, value in self if isinstance(value, SecretStr)]
        found = [each.get_secret_value() for each in held]
        for path in (self.kafka_password_file, self.objects_secret_key_file):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                found.append("" if path is None else path.read_text(encoding="utf-8").strip())
        # (Errors of libraries quote the password of an address without the rest.)
        found += [urlsplit(each).password or "" for each in found if "://" in each]
        return [each for each in found if each]

    def read_kafka_password(self) -> SecretStr | None:
        """Return the password from the variable or its file; None where no password is used.

        Raises:
            SettingsError: The file cannot be read, or is empty.
        """
        if self.kafka_password_file is None:
            return self.kafka_password
        try:
            text = self.kafka_password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as unreadable:
            why = unreadable.strerror if isinstance(unreadable, OSError) else "it is not UTF-8"
            raise SettingsError(
                "FUSION_KAFKA_PASSWORD_FILE must be a text file that this process may read, but "
                f"{self.kafka_password_file}: {why}; check its path and its owner"
            ) from None  # what was read must not get into a traceback
        if not text:
            raise SettingsError(
                "FUSION_KAFKA_PASSWORD_FILE must hold the password, but "
                f"{self.kafka_password_file} is empty; write it there"
            )
        return SecretStr(text)

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
        description="Host and port where live, edge, console and ingest --every answer "
        "/health/live, /health/ready and /metrics; empty: they do not.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="What live, edge, console and ingest --every say on stderr: lines for people, "
        "or one JSON object a line.",
    )
    traces: str = Field(
        default="",
        pattern=r"^$|^https?://",
        description="Address of an OpenTelemetry collector that takes OTLP over HTTP, such as "
        "http://127.0.0.1:4318/v1/traces; empty: nothing is traced, and nothing is paid for it.",
    )
    traces_share: float = Field(
        default=0.01, gt=0, le=1, description="Of the records, how many are traced by senders."
    )
    console_address: str = Field(
        default="127.0.0.1:8800",
        pattern=r"^[a-zA-Z0-9.:-]+:\d{1,5}$",
        description="Host and port where `fusion console` serves its pages. On other than this "
        "machine's own addresses give it a certificate, or put it behind a proxy that has one.",
    )
    console_cert_file: Path | None = Field(
        default=None, description="Certificate chain (PEM) of the console; with it HTTPS only."
    )
    console_key_file: Path | None = Field(default=None, description="Its private key (PEM).")
    console_database: SecretStr | None = Field(
        default=None,
        description="SQLAlchemy URL of the console's people, such as postgresql://...; without it "
        "console.sqlite in FUSION_DATA_DIR.",
    )
    console_url: str = Field(
        default="",
        pattern=r"^$|^https?://[a-zA-Z0-9.:-]+$",
        description="Where browsers find the console, such as https://console.plant.example; "
        "without it FUSION_CONSOLE_ADDRESS. The identity provider sends people back there.",
    )
    console_oidc_issuer: str = Field(
        default="",
        pattern=r"^$|^https://|^http://(127\.0\.0\.1|localhost)[:/]",
        description="Identity provider (OpenID Connect), such as https://login.plant.example/"
        "realms/plant; empty: people log in with passwords of the console only.",
    )
    console_oidc_client_id: str = Field(
        default="fusion-console", min_length=1, description="What it knows the console as."
    )
    console_oidc_client_secret: SecretStr | None = Field(
        default=None, min_length=1, description="Its secret, or ..."
    )
    console_oidc_client_secret_file: Path | None = Field(
        default=None, description="... a file that holds it; without both PKCE alone protects."
    )
    console_oidc_ca_file: Path | None = Field(
        default=None, description="Certificate (PEM) of the authority that signed it."
    )
    console_oidc_name_claim: str = Field(
        default="preferred_username", description="Claim of the ID token that names people."
    )
    console_oidc_roles_claim: str = Field(
        default="roles",
        description="Claim with the list of their roles or groups; dots go deeper, as in "
        "realm_access.roles.",
    )
    console_oidc_grants: dict[str, str] = Field(
        default_factory=dict[str, str],
        description='JSON: what each value of that claim may do, such as {"shift-a": '
        '"operator@acme/north", "it": "admin"}. Other values give nothing.',
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

    inference: Literal["local", "triton"] = Field(
        default="local", description="ONNX Runtime in this process, or NVIDIA Triton over gRPC."
    )
    triton_address: str = Field(
        default="127.0.0.1:8001",
        pattern=r"^[a-zA-Z0-9.:-]+:\d{1,5}$",
        description="Host and port of Triton's gRPC.",
    )
    triton_repository: Path | None = Field(
        default=None,
        description="Model repository that Triton reads; without it triton in FUSION_DATA_DIR.",
    )
    triton_home: Path = Field(
        default=Path(".services/triton"),
        description="Where deploy/triton/install.sh put the server that `fusion triton` starts.",
    )
    triton_deadline_s: float = Field(
        default=2.0, gt=0, le=60, description="No answer within this time is a failure."
    )
    triton_shared_memory: bool = Field(
        default=False, description="Pass arrays through memory; only where Triton runs here too."
    )
    triton_backend: Literal["python", "onnxruntime"] = Field(
        default="python",
        description="What runs the networks in Triton: onnxruntime in NVIDIA's container; python "
        "where the server has no such backend.",
    )
    triton_device: Literal["cpu", "gpu"] = Field(
        default="cpu",
        description="Where Triton runs the networks; gpu needs the backend onnxruntime.",
    )
    triton_ca_file: Path | None = Field(
        default=None, description="Mutual TLS: PEM of the authority that signed the server."
    )
    triton_cert_file: Path | None = Field(
        default=None, description="Mutual TLS: PEM of this client's certificate."
    )
    triton_key_file: Path | None = Field(
        default=None, description="Mutual TLS: PEM of its key, without a passphrase."
    )

    @model_validator(mode="after")
    def _triton_tls_is_whole(self) -> Self:
        files = ("triton_ca_file", "triton_cert_file", "triton_key_file")
        given = {name for name in files if getattr(self, name) is not None}
        if given and len(given) < len(files):
            raise ValueError(
                f"{_variables(files)} belong together, got only {_variables(given)}; set all three "
                "or none"
            )
        return self

    mlflow_uri: str = Field(
        default="",
        description="Where training runs are kept: an MLflow server such as "
        "https://mlflow.plant.example; empty: mlflow.sqlite in FUSION_DATA_DIR; none: nowhere.",
    )

    model_signing_key_file: Path | None = Field(
        default=None,
        description="Ed25519 private key (PEM): every model version made here is signed with it.",
    )
    model_trusted_keys_file: Path | None = Field(
        default=None,
        description="Ed25519 public keys (PEM): with it, no model is opened that none of them has "
        "signed, or that was altered since.",
    )

    alarm_history_url: SecretStr | None = Field(
        default=None,
        description="Where the alarms' journal is kept for years: postgresql://user:password@host/"
        "name; without it alarms.sqlite in FUSION_DATA_DIR.",
    )

    @property
    def alarm_history_path(self) -> Path:
        """The file of the alarms' journal, where no server keeps it."""
        return self.data_dir / "alarms.sqlite"

    @property
    def tracking_uri(self) -> str | None:
        """MLflow's tracking URI; None where no runs are kept."""
        if self.mlflow_uri == "none":
            return None
        return self.mlflow_uri or f"sqlite:///{(self.data_dir / 'mlflow.sqlite').absolute()}"

    @property
    def console_database_url(self) -> str:
        """The SQLAlchemy URL of the console's people."""
        if self.console_database is not None:
            return self.console_database.get_secret_value()
        return f"sqlite:///{(self.data_dir / 'console.sqlite').absolute()}"

    @property
    def console_oidc_secret(self) -> SecretStr | None:
        """The console's secret at the identity provider; None where there is none.

        Raises:
            SettingsError: Both are given, or the file cannot be read.
        """
        given, path = self.console_oidc_client_secret, self.console_oidc_client_secret_file
        if path is None:
            return given
        if given is not None:
            raise SettingsError(
                "only one of FUSION_CONSOLE_OIDC_CLIENT_SECRET and its _FILE may be set, got both; "
                "unset one"
            )
        name = "FUSION_CONSOLE_OIDC_CLIENT_SECRET_FILE"
        return SecretStr(read_setting(name, path).strip())

    @property
    def console_base_url(self) -> str:
        """Where browsers find the console."""
        scheme = "http" if self.console_cert_file is None else "https"
        return self.console_url or f"{scheme}://{self.console_address}"

    @property
    def spool_folder(self) -> Path:
        """The folder of one spool per sender."""
        return self.spool_dir or self.data_dir / "spool"

    @property
    def broker_path(self) -> Path:
        """The embedded broker's file."""
        return self.data_dir / "broker.sqlite"

    @property
    def triton_repository_dir(self) -> Path:
        """The folder that Triton loads models from."""
        return self.triton_repository or self.data_dir / "triton"

    @property
    def lake_uri(self) -> str:
        """The folder of the Delta tables."""
        return str(self.data_dir / "lake")

    @property
    def backfill_dir(self) -> Path:
        """The folder of unfinished backfills."""
        return self.data_dir / "backfill"

    def findings_uri(self, prefix: str) -> str:
        """Return the Delta table of what backfills found of the plants of ``prefix``."""
        return str(self.data_dir / "findings" / prefix)

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

    @property
    def retraining_dir(self) -> Path:
        """The folder of retrainings: what each step came to, examinations, candidates."""
        return self.data_dir / "retraining"

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
            lines = [_explain(error) for error in invalid.errors(include_url=False)]
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


def _explain(error: ErrorDetails) -> str:
    """Return what is wrong with one setting, or with several together; a secret is not shown."""
    if not error["loc"]:
        return f"  {error['msg'].removeprefix('Value error, ')}"
    name = str(error["loc"][0])
    came = "a value that is not shown" if name in SECRETS else repr(error["input"])
    return f"  {PREFIX}{name.upper()}: {error['msg']}, got {came}"


def _variables(names: Iterable[str]) -> str:
    return ", ".join(f"{PREFIX}{name.upper()}" for name in sorted(names))
