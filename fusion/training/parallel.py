"""Data-parallel training: what a run asks of the processes that share it, and the run of just one.

Every process draws the numbers of the whole batch alike and takes its own part; the loss is that of
the whole batch (:mod:`fusion.model.across`); gradients are averaged. Two processes therefore train
the model that one would have trained. Whoever starts the processes joins them first
(``torch.distributed.init_process_group``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from fusion.errors import RecipeError
from fusion.model.across import Across, Alone


class Ranks(Across, Protocol):
    """The processes of one training run."""

    def share(self, model: nn.Module) -> nn.Module:
        """Return ``model`` to call for losses; its weights and gradients are equal everywhere."""
        ...

    def own(self, numbers_B: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return this process's part of the batch ``numbers_B``."""
        ...

    def any(self, *, is_so: bool) -> bool:
        """Return whether it is so in one process at least."""
        ...

    def require_equal(self, identity: str) -> None:
        """Return when ``identity`` is the same text in all processes.

        Raises:
            RecipeError: It is not; in every process.
        """
        ...


class OneProcess(Alone):
    """A run without others."""

    def share(self, model: nn.Module) -> nn.Module:
        """Return ``model``."""
        return model

    def own(self, numbers_B: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return ``numbers_B``."""
        return numbers_B

    def any(self, *, is_so: bool) -> bool:
        """Return ``is_so``."""
        return is_so

    def require_equal(self, identity: str) -> None:
        """Return."""


ONE_PROCESS: Final[Ranks] = OneProcess()


class ProcessGroup:
    """The processes of torch's default group, which must be joined already."""

    def __init__(self) -> None:
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()
        is_gpu = distributed.get_backend() == "nccl"
        self._device = torch.device("cuda" if is_gpu else "cpu")
        # Not compiled: all processes must send and wait in one order. (Said here, since it brings
        # torch's compiler along: without that every process of the product starts seconds earlier.)
        self._sum: Callable[[Tensor], Tensor] = torch.compiler.disable(_Sum.apply)  # type: ignore[assignment]

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of ``values`` over all processes, through which gradients flow."""
        return self._sum(values)

    def share(self, model: nn.Module) -> nn.Module:
        """Return ``model`` such that ``backward`` leaves gradients averaged over the processes."""
        # (It brings the compiler along too.)
        from torch.nn.parallel import DistributedDataParallel  # noqa: PLC0415

        return DistributedDataParallel(model, forward_sync_buffers=False)

    def own(self, numbers_B: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return this process's part of the batch ``numbers_B``.

        Raises:
            RecipeError: It does not divide into equal parts.
        """
        if len(numbers_B) % self.size:
            raise RecipeError(
                f"batch_windows must be a multiple of the {self.size} processes that share a "
                f"batch, got {len(numbers_B)}; change the recipe or the number of processes"
            )
        return numbers_B.reshape(self.size, -1)[self.rank]

    def any(self, *, is_so: bool) -> bool:
        """Return whether it is so in one process at least."""
        said = torch.tensor(float(is_so), device=self._device)
        distributed.all_reduce(said, op=distributed.ReduceOp.MAX)
        return bool(said.item())

    def require_equal(self, identity: str) -> None:
        """Return when ``identity`` is the same text in all processes.

        Raises:
            RecipeError: It is not; in every process.
        """
        digest = np.frombuffer(hashlib.sha256(identity.encode()).digest(), np.uint8)
        own = torch.from_numpy(digest.astype(np.int32)).to(self._device)
        first = own.clone()
        distributed.broadcast(first, src=0)
        if self.any(is_so=not torch.equal(own, first)):
            raise RecipeError(
                "all processes of a run must train the same recipe on the same data from the same "
                "checkpoint, and they do not; give them equal options, name one version of the "
                "lake (--data-version), and a --checkpoint-dir that all can read"
            )


class _Sum(torch.autograd.Function):
    """All-reduce by sum whose gradient is the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        summed = values.contiguous().clone()
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradients[0])
