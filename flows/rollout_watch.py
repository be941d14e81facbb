"""Follows the journal for a live process, and takes back what misbehaves, about once a second."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows import wiring
from flows.models import newest_model
from flows.rollout import model_named, probe
from flows.rollout_journal import journal_of
from flows.rollout_seen import RoleSeen, write_seen
from flows.settings import Settings
from fusion.errors import InferenceUnavailableError, InputError, ParityError
from fusion.plant import NANOSECONDS, Plant
from fusion.ports import Inference
from fusion.rollout.judging import Limits, Problem, Rule, problem
from fusion.rollout.metering import Meter
from fusion.rollout.states import Action, roles_of

LOOK_EVERY_S = 1.0
PROBE_EVERY_S = 20.0
TELL_EVERY_S = 5.0
STANDBY_S = 3_600.0
"""After a promotion the former champion goes on in shadow for so long."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A plant, the model version that watches it, and one that only scores beside it."""

    plant: Plant
    model_dir: Path
    shadow_dir: Path | None = None


class RolloutWatch:
    """The versions of plants that share a prefix, as one live process sees them.

    ``open_probe`` gives the networks of a version that this process has open.
    """

    def __init__(
        self,
        plants: Sequence[Plant],
        settings: Settings,
        *,
        limits: Limits | None = None,
        look_every_s: float = LOOK_EVERY_S,
        probe_every_s: float = PROBE_EVERY_S,
        open_probe: Callable[[Path], Inference | None] = lambda _: None,
    ) -> None:
        self._plants = list(plants)
        self._settings = settings
        self._clock = wiring.open_clock()
        self._look_every_s, self._probe_every_s = look_every_s, probe_every_s
        budget = sum(plant.scoring.false_alarms_per_day for plant in plants) / len(plants)
        self._limits = limits or Limits(false_alarms_per_day=budget)
        self._journal = journal_of(settings, plants[0])
        self.open_probe = open_probe
        self._num_bytes = self._journal.num_bytes
        self._state = self._journal.state()
        self._meters: dict[str, Meter] = {}
        self._due_ns: dict[str, int] = {}

    def watched(self) -> list[Watched]:
        """Return who watches each plant now; without a champion the newest version does."""
        addresses = [str(plant.address) for plant in self._plants]
        found: list[Watched] = []
        for plant in self._plants:
            roles = roles_of(self._state, str(plant.address), addresses)
            if roles is None:
                found.append(Watched(plant, newest_model(self._settings, plant)))
                continue
            speaks = model_named(self._settings, plant, roles.speaks)
            # Whether it is still there shows when it is opened: one that only listens may be gone.
            models = self._settings.models_dir / plant.prefix
            listens = models / roles.listens if roles.listens else None
            found.append(Watched(plant, speaks, listens))
        return found

    def meter(self, version: str) -> Meter:
        """Return what counts ``version`` since the last step of the journal."""
        tick_s = self._plants[0].tick_s
        return self._meters.setdefault(version, Meter(self._clock, tick_s=tick_s))

    def look(self) -> bool:
        """Return whether other versions have come into service, by a person's step or our own."""
        if not self._is_due("look", self._look_every_s):
            return False
        before = self.watched()
        if self._journal.num_bytes == self._num_bytes:
            self._judge()
        has_moved = self._journal.num_bytes != self._num_bytes
        if has_moved or self._is_due("tell", TELL_EVERY_S):
            self._tell()
        if not has_moved:
            return False
        self._num_bytes, self._state = self._journal.num_bytes, self._journal.state()
        if self.watched() == before:
            return False
        self._begin_anew()
        return True

    def refuse(self, version: str, why: str) -> None:
        """Take back a version that this process cannot open, or let it stand by no longer."""
        stands_by = version == self._state.standby
        self._step(Action.RETIRED if stands_by else Action.ROLLED_BACK, version, why)
        self._num_bytes, self._state = self._journal.num_bytes, self._journal.state()

    def _begin_anew(self) -> None:
        """Judge every version by what it does in its role from now on."""
        state = self._state
        in_service = {state.champion, state.challenger, state.standby}
        self._meters = {v: meter for v, meter in self._meters.items() if v in in_service}
        for meter in self._meters.values():
            meter.begin_anew()

    def _tell(self) -> None:
        """Let people see what each version did in its role, where one is under test."""
        state, seen = self._state, {v: meter.seen() for v, meter in self._meters.items()}
        seen = {version: each for version, each in seen.items() if each.num_ticks}
        if len(seen) > 1:
            told = RoleSeen(revision=state.revision, t_ns=self._clock.now_ns(), seen=seen)
            write_seen(self._settings, self._plants[0], told)

    def _judge(self) -> None:
        """Take back the version under test when it breaks a rule; retire one that stood by."""
        state = self._state
        is_tested = state.stage in {Action.SHADOW, Action.CANARY}
        tested = state.challenger if is_tested else state.champion
        beside = state.champion if is_tested else state.standby
        if tested is None or beside is None or (state.challenger and not is_tested):
            return
        if self._is_due("probe", self._probe_every_s):
            self._probe(tested)
        meter = self.meter(tested)
        tick_s = self._plants[0].tick_s
        found = problem(meter.seen(), self.meter(beside).seen(), self._limits, tick_s=tick_s)
        of_calls = found is not None and found.rule in {Rule.ERRORS, Rule.LATENCY}
        if of_calls and not self._answers(beside):
            meter.forget_calls()  # (the server is away or hangs: that says nothing of the version)
        elif found is not None:
            self._take_back(tested, found)
        elif not is_tested and self._clock.now_ns() - state.since_ns > STANDBY_S * NANOSECONDS:
            self._step(Action.RETIRED, beside, f"{tested} has served for {STANDBY_S / 3600:g} h")

    def _take_back(self, version: str, found: Problem) -> None:
        logging.getLogger(__name__).warning(
            "%s is rolled back (%s): %s", version, found.rule, found.sentence
        )
        seen = self.meter(version).seen()
        self._step(Action.ROLLED_BACK, version, f"{found.rule}: {found.sentence}", seen.figures())

    def _step(
        self, action: Action, version: str, why: str, evidence: dict[str, float] | None = None
    ) -> None:
        try:
            self._journal.append(
                self._state,
                action,
                version,
                who=f"fusion live (replica {self._settings.replica or 'unnamed'})",
                why=why,
                t_ns=self._clock.now_ns(),
                evidence=evidence,
            )
        except InputError as overtaken:
            # Another process or a person was faster: the next look finds what they did.
            logging.getLogger(__name__).info("%s", overtaken)

    def _probe(self, version: str) -> None:
        try:
            self._ask_golden(version)
        except ParityError as broken:
            self.meter(version).parity_broken = str(broken)
        except InferenceUnavailableError:
            return  # (failures of calls are counted where they serve)

    def _answers(self, version: str) -> bool:
        """Whether ``version`` answers now, rightly or wrongly."""
        try:
            self._ask_golden(version)
        except ParityError:
            return True
        except InferenceUnavailableError:
            return False
        return True

    def _ask_golden(self, version: str) -> None:
        model_dir = model_named(self._settings, self._plants[0], version)
        inference = self.open_probe(model_dir)
        if inference is not None:
            probe(inference, model_dir)

    def _is_due(self, what: str, every_s: float) -> bool:
        now_ns = self._clock.monotonic_ns()
        if what in self._due_ns and now_ns < self._due_ns[what]:
            return False
        self._due_ns[what] = now_ns + round(every_s * NANOSECONDS)
        return True
