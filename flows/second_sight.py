"""What was seen and heard at an alarm, for the console: ticks → pictures and sound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from console.ports import Chart, Evidence, Shot
from flows.demo.maps import Maps
from flows.demo.moments import SOUND_TICKS, moment_of, tick_of_ns
from flows.demo.second_look import SecondLook
from flows.models import model_folder
from flows.report.drawing import Picture
from flows.report.evidence import Shown, show
from flows.settings import Settings
from fusion.alignment import Observation
from fusion.errors import InputError
from fusion.plant import Plant
from fusion.schema import AlarmEvent

MAX_MODELS = 4


class SecondSight:
    """Looks again at alarms with the models that raised them; ``ticks_of`` reads the broker."""

    def __init__(
        self,
        plants: Mapping[str, Plant],
        settings: Settings,
        ticks_of: Callable[[Plant, range], dict[int, Observation]],
    ) -> None:
        self._plants, self._settings, self._ticks_of = plants, settings, ticks_of
        self._looks = lru_cache(MAX_MODELS)(self._load)

    def look(self, event: AlarmEvent, *, quiet_ns: int | None) -> Evidence:
        """Return what was seen and heard when ``event`` raised its alarm.

        Raises:
            InputError: The broker no longer has the records of that time.
            BrokerUnavailableError: It did not answer.
        """
        plant = self._plants[event.state.plant]
        version = "" if event.score is None else event.score.model_version
        maps, again = self._looks(event.state.plant, version)
        tick = tick_of_ns(event.t_ns, plant)
        quiet = None if quiet_ns is None else tick_of_ns(quiet_ns, plant)
        wanted = range(tick - SOUND_TICKS + 1, tick + 1)
        if again is not None and event.state.finding == "surprise":
            wanted = range(min(wanted.start, again.ticks_up_to(tick).start), tick + 1)
        kept = self._ticks_of(plant, wanted)
        if not kept:
            raise InputError(
                "the broker no longer has what the senses sent at that time; the lake has it where "
                "`fusion ingest` ran"
            )
        if quiet is not None:
            kept |= self._ticks_of(plant, range(quiet - SOUND_TICKS + 1, quiet + 1))
        if maps is not None:
            for at in range(tick - SOUND_TICKS + 1, tick + 1):
                if at in kept:
                    maps.draw(kept[at])
        return _evidence(show(moment_of(event, tick, quiet, kept, plant, maps, again)))

    def _load(self, address: str, version: str) -> tuple[Maps | None, SecondLook | None]:
        plant = self._plants[address]
        folder = model_folder(self._settings, plant, version)
        if folder is None:
            return None, None
        return Maps(plant, folder), SecondLook(plant, folder)


def _evidence(shown: Shown) -> Evidence:
    return Evidence(
        frames=tuple(Shot(f.uri, f.caption, f.alt) for f in shown.frames),
        spectrogram=_chart(shown.spectrograms),
        sound_said=shown.sound_said,
        sound_uri=shown.sound_uri,
        normal_sound_uri=shown.normal_sound_uri,
        sensor_or_process=shown.sensor_or_process,
    )


def _chart(drawn: Picture | None) -> Chart | None:
    if drawn is None:
        return None
    return Chart(wide_uri=drawn.wide.uri, narrow_uri=drawn.narrow.uri, alt=drawn.alt)
