"""Operators in a real browser on a real Kafka: what they see and do, and see after an outage."""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, expect

from console.rights import Role
from flows import wiring
from flows.settings import Settings
from fusion.alarms import AlarmEngine
from fusion.alarms.kpis import PERIOD_NS
from fusion.plant import Plant, StreamSender
from fusion.schema import (
    AlarmCommand,
    AlarmEvent,
    AlarmState,
    Message,
    Score,
    SignalEvidence,
    TagForecast,
)
from fusion.schema.alarms import Action
from fusion.stream.reading import read_to_end
from tests.browsing import CHROMIUM, PATIENCE_MS, Kafka, Sit, open_browser, own_kafka, seats
from tests.conftest import IS_CI
from tests.console_app import (
    PASSWORD,
    PLANT,
    Served,
    event_message,
    level_message,
    score_message,
    served,
    state_message,
)

FLOOD_TICKS = round(PERIOD_NS / PLANT.tick_ns)
pytestmark = [
    pytest.mark.xdist_group("console-browser"),
    pytest.mark.skipif(
        not CHROMIUM and not IS_CI, reason="needs Debian's chromium (deploy/prepare-tests.sh)"
    ),
]
SENTENCE = "Sound (microphone) deviates most (100% of the surprise)"


@dataclass
class Live:
    """The alarm engine, fed by the test; it answers what operators ask for."""

    plant: Plant
    settings: Settings
    engine: AlarmEngine = field(init=False)
    tick: int = 1_000
    answered: int = 0

    def __post_init__(self) -> None:
        self.engine = AlarmEngine(self.plant)

    def score(self, surprise: float, *, ticks: int = 1) -> None:
        for _ in range(ticks):
            self.tick += 1
            score = _score(self.plant, self.tick, surprise)
            self._say([score_message(self.plant, score)], self.engine.update(score))

    def calm(self) -> None:
        """Let nothing stand, and nothing wait for anybody.

        What came before is so long ago that all tests together are no flood.
        """
        self.tick += FLOOD_TICKS
        self.score(0.1, ticks=40)
        for state in self.engine.states():
            if state.override("shelved") is not None:
                self._do(state, "unshelve")
        for state in self.engine.states():
            if not state.is_acknowledged:
                self._do(state, "acknowledge")

    def stand(self) -> None:
        """Let one alarm stand that nobody has acknowledged."""
        self.calm()
        self.score(1.5, ticks=8)

    def _do(self, state: AlarmState, action: Action) -> None:
        command = AlarmCommand(
            id=uuid.uuid4().hex,
            plant=state.plant,
            name=state.name,
            action=action,
            expected_revision=state.revision,
            who="test",
            t_ns=state.since_ns,
        )
        self._say([], self.engine.command(command))

    def answer(self) -> None:
        """Carry out every command that came since the last call."""
        topic = self.plant.topic("alarm-commands")
        with contextlib.closing(wiring.open_source(self.settings, [topic], "test")) as source:
            asked = [AlarmCommand.model_validate_json(r.value) for r in read_to_end(source)]
        for command in asked[self.answered :]:
            self._say([], self.engine.command(command))
        self.answered = len(asked)

    def _say(self, messages: list[Message], events: list[AlarmEvent]) -> None:
        for event in events:
            messages += [event_message(self.plant, event), state_message(self.plant, event.state)]
        self.publish(messages)

    def publish(self, messages: list[Message]) -> None:
        with contextlib.closing(wiring.open_publisher(self.settings)) as publisher:
            publisher.publish(messages)


def _score(plant: Plant, tick: int, surprise: float) -> Score:
    forecast = TagForecast(
        tag="motor_temperature",
        unit="degC",
        now=55.0,
        horizons_s=(0.5, 2.0, 8.0),
        low=(55.0, 55.5, 56.0),
        median=(55.1, 56.0, 58.0),
        high=(55.3, 57.0, 60.0),
        limit=62.0,
        limit_side="high",
        p_cross=0.1,
    )
    signal = SignalEvidence(
        tag="motor_current",
        unit="A",
        stream="process",
        actual=5.0,
        expected=4.0,
        band=(3.8, 4.2),
        deviation=9.0,
    )
    return Score(
        plant=str(plant.address),
        tick=tick,
        t_end_ns=(tick + 1) * plant.tick_ns,
        model_version="test",
        mode=None,
        surprise=surprise,
        members={"latent": surprise},
        shares={"microphone": 1.0, "process": 0.0, "camera": 0.0},
        present={"microphone": True, "process": True, "camera": True},
        signals=(signal,),
        forecasts=(forecast,),
        values={"motor_temperature": 55.0},
    )


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with own_kafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def console(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("console"),
        broker="kafka",
        kafka_bootstrap=kafka.bootstrap,
    )
    with served(settings.data_dir, (PLANT,), settings, has_real_time=True) as running:
        running.person("olga", Role.OPERATOR)
        running.person("oscar", Role.OPERATOR)
        running.person("ada", Role.ADMIN)
        yield running


