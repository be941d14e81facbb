"""What docker-compose.yml promises, as far as it can be seen without Docker."""

from __future__ import annotations

import re
import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from console.routes import login
from deploy.compose import make_secrets as making
from flows.cli.acls import DEFAULT_POLICY
from fusion.plant import grants_of, parse_policy
from tests.deployed import (
    FOREIGN_HEALTH_PATHS,
    HEALTH_PATHS,
    OWN_IMAGE,
    PINNED,
    ROOT,
    SETTINGS,
    require_command,
)
from tests.models import PLANT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NOW = datetime(2026, 11, 26, tzinfo=UTC)
WRITABLE = {
    "kafka": "/var/lib/kafka/data", "postgres": "/var/lib/postgresql/data",
    "prometheus": "/prometheus", "grafana": "/var/lib/grafana",
}  # fmt: skip
"""Where an image that is not ours keeps its data, in a folder that its user owns."""

every_service = pytest.mark.parametrize("name", sorted(SERVICES))


def mounts(service: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """Return source, target and subpath of every mount."""
    found: list[tuple[str, str, str | None]] = []
    for each in service.get("volumes", []):
        if isinstance(each, str):
            text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", each)
            source, target, *_ = text.split(":")
            found.append((source, target, None))
        else:
            found.append((each["source"], each["target"], each["volume"]["subpath"]))
    return found


def words_of(service: dict[str, Any]) -> list[str] | None:
    """Return what follows `fusion`; None for a service that runs something else."""
    is_own = service["image"] == OWN_IMAGE and "entrypoint" not in service
    return service["command"] if is_own else None


def test_it_follows_the_compose_specification() -> None:
    schema = get_builtin_schema("vendor.compose-spec")
    jsonschema.validate(COMPOSE, schema)
    misspelt = COMPOSE | {"services": {"kafka": {"image": "apache/kafka", "healthchek": {}}}}
    with pytest.raises(jsonschema.ValidationError, match="healthchek"):
        jsonschema.validate(misspelt, schema)


@every_service
def test_a_service_has_no_rights_and_bounds(name: str) -> None:
    service = SERVICES[name]
    assert PINNED.match(service["image"]), service["image"]
    assert service["user"].split(":")[0] not in {"0", "root"}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "ipc", "devices"} & set(service)
    assert {"mem_limit", "cpus", "pids_limit", "restart", "logging"} <= set(service)
    assert "docker.sock" not in str(service)


@every_service
def test_a_service_that_stays_says_whether_it_is_well(name: str) -> None:
    service, check = SERVICES[name], SERVICES[name]["healthcheck"]
    if check.get("disable"):
        assert service["restart"] == "no" or name == "historian", "one that ends by itself"
        return
    text = " ".join(check["test"])
    path = re.search(r"https?://[\w.]+:\d+(/[\w/.-]*)", text)
    if path is None:
        assert re.search(r"\bnc -z|pg_isready|/dev/tcp/", text), text
        return
    if words_of(service) is None:
        assert path[1] in FOREIGN_HEALTH_PATHS
    elif name == "console":
        routes = {getattr(route, "path", "") for route in login.router.routes}
        assert path[1] in routes
    else:
        assert path[1] in HEALTH_PATHS
    port = re.search(r"https?://[\w.]+:(\d+)", text)
    assert port is not None
    served = str(service.get("command")) + str(service.get("environment"))
    defaults = {
        "worker": "8080",
        "prefect": "4200",
        "prometheus": "9090",
        "grafana": "3000",
        "triton": "8000",
    }
    assert port[1] in served or defaults.get(name) == port[1]


@every_service
def test_commands_settings_users_and_files_that_it_names_exist(name: str) -> None:
    service = SERVICES[name]
    words = words_of(service)
    if words is not None:
        require_command(words)
        for word in words:
            if word.endswith(".yaml") and not word.startswith("/"):
                assert (ROOT / word).is_file()
    environment = service.get("environment", {})
    assert {key for key in environment if key.startswith("FUSION_")} <= SETTINGS
    volumes, known = COMPOSE["volumes"], set[str]()
    for source, target, subpath in mounts(service):
        known.add(target)
        if source.startswith("."):
            path = source.removeprefix("./")
            is_there = (ROOT / path).exists() or path.startswith("out/")
            assert is_there, f"{name} mounts {source}"
        else:
            assert source in volumes, source
        if source == "secrets" and target != "/secrets/":
            assert subpath or name == "secrets-init", "only its own secrets"
    text = str(service.get("command")) + str(service.get("entrypoint")) + str(environment)
    for folder in re.findall(
        r"(?<![\w./-])(/(?:data|secrets|tls|backups|prometheus|plant\.yaml))", text
    ):
        is_temporary = any(str(each).startswith(folder) for each in service.get("tmpfs", []))
        assert folder in known or is_temporary, f"{name} has no {folder}"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    making.make_secrets(folder, now=NOW)
    return folder


