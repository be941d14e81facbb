"""The versions that a live process has open: which one speaks of a plant, and which one listens."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.event_heads import HeadWatch
from flows.rollout_watch import RolloutWatch, Watched
from flows.serving import end_serving, open_serving
from flows.settings import Settings
from flows.trust import trusted_model
from fusion.alarms import AlarmEngine
from fusion.errors import InputError, SettingsError
from fusion.features import Normaliser
from fusion.manifest import Manifest, load_manifest
from fusion.plant import NANOSECONDS, Plant
from fusion.ports import Clock, Inference
from fusion.rollout.metering import Meter, MeteredInference
from fusion.scoring import Calibration, Scorer
from fusion.stream.chain import Averages
from fusion.stream.live import Live
from fusion.stream.shadow import Shadow
from fusion.stream.windows import WindowEncoder
from fusion.training.package import load_normaliser

log = logging.getLogger(__name__)
RETRY_S = 30.0
SHADOW_DEADLINE_S = 0.5
"""A challenger that hangs costs the champion at most so long, until its breaker opens."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """What a version's folder held when it was opened; the folder is not read again."""

    manifest: Manifest
    inference: Inference
    calibration: Calibration
    normaliser: Normaliser


@dataclass(frozen=True, slots=True)
class Served:
    """One version, open: what the chains that it serves are made of."""

    model_dir: Path
    manifest: Manifest
    inference: Inference
    calibration: Calibration
    normaliser: Normaliser
    meter: Meter
    heads: HeadWatch

    @property
    def version(self) -> str:
        """Its name."""
        return self.manifest.version

    def windows(self, plant: Plant) -> WindowEncoder:
        """Return a window of ``plant`` that is empty yet."""
        return WindowEncoder(self.inference, plant, self.manifest, self.normaliser)

    def scorer(self, plant: Plant) -> Scorer:
        """Return a scorer of ``plant`` that has seen nothing yet, with the newest event head."""
        scorer = Scorer(self.calibration, plant, self.version)
        scorer.foresight.head = self.heads.newest(self.model_dir, plant)
        return scorer


@dataclass(frozen=True, slots=True)
class Model:
    """The versions of one plant."""

    plant: Plant
    served: Served
    listens: Served | None = None

    @property
    def context_ticks(self) -> int:
        """The longer window of both: a restart reads that much again."""
        both = [self.served, *([] if self.listens is None else [self.listens])]
        return max(each.manifest.window_ticks for each in both)

    def shadow(self) -> Shadow | None:
        """Return the version that only listens, with a window that is empty yet."""
        other, plant = self.listens, self.plant
        if other is None:
            return None
        return Shadow(
            plant,
            other.version,
            other.windows(plant),
            other.scorer(plant),
            AlarmEngine(plant),
            other.meter,
        )


