"""Whatever happens, and however often a tab is told: it shows the picture, and counts are right."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from console.picture import Picture
from console.sync import Tab, Told, View, Wording, alarm_id
from fusion.schema import AlarmState, Condition, Override
from tests.console_app import ADDRESS, PLANT, alarm_state

OTHER = PLANT.model_copy(
    update={"address": PLANT.address.model_copy(update={"asset": "other-rig"}), "prefix": "other"}
)
ADDRESSES = (ADDRESS, str(OTHER.address))

SHELVED = Override(kind="shelved", who="olga", reason="being mended", t_ns=1, until_ns=2)
states = st.builds(
    alarm_state,
    name=st.sampled_from(["a", "b", "c", "d"]),
    plant=st.sampled_from([*ADDRESSES, "a/stranger"]),
    kind=st.sampled_from(["alarm", "advisory"]),
    priority=st.sampled_from(["low", "medium", "high"]),
    condition=st.sampled_from(list(Condition)),
    is_acknowledged=st.booleans(),
    revision=st.integers(0, 9),
    since_ns=st.integers(0, 9),
    overrides=st.sampled_from([(), (SHELVED,)]),
    is_latched=st.booleans(),
)
TELL = "tell"
RECONNECT = "reconnect"
steps = st.lists(st.one_of(states, st.sampled_from([TELL, RECONNECT])), max_size=40)


class Browser:
    """What ``console.js`` does with messages, no more."""

    def __init__(self, addresses: frozenset[str], wording: Wording | None = None) -> None:
        self.addresses = addresses
        self.wording = wording or Wording(lambda shown, _: shown.state.model_dump_json())
        self.rows: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        self.connect()

    def connect(self) -> None:
        view = View(self.addresses, wants_rows=True, may_act=self.addresses)
        self.tab = Tab("olga", view, self.wording)
        self.seen: tuple[str, int] | None = None

    def hear(self, told: Told) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(told.text)
        if message["from"] is None:
            self.rows.clear()
        else:
            assert self.seen == (message["epoch"], message["from"]), "nothing is left out"
        for gone in message["gone"]:
            self.rows.pop(gone, None)
        self.rows |= {row["id"]: row["html"] for row in message["rows"]}
        self.counts, self.seen = message["counts"], (message["epoch"], message["revision"])
        return message


def naive(
    applied: list[AlarmState], addresses: frozenset[str]
) -> dict[tuple[str, str], AlarmState]:
    newest = {(s.plant, s.name): s for s in applied if s.plant in addresses}
    return {key: s for key, s in newest.items() if s.shown.value != "normal"}


@given(steps, st.sampled_from([frozenset(ADDRESSES), frozenset(ADDRESSES[:1]), frozenset()]))
def test_a_tab_shows_the_picture_whenever_it_was_told(
    taken: list[AlarmState | str], addresses: frozenset[str]
) -> None:
    picture, browser, applied = Picture([PLANT, OTHER]), Browser(addresses), list[AlarmState]()
    neighbours = [Browser(frozenset(ADDRESSES[i:]), browser.wording) for i in (0, 1)]
    for step in [*taken, TELL]:
        if isinstance(step, AlarmState):
            picture.alarm_state(step)
            applied.append(step)
            continue
        if step == RECONNECT:
            browser.connect()
        for neighbour in neighbours:  # who was told before takes nothing from who comes after
            neighbour.hear(neighbour.tab.next(picture, now_ns=0, away_since_ns=None))
        browser.hear(browser.tab.next(picture, now_ns=0, away_since_ns=None))
        listed = naive(applied, addresses)
        assert browser.rows == {
            f"{plant.replace('/', '.')}:{name}": s.model_dump_json()
            for (plant, name), s in listed.items()
        }
        shown = Counter(s.shown.value for s in listed.values() if s.kind == "alarm")
        assert browser.counts["unacknowledged"] == shown["unacknowledged"]
        assert browser.counts["acknowledged"] == shown["acknowledged"]
        assert browser.counts["returned"] == shown["returned-unacknowledged"]
        advisories = sum(s.kind == "advisory" and not s.is_hidden for s in listed.values())
        hidden = sum(s.is_hidden for s in listed.values())
        assert browser.counts["hidden"] == hidden
        assert browser.counts["advisories"] == advisories
        assert not browser.tab.is_behind(picture)


def test_another_picture_is_told_whole() -> None:
    browser, first = Browser(frozenset(ADDRESSES)), Picture([PLANT, OTHER])
    first.alarm_state(alarm_state("old"))
    browser.hear(browser.tab.next(first, now_ns=0, away_since_ns=None))
    second = Picture([PLANT, OTHER])
    second.alarm_state(alarm_state("new"))
    message = browser.hear(browser.tab.next(second, now_ns=0, away_since_ns=None))
    assert message["from"] is None
    assert list(browser.rows) == [alarm_id(second.alarms(frozenset(ADDRESSES))[0])]


def test_a_slow_tab_is_told_each_alarm_once_as_it_stands() -> None:
    picture, browser = Picture([PLANT, OTHER]), Browser(frozenset(ADDRESSES))
    browser.hear(browser.tab.next(picture, now_ns=0, away_since_ns=None))
    for revision in range(1_000):
        picture.alarm_state(alarm_state("busy", revision=revision))
    message = browser.hear(browser.tab.next(picture, now_ns=0, away_since_ns=None))
    assert len(message["rows"]) == 1
    assert '"revision":999' in message["rows"][0]["html"]
