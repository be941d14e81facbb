"""The figures of a run as a page to read. Everything on it follows from the JSON beside it."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks import machine
from benchmarks.stream.profile import DECODING

AIM_BARE = 0.7
AIM_QUIX = 5.0
AIM_P99_MS = 50.0
AIM_LINEAR = 1.25
"""CPU time for a tick may grow by this factor from one plant to the most."""

NAMES = {
    "product": "product",
    "bare": "bare kafka-python",
    "confluent": "bare confluent-kafka",
    "quix-rows": "Quix Streams, rows",
    "quix-batches": "Quix Streams, reduced batches",
}
RatioOf = Callable[[dict[str, Any], str], tuple[float, float, float]]
INTRODUCTION = """\
# From the broker to closed ticks

Written by `make bench-stream`; the figures of every run are in [stream.json](stream.json). What is
sent is simulated. One real Apache Kafka, one process at a time, the same topics and bytes for
everybody; contestants take turns, and every figure is the median of {repetitions} turns with the
lowest and the highest in brackets. The clock runs from the first poll that brings records to the
last one; the records of that first poll do not count.{short}

{machine}

| contestant | does | does not |
|---|---|---|
| product | polls (kafka-python), checks the envelope, decodes Avro, FLAC and JPEG, refuses what \
is wrong, sorts by event time, finds duplicates and late records, fills every row of a tick, \
closes ticks by watermark over all streams, accounts for every record | the model (features, \
scores), publishing, committing |
| bare kafka-python | polls with the product's own consumer and settings | anything with the bytes |
| bare confluent-kafka | `consume(500)` with the same sizes of fetches | anything; librdkafka \
fetches and unpacks in threads of its own, without checking CRCs |
| Quix Streams, rows | telemetry only: unpacks the same Avro batches, one event a row, tumbling \
window of a tick by event time with the product's lateness as grace, `Latest` of each tag, \
`final()` | rows inside a tick (it keeps the newest value), duplicates, checks, sound, pictures, \
ticks over several streams |
| Quix Streams, reduced batches | the same, after numpy has reduced each batch to one event for \
each tick; the window merges them (`Reduce`) | also: order by time inside a tick |

Quix Streams runs with its changelog topics and its log off, RocksDB in a temporary folder and its
usual commit interval; both tunings are in its favour.
"""


def ratio(result: dict[str, Any], other: str) -> tuple[float, float, float]:
    """Return how much faster the product reads than ``other``: median, lowest, highest turn."""
    pairs = zip(_rates(result, "product"), _rates(result, other), strict=True)
    ratios = [own / theirs for own, theirs in pairs]
    return median(ratios), min(ratios), max(ratios)


def cpu_ratio(result: dict[str, Any], other: str) -> tuple[float, float, float]:
    """Return the CPU time of ``other`` for a record in parts of the product's, as above."""
    pairs = zip(_cpu_us(result, other), _cpu_us(result, "product"), strict=True)
    ratios = [theirs / own for theirs, own in pairs]
    return median(ratios), min(ratios), max(ratios)


def page(said: dict[str, Any]) -> str:
    """Return the page (Markdown)."""
    short = (
        " **Short version: a tenth of the data, for trying it out.**" if said["is_short"] else ""
    )
    parts = [
        INTRODUCTION.format(
            repetitions=said["repetitions"],
            short=short,
            machine=machine.as_markdown(said["machine"]),
        ),
        _verdicts(said),
        _speeds(said["results"]),
        _ratios(said["results"]),
    ]
    if "latency" in said:
        parts += [_latency(said["latency"]), _scaling(said["scaling"])]
    parts += [_profile(result) for result in said["results"] if "profile" in result]
    return "\n".join(parts)


