"""``make loop``: the story of one loop on real services, with the picture of it.

    python -m benchmarks.loop --drift camera --picture out/camera.svg

A plant of instruments to which something happens is lied about afterwards, and the gate refuses.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.broker import own_kafka
from benchmarks.loop import story
from benchmarks.loop.pages import take_pictures
from benchmarks.loop.plant import DRIFTS, Drift, Hour, send, write_plant
from benchmarks.loop.services import ROOT, Place, make_place, prefect_server, process
from flows.retraining_run import runs_of


def main() -> None:
    """Tell the story, then draw what was written down."""
    parser = argparse.ArgumentParser(description=__doc__)
    picture = ROOT / "docs" / "pictures" / "retraining-loop.svg"
    parser.add_argument("--picture", type=Path, default=picture)
    parser.add_argument("--pages", type=Path, help="put pictures of Prefect's pages here")
    parser.add_argument("--drift", choices=sorted(DRIFTS), default="product")
    asked = parser.parse_args()
    drift = DRIFTS[asked.drift]
    with own_kafka() as settings, tempfile.TemporaryDirectory(prefix="fusion-loop-") as folder:
        place = make_place(
            Path(folder), settings, write_plant(Path(folder), asked.drift, drift.streams)
        )
        with prefect_server(place, has_pages=asked.pages is not None):
            story.describe(place, steps=drift.steps)
            show(place, "flows", "deploy", "--file", str(place.deployments))
            with process(place, "worker", "prefect", "worker", "start", "--pool", "fusion"):
                tell(place, drift)
            if asked.pages is not None:
                take_pictures(place, asked.pages)
            plant, version = str(place.plant_file), story.state(place).champion
            show(place, "flows", "status", plant)
            show(place, "drift", "records", plant)
            show(place, "drift", "feedback", plant)
            show(place, "models", "show", plant, str(version))
            show(place, "flows", "timeline", plant, "--out", str(asked.picture.absolute()))


def tell(place: Place, drift: Drift) -> None:
    """Let the plant be learned, move, be learned anew, and be lied about."""
    change, hour = drift.change, story.changed(drift.change)
    send(place.plant_file, place.settings, story.AS_EVER)
    place.completed("retrain", reason="a new plant")
    first = story.state(place).champion
    assert first is not None, story.told(place)
    say(f"{first} serves")
    with story.watched_live(place):
        story.speak(place, hour)
        judged = story.judge_alarms(place, "nuisance", change.told)
        say(f"{change.told}; judged a nuisance: {judged}")
        answered = story.drift_is_answered(place)
        version = answered.run.asked().version
        say(f"{version}: {answered.run.end()}")
        now_s = story.take_on(place, version, hour.end_s, change)
        say(f"{version} serves")
        if len(drift.streams) == 1:
            lies = Hour(now_s, story.LIES_S, seed=3, change=change, is_poisoned=True)
            story.speak(place, lies)
            poisoned = story.drift_is_answered(place)
            story.speak(place, Hour(lies.end_s, story.PIECE_S, seed=4, change=change))
            say(f"{poisoned.run.asked().version}: {poisoned.run.end()}")
    runs = runs_of(place.settings, story.plant_of(place))
    say(f"{len(runs)} retrainings; {story.state(place).told()}")


def show(place: Place, *command: str) -> None:
    """Do a command of the product, and show what it prints."""
    told = " ".join(command).replace(f"{place.folder}/", "")
    print(f"$ fusion {told}\n{place.fusion(*command)}", flush=True)


def say(words: str) -> None:
    """Print what happens, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {words}", flush=True)


if __name__ == "__main__":
    main()
