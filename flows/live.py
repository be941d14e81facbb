"""Builds the live chain of one plant and puts it back where it stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from flows import wiring
from flows.settings import Settings
from fusion.alarms import AlarmEngine
from fusion.manifest import load_manifest
from fusion.plant import Plant
from fusion.scoring import Calibration, Scorer
from fusion.stream.checkpoint import Checkpoint, newest_checkpoint
from fusion.stream.intake import Intake, is_caught_up
from fusion.stream.live import Live, Step
from fusion.stream.reading import read_to_end
from fusion.stream.windows import WindowEncoder
from fusion.training.package import load_normaliser


@contextlib.contextmanager
def open_live(
    plant: Plant, model_dir: Path, settings: Settings, *, skip_backlog: bool = False
) -> Iterator[Live]:
    """Yield the live chain of ``plant``, resumed from its last checkpoint.

    With ``skip_backlog`` the very first start begins at the broker's newest record; every later
    one goes on where the last one stopped, so that nothing in between is left out.

    The publisher is opened first: it shuts out a former process of the same plant, so that nothing
    can be written any more between reading the checkpoint and going on from it.

    Raises:
        ManifestMismatchError: The model was trained for another plant; names what differs.
        BrokerUnavailableError: The broker is away.
    """
    # One tick at a time is too little work for two threads: they would only wait for one another.
    torch.set_num_threads(1)
    manifest = load_manifest(model_dir)
    manifest.require_fits(plant)
    group = f"live-{plant.prefix}"
    wiring.prepare_topics(settings, plant)
    with contextlib.ExitStack() as stack:
        publisher = wiring.open_publisher(settings, group=group, writer="live")
        stack.callback(publisher.close)
        checkpoint = read_checkpoint(plant, settings)
        topics = (*plant.sense_topics, plant.topic("alarm-commands"))
        source = wiring.open_source(settings, topics, group)
        stack.callback(source.close)
        inference = wiring.open_inference(model_dir)
        stack.callback(inference.close)
        live = Live(
            plant=plant,
            model_version=manifest.version,
            source=source,
            publisher=publisher,
            intake=Intake(plant, source, wiring.open_clock(), context_ticks=manifest.window_ticks),
            windows=WindowEncoder(inference, plant, manifest, load_normaliser(model_dir)),
            scorer=Scorer(Calibration.load(model_dir), plant, manifest.version),
            alarms=AlarmEngine(plant),
        )
        if checkpoint is not None:
            live.resume(checkpoint)
        elif skip_backlog and not source.committed():
            source.seek(source.end_offsets())
        yield live


def read_checkpoint(plant: Plant, settings: Settings) -> Checkpoint | None:
    """Return the last checkpoint of ``plant``; None on its first start."""
    source = wiring.open_source(settings, (plant.topic("checkpoints"),), f"reads-{plant.prefix}")
    with contextlib.closing(source):
        return newest_checkpoint(read_to_end(source), plant)


def run_live(
    live: Live, *, should_stop: Callable[[], bool], may_end: Callable[[], bool] | None = None
) -> Iterator[Step]:
    """Yield the steps of ``live``, for ever or, with ``may_end``, until every record is read.

    A bounded run ends when ``may_end`` says that no more will come and nothing is left to read; the
    ticks that are still open are scored then.
    """
    is_read_out = False

    def is_done() -> bool:
        nonlocal is_read_out
        if may_end is not None and may_end():
            is_read_out = is_caught_up(live.source)
        return should_stop() or is_read_out

    yield from live.steps(should_stop=is_done)
    if is_read_out:
        yield live.finish()
