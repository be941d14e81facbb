"""What Prometheus would read of a process, held to the catalogue of names and labels."""

from __future__ import annotations

import contextlib
import http.client

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from flows.health import Answers, serve_health
from flows.metrics import catalogue

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(answers: Answers, registry: CollectorRegistry) -> Samples:
    """Return every sample, after a look at every name and label."""
    with serve_health(answers, "127.0.0.1:0", registry) as address:
        assert address is not None
        connection = http.client.HTTPConnection(address, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
    known = {family.name.removesuffix("_total"): family for family in catalogue.FAMILIES}
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if family.name.startswith("fusion_") and not sample.name.endswith("_created"):
                assert set(sample.labels) - {"le"} == set(known[family.name].labels), sample
                assert family.type == known[family.name].kind, sample
            samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return samples


def value(samples: Samples, name: str, **labels: str) -> float:
    """Return one sample."""
    return samples[name, tuple(sorted(labels.items()))]