@pytest.fixture(scope="module")
def live(console: Served) -> Live:
    running = Live(PLANT, console.settings)
    running.score(0.1)
    return running


@pytest.fixture
def sit(browser: Browser, console: Served) -> Iterator[Sit]:
    with seats(browser, console.base, PASSWORD) as take:
        yield take


def test_an_alarm_comes_is_answered_and_goes_in_every_browser(sit: Sit, live: Live) -> None:
    live.calm()
    olga, oscar = sit("olga"), sit("oscar")
    olga.go("/alarms")
    oscar.go("/alarms")
    olga.shows("#counts", "0 unacknowledged")
    live.score(1.5, ticks=8)
    for seat in (olga, oscar):
        seat.shows("#rows", SENTENCE)
        seat.shows("#counts", "1 unacknowledged")
    assert olga.page.title().startswith("(1)")

    olga.page.keyboard.press("j")
    olga.page.keyboard.press("a")
    olga.shows("#said", "sent")
    live.answer()
    for seat in (olga, oscar):
        seat.shows("#counts", "0 unacknowledged")
        seat.shows("#counts", "1 acknowledged")
        seat.shows("#rows", "Acknowledged")

    live.score(0.1, ticks=40)
    for seat in (olga, oscar):
        seat.shows("#counts", "0 acknowledged")
        expect(seat.page.locator("#rows tr")).to_have_count(0, timeout=PATIENCE_MS)


def test_the_page_of_an_alarm_follows_what_is_done(sit: Sit, live: Live, console: Served) -> None:
    live.stand()
    olga = sit("olga")
    olga.go("/alarms")
    olga.shows("#rows", SENTENCE)
    olga.page.locator("#rows a").first.click()
    olga.shows("main", "motor_current")
    olga.shows("#evidence", "the broker no longer has")
    olga.shows("#state", "Unacknowledged")

    olga.page.click("summary:has-text('Comment')")
    script = "<script>document.title = 'stolen'</script><img src=x onerror=alert(1)>"
    olga.page.fill("details[open] [name=note]", script)
    olga.page.click("details[open] button.main")
    olga.shows("#said", "sent")
    live.answer()
    olga.shows("#history", script)
    assert "stolen" not in olga.page.title()

    olga.page.click("summary:has-text('Shelve')")
    olga.page.fill("details[open] [name=note]", "the pump is being mended")
    olga.page.click("details[open] button.main")
    olga.shows("#said", "sent")
    live.answer()
    olga.shows("#state", "Shelved")
    olga.shows("#state", "the pump is being mended")
    olga.shows("#counts", "0 unacknowledged")
    olga.page.click("button:has-text('Unshelve')")
    olga.shows("#said", "sent")
    live.answer()
    olga.shows("#counts", "1 unacknowledged")


def test_what_comes_too_late_is_refused_in_words(sit: Sit, live: Live) -> None:
    live.stand()
    olga = sit("olga")
    olga.go("/alarms")
    olga.shows("#counts", "1 unacknowledged")
    olga.page.locator("#rows a").first.click()
    name = olga.page.url.rsplit("/", 1)[1]
    token = olga.page.get_attribute('meta[name="csrf-token"]', "content")
    stale = olga.page.request.post(
        f"{olga.base}/alarms/{name}/ask",
        form={"action": "acknowledge", "revision": "0"},
        headers={"X-CSRF-Token": token or "", "Origin": olga.base},
    )
    assert stale.status == 200
    live.answer()
    olga.shows("#said", "you saw 0; look again")


def test_counts_are_right_after_the_broker_was_killed(
    sit: Sit, live: Live, kafka: Kafka, console: Served
) -> None:
    live.stand()
    olga = sit("olga")
    olga.go("/alarms")
    olga.shows("#counts", "1 unacknowledged")
    kafka.kill()
    try:
        olga.shows("#stale", "The broker is away. Data stale since")
        olga.shows("#counts", "1 unacknowledged")
        olga.page.locator("#rows button").first.click()
        olga.shows("#said", "the broker is away, so nothing was sent")
    finally:
        kafka.start()
    live.score(0.1, ticks=40)
    expect(olga.page.locator("#stale")).not_to_contain_text("broker is away", timeout=PATIENCE_MS)
    olga.shows("#counts", "0 unacknowledged")
    olga.shows("#counts", "1 returned")


