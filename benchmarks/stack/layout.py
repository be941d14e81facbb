"""Who runs where: folders, ports, plant files, and the parts made of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.broker import ROOT
from benchmarks.stack.parts import Kafka, Part, Postgres, Program, Triton, answers, fusion
from flows import wiring
from flows.cli.plant import load_plant
from flows.settings import Settings
from fusion.plant import Plant
from tests.conftest import free_port
from tests.postgres import PostgresServer, postgres_programs

PREFIX = "stack"
PARTITIONS = 4
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
INGEST_EVERY_S = 15


@dataclass(frozen=True)
class Layout:
    """Everything of one run, below one folder that goes away."""

    folder: Path
    plants: list[Plant]
    plant_files: list[Path]
    ports: Mapping[str, int]

    @property
    def data(self) -> Path:
        """FUSION_DATA_DIR of every process."""
        return self.folder / "data"

    @property
    def prometheus(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.ports['prometheus']}"

    def log(self, name: str) -> Path:
        """Return the file that a part writes to."""
        return self.folder / "logs" / f"{name}.log"

    def health(self, name: str) -> str:
        """Return where a part answers for its health."""
        return f"http://127.0.0.1:{self.ports[name]}/health"


def make_layout(folder: Path, num_plants: int) -> Layout:
    """Return the places of a run with ``num_plants`` rigs, alike but for their address."""
    (folder / "logs").mkdir()
    (folder / "data").mkdir()
    told = yaml.safe_load((ROOT / "plants" / "rig.yaml").read_text(encoding="utf-8"))
    told["prefix"] = PREFIX
    told.setdefault("topics", {})["partitions"] = PARTITIONS
    files: list[Path] = []
    for number in range(1, num_plants + 1):
        told["address"]["asset"] = f"pump-{number:02d}"
        files.append(folder / f"pump-{number:02d}.yaml")
        files[-1].write_text(yaml.safe_dump(told), encoding="utf-8")
    names = ("live", "ingest", "console", "pages", "prometheus", "prefect", "triton", "triton-m")
    ports = {name: free_port() for name in names}
    return Layout(folder, [load_plant(file) for file in files], files, ports)


def environment_of(layout: Layout, bootstrap: str, database: str) -> dict[str, str]:
    """Return what every process of the product is told."""
    return {
        "FUSION_BROKER": "kafka",
        "FUSION_KAFKA_BOOTSTRAP": bootstrap,
        "FUSION_DATA_DIR": str(layout.data),
        "FUSION_INFERENCE": "triton",
        "FUSION_TRITON_ADDRESS": f"127.0.0.1:{layout.ports['triton']}",
        "FUSION_ALARM_HISTORY_URL": database,
        "FUSION_CONSOLE_ADDRESS": f"127.0.0.1:{layout.ports['pages']}",
        "PREFECT_API_URL": f"http://127.0.0.1:{layout.ports['prefect']}/api",
        "PREFECT_HOME": str(layout.folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "COLUMNS": "160",
    }


@dataclass(frozen=True)
class Services:
    """What the product stands on."""

    kafka: Kafka
    postgres: Postgres
    prefect: Program
    triton: Triton
    prometheus: Program

    def all(self) -> list[Part]:
        """Return them in the order of starting."""
        return [self.kafka, self.postgres, self.prefect, self.triton, self.prometheus]


def make_services(layout: Layout) -> tuple[Services, PostgresServer]:
    """Return the services, not started."""
    programs = postgres_programs()
    assert programs is not None, "deploy/prepare-tests.sh installs Debian's postgresql"
    (layout.folder / "postgres").mkdir()
    database = PostgresServer(layout.folder / "postgres", free_port(), programs)
    settings = Settings(
        data_dir=layout.data,
        inference="triton",
        triton_address=f"127.0.0.1:{layout.ports['triton']}",
    )
    server = wiring.triton_server(settings, metrics_port=layout.ports["triton-m"])
    prefect_url = f"http://127.0.0.1:{layout.ports['prefect']}/api/health"
    prefect = Program(
        "Prefect",
        [
            *(sys.executable, "-m", "prefect", "server", "start", "--no-ui", "--analytics-off"),
            *("--host", "127.0.0.1", "--port", str(layout.ports["prefect"])),
        ],
        layout.log("prefect"),
        environment={"PREFECT_HOME": str(layout.folder / "prefect")},
        is_up=answers(prefect_url),
    )
    services = Services(
        Kafka(layout.folder / "kafka"),
        Postgres(database),
        prefect,
        Triton(server),
        _prometheus(layout),
    )
    return services, database


def _prometheus(layout: Layout) -> Program:
    """Return Prometheus with the rules of ``deploy/`` and the addresses of this run."""
    told: dict[str, Any] = {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [
            {
                "job_name": f"fusion-{name}",
                "static_configs": [{"targets": [f"127.0.0.1:{layout.ports[name]}"]}],
            }
            for name in ("live", "ingest", "console")
        ],
    }
    file = layout.folder / "prometheus.yml"
    file.write_text(json.dumps(told), encoding="utf-8")  # (JSON is YAML)
    return Program(
        "Prometheus",
        [
            *("prometheus", f"--config.file={file}"),
            f"--storage.tsdb.path={layout.folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{layout.ports['prometheus']}",
            "--log.level=warn",
        ],
        layout.log("prometheus"),
        is_up=answers(f"{layout.prometheus}/-/ready"),
    )


def make_product(layout: Layout, environment: Mapping[str, str]) -> dict[str, Program]:
    """Return the processes of the product, not started."""
    files = [str(file) for file in layout.plant_files]
    words = {
        "live": ("live", *files),
        "ingest": ("ingest", files[0], "--every", str(INGEST_EVERY_S)),
        "console": ("console", *files),
        "recorder": ("alarms", "record", files[0], "--follow"),
    }
    return {
        name: Program(
            name,
            fusion(*command),
            layout.log(name),
            environment={
                **environment,
                **({} if name not in layout.ports else _health(layout, name)),
            },
            is_up=answers(f"{layout.health(name)}/live") if name in layout.ports else _is_up,
        )
        for name, command in words.items()
    }


def _health(layout: Layout, name: str) -> dict[str, str]:
    return {"FUSION_HEALTH_ADDRESS": f"127.0.0.1:{layout.ports[name]}"}


def _is_up() -> bool:
    return True
