"""A plant whose alarms use all that a definition can say, and ticks of it."""

from __future__ import annotations

from fusion.alarms import AlarmEngine
from fusion.plant import NANOSECONDS, Plant, parse_plant
from fusion.schema import AlarmCommand, AlarmEvent, AlarmState, Score
from fusion.schema.alarms import Action

TEXT = """
prefix: p
address: {enterprise: e, site: s, area: a, line: l, cell: c, asset: x}
tick_s: 1
streams:
  - name: process
    modality: telemetry
    rate_hz: 1
    tags:
      - {name: level, unit: m, range: [0, 10], limits: {low: 1, high: 9}}
      - {name: oil, unit: degC, range: [0, 100]}
      - {name: speed, unit: rpm, range: [0, 100]}
modes:
  - {name: stopped, tag: speed, between: [0, 1]}
alarms:
  - {name: odd, finding: surprise, on_delay_s: 2, off_delay_s: 3, re_alarm_s: 20, WHY}
  - {name: full, finding: limit, tag: level, side: high, on_delay_s: 0, off_delay_s: 0, WHY}
  - {name: empty, finding: limit, tag: level, side: low, off_at: 2, on_delay_s: 0, off_delay_s: 0,
     suppressed_in: [stopped], priority: high, asset: tank, WHY}
  - {name: hot, finding: limit, tag: oil, side: high, on_at: 80, off_at: 70, on_delay_s: 0,
     off_delay_s: 0, latching: true, asset: motor, WHY}
  - {name: warm, finding: limit, tag: oil, side: high, on_at: 60, off_at: 50, on_delay_s: 0,
     off_delay_s: 0, masked_by: hot, WHY}
  - {name: flutter, finding: limit, tag: speed, side: high, on_at: 50, off_at: 40, on_delay_s: 0,
     off_delay_s: 0, m_of_n: [3, 5], WHY}
""".replace("WHY", "cause: c, consequence: c, action: a, time_to_respond_s: 60")
PLANT: Plant = parse_plant(TEXT, origin="p.yaml")


def score(
    tick: int,
    surprise: float = 0.0,
    *,
    level: float | None = 5,
    oil: float | None = 20,
    speed: float | None = 30,
    mode: str | None = None,
    has_data: bool = True,
) -> Score:
    values = {"level": level, "oil": oil, "speed": speed}
    return Score(
        plant=str(PLANT.address),
        tick=tick,
        t_end_ns=(tick + 1) * NANOSECONDS,
        model_version="1",
        mode=mode,
        surprise=surprise,
        members={},
        shares={"process": 1.0},
        present={"process": has_data},
        signals=(),
        forecasts=(),
        values={k: float(v) for k, v in values.items() if v is not None and has_data},
    )


class Driver:
    """An engine, and a clock of ticks and commands."""

    def __init__(self, plant: Plant = PLANT) -> None:
        self.engine = AlarmEngine(plant)
        self.tick = 0
        self.num_commands = 0

    def run(self, count: int = 1, surprise: float = 0.0, **values: object) -> list[AlarmEvent]:
        events: list[AlarmEvent] = []
        for _ in range(count):
            events += self.engine.update(score(self.tick, surprise, **values))  # type: ignore[arg-type]
            self.tick += 1
        return events

    def state(self, name: str) -> AlarmState:
        return next(state for state in self.engine.states() if state.name == name)

    def command(self, name: str, action: Action, **told: object) -> AlarmEvent:
        """Return the answer to a command of somebody who sees the newest state."""
        self.num_commands += 1
        asked = {
            "id": f"c{self.num_commands}",
            "plant": str(PLANT.address),
            "name": name,
            "action": action,
            "expected_revision": self.state(name).revision,
            "who": "ann",
            "t_ns": self.tick * NANOSECONDS,
        }
        first, *_ = self.engine.command(AlarmCommand.model_validate(asked | told))
        return first

    def shelve(self, name: str, duration_s: float = 60, **told: object) -> AlarmEvent:
        return self.command(name, "shelve", duration_s=duration_s, note="works there", **told)


def said(events: list[AlarmEvent]) -> list[tuple[str, str]]:
    return [(event.state.name, event.transition) for event in events]
