"""Verdicts as labels: which episodes count, how precise an alarm is, how far the event is."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.retraining.labels import LabelledEpisode, episodes_of, labels_of, precision_of
from fusion.schema import AlarmEvent, AlarmState, Judgement, Verdict
from fusion.schema.alarms import Condition, Transition


def event(transition: Transition, t_ns: int, name: str = "hot") -> AlarmEvent:
    state = AlarmState(
        plant="p",
        name=name,
        kind="alarm",
        finding="surprise",
        tag=None,
        priority="high",
        condition=Condition.ACTIVE,
        is_acknowledged=False,
        revision=1,
        tick=t_ns,
        since_ns=t_ns,
        onset_ns=t_ns - 2,
    )
    return AlarmEvent(
        id=f"{name}:{t_ns}:{transition}", transition=transition, t_ns=t_ns, state=state
    )


def verdict(episode: str, judgement: Judgement | None) -> Verdict:
    return Verdict(id="c", plant="p", episode=episode, judgement=judgement, who="w", t_ns=0)


def test_an_episode_goes_from_its_onset_to_its_clearing_and_has_its_verdict() -> None:
    events = [
        event("raised", 10),
        event("acknowledged", 12),
        event("cleared", 20),
        event("raised", 30),
        event("raised", 15, "loud"),
    ]
    told = {
        "hot:10:raised": verdict("hot:10:raised", "useful"),
        "loud:15:raised": verdict("loud:15:raised", None),
    }
    expected = [
        LabelledEpisode("hot:10:raised", "hot", 8, 20, "useful"),
        LabelledEpisode("loud:15:raised", "loud", 13, None, None),
        LabelledEpisode("hot:30:raised", "hot", 28, None, None),
    ]
    assert episodes_of(events, told) == expected
    assert episodes_of([*events[::-1], *events], told) == expected, "any order, and repeats"


def test_precision_is_of_the_judged_and_says_how_sure_it_is() -> None:
    judgements: list[Judgement | None] = ["useful", "useful", "nuisance", None]
    (told,) = precision_of(
        [LabelledEpisode(str(i), "hot", i, None, each) for i, each in enumerate(judgements)]
    )
    assert (told.num_useful, told.num_nuisance, told.num_unjudged) == (2, 1, 1)
    assert told.share == pytest.approx(2 / 3)
    low, high = told.between
    assert low < 2 / 3 < high
    (unjudged,) = precision_of([LabelledEpisode("0", "hot", 0, None, None)])
    assert unjudged.share is None
    assert unjudged.between == (0.0, 1.0)


def test_ticks_count_down_to_the_next_useful_alarm_or_to_where_nobody_looked() -> None:
    ticks_N = np.array([0, 1, 2, 3, 4, 5, 6, 7, 20, 21, 22])
    episodes = [
        LabelledEpisode("nuisance", "hot", 20, 30, "nuisance"),
        # A score's time is the end of its tick: this began in tick 4, that in tick 22.
        LabelledEpisode("useful", "hot", 50, 60, "useful"),
        LabelledEpisode("unjudged", "hot", 230, None, None),
    ]
    labelled = labels_of(ticks_N[:, None].astype(float), ticks_N, episodes, tick_ns=10)
    assert labelled.features_NF.ravel().tolist() == [0, 1, 2, 3, 6, 7, 20, 21]
    assert labelled.ticks_to_end_N.tolist() == [4, 3, 2, 1, 2, 1, 2, 1]
    assert labelled.has_event_N.tolist() == [True] * 4 + [False] * 4
    assert len(set(labelled.group_N[:4])) == 1
    assert labelled.group_N[3] != labelled.group_N[4] != labelled.group_N[6]