@every_service
def test_every_secret_that_it_reads_is_made_for_it(name: str, secrets: Path) -> None:
    service = SERVICES[name]
    text = str(service.get("command")) + str(service.get("entrypoint"))
    text += str(service.get("environment")) + str(service.get("healthcheck"))
    places = {
        target: secrets / sub
        for source, target, sub in mounts(service)
        if source == "secrets" and sub
    }
    for target, folder in places.items():
        for file in re.findall(rf"{target}/([\w.-]+)", text):
            made = folder / file
            assert made.is_file(), f"{name} reads {target}/{file}"
            needs_group = service["user"] != "10001:10001"
            is_readable = stat.S_IMODE(made.stat().st_mode) & (
                stat.S_IRGRP if needs_group else stat.S_IRUSR
            )
            assert is_readable
    if places and service["user"] != "10001:10001":
        assert service["group_add"] == ["10001"]


def test_no_password_is_written_anywhere() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert not re.search(
        r"(?i)(password|secret_?key|token)[\"']?\s*[:=]\s*[\"']?(?!/|\$|true|false)[\w-]", text
    )
    assert not re.search(r"://[^/\s]+:[^/@\s]+@", text)


def test_only_this_machine_reaches_what_is_published() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
            assert "front" in service["networks"], "an internal network publishes nothing"
    internal = {name for name, network in COMPOSE["networks"].items() if network}
    assert all(COMPOSE["networks"][name]["internal"] for name in internal)
    assert set(COMPOSE["networks"]) - internal == {"front"}


def test_who_needs_one_another_shares_a_network_and_waits() -> None:
    for name, service in SERVICES.items():
        if service.get("network_mode") == "none":
            continue  # (it asks nobody, and says by what it names what it leaves out)
        own = set(service.get("networks", []))
        for host in re.findall(
            r"(?:@|//|'|\b)(" + "|".join(SERVICES) + r"):\d{4}", str(service.get("environment"))
        ):
            assert own & set(SERVICES[host]["networks"]), f"{name} cannot reach {host}"
        for needed in service.get("depends_on", {}):
            assert needed in SERVICES
            profiles = set(SERVICES[needed].get("profiles", []))
            assert not profiles or profiles & set(service.get("profiles", [])), (
                f"{name} needs {needed}"
            )


def test_prometheus_asks_every_service_that_has_figures_and_reaches_it() -> None:
    (option,) = [w for w in SERVICES["prometheus"]["command"] if w.startswith("--config.file=")]
    file = ROOT / "deploy" / "prometheus" / Path(option).name
    targets: dict[str, int] = {}
    for job in yaml.safe_load(file.read_text())["scrape_configs"]:
        for fixed in job.get("static_configs", []):
            targets |= {host: int(p) for host, _, p in (t.partition(":") for t in fixed["targets"])}
        for found in job.get("dns_sd_configs", []):
            targets |= dict.fromkeys(found["names"], found["port"])
    told = {
        name: int(address.rpartition(":")[2])
        for name, service in SERVICES.items()
        if (address := service.get("environment", {}).get("FUSION_HEALTH_ADDRESS"))
    }
    assert targets == told | {"triton": 8002}
    for host in targets:
        assert set(SERVICES[host]["networks"]) & set(SERVICES["prometheus"]["networks"]), host


def test_grafana_finds_its_dashboards_and_prometheus() -> None:
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    (board,) = yaml.safe_load((provisioning / "dashboards/fusion.yaml").read_text())["providers"]
    (source,) = yaml.safe_load((provisioning / "datasources/fusion.yaml").read_text())[
        "datasources"
    ]
    grafana = SERVICES["grafana"]
    mounted = {target: source for source, target, _ in mounts(grafana)}
    assert mounted[board["options"]["path"]] == "./deploy/grafana/dashboards"
    address = grafana["environment"][source["url"].removeprefix("$")]
    assert address == "http://prometheus:9090"
    assert set(grafana["networks"]) & set(SERVICES["prometheus"]["networks"])


