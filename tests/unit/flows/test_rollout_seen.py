"""What live processes tell of versions is added up, and read whatever else lies there."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from flows.rollout_seen import RoleSeen, read_seen, write_seen
from flows.settings import Settings
from fusion.rollout.judging import Seen
from tests.models import PLANT


def test_processes_of_one_role_are_added_up_and_roles_are_not(tmp_path: Path) -> None:
    one, two = (Settings(data_dir=tmp_path, replica=name) for name in ("1", "2"))
    slow = Seen(num_ticks=10, num_alarms=1, mean_surprise=0.5, p95_s=0.2)
    busy = Seen(num_ticks=30, num_alarms=2, mean_surprise=0.1, p95_s=0.1)
    write_seen(one, PLANT, RoleSeen(revision=6, t_ns=1, seen={"v2": Seen(num_ticks=1)}))
    write_seen(one, PLANT, RoleSeen(revision=6, t_ns=2, seen={"v1": busy, "v2": slow}))
    write_seen(two, PLANT, RoleSeen(revision=6, t_ns=9, seen={"v2": busy}))
    write_seen(one, PLANT, RoleSeen(revision=7, t_ns=10, seen={"v2": slow}))
    shadow, canary = read_seen(one, PLANT)
    assert (shadow.revision, shadow.t_ns, canary.revision) == (6, 9, 7)
    assert shadow.seen["v1"] == busy
    both = shadow.seen["v2"]
    assert (both.num_ticks, both.num_alarms, both.p95_s) == (40, 3, 0.2)
    assert both.mean_surprise == pytest.approx(0.2)


def test_what_cannot_be_read_is_passed_over_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    log = logging.getLogger("flows.rollout_seen")
    monkeypatch.setattr(log, "warning", lambda words, *of: said.append(words % of))
    settings = Settings(data_dir=tmp_path)
    assert read_seen(settings, PLANT) == []
    write_seen(settings, PLANT, RoleSeen(revision=1, t_ns=1, seen={"v1": Seen(num_ticks=1)}))
    (written,) = (settings.models_dir / PLANT.prefix).rglob("*.json")
    written.with_name("000002-9.json").write_text("{")
    assert [each.revision for each in read_seen(settings, PLANT)] == [1]
    assert len(said) == 1
    assert "is passed over" in said[0]
