"""All checks, in the order in which a person would go: this machine, the broker, the rest."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping

from flows.doctor import broker, machine, services
from flows.doctor.findings import Check, Finding, examined
from flows.settings import Settings
from fusion.plant import NANOSECONDS, Plant
from fusion.ports import Clock

ASK_THE_BROKER = ("topics", "copies", "clocks of streams")


def examine(
    plant: Plant | None, settings: Settings, clock: Clock, variables: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield what is found; without a plant, of this machine and of what the settings name."""
    now = datetime.datetime.fromtimestamp(clock.now_ns() / NANOSECONDS, datetime.UTC)
    checks: dict[str, Check] = {
        "settings": lambda: machine.contradictions(settings),
        "disks": lambda: machine.disks(settings),
        "spools": lambda: machine.spools(settings, clock),
        "certificates": lambda: machine.certificates(settings, now),
    }
    if plant is not None:
        checks |= {
            "broker": lambda: broker.round_trip(plant, settings, clock),
            "topics": lambda: broker.topics(plant, settings),
            "copies": lambda: broker.copies(plant, settings),
            "clocks of streams": lambda: broker.stream_clocks(plant, settings),
            "model": lambda: services.model(plant, settings),
            "Triton": lambda: services.triton(plant, settings),
            "alarm history": lambda: services.alarm_history(plant, settings),
        }
    checks |= {
        "MLflow": lambda: services.mlflow(settings),
        "Prefect": lambda: services.prefect(variables),
    }
    yield from examined(checks, dict.fromkeys(ASK_THE_BROKER, "broker"))
