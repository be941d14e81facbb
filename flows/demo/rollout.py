"""The demo of versions: a challenger is degraded on purpose, and goes back by itself."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flows import wiring
from flows.cli.learn import run_training
from flows.cli.stream import publish
from flows.demo.place import DemoPlace, make_place
from flows.demo.rig import ingest
from flows.demo.rollout_picture import Change, Sample, draw_timeline
from flows.demo.story import Story
from flows.live import open_live, run_live
from flows.replay_payloads import sent_ns
from flows.rollout import promote
from flows.rollout_journal import journal_of
from flows.rollout_watch import RolloutWatch
from flows.settings import Settings
from flows.terminal import CONSOLE, progress_bar
from fusion.errors import InputError
from fusion.manifest import MANIFEST_FILE, load_manifest
from fusion.plant import NANOSECONDS, StreamSender
from fusion.rollout.states import Action, Entry, Rollout
from fusion.schema import Message
from fusion.scoring.calibration import SCALARS_FILE
from fusion.simulation import Scenario, normal_scenario, simulate
from fusion.stream.shard import Step

WATCHED_S = 480
DEGRADED, GOOD = "2-degraded", "3-good"
DEGRADE_BY = 0.05
"""Of its alarm thresholds: the networks stay as they are, so its golden windows do not tell."""
TICKS_BETWEEN = 180
PIECE_S = 2.0
"""Of plant time, sent when what came before is read: so every step is seen when it is taken."""


def run_rollout_demo(plant_file: Path, folder: Path, *, seed: int, minutes: float) -> Path:
    """Train, deploy, degrade a challenger, promote a good one; return the timeline's picture."""
    place = make_place(plant_file, folder, run=f"rollout{time.time_ns() // NANOSECONDS}")
    story = Story(6)
    with story.step(f"simulate {minutes:g} min of normal running, and ingest it"):
        _send(place, minutes * 60, seed=seed)
        ingest(place)
    with story.step("train a first model (the quick recipe: good for this demo only)"):
        first = Path(run_training(str(place.plant_file), "quick", seed, None, place.settings))
    with story.step("make two challengers: one degraded on purpose, one good"):
        _copy(first, DEGRADED, threshold=DEGRADE_BY)
        _copy(first, GOOD, threshold=1.0)
    server = _server(place.settings)
    settings = place.settings
    try:
        with story.step(
            "start Triton" if server else "no Triton: the networks run in this process"
        ):
            if server is not None:
                server.start()
                CONSOLE.print(f"it answers on {server.access.address}", highlight=False)
                settings = settings.model_copy(
                    update={"inference": "triton", "triton_address": server.access.address}
                )
        with story.step("live: promote both challengers, one after the other"):
            scenario = normal_scenario(
                duration_s=WATCHED_S, seed=seed + 1, after_s=minutes * 60 + 60
            )
            told = _watch(place, settings, first.name, scenario)
    finally:
        if server is not None:
            server.stop()
    with story.step("the timeline"):
        picture = folder / "rollout.svg"
        draw_timeline(
            told.samples,
            told.changes,
            versions=[first.name, DEGRADED, GOOD],
            tick_s=place.plant.tick_s,
            path=picture,
        )
        CONSOLE.print("the journal of this plant says:")
        for entry in journal_of(settings, place.plant).entries():
            _tell(entry)
    return picture


def _tell(entry: Entry) -> None:
    CONSOLE.print(
        f"{entry.revision:>3} {entry.version} {entry.action} by {entry.who}: {entry.why}",
        highlight=False,
        markup=False,
    )


@dataclass
class _Told:
    """What happened, by ticks since the first that was scored."""

    samples: list[Sample] = field(default_factory=list[Sample])
    changes: list[Change] = field(default_factory=list[Change])


