"""Looks at the stack while it runs: what Prometheus knows, what the processes hold."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.stack.layout import Layout
from benchmarks.stack.parts import wait_until

STEP_S = 5
LATENCY = "sum by (le) (rate(fusion_window_latency_seconds_bucket[1m]))"
QUERIES = {
    "lag": "sum by (topic) (fusion_consumer_lag_records)",
    "delay": "max(fusion_watermark_delay_seconds)",
    "scored_hz": 'sum(rate(fusion_records_total{outcome="scored"}[30s]))',
    "p50_s": f"histogram_quantile(0.5, {LATENCY})",
    "p95_s": f"histogram_quantile(0.95, {LATENCY})",
    "standing": 'sum(fusion_alarms_standing{kind="alarm"}) or vector(0)',
    "paused": "max(fusion_scoring_paused)",
    "ingest_lag": "sum(fusion_ingest_lag_records)",
    "up": "sum by (job) (up)",
}
"""What the picture shows."""


class Watch:
    """Asks Prometheus, and the live process where Prometheus may be dead."""

    def __init__(self, layout: Layout, began_s: float) -> None:
        self._layout = layout
        self._began_s = began_s
        self._memory: list[dict[str, float]] = []

    def now_s(self) -> float:
        """Return the seconds since the first record."""
        return time.time() - self._began_s

    def note_memory(self, memory_mb: Mapping[str, float]) -> None:
        """Keep what every part holds."""
        self._memory.append({"t_s": round(self.now_s(), 1), **memory_mb})

    def told(self) -> str:
        """Return one line about now."""
        live = self._live()
        lag = live.get(("fusion_consumer_lag_records", ""), 0)
        ledger = {
            outcome: live.get(("fusion_ledger_records", outcome), 0)
            for outcome in ("scored", "late", "duplicate", "dead_lettered", "pending")
        }
        counts = ", ".join(f"{count:.0f} {outcome}" for outcome, count in ledger.items() if count)
        return f"{self.now_s():6.0f} s  lag {lag:.0f}; {counts or 'live does not answer'}"

    def until_read(self, *, patience_s: float) -> None:
        """Return when the live process has read all that there is."""

        def is_read() -> bool:
            return self._live().get(("fusion_consumer_lag_records", "")) == 0

        wait_until(is_read, what="a live process without lag", patience_s=patience_s)
        time.sleep(3 * STEP_S)  # (and until Prometheus has seen it)

    def samples(self) -> dict[str, Any]:
        """Return the series of the picture: per query a list of ``[t_s, value]`` by its label."""
        found: dict[str, Any] = {"memory": self._memory}
        for name, query in QUERIES.items():
            asked = urllib.parse.urlencode(
                {"query": query, "start": self._began_s, "end": time.time(), "step": STEP_S}
            )
            answer = self._ask(f"/api/v1/query_range?{asked}")
            found[name] = {
                next(iter(series["metric"].values()), ""): [
                    [round(t_s - self._began_s, 1), float(value)] for t_s, value in series["values"]
                ]
                for series in answer["data"]["result"]
            }
        return found

    def fired(self) -> list[str]:
        """Return which alerts fired at any time."""
        asked = urllib.parse.urlencode(
            {
                "query": 'count by (alertname) (max_over_time(ALERTS{alertstate="firing"}[1h]))',
                "time": time.time(),
            }
        )
        answer = self._ask(f"/api/v1/query?{asked}")
        return sorted(each["metric"]["alertname"] for each in answer["data"]["result"])

    def _live(self) -> dict[tuple[str, str], float]:
        """Return the live process's samples, summed over everything but the outcome."""
        url = f"http://127.0.0.1:{self._layout.ports['live']}/metrics"
        found: dict[tuple[str, str], float] = {}
        with contextlib.suppress(urllib.error.URLError, OSError):
            with urllib.request.urlopen(url, timeout=5) as answer:
                text = answer.read().decode()
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    key = (sample.name, sample.labels.get("outcome", ""))
                    found[key] = found.get(key, 0.0) + sample.value
        return found

    def _ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self._layout.prometheus}{path}", timeout=30) as answer:
            return json.load(answer)
