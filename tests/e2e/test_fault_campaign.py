"""One run of every kind of harm: what ``make faults`` does two hundred times."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import IS_CI, require_java
from tests.faults.campaign import NUM_WORKLOADS, Campaign, Job, plan, run_all
from tests.faults.harms import KINDS, UNHARMED
from tests.faults.run import CONTEXT, Report


@pytest.fixture
def campaign(model_dir: Path, tmp_path: Path) -> Iterator[Campaign]:
    require_java()
    CONTEXT.set_forkserver_preload(["tests.faults.member"])
    with ExitStack() as stack:
        campaign = Campaign(tmp_path, model_dir, stack)
        stack.callback(campaign.members.stop)
        yield campaign


def may_mount(folder: Path) -> bool:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True


@pytest.mark.xdist_group("faults")
@pytest.mark.timeout(1800)
# kafka-python leaves a socket to the garbage collector whenever a broker refuses the connection.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_nothing_is_lost_or_doubled_whatever_the_harm(campaign: Campaign, tmp_path: Path) -> None:
    kinds = KINDS
    if not may_mount(tmp_path / "probe"):
        assert not IS_CI, "CI must be able to mount a small disk"
        kinds = [kind for kind in kinds if not kind.mounts]
    reports: list[Report] = [campaign.do(Job(UNHARMED, seed)) for seed in range(NUM_WORKLOADS)]
    run_all(campaign, plan(kinds, scale=0), num_workers=2, on_done=reports.append)
    assert {report.kind: report.faults for report in reports if report.faults} == {}
    assert {report.kind for report in reports} == {kind.name for kind in (UNHARMED, *kinds)}
    harmed = [report for report in reports if report.num_kills or report.num_outages]
    assert len(harmed) > len(kinds) / 2, "most harms must have met a process at work"
