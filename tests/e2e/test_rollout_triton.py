"""Versions on a real Triton: what misbehaves goes back, for each of the rules, and nobody waits."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast, get_args

import pytest
import yaml

from benchmarks.rollback.faulty import Fault, faulty_code, set_fault
from connectors.triton_io import Asking, Batching, TritonInference, TritonServer
from flows.cli.plant import load_plant
from flows.export import export_to_triton, triton_names
from flows.live import open_live, run_live
from flows.operate import alarm_events, ask, command, scores
from flows.rollout import promote
from flows.rollout_journal import journal_of
from flows.rollout_seen import read_seen
from flows.rollout_watch import RolloutWatch
from flows.settings import Settings
from fusion.errors import InferenceUnavailableError, InputError
from fusion.manifest import load_manifest
from fusion.plant import Plant
from fusion.rollout.judging import Limits
from fusion.rollout.states import Action, canaries
from fusion.simulation import FaultInterval, Scenario, normal_scenario
from fusion.stream.live import Live
from fusion.training.package import load_golden
from tests.e2e.conftest import FAULTS, make_plant, publish
from tests.e2e.versions import add_version, once_each

pytestmark = pytest.mark.xdist_group("triton")
ASSETS = ("pump-a", "pump-b", "pump-c")
LIMITS = Limits(min_ticks=20, min_watched_s=0, min_calls=10, max_p95_s=1.0)
PATIENT = Limits(max_p95_s=30)
SLOW_S = 2.0


@dataclass
class Site:
    """Plants of one prefix, versions in their models' folder, and a live process on Triton."""

    plants: list[Plant]
    settings: Settings
    paused: list[str] = field(default_factory=list[str])

    def add(
        self,
        name: str,
        made_of: Path,
        *,
        threshold: float = 1.0,
        batching: Batching | None = None,
    ) -> None:
        """Put a version there and into Triton's repository."""
        path = add_version(self.settings, self.plants[0], name, made_of, threshold=threshold)
        repository = self.settings.triton_repository_dir
        export_to_triton(path, repository, backend="python", batching=batching or Batching())

    def models(self, version: str) -> dict[str, str]:
        """Return the names of a version's networks in the repository."""
        path = self.settings.models_dir / self.plants[0].prefix / version
        return triton_names(load_manifest(path))

    def spoil(self, version: str, fault: Fault | None) -> None:
        repository = self.settings.triton_repository_dir
        set_fault(repository, self.models(version).values(), fault, slow_s=SLOW_S)

    def promote(self, version: str, *, share: float = 1.0, to_champion: bool = False) -> None:
        promote(
            self.settings,
            self.plants,
            version,
            who="anna",
            why="it is time",
            share=share,
            to_champion=to_champion,
        )

    def steps(self, version: str) -> list[tuple[Action, str]]:
        entries = journal_of(self.settings, self.plants[0]).entries()
        return [(entry.action, entry.why) for entry in entries if entry.version == version]

    @contextmanager
    def live(self, limits: Limits = LIMITS, *, probe_every_s: float = 0.5) -> Iterator[Live]:
        watch = RolloutWatch(
            self.plants,
            self.settings,
            limits=limits,
            look_every_s=0,
            probe_every_s=probe_every_s,
        )
        with open_live(
            watch.watched(),
            self.settings,
            on_paused=lambda why: self.paused.append(str(why)),
            rollout=watch,
        ) as live:
            yield live

    def run(self, live: Live, acts: list[Callable[[], bool]]) -> None:
        """Watch to the end; after each step that scored, the next act, until it says True."""
        for step in run_live(live, should_stop=lambda: False, may_end=lambda: True):
            if step.scores and acts and acts[0]():
                acts.pop(0)
        while acts and acts[0]():
            acts.pop(0)
        assert not acts, "every act came to its end"

    def require_whole(self, live: Live) -> None:
        """Every tick of every plant was scored once, and every record has its outcome."""
        total = live.total()
        assert (total.dead_lettered, total.lost, total.pending) == (0, 0, 0)
        found = scores(self.plants[0], self.settings)
        for plant in self.plants:
            once_each([each.tick for each in found if each.plant == str(plant.address)])

    def speaks_last(self) -> dict[str, str]:
        """Return per asset the version whose score came last."""
        found = scores(self.plants[0], self.settings)
        return {each.plant: each.model_version for each in found}


