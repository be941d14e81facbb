"""The tables of docs/alarms.md are what the engine does: every cell of them is driven."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fusion.alarms import AlarmEngine
from fusion.plant import parse_plant
from fusion.schema import Override, ShownState
from tests.unit.alarms.plants import TEXT, Driver

PAGE = Path(__file__).parents[3] / "docs" / "alarms.md"
NOTHING = "—"
# ``full`` does not latch, ``hot`` does; both are without delays.
ALARMS = {"full": {"on": {"level": 9.5}, "off": {"level": 5}}}
ALARMS["hot"] = {"on": {"oil": 85}, "off": {"oil": 20}}
REACHED = {
    "normal": [],
    "unacknowledged": ["on"],
    "acknowledged": ["on", "acknowledge"],
    "returned-unacknowledged": ["on", "off"],
    "latched": ["on", "acknowledge", "off"],
}
HIDING = ("out-of-service", "suppressed", "masked", "shelved")


def tables() -> list[list[dict[str, str]]]:
    """Return the three tables of transitions, each a list of rows by heading."""
    found: list[list[dict[str, str]]] = []
    heading: list[str] = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            heading = []
        elif not heading:
            heading = cells
            found.append([])
        elif set(cells[0]) != {"-"}:
            found[-1].append(dict(zip(heading, cells, strict=True)))
    return [table for table in found if table and {"on", "off"} <= table[0].keys()]


def act(driver: Driver, name: str, what: str) -> list[str]:
    """Do one thing to the alarm, and return what was journalled of it."""
    if what in {"acknowledge", "reset"}:
        return [driver.command(name, what).transition]  # type: ignore[arg-type]
    values = {"has_data": False} if what == "bad input" else ALARMS[name][what]
    events = driver.run(**values)
    return [event.transition for event in events if event.state.name == name]


CELLS = [
    (name, row["shown"], what, row[what])
    for name, table in zip(ALARMS, tables()[:2], strict=True)
    for row in table
    for what in ("on", "off", "bad input", "acknowledge", "reset")
]


def test_the_page_has_all_tables() -> None:
    assert [len(table) for table in tables()] == [4, 5, 2]
    assert {row["shown"] for row in tables()[1]} == set(REACHED)


@pytest.mark.parametrize(("name", "shown", "what", "then"), CELLS)
def test_every_cell_of_what_is_shown(name: str, shown: str, what: str, then: str) -> None:
    driver = Driver()
    driver.run()
    for step in REACHED[shown]:
        act(driver, name, step)
    assert driver.state(name).shown == shown
    before = driver.state(name)
    journalled = act(driver, name, what)
    if then == NOTHING:
        assert journalled == []
        assert driver.state(name) == before
    elif then == "refused":
        assert journalled == ["refused"]
        assert driver.state(name) == before
    else:
        expected, _, transition = then.partition(": ")
        assert journalled == [transition]
        assert driver.state(name).shown == expected
        assert driver.state(name).revision == before.revision + 1


def hide(driver: Driver, name: str, kind: str) -> None:
    """Hide the alarm in one way; derived ones by what they derive from."""
    if kind == "shelved":
        driver.shelve(name)
    elif kind == "out-of-service":
        driver.command(name, "remove-from-service", duration_s=600, note="being mended")
    elif kind == "suppressed":
        driver.run(mode="stopped", **ALARMS["full"]["off"])
    else:
        driver.run(oil=85)


def end(driver: Driver, name: str, kind: str, values: dict[str, Any]) -> None:
    if kind == "shelved":
        driver.command(name, "unshelve")
    elif kind == "out-of-service":
        driver.command(name, "return-to-service")
    driver.run(**values)


@pytest.mark.parametrize("kind", HIDING)
@pytest.mark.parametrize("row", tables()[2], ids=lambda row: row["hidden"])
def test_every_cell_of_what_is_hidden(kind: str, row: dict[str, str]) -> None:
    text = TEXT.replace("{name: full,", "{name: full, suppressed_in: [stopped], masked_by: hot,")
    driver = Driver()
    driver.engine = AlarmEngine(parse_plant(text, origin="p.yaml"))
    on: dict[str, Any] = {"level": 9.5} | ({"mode": "stopped"} if kind == "suppressed" else {})
    off: dict[str, Any] = {"level": 5.0} | ({"mode": "stopped"} if kind == "suppressed" else {})
    if kind == "masked":
        on, off = on | {"oil": 85}, off | {"oil": 85}

    def transitions(values: dict[str, Any]) -> list[str]:
        return [e.transition for e in driver.run(**values) if e.state.name == "full"]

    driver.run()
    hide(driver, "full", kind)
    shown = ShownState(kind)
    if row["hidden"] == "hidden standing":
        assert transitions(on) == ["raised"]
        assert transitions(on) == []
        assert driver.state("full").shown is shown
        assert transitions({**on, "has_data": False}) == []
        end(driver, "full", kind, {"level": 9.5})
        assert driver.state("full").shown == row["it ends"]
        hide(driver, "full", kind) if kind in {"shelved", "out-of-service"} else None
        driver.run(**on)
        assert [*transitions(off)] == ["cleared"]
    else:
        assert driver.state("full").shown is shown
        assert transitions(off) == []
        assert transitions(on) == ["raised"]
        assert driver.state("full").shown is shown, "it is judged, and not shown"
        assert transitions(off) == ["cleared"]
        end(driver, "full", kind, {"level": 5})
        assert driver.state("full").shown == row["it ends"]


def test_what_hides_first_is_shown_first() -> None:
    state = Driver().state("full").model_copy(update={"is_acknowledged": False})
    overrides = [
        Override.model_validate(
            {"kind": kind, "who": "ann", "reason": "r", "t_ns": 0, "until_ns": 9}
        )
        for kind in reversed(HIDING)
    ]
    for count, kind in enumerate(reversed(HIDING), 1):
        hidden = state.model_copy(update={"overrides": tuple(overrides[:count])})
        assert hidden.shown == kind
