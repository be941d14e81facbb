"""What the manifests promise, rendered by kustomize and held to Kubernetes' own schemas."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from fusion.plant import parse_policy
from tests.deployed import (
    FOREIGN_HEALTH_PATHS,
    HEALTH_PATHS,
    OWN_IMAGE,
    PINNED,
    ROOT,
    SETTINGS,
    require_command,
)

FOLDER = ROOT / "deploy" / "kubernetes"
VERSION = "1.31"
"""The oldest that is supported; what it does not know is refused."""
OURS_NOT = {"ScaledObject", "TriggerAuthentication"}
"""KEDA's; their names and references are looked at below."""
KUBECTL = Path(sys.executable).parent / "kubectl"
Manifest = dict[str, Any]

EVERYTHING = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: industrial-fusion
resources: [../base]
components: [../components/hpa, ../components/triton, ../components/prefect, ../components/edge]
"""
"""With the components that no overlay has: those that it may be put together of."""


def render(folder: Path) -> list[Manifest]:
    told = subprocess.run(
        [str(KUBECTL), "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert not told.stderr, told.stderr
    return list(yaml.safe_load_all(told.stdout))


@pytest.fixture(scope="module", params=["small", "plant", "everything"])
def manifests(request: pytest.FixtureRequest, tmp_path_factory: Any) -> list[Manifest]:
    if request.param != "everything":
        return render(FOLDER / "overlays" / request.param)
    copy = tmp_path_factory.mktemp("manifests") / "kubernetes"
    subprocess.run(["cp", "-r", str(FOLDER), str(copy)], check=True)
    (copy / "everything").mkdir()
    (copy / "everything" / "kustomization.yaml").write_text(EVERYTHING)
    return render(copy / "everything")


def job_template() -> Manifest:
    template = json.loads((FOLDER / "components" / "prefect" / "job-template.json").read_text())
    defaults = {k: v.get("default") for k, v in template["variables"]["properties"].items()}
    text = json.dumps(template["job_configuration"]["job_manifest"])
    defaults["command"], defaults["env"] = ["prefect", "flow-run", "execute"], [
        {"name": name, "value": value} for name, value in defaults["env"].items()
    ]  # fmt: skip
    for name, value in defaults.items():
        text = text.replace(f'"{{{{ {name} }}}}"', json.dumps(value))
        text = text.replace(f"{{{{ {name} }}}}", str(value))
    assert "{{" not in text, "every variable has a value"
    return json.loads(text)


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Yield name, pod template and pod of every workload."""
    for each in manifests:
        spec = each.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template is not None:
            name = each["metadata"].get("name", "flow-run")
            yield name, template, template["spec"]


def all_pods(manifests: list[Manifest]) -> list[tuple[str, Manifest, Manifest]]:
    return [*pods(manifests), *pods([job_template()])]


def named(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] == kind}


def test_every_manifest_follows_the_schemas_of_kubernetes(manifests: list[Manifest]) -> None:
    for each in [*manifests, job_template()]:
        if each["kind"] not in OURS_NOT:
            kubernetes_validate.validate(each, VERSION, strict=True)
    misspelt = json.loads(json.dumps(named(manifests, "StatefulSet")["live"]))
    misspelt["spec"]["replica"] = 3
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(misspelt, VERSION, strict=True)
    keys = [(each["kind"], each["metadata"]["name"]) for each in manifests]
    assert len(set(keys)) == len(keys)
    spaces = {e["metadata"].get("namespace") for e in manifests if e["kind"] != "Namespace"}
    assert spaces == {"industrial-fusion"}