@pytest.fixture
def empty(
    triton: TritonServer,
    model_dir: Path,
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Site:
    # Small polls, so that a short recording has many steps in which something can happen.
    monkeypatch.setattr("connectors.embedded_broker.source.MAX_POLL_RECORDS", 20)
    # (What is slow must not also be late, however busy the machine is.)
    monkeypatch.setattr("flows.in_service.SHADOW_DEADLINE_S", 20.0)
    monkeypatch.setattr("flows.wiring.PYTHON_MODEL", faulty_code(tmp_path))
    content = yaml.safe_load(make_plant(tmp_path, unique).read_text())
    plants: list[Plant] = []
    for asset in ASSETS:
        content["address"]["asset"] = asset
        path = tmp_path / f"{asset}.yaml"
        path.write_text(yaml.safe_dump(content))
        plants.append(load_plant(path))
    settings = Settings(
        data_dir=tmp_path / "data",
        inference="triton",
        triton_address=triton.access.address,
        triton_repository=triton.repository,
        triton_deadline_s=5.0,
    )
    return Site(plants, settings)


@pytest.fixture
def site(empty: Site, model_dir: Path) -> Site:
    empty.add("good", model_dir)
    empty.promote("good")
    return empty


def send(site: Site, scenario: Scenario) -> None:
    for plant in site.plants:
        publish(scenario, plant, site.settings)


def test_each_challenger_that_misbehaves_on_the_server_goes_back_by_the_rule_that_it_broke(
    site: Site, model_dir: Path
) -> None:
    send(site, normal_scenario(duration_s=150, seed=11))
    rules: dict[str, tuple[str, ...]] = {
        "drift": ("parity: ",),
        "errors": ("error rate: ",),
        "slow": ("latency: ",),
        "nan": ("parity: ", "error rate: "),
        "alarming": ("alarm rate: it was above its alarm threshold",),
    }
    acts: list[Callable[[], bool]] = []
    for version in rules:
        site.add(version, model_dir, threshold=0.05 if version == "alarming" else 1.0)
        acts += challenged(site, version)
    with site.live() as live:
        site.run(live, acts)
        site.require_whole(live)
    for version, started_with in rules.items():
        (_, before), (last, why) = site.steps(version)[-2:]
        assert (before, last) == ("it is time", Action.ROLLED_BACK)
        assert why.startswith(started_with)
    assert set(site.speaks_last().values()) == {"good"}, "nobody heard a challenger"
    told = [each.seen for each in read_seen(site.settings, site.plants[0])]
    seen = next(each for each in told if "alarming" in each)
    assert seen["alarming"].num_alarm_ticks > seen["good"].num_alarm_ticks


def challenged(site: Site, version: str) -> list[Callable[[], bool]]:
    """Return the acts of a challenger: it is let in, then misbehaves, then is back."""

    def enter() -> bool:
        site.promote(version)
        return True

    def misbehave() -> bool:
        if version in get_args(Fault):
            site.spoil(version, cast("Fault", version))
        return True

    return [enter, misbehave, lambda: is_back(site, version)]


def is_back(site: Site, version: str) -> bool:
    return site.steps(version)[-1][0] is Action.ROLLED_BACK


def test_a_champion_that_breaks_on_the_server_is_replaced_and_no_window_is_lost(
    site: Site, model_dir: Path
) -> None:
    send(site, normal_scenario(duration_s=50, seed=11))
    site.add("nan", model_dir)
    site.promote("nan")
    site.promote("nan", to_champion=True)

    def misbehave() -> bool:
        site.spoil("nan", "nan")
        return True

    # (Golden windows are asked at first and then no more: its calls have to give it away.)
    with site.live(PATIENT, probe_every_s=1_000) as live:
        site.run(live, [lambda: True, misbehave, lambda: is_back(site, "nan")])
        site.require_whole(live)
    assert site.paused, "the stream was held back"
    assert set(site.speaks_last().values()) == {"good"}


def test_a_network_that_answers_nan_is_not_let_in(site: Site, model_dir: Path) -> None:
    site.add("nan", model_dir)
    site.spoil("nan", "nan")
    with pytest.raises(InputError, match="differs by nan"):
        site.promote("nan")
    assert site.steps("nan")[-1][0] is Action.REFUSED


def test_a_network_that_was_cut_short_in_the_repository_is_not_let_in(
    site: Site, triton: TritonServer, model_dir: Path
) -> None:
    site.add("cut", model_dir)
    network = triton.repository / site.models("cut")["predictor"] / "1" / "model.onnx"
    network.write_bytes(network.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"cut\.predictor/1/model\.onnx must be as it was"):
        site.promote("cut")
    assert site.steps("cut")[-1][0] is Action.REFUSED


def test_a_canary_speaks_for_its_share_and_goes_back_when_operators_call_its_alarms_a_nuisance(
    site: Site, model_dir: Path
) -> None:
    worn = (FaultInterval("bearing_wear", 40, 100),)
    duration_s = 110
    send(site, replace(FAULTS, duration_s=duration_s, faults=worn))
    site.add("canary", model_dir)
    for _ in range(2):
        site.promote("canary", share=0.5)
    addresses = [str(plant.address) for plant in site.plants]
    chosen = canaries(addresses, 0.5)
    judged: set[str] = set()

    def judge() -> bool:
        """Judge what the canary raised; True when all its plants have."""
        for event in alarm_events(site.plants[0], site.settings):
            plant = next(p for p in site.plants if str(p.address) == event.state.plant)
            is_its = event.state.plant in chosen and event.state.name == "rig-abnormal"
            if event.transition != "raised" or not is_its or event.id in judged:
                continue
            asked = command(
                plant,
                site.settings,
                name=event.state.name,
                action="judge",
                who="ann",
                episode=event.id,
                judgement="nuisance",
                note="someone leaned on it",
            )
            ask(plant, site.settings, asked, patience_s=0.01)
            judged.add(event.id)
        if len(judged) < len(chosen):
            return False
        # (Verdicts are read after all that lies before them; then the plants go on.)
        send(site, normal_scenario(duration_s=15, seed=12, after_s=3_600 + duration_s))
        return True

    limits = Limits(max_nuisance=2, max_p95_s=30)
    with site.live(limits) as live:
        site.run(live, [judge, lambda: is_back(site, "canary")])
        site.require_whole(live)
    assert len(chosen) == 2
    spoke = {
        address: {
            each.model_version
            for each in scores(site.plants[0], site.settings)
            if each.plant == address
        }
        for address in addresses
    }
    assert spoke == {a: {"good", "canary"} if a in chosen else {"good"} for a in addresses}
    assert site.steps("canary")[-1][1].startswith("nuisance: operators called 2 of the 2 alarms")


def test_a_server_that_dies_accuses_no_version(
    site: Site, triton: TritonServer, model_dir: Path
) -> None:
    send(site, normal_scenario(duration_s=50, seed=11))
    site.add("new", model_dir)
    site.promote("new")
    site.promote("new", to_champion=True)
    revival = threading.Thread(target=triton.start)

    def die() -> bool:
        triton.kill()
        return True

    def revived() -> bool:
        return not revival.is_alive() and revival.ident is not None

    with site.live(PATIENT) as live:
        original = live.on_paused

        def revive(why: InferenceUnavailableError) -> None:
            original(why)
            if len(site.paused) == 6:  # (more failures than a version may have)
                revival.start()

        live.on_paused = revive
        site.run(live, [lambda: True, die, revived])
        site.require_whole(live)
    revival.join()
    assert len(site.paused) >= 6
    assert [action for action, _ in site.steps("new")][-1] is Action.CHAMPION
    assert set(site.speaks_last().values()) == {"new"}


def test_an_overloaded_server_holds_the_stream_back_and_nothing_is_dropped(
    empty: Site, triton: TritonServer, model_dir: Path
) -> None:
    site = empty
    send(site, normal_scenario(duration_s=40, seed=11))
    site.add("narrow", model_dir, batching=Batching(max_queue=1, patience_s=0.2))
    site.promote("narrow")
    site.spoil("narrow", "slow")
    is_over = threading.Event()
    network, inputs = (
        {"encoder": site.models("narrow")["encoder"]},
        load_golden(model_dir, "encoder")[0],
    )

    def crowd() -> None:
        with contextlib.closing(TritonInference(triton.access, network, Asking(5.0))) as client:
            while not is_over.is_set():
                with contextlib.suppress(InferenceUnavailableError):
                    client.infer("encoder", inputs)

    def wait(why: InferenceUnavailableError) -> None:
        site.paused.append(str(why))
        if len(site.paused) == 3:
            is_over.set()
            site.spoil("narrow", None)

    others = [threading.Thread(target=crowd) for _ in range(4)]
    for each in others:
        each.start()
    try:
        with site.live() as live:
            live.on_paused = wait
            site.run(live, [])
            site.require_whole(live)
    finally:
        is_over.set()
        for each in others:
            each.join()
    assert any("queue" in why for why in site.paused), "the server refused"
    assert set(site.speaks_last().values()) == {"narrow"}
