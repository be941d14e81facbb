"""Rules and dashboards name metrics and labels that exist, and say them in PromQL that parses."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from flows.metrics import catalogue
from tests.conftest import IS_CI, ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
FOREIGN = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total"}
"""What Prometheus itself and its client library tell."""
TARGET_LABELS = {"job", "instance", "alertname"}
KNOWN: dict[str, set[str]] = {}
for family in catalogue.FAMILIES:
    if family.kind == "histogram":
        KNOWN[f"{family.name}_bucket"] = {*family.labels, "le"}
        KNOWN |= {f"{family.name}_{part}": set(family.labels) for part in ("sum", "count")}
    else:
        KNOWN[family.name] = set(family.labels)


@dataclass(frozen=True)
class Query:
    """One expression, and the labels that its words show."""

    where: str
    expression: str
    shown: frozenset[str]


def _queries() -> Iterator[Query]:
    rules = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            words = " ".join(rule["annotations"].values())
            shown = frozenset(re.findall(r"\$labels\.(\w+)", words))
            yield Query(rule["alert"], rule["expr"], shown)
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                shown = frozenset(re.findall(r"{{(\w+)}}", target["legendFormat"]))
                yield Query(f"{board['title']}: {panel['title']}", target["expr"], shown)
        for variable in board["templating"]["list"]:
            asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert asked is not None, variable
            yield Query(f"{board['title']}: {variable['name']}", asked[1], frozenset({asked[2]}))


QUERIES = list(_queries())


@pytest.mark.parametrize("query", QUERIES, ids=[query.where for query in QUERIES])
def test_every_metric_and_label_exists(query: Query) -> None:
    bare = re.sub(r'"[^"]*"', "", query.expression)
    names = set(re.findall(r"\b(?:fusion|process)_\w+|\bup\b", re.sub(r"{[^}]*}", "", bare)))
    assert names, "an expression is about something"
    assert names <= KNOWN.keys() | FOREIGN, names - KNOWN.keys() - FOREIGN
    for name, selector in re.findall(r"(\w+){([^}]*)}", bare):
        selected = set(re.findall(r"(\w+)\s*[=!]", selector))
        assert selected <= KNOWN.get(name, set()) | TARGET_LABELS, (name, selected)
    there = set[str]().union(*(KNOWN.get(name, set()) for name in names)) | TARGET_LABELS
    for grouped in re.findall(r"\b(?:by|on) \(([^)]*)\)", bare):
        assert set(grouped.split(", ")) <= there, grouped
    assert query.shown <= there, query.shown - there


def test_every_metric_is_on_a_dashboard_or_in_an_alert() -> None:
    shown = " ".join(query.expression for query in QUERIES)
    unseen = [family.name for family in catalogue.FAMILIES if family.name not in shown]
    assert set(unseen) <= {
        "fusion_build_info",
        "fusion_edge_device_restarts_total",
        "fusion_edge_connection_failures_total",
        "fusion_edge_spool_records",
        "fusion_edge_records_total",
        "fusion_ingest_runs_total",
        "fusion_console_message_bytes_total",
        "fusion_console_unreadable_records_total",
    }


def test_prometheus_itself_takes_rules_configuration_and_every_expression(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        assert not IS_CI, "deploy/prepare-tests.sh installs Debian's prometheus"
        pytest.skip("promtool (Debian's prometheus) checks the rules, and is not here")
    rules = [
        {"record": f"q{number}", "expr": query.expression.replace("$plant", "a")}
        for number, query in enumerate(QUERIES)
    ]
    (tmp_path / "all.yml").write_text(yaml.safe_dump({"groups": [{"name": "q", "rules": rules}]}))
    for words in (
        ("check", "config", str(PROMETHEUS / "prometheus.yml")),
        ("check", "config", str(PROMETHEUS / "compose.yml")),
        ("check", "rules", str(PROMETHEUS / "alerts.yml")),
        ("check", "rules", str(tmp_path / "all.yml")),
    ):
        ran = subprocess.run([promtool, *words], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_dashboards_have_their_own_ids_and_the_provisioned_source() -> None:
    source = yaml.safe_load(
        (ROOT / "deploy/grafana/provisioning/datasources/fusion.yaml").read_text()
    )
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len({board["uid"] for board in boards}) == len(boards) == 4
    uids = {panel["datasource"]["uid"] for board in boards for panel in board["panels"]}
    assert uids == {source["datasources"][0]["uid"]}


def test_the_table_of_metrics_is_up_to_date() -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    assert catalogue.as_markdown() in page, "put flows.metrics.catalogue.as_markdown() there"
