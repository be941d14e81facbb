"""What one record, tick, process or disk costs: each figure with the page it stands on.

Measured on 2 cores of an AMD EPYC with the broker on the same cores, November 2026. What was sent
is simulated. ``tests/unit/test_capacity.py`` holds the table against the kept measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class UnitCost:
    """One measured figure: what it is, and the page in ``docs/benchmarks`` that it stands on."""

    value: float
    unit: str
    what: str
    source: str


UNIT_COSTS: Mapping[str, UnitCost] = MappingProxyType(
    {
        "align_telemetry_record_us": UnitCost(
            61.8, "µs CPU", "read, decode and align a telemetry record", "stream.md"
        ),
        "align_telemetry_value_us": UnitCost(
            0.0884, "µs CPU", "more for each value in it (16 to 480 values)", "stream.md"
        ),
        "align_audio_sample_us": UnitCost(
            0.0341, "µs CPU", "read, decode and align a sample of FLAC sound", "stream.md"
        ),
        "align_video_record_us": UnitCost(
            156.7, "µs CPU", "read, decode and align a JPEG picture", "stream.md"
        ),
        "align_video_pixel_us": UnitCost(
            0.003776, "µs CPU", "more for each pixel (160 x 120 to 640 x 480)", "stream.md"
        ),
        "score_tick_ms": UnitCost(
            13.0,
            "ms CPU",
            "a tick's features, networks in process, score, alarms, publishing: all that the live "
            "process took in the soak test, less aligning",
            "soak.md",
        ),
        "live_base_mb": UnitCost(836, "MB", "a live process with a plant and its model", "soak.md"),
        "live_plant_mb": UnitCost(9.2, "MB", "for each plant more (up to 32)", "stream.md"),
        "triton_windows_per_s": UnitCost(
            2290, "windows/s", "Triton on 2 cores, no GPU, 32 plants asking at once", "inference.md"
        ),
        "console_updates_per_s": UnitCost(
            500, "updates/s", "one console with 200 tabs on 2 busy cores", "index.md"
        ),
        "console_tabs": UnitCost(200, "tabs", "open at that console meanwhile", "index.md"),
        "stored_telemetry_record_bytes": UnitCost(
            34.7, "bytes", "a telemetry record on the broker's disk", "storage.md"
        ),
        "stored_telemetry_value_bytes": UnitCost(
            3.47, "bytes", "more for each value in it (16 to 480 values)", "storage.md"
        ),
        "stored_audio_sample_bytes": UnitCost(
            1.289, "bytes", "a sample of FLAC sound on the broker's disk", "storage.md"
        ),
        "stored_video_record_bytes": UnitCost(
            2310, "bytes", "a JPEG picture on the broker's disk", "storage.md"
        ),
        "stored_video_pixel_bytes": UnitCost(
            0.1313, "bytes", "more for each pixel (160 x 120 to 640 x 480)", "storage.md"
        ),
        "stored_score_bytes": UnitCost(
            3194, "bytes", "a score of the rig, JSON, before the broker compresses it", "index.md"
        ),
        "broker_record_us": UnitCost(
            86, "µs CPU", "the broker's own, to store a record once", "storage.md"
        ),
        "broker_byte_us": UnitCost(
            0.08, "µs CPU", "more for each byte on its disk (90 B to 43 kB)", "storage.md"
        ),
    }
)
"""By name; ``docs/capacity.md`` says what is made of them."""

MEASURED_PLANTS_IN_PROCESS = 32
MEASURED_VALUES_PER_RECORD = 480
MEASURED_PIXELS = 640 * 480


def cost(name: str) -> float:
    """Return the value of one unit cost."""
    return UNIT_COSTS[name].value
