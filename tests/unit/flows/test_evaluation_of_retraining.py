"""What people read of an evaluation: what counted as nothing, and what was judged since."""

from __future__ import annotations

from flows.retraining_evaluation import Asking, Evaluated, page
from flows.retraining_results import Validated
from fusion.plant import NANOSECONDS
from fusion.retraining.incidents import Examination, Incident, as_judged
from fusion.retraining.labels import Precision
from fusion.schema.alarms import Judgement
from tests.unit.training.tiny import PLANT


def episode(first: int, judgement: Judgement | None) -> Incident:
    onset_ns, end_ns = (round(t * PLANT.tick_s * NANOSECONDS) for t in (first, first + 49))
    return Incident(
        episode=f"e{first}", alarm="hot", onset_ns=onset_ns, end_ns=end_ns, judgement=judgement
    )


def test_the_page_tells_of_later_words_and_of_what_nobody_has_judged() -> None:
    frozen = Examination(
        plant="p",
        plant_fingerprint="f",
        data_version="v",
        first_tick=0,
        stop_tick=1_000,
        incidents=(episode(100, "useful"),),
        unjudged=(episode(200, None), episode(300, None)),
    )
    now = [episode(100, "nuisance"), episode(200, "useful")]
    asking = Asking(
        frozen,
        as_judged(frozen, now, PLANT),
        (Precision("hot", 1, 1, 1), Precision("dry", 0, 0, 2)),
    )
    evaluated = Evaluated(
        examination=frozen.name,
        figures={"v1": {"recall": 1.0}},
        delay_s={"v1": {"e200": 3.0}},
    )
    lines = page(evaluated, asking, PLANT).splitlines()
    assert lines[0] == f"# Examination {frozen.name} of {PLANT.address}"
    told = "\n".join(lines)
    assert "1 alarms in it, 5.0% of its ticks, were judged by nobody" in told
    assert "Incidents since it was frozen, by a later verdict: `e200`." in told
    assert "No incidents any more, by a later verdict: `e100`." in told
    assert "| hot (e200) | 3 s |" in lines
    assert "| hot | 1 | 1 | 1 | 50% (9% to 91%) |" in lines
    assert "| dry | 0 | 0 | 2 | – |" in lines


def test_a_page_of_a_plant_without_alarms_says_nothing_of_them() -> None:
    calm = Examination(
        plant="p", plant_fingerprint="f", data_version="v", first_tick=0, stop_tick=9
    )
    evaluated = Evaluated(examination=calm.name, figures={"v1": {}}, delay_s={"v1": {}})
    told = page(evaluated, Asking(calm, calm), PLANT)
    assert "judged by nobody" not in told
    assert "operators said" not in told


def test_what_validate_came_to_in_an_earlier_release_is_still_read() -> None:
    told = (
        '{"report": {"findings": []}, "train": [[1, 2]], "examination": {"plant": "p", '
        '"plant_fingerprint": "f", "data_version": "v", "first_tick": 1, "stop_tick": 9, '
        '"incidents": []}, "examination_file": "x", "champion": null}'
    )
    before = Validated.model_validate_json(told)
    assert before.as_judged is None
    now = before.model_copy(update={"verdicts": (Precision("hot", 1, 1, 1),)})
    assert Validated.model_validate_json(now.model_dump_json()) == now