def test_every_pod_keeps_to_the_restricted_standard(manifests: list[Manifest]) -> None:
    (space,) = named(manifests, "Namespace").values()
    labels = space["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, _, pod in all_pods(manifests):
        rights = pod["securityContext"]
        assert rights["runAsNonRoot"] is True, name
        assert rights["runAsUser"] > 0
        assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert pod["automountServiceAccountToken"] is (name == "prefect-worker")
        kinds = {key for volume in pod["volumes"] for key in volume if key != "name"}
        assert kinds <= {"persistentVolumeClaim", "emptyDir", "configMap", "secret"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name


def test_every_container_is_pinned_bounded_and_probed(manifests: list[Manifest]) -> None:
    for name, _, pod in all_pods(manifests):
        (container,) = pod["containers"]
        assert PINNED.match(container["image"]), container["image"]
        assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"]["limits"]), name
        assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"]["requests"])
        if pod.get("restartPolicy") == "Never":
            continue
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if "exec" in container[probe]:  # (a server that answers inside its container alone)
                *_, url = container[probe]["exec"]["command"]
                assert "--http-address=127.0.0.1" in container["args"], name
                assert "--metrics-address=0.0.0.0" in container["args"], "it follows HTTP's else"
                assert url.removeprefix("http://127.0.0.1:8000") in FOREIGN_HEALTH_PATHS
                continue
            asked = container[probe]["httpGet"]
            assert asked["port"] in ports
            is_ours = container["image"] == OWN_IMAGE and asked["path"] != "/login"
            assert asked["path"] in (HEALTH_PATHS if is_ours else {*FOREIGN_HEALTH_PATHS, "/login"})


def test_commands_settings_and_files_that_they_name_exist(manifests: list[Manifest]) -> None:
    shared = named(manifests, "ConfigMap")["settings"]["data"]
    assert set(shared) <= SETTINGS
    policy = parse_policy((ROOT / "deploy/kafka/acls.yaml").read_text(), origin="acls.yaml")
    for name, _, pod in all_pods(manifests):
        (container,) = pod["containers"]
        own = {each["name"]: each for each in container.get("env", [])}
        assert {key for key in own if key.startswith("FUSION_")} <= SETTINGS, name
        if container["image"] != OWN_IMAGE:
            continue
        if "command" not in container:
            require_command(container["args"])
        user = own["FUSION_KAFKA_USERNAME"]["value"]
        secrets = {v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v}
        assert user in policy.principals
        assert f"kafka-{user}" in secrets, "its own password, nobody else's"
        texts = [each.get("value", "") for each in own.values()] + list(shared.values())
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        for path in {text for text in texts if text.startswith("/secrets/")}:
            is_triton_of_live = path.startswith("/secrets/triton/") and name != "live"
            assert is_triton_of_live or str(Path(path).parent) in mounts, f"{name}: {path}"
        assert {m["name"] for m in container["volumeMounts"]} <= {
            v["name"] for v in [*pod["volumes"], {"name": "spool"}]
        }


def test_secrets_are_referred_to_and_written_nowhere(manifests: list[Manifest]) -> None:
    assert not named(manifests, "Secret")
    for path in FOLDER.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert not re.search(
                r"(?i)(?<!ServiceAccount)(password|token|secret[_-]key)\s*[:=]\s*(?!/)\w", text
            ), path
            assert "stringData" not in text
    told = (ROOT / "docs" / "deployment.md").read_text()
    for name, _, pod in all_pods(manifests):
        for volume in pod["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["secretName"] in told, f"{name}: nobody is told to make it"


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    wanted = selector.get("matchLabels", {})
    expressions = selector.get("matchExpressions", [])
    return all(labels.get(k) == v for k, v in wanted.items()) and all(
        labels.get(e["key"]) in e["values"] for e in expressions
    )


def test_nothing_passes_that_no_policy_lets_through(manifests: list[Manifest]) -> None:
    policies = named(manifests, "NetworkPolicy")
    deny = policies.pop("deny-all")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    labels = {name: template["metadata"]["labels"] for name, template, _ in all_pods(manifests)}
    apart = {"broker-and-objects", "metrics"}  # they name pods of components, too
    for name, policy in policies.items():
        selector = policy["spec"]["podSelector"]
        assert any(selects(selector, each) for each in labels.values()), f"{name} is for no pod"
        for rule in [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]:
            assert rule.get("ports"), f"{name} opens every port"
            for peer in rule.get("from", []):
                wanted = peer.get("podSelector")
                inside = wanted and "namespaceSelector" not in peer
                assert not inside or any(selects(wanted, each) for each in labels.values()), name
    assert apart <= set(policies)
    # Whoever asks Kafka may reach it, and nobody else.
    broker = policies["broker-and-objects"]["spec"]["podSelector"]
    reach = {name for name, own in labels.items() if selects(broker, own)}
    asks = {n for n, _, p in all_pods(manifests) if any(v["name"] == "kafka" for v in p["volumes"])}
    assert reach == asks


def test_what_selects_pods_finds_them(manifests: list[Manifest]) -> None:
    by_name = {name: (template, pod) for name, template, pod in pods(manifests)}
    labels = {name: template["metadata"]["labels"] for name, (template, _) in by_name.items()}
    for name, service in named(manifests, "Service").items():
        (found,) = [
            n for n, own in labels.items() if own.items() >= service["spec"]["selector"].items()
        ]
        ports = {p["name"] for p in by_name[found][1]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, name
    budgets = named(manifests, "PodDisruptionBudget")
    assert "live" in budgets
    for budget in budgets.values():
        assert any(selects(budget["spec"]["selector"], own) for own in labels.values())
    for kind in ("StatefulSet", "Deployment"):
        for name, each in named(manifests, kind).items():
            assert selects(each["spec"]["selector"], labels[name])
    for kind in ("ScaledObject", "HorizontalPodAutoscaler"):
        for scaled in named(manifests, kind).values():
            target = scaled["spec"]["scaleTargetRef"]
            workload = named(manifests, target["kind"])[target["name"]]
            assert workload["spec"].get("replicas", 1) == 1, "two would say how many"


def test_a_live_process_keeps_its_name_over_a_restart(manifests: list[Manifest]) -> None:
    live = named(manifests, "StatefulSet")["live"]["spec"]
    environment = {e["name"]: e for e in live["template"]["spec"]["containers"][0]["env"]}
    reference = environment["FUSION_REPLICA"]["valueFrom"]["fieldRef"]
    assert reference["fieldPath"] == "metadata.name"
    session_s = float(environment["FUSION_SESSION_TIMEOUT_S"]["value"])
    assert session_s > live["template"]["spec"]["terminationGracePeriodSeconds"]


def test_keda_asks_as_a_user_of_the_policy_for_the_group_of_live() -> None:
    manifests = render(FOLDER / "overlays" / "plant")
    scaled, login = (
        named(manifests, "ScaledObject")["live"],
        named(manifests, "TriggerAuthentication"),
    )
    (trigger,) = scaled["spec"]["triggers"]
    asked = trigger["metadata"]
    assert trigger["authenticationRef"]["name"] in login
    policy = parse_policy((ROOT / "deploy/kafka/acls.yaml").read_text(), origin="acls.yaml")
    groups = [g for rule in policy.principals[asked["username"]] for g in rule.groups]
    assert asked["consumerGroup"] in [group.replace("{prefix}", "rig") for group in groups]
    settings = named(manifests, "ConfigMap")["settings"]["data"]
    assert asked["bootstrapServers"] == settings["FUSION_KAFKA_BOOTSTRAP"]
