"""The page of one asset: chances of an alarm, with what they rest on, or nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from console.rights import Role
from fusion.schema import EventChance, EventChances, Score
from tests.console_app import PLANT, SLUG, Served, score_message, served


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("asset")) as running:
        running.person("olga", Role.OPERATOR)
        running.log_in("olga")
        yield running


def score(tick: int, chances: EventChances | None) -> Score:
    return Score(
        plant=str(PLANT.address),
        tick=tick,
        t_end_ns=1_767_225_600_000_000_000 + tick * PLANT.tick_ns,
        model_version="v1",
        mode=None,
        surprise=0.2,
        members={},
        shares={},
        present={},
        signals=(),
        forecasts=(),
        event_chances=chances,
    )


def test_chances_are_one_line_with_what_they_rest_on_and_nothing_without_a_head(
    console: Served,
) -> None:
    told = EventChances(
        within=(
            EventChance(within_s=30, chance=0.004),
            EventChance(within_s=60, chance=0.125),
            EventChance(within_s=600, chance=0.995),
        ),
        head=3,
        num_useful=6,
        num_nuisance=2,
        error=0.05,
    )
    console.publish(score_message(PLANT, score(120, told)))
    page = console.until(f"/plants/{SLUG}", "Chance of an alarm")
    (line,) = [each for each in page.splitlines() if "Chance of an alarm" in each]
    assert "at 00:01:00 UTC: within 30 s below 1 %, 1 min 12 %, 10 min over 99 %." in line
    assert "rests on 6 useful and 2 nuisance alarms" in line
    assert "lay 5 % from what happened" in line
    assert 'class="muted"' in line
    unknown = told.model_copy(update={"error": None})
    console.publish(score_message(PLANT, score(122, unknown)))
    assert "from what happened" not in console.until(f"/plants/{SLUG}", "at 00:01:01")
    console.publish(score_message(PLANT, score(123, None)))
    until_gone = time.monotonic() + 20
    while "Chance of an alarm" in console.client.get(f"/plants/{SLUG}").text:
        assert time.monotonic() < until_gone, "what was foreseen stays though nothing is now"
        time.sleep(0.05)
