"""The processes of a training run that ``torchrun`` started, joined; or just this one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import distributed

from fusion.training.parallel import ONE_PROCESS, ProcessGroup, Ranks


@contextlib.contextmanager
def open_ranks() -> Iterator[Ranks]:
    """Yield the processes that share this training run: NCCL between GPUs, else gloo."""
    if not distributed.is_torchelastic_launched():
        yield ONE_PROCESS
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield ProcessGroup()
        # Nobody hangs up while another still waits for an answer.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