def test_a_console_that_was_away_is_said_and_forgotten(sit: Sit, live: Live) -> None:
    live.stand()
    live.score(0.1, ticks=40)
    olga = sit("olga")
    olga.go("/alarms")
    olga.shows("#counts", "1 returned")
    olga.page.context.set_offline(True)
    olga.page.evaluate("document.getElementById('stream')._htmx.sse.reader?.cancel()")
    olga.shows("#stale", "No connection to the console")
    live.score(1.5, ticks=8)
    olga.page.context.set_offline(False)
    olga.shows("#counts", "1 unacknowledged")
    olga.shows("#counts", "0 returned")
    olga.shows("#rows", "Unacknowledged")


def test_what_came_and_went_unseen_waits_on_the_overview(sit: Sit, live: Live) -> None:
    live.stand()
    live.score(0.1, ticks=40)
    olga = sit("olga")
    olga.go("/")
    olga.shows("#counts", "1 returned")
    row = olga.page.locator("#rows tr:visible")
    expect(row).to_have_count(1, timeout=PATIENCE_MS)
    row.locator("button").click()
    olga.shows("#said", "sent")
    live.answer()
    olga.shows("#counts", "0 returned")
    olga.shows("#none", "No alarm waits for anybody")


def test_the_overview_does_not_stand_still(sit: Sit, live: Live) -> None:
    live.calm()
    olga = sit("olga")
    olga.go("/")
    line = olga.page.locator(".sparkline polyline")
    before = line.get_attribute("points") or ""
    olga.page.locator(".card h3 a").focus()
    live.score(1.5, ticks=8)
    expect(line).not_to_have_attribute("points", before, timeout=PATIENCE_MS)
    focused = olga.page.evaluate("document.activeElement.closest('.card h3') !== null")
    assert focused, "whoever uses the keyboard stays where they were"


def test_an_open_page_says_that_the_alarm_was_raised_anew(sit: Sit, live: Live) -> None:
    live.stand()
    olga = sit("olga")
    olga.go("/alarms")
    olga.page.locator("#rows tr:visible a").first.click()
    olga.shows("#state", "Unacknowledged")
    expect(olga.page.locator("#state .earlier")).to_have_count(0)
    live.calm()
    live.score(1.5, ticks=8)
    olga.shows("#state", "is of an earlier time")
    olga.page.click("#state a:has-text('Show the newest')")
    olga.shows("#state", "Unacknowledged")
    expect(olga.page.locator("#state .earlier")).to_have_count(0)


def test_a_signal_that_stopped_says_how_old_its_value_is(sit: Sit, live: Live) -> None:
    live.calm()
    sender = StreamSender(live.plant, "process", source="test", epoch="e")
    t_ns = (live.tick - 120) * live.plant.tick_ns
    live.publish([level_message(sender, t_ns, 0.5)])
    olga = sit("olga")
    olga.go(f"/plants/{str(PLANT.address).replace('/', '.')}")
    newest = olga.page.locator("[data-tag=tank_level] [data-newest]")
    expect(newest).to_have_text(re.compile("□ 0.5 at [0-9:]{8} UTC"), timeout=PATIENCE_MS)
    live.publish([level_message(sender, live.tick * live.plant.tick_ns, 0.6)])
    expect(newest).to_have_text("0.6", timeout=PATIENCE_MS)


PAGES = ["/", "/alarms", "/journal", "/kpi", "/streams", "/models", "/access", "ALARM", "ASSET"]


@pytest.mark.parametrize("width", [390, 1400])
def test_no_page_has_a_serious_fault_of_access(sit: Sit, live: Live, width: int) -> None:
    live.stand()
    ada = sit("ada")
    ada.page.set_viewport_size({"width": width, "height": 900})
    slug = str(PLANT.address).replace("/", ".")
    named = {"ALARM": f"/alarms/{slug}:rig-abnormal", "ASSET": f"/plants/{slug}"}
    found: dict[str, list[str]] = {}
    for path in PAGES:
        ada.go(named.get(path, path))
        ada.shows("#counts", "unacknowledged")
        if path == "ALARM":
            ada.shows("#evidence", "the broker no longer has")
        if serious := ada.faults():
            found[path] = serious
    assert found == {}
