"""What ``fusion models`` shows: versions, one version, two side by side, steps of the journal."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from rich.table import Column, Table

from flows.rollout_seen import RoleSeen
from fusion.manifest import Manifest, TrainedStream
from fusion.plant import NANOSECONDS
from fusion.rollout.judging import Seen
from fusion.rollout.states import Action, Entry, Rollout

GAUGES_SHOWN = ("skill.h4", "rankme", "probe_r2")
_LEFT = {Action.ROLLED_BACK, Action.REFUSED, Action.RETIRED}


def versions_table(
    manifests: Sequence[Manifest], state: Rollout, entries: Sequence[Entry]
) -> Table:
    """Return a row per version: its role, or how it left, and what training measured."""
    # A version is copied from here into the next command: on a narrow terminal others give way.
    version = Column("version", no_wrap=True)
    role = Column("role", no_wrap=True)
    table = Table(version, role, "precision", *GAUGES_SHOWN, "trained on")
    last = {entry.version: entry.action for entry in entries}
    for manifest in manifests:
        version = manifest.version
        left = last.get(version) if last.get(version) in _LEFT else ""
        is_champion = version == state.champion
        role = "[bold]champion[/bold]" if is_champion else state.role_of(version) or str(left)
        gauges = _gauges(manifest)
        shown = [f"{gauges[name]:.2f}" if name in gauges else "–" for name in GAUGES_SHOWN]
        ticks = f"{manifest.num_train_ticks} ticks"
        table.add_row(version, role, manifest.precision, *shown, ticks)
    return table


def manifest_table(manifest: Manifest) -> Table:
    """Return a row per field that says what the version is, and what it may serve."""
    table = Table("field", "value", show_header=False)
    hidden = {"gauges", "layout", "recipe", "streams", "data_version"}
    for field, value in manifest.model_dump(exclude=hidden).items():
        shown = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        table.add_row(field, shown)
    table.add_row("data_version", _lines(manifest.data_version))
    for stream in manifest.streams:
        table.add_row(f"stream {stream.name}", _stream(stream))
    table.add_row("recipe", str(manifest.recipe.get("name")))
    return table


def manifests_table(both: Sequence[Manifest]) -> Table:
    """Return two versions side by side: what they are, and what training measured at its end."""
    table = Table("in training", *(each.version for each in both))
    for field in ("precision", "code_version", "num_parameters", "num_train_ticks"):
        table.add_row(field, *(str(getattr(each, field)) for each in both))
    table.add_row("data_version", *(_lines(each.data_version) for each in both))
    gauges = [_gauges(each) for each in both]
    for name in sorted(gauges[0].keys() | gauges[1].keys()):
        table.add_row(name, *(f"{g[name]:.3g}" if name in g else "–" for g in gauges))
    return table


def seen_table(told: RoleSeen, versions: Sequence[str], entries: Mapping[int, Entry]) -> Table:
    """Return what the versions did on the same stream since one step of the journal."""
    since = entries[told.revision]
    title = f"on the stream: {since.version} {since.action}, {_moment(since.t_ns)} to "
    table = Table(
        "", *versions, title=title + _moment(told.t_ns), title_justify="left", title_style="bold"
    )
    columns = [_seen_rows(told.seen.get(version, Seen())) for version in versions]
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    return table


def step_line(entry: Entry) -> str:
    """Return a step of the journal: when, what, by whom, why."""
    moment = _moment(entry.t_ns, with_date=True)
    share = f" ({entry.share:.0%})" if entry.action is Action.CANARY else ""
    return (
        f"{entry.revision:>3} {moment} {entry.version} {entry.action}{share} "
        f"by {entry.who}: {entry.why}"
    )


def _seen_rows(seen: Seen) -> dict[str, str]:
    share = f" ({seen.num_alarm_ticks / seen.num_ticks:.1%})" if seen.num_ticks else ""
    return {
        "ticks scored": str(seen.num_ticks),
        "mean surprise (1 = alarm)": f"{seen.mean_surprise:.3f}",
        "ticks in alarm": f"{seen.num_alarm_ticks}{share}",
        "alarms raised": str(seen.num_alarms),
        "alarms called nuisance, useful": f"{seen.num_nuisance}, {seen.num_useful}",
        "calls failed, of the last 30 s": f"{seen.num_failed} of {seen.num_calls}",
        "95 % of calls within": f"{seen.p95_s * 1e3:.1f} ms",
    }


def _stream(stream: TrainedStream) -> str:
    rate = f"{stream.modality}, {stream.rate_hz:g} Hz"
    if stream.size_px is not None:
        rate += f", {stream.size_px[0]} x {stream.size_px[1]} px"
    tags = [f"{tag} [{unit}]" for tag, unit in zip(stream.tags, stream.units, strict=True)]
    setpoints = [f"set-points: {', '.join(stream.setpoints)}"] if stream.setpoints else []
    return "\n".join([rate, *([", ".join(tags)] if tags else []), *setpoints]).replace("[", r"\[")


def _gauges(manifest: Manifest) -> Mapping[str, float]:
    return manifest.gauges[-1] if manifest.gauges else {}


def _lines(data_version: str) -> str:
    return data_version.replace(",", "\n")


def _moment(t_ns: int, *, with_date: bool = False) -> str:
    moment = datetime.datetime.fromtimestamp(t_ns / NANOSECONDS, datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}" if with_date else f"{moment:%H:%M:%S}"
