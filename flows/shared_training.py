"""The training of a retraining on several processes or GPUs: ``torchrun`` starts this module.

``python -m torch.distributed.run --nproc-per-node N -m flows.shared_training ORDER`` is what
:func:`train_in_processes` runs; the order and the answer are JSON files in the run's folder.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from flows import wiring
from flows.learn import Ordered, TrainReport, train_shared
from flows.ranks import open_ranks
from flows.retraining_run import Asked, write_durably
from flows.settings import Settings
from fusion.errors import (
    CollapseError,
    FusionError,
    InputError,
    RecipeError,
    TrainingCutOffError,
)
from fusion.training import StepReport

ORDER_FILE, ANSWER_FILE = "order.json", "answer.json"
SHOWN_CHARACTERS = 2_000


class Order(BaseModel):
    """What the processes are to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: Asked
    data_version: str
    within: tuple[tuple[int, int], ...]
    model_dir: Path
    run_key: str
    run_dir: Path
    starter_pid: int


class Answer(BaseModel):
    """What came of it: a model, or an error by the name of its kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_train_ticks: int = 0
    num_calibration_ticks: int = 0
    gauges: dict[str, float | None] = {}
    run_id: str | None = None
    error: str = ""
    message: str = ""
    is_retriable: bool = False


def train_in_processes(
    asked: Asked,
    settings: Settings,
    ordered: Ordered,
    *,
    data_version: str,
    run_dir: Path,
    say: Callable[[str], None],
) -> TrainReport:
    """Return what ``asked.processes`` processes made together, on this machine.

    Raises:
        TrainingCutOffError: They ended without an answer, or something that they need is away.
        CollapseError, RecipeError: What :func:`flows.learn.train_shared` says.
    """
    assert ordered.model_dir is not None, "a retraining says where"
    order = Order(
        asked=asked,
        data_version=data_version,
        within=tuple((each.start, each.stop) for each in ordered.within or ()),
        model_dir=ordered.model_dir,
        run_key=ordered.run_key or "",
        run_dir=run_dir,
        starter_pid=os.getpid(),
    )
    write_durably(run_dir / ORDER_FILE, order.model_dump_json().encode())
    (run_dir / ANSWER_FILE).unlink(missing_ok=True)
    torchrun = ["-m", "torch.distributed.run", "--standalone"]
    torchrun += [f"--nproc-per-node={asked.processes}", "-m", "flows.shared_training"]
    say(f"learning in {asked.processes} processes")
    ended = subprocess.run(
        [sys.executable, *torchrun, str(run_dir / ORDER_FILE)],
        env=os.environ | environment_of(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    path = run_dir / ANSWER_FILE
    if not path.is_file():
        raise TrainingCutOffError(
            f"{asked.processes} training processes must end with an answer, and ended with status "
            f"{ended.returncode}: {ended.stderr[-SHOWN_CHARACTERS:]}"
        )
    answer = Answer.model_validate_json(path.read_bytes())
    if answer.error:
        raise _error_of(answer)
    gauges = {name: value for name, value in answer.gauges.items() if value is not None}
    return TrainReport(
        ordered.model_dir,
        data_version,
        answer.num_train_ticks,
        answer.num_calibration_ticks,
        gauges,
        answer.run_id,
    )


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the variables that give another process these settings, where they are not its own."""
    told: dict[str, str] = {}
    for name, value in settings.model_dump(exclude_unset=True, exclude_none=True).items():
        shown = value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
        told[f"FUSION_{name.upper()}"] = shown
    return told


def end_with(*pids: int) -> None:
    """Nothing now; this process ends as soon as one of ``pids`` has.

    ``torchrun`` gives its processes sessions of their own. Whoever kills a retraining kills neither
    them nor their right to write: the next one would train beside them, into the same checkpoint.

    Raises:
        ProcessLookupError: One of them has ended already.
    """
    selector = selectors.DefaultSelector()
    for pid in pids:
        selector.register(os.pidfd_open(pid), selectors.EVENT_READ)

    def watch() -> None:
        selector.select()
        os._exit(1)  # Not sys.exit: this is no main thread, and nothing is left to be tidied for.

    threading.Thread(target=watch, name="end-with", daemon=True).start()


def work(path: Path) -> None:
    """Do this process's part of the order at ``path``; the first process writes the answer."""
    order, settings = Order.model_validate_json(path.read_bytes()), Settings.load()
    end_with(order.starter_pid, os.getppid())

    def tell(report: StepReport) -> None:
        if report.gauges is not None:
            print(f"step {report.step} of {report.steps}", flush=True)  # noqa: T201 its log

    with open_ranks() as ranks:
        try:
            made = train_shared(
                wiring.open_lake(settings),
                order.asked.plant,
                order.asked.recipe,
                settings,
                ranks=ranks,
                data_version=order.data_version,
                on_step=tell if ranks.rank == 0 else lambda _: None,
                on_stage=lambda _: None,
                checkpoint_dir=order.run_dir / "checkpoint",
                ordered=Ordered(
                    tuple(range(*each) for each in order.within), order.model_dir, order.run_key
                ),
            )
        except FusionError as failed:
            if ranks.rank == 0:
                _answer(
                    order,
                    Answer(
                        error=type(failed).__name__,
                        message=str(failed),
                        is_retriable=failed.retriable,
                    ),
                )
            raise
        if made is not None:
            _answer(
                order,
                Answer(
                    num_train_ticks=made.num_train_ticks,
                    num_calibration_ticks=made.num_calibration_ticks,
                    gauges=dict(made.gauges),
                    run_id=made.run_id,
                ),
            )


def _answer(order: Order, answer: Answer) -> None:
    write_durably(order.run_dir / ANSWER_FILE, answer.model_dump_json().encode())


def _error_of(answer: Answer) -> FusionError:
    if answer.is_retriable:
        return TrainingCutOffError(answer.message)
    kinds = {each.__name__: each for each in (CollapseError, RecipeError)}
    return kinds.get(answer.error, InputError)(answer.message)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