def _watch(place: DemoPlace, settings: Settings, first: str, scenario: Scenario) -> _Told:
    """Run the live process while the plant plays ``scenario``; promote when it is time."""
    told = _Told()
    left = _acts(place, settings)
    promote(settings, [place.plant], first, who="demo", why="the first model")
    watch = RolloutWatch([place.plant], settings, look_every_s=0.0)
    journal = journal_of(settings, place.plant)
    versions = [first, DEGRADED, GOOD]
    told.changes.append(_change(0, journal.state(), [], versions))
    num_known, begin = len(journal.entries()), None
    with (
        progress_bar() as bar,
        contextlib.closing(wiring.open_publisher(settings)) as publisher,
        open_live(watch.watched(), settings, skip_backlog=True, rollout=watch) as live,
    ):
        pieces = _pieces(place, scenario)
        shown = bar.add_task("ticks scored", total=round(WATCHED_S / place.plant.tick_s), note="")

        def has_ended() -> bool:
            if not live.is_caught_up():
                return False
            piece = next(pieces, None)
            publisher.publish(piece or [])
            return piece is None

        for step in run_live(live, should_stop=lambda: False, may_end=has_ended):
            if not step.scores:
                continue
            begin = step.scores[0].tick if begin is None else begin
            tick = step.scores[-1].tick - begin
            told.samples += _samples(step, begin, watch, versions)
            bar.update(shown, completed=tick + 1, note=journal.state().told())
            if left and tick >= left[0][0] and left[0][1]():
                left.pop(0)
            new = journal.entries()[num_known:]
            num_known += len(new)
            for entry in new:
                _tell(entry)
            if new:
                told.changes.append(_change(tick, journal.state(), new, versions))
    return told


def _change(tick: int, state: Rollout, new: Sequence[Entry], versions: Sequence[str]) -> Change:
    # (How many assets a canary has: here it is all of one.)
    roles = {name: state.role_of(name).partition(" on ")[0] for name in versions}
    back = tuple(each.version for each in new if each.action is Action.ROLLED_BACK)
    return Change(tick, {name: role for name, role in roles.items() if role}, back)


def _acts(place: DemoPlace, settings: Settings) -> list[tuple[int, Callable[[], bool]]]:
    """Return what is done, from which tick on; one that says False is asked again."""

    def advance(version: str) -> Callable[[], bool]:
        def act() -> bool:
            state = journal_of(settings, place.plant).state()
            if state.challenger not in {None, version}:
                return False  # (the other one is still being judged)
            promote(settings, [place.plant], version, who="demo", why="the story", share=1.0)
            return True

        return act

    versions = (DEGRADED, GOOD, GOOD, GOOD)
    return [(TICKS_BETWEEN * (i + 1), advance(version)) for i, version in enumerate(versions)]


def _samples(step: Step, begin: int, watch: RolloutWatch, versions: list[str]) -> list[Sample]:
    shares: dict[str, float] = {}
    for version in versions:
        seen = watch.meter(version).seen()
        if seen.num_ticks:
            shares[version] = seen.num_alarm_ticks / seen.num_ticks
    return [
        Sample(score.tick - begin, score.surprise, score.model_version, shares)
        for score in step.scores
    ]


def _pieces(place: DemoPlace, scenario: Scenario) -> Iterator[list[Message]]:
    """Yield what the plant sends, piece by piece."""
    names = [stream.name for stream in place.plant.streams]
    senders = {n: StreamSender(place.plant, n, source="simulator", epoch="watched") for n in names}
    piece: list[Message] = []
    end_ns = scenario.t_start_ns
    for payload in simulate(scenario, place.plant):
        if sent_ns(payload) > end_ns:
            yield piece
            piece, end_ns = [], end_ns + round(PIECE_S * NANOSECONDS)
        piece.append(senders[payload.stream].message(payload))
    yield piece


def _send(place: DemoPlace, duration_s: float, *, seed: int) -> None:
    scenario = normal_scenario(duration_s=duration_s, seed=seed)
    publish(
        simulate(scenario, place.plant),
        place.plant,
        None,
        place.settings,
        source="simulator",
        duration_s=duration_s,
    )


def _copy(model_dir: Path, name: str, *, threshold: float) -> None:
    """Put a version beside ``model_dir`` whose alarm thresholds are multiplied."""
    target = model_dir.with_name(name)
    shutil.copytree(model_dir, target)
    manifest = load_manifest(target).model_copy(update={"version": name})
    (target / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
    scalars = json.loads((target / SCALARS_FILE).read_text(encoding="utf-8"))
    for panel in scalars["panels"].values():
        panel["threshold"] *= threshold
    (target / SCALARS_FILE).write_text(json.dumps(scalars), encoding="utf-8")


def _server(settings: Settings) -> wiring.TritonServer | None:
    """Return a Triton for this demo; None, with a word about it, where none is installed."""
    # (A server that runs on the usual ports is somebody's.)
    own = settings.model_copy(update={"triton_address": f"127.0.0.1:{_free_port()}"})
    server = wiring.triton_server(own, metrics_port=_free_port())
    try:
        server.require_installed()
    except InputError as missing:
        CONSOLE.print(f"the networks run in this process: {missing}", highlight=False)
        return None
    return server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