def _verdicts(said: dict[str, Any]) -> str:
    rows = ["## Aims", "", "| aim | reached | figures |", "|---|---|---|"]
    results = said["results"]
    bare = {each["workload"]: ratio(each, "bare")[0] for each in results}
    rows.append(_verdict(f"product / bare kafka-python ≥ {AIM_BARE:.0%}", bare, AIM_BARE, ".0%"))
    fastest = {
        f"{each['workload']}, {NAMES[name]}": ratio(each, name)[0]
        for each in results
        for name in each["answers"]
        if name.startswith("quix")
    }
    rows.append(_verdict(f"product / Quix Streams ≥ {AIM_QUIX:g}", fastest, AIM_QUIX, ".2g"))
    if "latency" in said:
        slow = {_plants(e["num_plants"]): e["p99_ms"] for e in said["latency"]}
        told = ", ".join(f"{name} {value:.0f} ms" for name, value in slow.items())
        reached = _yes(max(slow.values()) <= AIM_P99_MS)
        rows.append(f"| closed tick in hand, p99 ≤ {AIM_P99_MS:g} ms | {reached} | {told} |")
        first, last = said["scaling"][0], said["scaling"][-1]
        growth = last["cpu_ms_per_tick"] / first["cpu_ms_per_tick"]
        rows.append(
            f"| CPU for a tick of one plant grows by at most {AIM_LINEAR - 1:.0%} from "
            f"{first['num_plants']:g} to {last['num_plants']:g} plants | "
            f"{_yes(growth <= AIM_LINEAR)} | factor {growth:.2f} |"
        )
    return "\n".join([*rows, ""])


def _verdict(aim: str, figures: dict[str, float], least: float, form: str) -> str:
    reached = [name for name, figure in figures.items() if figure >= least]
    missed = [name for name, figure in figures.items() if figure < least]
    verdict = "yes" if not missed else "**no**" if not reached else "in part"
    told = ", ".join(f"{name} {figure:{form}}" for name, figure in figures.items())
    return f"| {aim} | {verdict} | {told} |"


def _plants(number: int) -> str:
    return "1 plant" if number == 1 else f"{number} plants"


def _yes(is_reached: bool) -> str:  # noqa: FBT001 a question with one answer
    return "yes" if is_reached else "**no**"


def _speeds(results: list[dict[str, Any]]) -> str:
    rows = [
        "## Speed",
        "",
        "A sample is one value of one tag in one row. MB are of record values, as sent.",
        "",
        "| workload | contestant | records/s | telemetry samples/s | MB/s | CPU µs a record | "
        "peak memory MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        cells_each = result["num_cells"] / result["num_records"]
        bytes_each = result["num_bytes"] / result["num_records"]
        for name, answers in result["answers"].items():
            rates = _rates(result, name)
            cells = f"{median(rates) * cells_each:,.0f}" if cells_each else ""
            cpu_us = median(_cpu_us(result, name))
            # Quix Streams reads telemetry only; everybody else reads all topics.
            rows.append(
                f"| {result['workload']} | {NAMES[name]} | {_spread(rates)} | {cells} | "
                f"{median(rates) * bytes_each / 1e6:.1f} | {cpu_us:.1f} | "
                f"{median(a['peak_rss_mb'] for a in answers):.0f} |"
            )
    titles = "; ".join(f"*{each['workload']}*: {each['title']}" for each in results)
    return "\n".join([*rows, "", f"{titles}.", ""])


def _ratios(results: list[dict[str, Any]]) -> str:
    return "\n".join(
        [
            "## How many times as fast the product is",
            "",
            *_ratio_rows(results, ratio),
            "",
            "The same by CPU time for a record, which other work on the machine disturbs less",
            "(clients that fetch in threads of their own pay for them here):",
            "",
            *_ratio_rows(results, cpu_ratio),
            "",
        ]
    )


def _ratio_rows(results: list[dict[str, Any]], of: RatioOf) -> list[str]:
    others = [name for name in NAMES if name != "product"]
    rows = [
        f"| workload | {' | '.join(NAMES[name] for name in others)} |",
        "|---" * (len(others) + 1) + "|",
    ]
    for result in results:
        cells = [
            "{:.2f} ({:.2f} – {:.2f})".format(*of(result, name))
            if name in result["answers"]
            else "cannot"
            for name in others
        ]
        rows.append(f"| {result['workload']} | {' | '.join(cells)} |")
    return rows


def _latency(latencies: list[dict[str, Any]]) -> str:
    rows = [
        "## Latency in real time",
        "",
        "Mixed plants sent as they happen. From the broker's stamp on the record that moves the",
        "last watermark over a tick's end, to the closed tick in hand; the first 10 s are left",
        "out. Stamps are whole milliseconds, cut, so that up to 1 ms is added.",
        "",
        "| plants | ticks | p50 ms | p90 ms | p99 ms | highest ms | CPU, share of one core |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {e['num_plants']} | {e['num_ticks']} | {e['p50_ms']:.1f} | {e['p90_ms']:.1f} | "
            f"{e['p99_ms']:.1f} | {e['max_ms']:.1f} | {e['cpu_share']:.1%} |"
            for e in latencies
        ),
    ]
    return "\n".join([*rows, ""])


