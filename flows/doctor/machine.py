"""This machine: disks, what waits for the broker, certificates, settings that contradict."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import shutil
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509

from flows import wiring
from flows.doctor.findings import Finding, look, right, wrong
from flows.settings import Settings
from flows.spool_files import spool_names
from fusion.plant import NANOSECONDS
from fusion.ports import Clock

MIN_FREE_BYTES = 200_000_000
OLD_S = 300.0
NEARLY_FULL = 0.8
EXPIRES_DAYS = 30


def disks(settings: Settings) -> Iterator[Finding]:
    """See whether there is room for data, and for what may have to wait for the broker."""
    spool_bytes = settings.spool_max_mb * 1_000_000 if settings.broker == "kafka" else 0
    for name, folder, enough in (
        ("disk of the data", settings.data_dir, 5 * MIN_FREE_BYTES),
        ("disk of the spool", settings.spool_folder, spool_bytes),
    ):
        free = shutil.disk_usage(_existing(folder)).free
        seen = f"{free / 1e9:.2f} GB free for {folder}"
        mend = f"make room, or put {_variable(name)} on a larger disk"
        if free < MIN_FREE_BYTES:
            yield wrong(name, seen, mend)
        elif free < enough:
            yield look(name, f"{seen}, {enough / 1e9:.2f} GB may be needed", mend)
        else:
            yield right(name, seen)


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return folder if folder.exists() else _existing(folder.parent)


def _variable(name: str) -> str:
    return "FUSION_SPOOL_DIR" if name.endswith("spool") else "FUSION_DATA_DIR"


def spools(settings: Settings, clock: Clock) -> Iterator[Finding]:
    """See what waits for the broker on this machine, and for how long."""
    for name in spool_names(settings):
        num_records, num_bytes, oldest_ns = 0, 0, None
        with contextlib.closing(wiring.open_spool_source(settings, name)) as source:
            while records := source.poll(timeout_s=0):
                oldest_ns = oldest_ns or records[0].t_broker_ns
                num_records += len(records)
                num_bytes += sum(len(record.value) for record in records)
        check = f"spool of {name}"
        age_s = 0.0 if oldest_ns is None else (clock.now_ns() - oldest_ns) / NANOSECONDS
        seen = f"{num_records} records ({num_bytes / 1e6:.1f} MB) wait, the oldest {age_s:.0f} s"
        if num_bytes > NEARLY_FULL * settings.spool_max_mb * 1_000_000:
            mend = "bring the broker back before it is full, or raise FUSION_SPOOL_MAX_MB"
            yield wrong(check, seen, mend)
        elif age_s > OLD_S:
            mend = "see that its sender runs and the broker answers, or: fusion spool send"
            yield look(check, seen, mend)
        else:
            yield right(check, seen if num_records else "empty")


def certificates(settings: Settings, now: datetime.datetime) -> Iterator[Finding]:
    """See until when the certificates that are set are good."""
    for field in type(settings).model_fields:
        path = getattr(settings, field)
        if not field.endswith(("_cert_file", "_ca_file")) or path is None:
            continue
        check, variable = f"certificate {path.name}", f"FUSION_{field.upper()}"
        try:
            found = x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError) as unusable:
            yield wrong(check, f"{variable}: {unusable}", "give a readable PEM file")
            continue
        ends = min(each.not_valid_after_utc for each in found)
        left_days = (ends - now).days
        seen = f"{variable}: good until {ends:%Y-%m-%d}"
        if ends <= now:
            yield wrong(check, f"{variable}: expired on {ends:%Y-%m-%d}", "renew it")
        elif left_days < EXPIRES_DAYS:
            yield look(check, f"{seen}, {left_days} days", "renew it now")
        else:
            yield right(check, seen)


def contradictions(settings: Settings) -> Iterator[Finding]:
    """Name settings that do nothing beside others, or that open a door."""
    given = settings.model_fields_set
    found: list[Finding] = []

    def unused(prefix: str, because: str) -> None:
        if names := sorted(f"FUSION_{n.upper()}" for n in given if n.startswith(prefix)):
            mend = f"unset {', '.join(names)}, or change {because.split('=', maxsplit=1)[0]}"
            found.append(look("settings", f"{', '.join(names)} do nothing with {because}", mend))

    if settings.broker == "embedded":
        unused("kafka_", "FUSION_BROKER=embedded")
    if settings.inference == "local":
        unused("triton_", "FUSION_INFERENCE=local")
    if "://" not in settings.objects_uri:
        unused("objects_", "FUSION_OBJECTS=a folder")
    away = not _is_own(settings.kafka_bootstrap.split(",", maxsplit=1)[0])
    if settings.broker == "kafka" and settings.kafka_security == "plaintext" and away:
        seen = f"{settings.kafka_bootstrap} is another machine, and what is sent can be read"
        found.append(look("settings", seen, "set FUSION_KAFKA_SECURITY to ssl or sasl_ssl"))
    if not _is_own(settings.console_address) and settings.console_cert_file is None:
        seen = f"the console at {settings.console_address} sends passwords without TLS"
        mend = "set FUSION_CONSOLE_CERT_FILE and ..._KEY_FILE, or put a proxy with TLS before it"
        found.append(look("settings", seen, mend))
    if settings.health_address and settings.health_address == settings.console_address:
        seen = f"FUSION_HEALTH_ADDRESS and FUSION_CONSOLE_ADDRESS are {settings.health_address}"
        found.append(wrong("settings", seen, "give each a port of its own"))
    if settings.triton_shared_memory and not _is_own(settings.triton_address):
        seen = f"arrays cannot be passed through memory to {settings.triton_address}"
        found.append(wrong("settings", seen, "unset FUSION_TRITON_SHARED_MEMORY"))
    yield from found or [right("settings", "they go together")]


def _is_own(address: str) -> bool:
    """Whether ``host:port`` is this machine alone."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