class InService:
    """Opens versions as they come into service, and closes those that left."""

    def __init__(self, settings: Settings, clock: Clock, rollout: RolloutWatch | None) -> None:
        self.models: dict[str, Model] = {}
        self.averages: dict[str, dict[str, Averages]] = {}
        """Per plant and version: the score's running statistics in the role before this one."""
        self._settings = settings
        self._clock = clock
        self._rollout = rollout
        self._heads = HeadWatch(settings, clock)
        self._open: dict[tuple[Path, bool], _Opened] = {}
        self._t_retry_ns: int | None = None
        """When a version that could not be opened, by no fault of its own, is tried again."""
        if rollout is not None:
            rollout.open_probe = self._opened

    def bring(self, watched: Sequence[Watched]) -> None:
        """Let each plant be watched as ``watched`` says from now on.

        Raises:
            ManifestMismatchError: A model was trained for another plant; names what differs.
            InputError: A model cannot be opened.
        """
        meters: dict[str, Meter] = {}
        models: dict[str, Model] = {}
        for each in watched:
            try:
                served = self._serve(each.plant, each.model_dir, meters, is_shadow=False)
            except InputError as broken:
                if not self._may_go_back(each.model_dir.name, broken):
                    raise
                self.bring(self._rollout.watched() if self._rollout else watched)
                return
            listens = self._listen(each, meters)
            models[str(each.plant.address)] = Model(each.plant, served, listens)
        self.models = models
        if self._rollout is not None and (now := self._rollout.watched()) != list(watched):
            # One was refused for a plant: no plant before it goes on with it.
            self.bring(now)
        self._close_unused()

    def has_changed(self, live: Live) -> bool:
        """Return whether other versions are in service than a moment ago.

        A newer event head of a version that is needs nothing to be opened anew.
        """
        if self._heads.is_due():
            self._renew_heads(live)
        if self._rollout is None:
            return False
        is_due = self._t_retry_ns is not None and self._clock.monotonic_ns() >= self._t_retry_ns
        if not self._rollout.look() and not is_due:
            return False
        self._t_retry_ns = None
        for shard in live.shards.values():
            for address, chain in shard.chains.items():
                self.averages[address] = chain.averages()
        self.bring(self._rollout.watched())
        return True

    def close(self) -> None:
        """Free everything."""
        self.models = {}
        self._close_unused()

    def _renew_heads(self, live: Live) -> None:
        for shard in live.shards.values():
            for address, chain in shard.chains.items():
                model = self.models[address]
                head = self._heads.newest(model.served.model_dir, model.plant)
                chain.scorer.foresight.head = head

    def _listen(self, each: Watched, meters: dict[str, Meter]) -> Served | None:
        if each.shadow_dir is None:
            return None
        try:
            return self._serve(each.plant, each.shadow_dir, meters, is_shadow=True)
        except (SettingsError, OSError) as why:
            # A key that cannot be read, a disk that is full: no word about the version.
            log.warning("%s cannot be opened, and is tried again: %s", each.shadow_dir.name, why)
            self._t_retry_ns = self._clock.monotonic_ns() + round(RETRY_S * NANOSECONDS)
            return None
        except InputError as refused:
            assert self._rollout is not None, "only a rollout has a shadow"
            self._rollout.refuse(each.shadow_dir.name, str(refused))
            return None

    def _may_go_back(self, version: str, broken: InputError) -> bool:
        """Take back a canary that cannot be opened; whoever else cannot is nobody's to replace."""
        rollout = self._rollout
        if rollout is None or isinstance(broken, SettingsError) or not rollout.is_canary(version):
            return False
        rollout.refuse(version, str(broken))
        return not rollout.is_canary(version)

    def _serve(
        self, plant: Plant, model_dir: Path, meters: dict[str, Meter], *, is_shadow: bool
    ) -> Served:
        key = (model_dir, is_shadow)
        if key not in self._open:
            deadline_s = SHADOW_DEADLINE_S if is_shadow else None
            with trusted_model(model_dir, self._settings) as folder:
                manifest = load_manifest(folder)
                manifest.require_fits(plant)
                self._open[key] = _Opened(
                    manifest,
                    open_serving(folder, self._settings, deadline_s=deadline_s),
                    Calibration.load(folder),
                    load_normaliser(folder),
                )
        opened = self._open[key]
        opened.manifest.require_fits(plant)
        version = opened.manifest.version
        if self._rollout is not None:
            meter = self._rollout.meter(version)
        else:
            meter = meters.setdefault(version, Meter(self._clock, tick_s=plant.tick_s))
        return Served(
            model_dir,
            opened.manifest,
            MeteredInference(opened.inference, meter, self._clock),
            opened.calibration,
            opened.normaliser,
            meter,
            self._heads,
        )

    def _opened(self, model_dir: Path) -> Inference | None:
        for (open_dir, _), opened in self._open.items():
            if open_dir == model_dir:
                return opened.inference
        return None

    def _close_unused(self) -> None:
        used = {(model.served.model_dir, False) for model in self.models.values()}
        used |= {(m.listens.model_dir, True) for m in self.models.values() if m.listens}
        still_open = {model_dir for model_dir, _ in used}
        for key in [key for key in self._open if key not in used]:
            opened = self._open.pop(key)
            opened.inference.close()
            # (At the end of the process the server keeps what the next one will ask for.)
            if self.models and key[0] not in still_open:
                end_serving(opened.manifest, self._settings)