def _scaling(scaling: list[dict[str, Any]]) -> str:
    rows = [
        "## More plants in one process",
        "",
        "Mixed plants that share topics, read from the beginning. Memory is resident memory,",
        "averaged over the second and over the last quarter of the records; *a plant more* is the",
        "difference to one plant, divided by the plants that came.",
        "",
        "| plants | ticks | CPU ms for a tick | MB at the start | MB warm | MB at the end | "
        "MB a plant more |",
        "|---|---|---|---|---|---|---|",
    ]
    first = scaling[0]
    for each in scaling:
        more = each["num_plants"] - first["num_plants"]
        share = f"{(each['late_mb'] - first['late_mb']) / more:.1f}" if more else ""
        # Too short a run has no second quarter of its own.
        warm = "" if each["warm_mb"] is None else f"{each['warm_mb']:.0f}"
        rows.append(
            f"| {each['num_plants']:g} | {each['num_ticks']:g} | {each['cpu_ms_per_tick']:.2f} | "
            f"{each['begun_mb']:.0f} | {warm} | {each['late_mb']:.0f} | {share} |"
        )
    return "\n".join([*rows, ""])


def _profile(result: dict[str, Any]) -> str:
    title = f"## Where the time goes: {result['workload']}"
    profile = result["profile"]
    if not profile or not profile["num_samples"]:
        return f"{title}\n\nNo profile: py-spy was not allowed to look into the process.\n"
    stages = ", ".join(f"{name} {share:.0%}" for name, share in profile["stages"].items())
    rows = [f"| {name} | {share:.0%} |" for name, share in profile["functions"].items()]
    return "\n".join(
        [
            title,
            "",
            f"{profile['num_samples']:,} samples of the stack (py-spy). {stages}.",
            "",
            _why(result, profile["stages"]),
            "",
            "| function, by time in itself | share |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def _why(result: dict[str, Any], stages: dict[str, float]) -> str:
    """Return the sentence that says what stands between the product and its aim."""
    to_bare = ratio(result, "bare")[0]
    decoding = stages.get(DECODING, 0.0)
    most = max((name for name in stages if name != DECODING), key=lambda name: stages[name])
    without = to_bare / max(1e-9, 1 - decoding)
    sentence = (
        f"{decoding:.0%} of the time is decoding, which bare reading does not do; with decoding "
        f"for nothing the product would reach {without:.0%} of bare kafka-python instead of "
        f"{to_bare:.0%}. Of the rest most goes into {most} ({stages[most]:.0%})."
    )
    if "quix-rows" in result["answers"]:  # telemetry alone
        cpu_us = median(_cpu_us(result, "product"))
        cells = result["num_cells"] / result["num_records"]
        sentence += (
            f" A record costs {cpu_us:.0f} µs and holds {cells:.0f} samples, "
            f"{cpu_us / cells:.2f} µs each: what is paid once a record weighs the more, the "
            "smaller the batch."
        )
    return sentence


def _rates(result: dict[str, Any], name: str) -> list[float]:
    return [each["num_records"] / each["seconds"] for each in result["answers"][name]]


def _cpu_us(result: dict[str, Any], name: str) -> list[float]:
    return [1e6 * each["cpu_seconds"] / each["num_records"] for each in result["answers"][name]]


def _spread(values: list[float]) -> str:
    return f"{median(values):,.0f} ({min(values):,.0f} – {max(values):,.0f})"