def test_workers_ask_the_pool_that_the_flows_are_put_into() -> None:
    described = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    pools = {each["work_pool"]["name"] for each in described["deployments"]}
    manifest = (ROOT / "deploy/kubernetes/components/prefect/worker.yaml").read_text()
    words = SERVICES["worker"]["command"]
    assert pools == {words[words.index("--pool") + 1]}
    assert pools == set(re.findall(r"--pool, (\w+),", manifest))
    # The code is taken from where the image has it, with the plant files beside it.
    home = SERVICES["worker"]["environment"]["INDUSTRIAL_FUSION_HOME"]
    image = (ROOT / "deploy" / "Dockerfile").read_text()
    assert f"WORKDIR {home}\nCOPY plants plants\nCOPY prefect.yaml prefect.yaml" in image


def test_kafka_may_load_the_library_that_it_unpacks() -> None:
    """Senders compress with zstd; a tmpfs is noexec unless it says otherwise."""
    assert SERVICES["kafka"]["tmpfs"] == ["/tmp:exec"]


def test_only_live_and_prometheus_share_a_network_with_triton() -> None:
    """Who reaches its gRPC may load a model, and loading a model is running code."""
    own = set(SERVICES["triton"]["networks"])
    beside = {name for name, service in SERVICES.items() if own & set(service.get("networks", []))}
    assert beside == {"triton", "live", "prometheus"}
    assert "--http-address=127.0.0.1" in SERVICES["triton"]["command"]
    assert "--metrics-address=0.0.0.0" in SERVICES["triton"]["command"]


def test_the_core_starts_without_a_profile() -> None:
    core = {name for name, service in SERVICES.items() if not service.get("profiles")}
    inits = {"secrets-init", "rights-init", "topics-init"}
    assert core == inits | {"kafka", "objects", "ingest", "live", "console"}
    profiles = {p for s in SERVICES.values() for p in s.get("profiles", [])}
    assert {"ops", "gpu", "edge", "demo", "train", "backup"} == profiles


def test_each_service_is_the_user_of_kafka_that_it_should_be() -> None:
    policy = parse_policy((ROOT / DEFAULT_POLICY).read_text(), origin="acls.yaml")
    assert {grant.principal for grant in grants_of(policy, [PLANT])} == set(policy.principals)
    for service in SERVICES.values():
        user = service.get("environment", {}).get("FUSION_KAFKA_USERNAME")
        if user is not None:
            assert user in {*policy.principals, "admin"}
            folders = {sub for source, target, sub in mounts(service) if target == "/secrets"}
            assert folders <= {user}
    admins = [
        n
        for n, s in SERVICES.items()
        if s.get("environment", {}).get("FUSION_KAFKA_USERNAME") == "admin"
    ]
    assert admins == ["rights-init"]
    assert set(making.KAFKA_USERS) - {"admin"} <= set(policy.principals)


def test_secrets_are_made_once_and_shown_to_nobody(secrets: Path) -> None:
    files = [path for path in secrets.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    making.make_secrets(secrets, now=NOW + timedelta(days=1))
    assert {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()} == before
    assert all(stat.S_IMODE(path.stat().st_mode) in {0o400, 0o440} for path in files)
    assert all(not stat.S_IMODE(p.stat().st_mode) & 0o007 for p in secrets.rglob("*"))
    words = [path.read_text() for path in secrets.rglob("kafka-password")]
    assert len(set(words)) == len(words) == len(making.KAFKA_USERS)
    assert all(len(word) >= 43 for word in words), "256 bits"
    assert not (secrets / "kafka" / "ca.key").exists()
    script = [sys.executable, ROOT / "deploy" / "compose" / "make_secrets.py", secrets]
    told = subprocess.run(script, capture_output=True, text=True, check=True)
    assert told.stdout + told.stderr == ""


def test_certificates_are_renewed_before_they_end_and_are_trusted(tmp_path: Path) -> None:
    making.make_secrets(tmp_path, now=NOW)
    (authority,) = x509.load_pem_x509_certificates((tmp_path / "live" / "ca.pem").read_bytes())

    def verify(now: datetime) -> bytes:
        content = (tmp_path / "kafka" / "server.pem").read_bytes()
        server, *chain = x509.load_pem_x509_certificates(content)
        policy = PolicyBuilder().store(Store([authority])).time(now)
        policy.build_server_verifier(x509.DNSName("kafka")).verify(server, chain[:0])
        return content

    first = verify(NOW)
    later = NOW + making.VALID - making.RENEW_BEFORE + timedelta(hours=1)
    making.make_secrets(tmp_path, now=later)
    assert verify(later + timedelta(days=300)) != first
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = tmp_path / "console-tls" / "server.pem"
    context.load_cert_chain(pem, pem)  # as the console does
