"""Puts the questions of several threads into one request while another request is under way.

Each request costs both sides a millisecond, however few rows it holds. Nobody waits for company:
the first to ask goes at once, and who comes meanwhile goes together, next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Inputs = Mapping[str, NDArray[np.generic]]
Outputs = dict[str, NDArray[np.float32]]


class _Question:
    """What one thread asks, and what becomes of it."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.num_rows = len(next(iter(inputs.values())))
        self.answer: Outputs | None = None
        self.error: BaseException | None = None
        self.is_settled = threading.Event()
        """It has its answer or error; or, with neither, it is its turn to ask for all."""


class Together:
    """Asks one network for many threads, one request at a time.

    ``ask`` answers any number of rows up to ``max_rows``, row by row.
    """

    def __init__(self, ask: Callable[[Inputs], Outputs], *, max_rows: int) -> None:
        self._ask = ask
        self._max_rows = max_rows
        self._lock = threading.Lock()
        self._waiting: list[_Question] = []
        self._is_asking = False

    def infer(self, inputs: Inputs) -> Outputs:
        """Return the answer to ``inputs``.

        Raises:
            Exception: What ``ask`` raised, for everybody who was in that request.
        """
        own = _Question(inputs)
        with self._lock:
            self._waiting.append(own)
            is_first = not self._is_asking
            self._is_asking = True
        if not is_first:
            own.is_settled.wait()
        if own.answer is None and own.error is None:
            self._ask_for_all()
        if own.error is not None:
            raise own.error
        assert own.answer is not None, "a question is answered or fails"
        return own.answer

    def _ask_for_all(self) -> None:
        """Ask what fits into one request, the oldest first, and hand over to who waits then."""
        batch = self._take()
        try:
            answers = self._ask(_joined(batch))
            begin = 0
            for each in batch:
                end = begin + each.num_rows
                each.answer = {name: array[begin:end] for name, array in answers.items()}
                begin = end
        except BaseException as error:  # noqa: BLE001 whoever asked raises it
            for each in batch:
                each.error = error
        with self._lock:
            following = self._waiting[0] if self._waiting else None
            self._is_asking = following is not None
        for each in batch:
            each.is_settled.set()
        if following is not None:
            following.is_settled.set()

    def _take(self) -> list[_Question]:
        with self._lock:
            first = self._waiting[0]
            batch, num_rows = [first], first.num_rows
            for each in self._waiting[1:]:
                if num_rows + each.num_rows > self._max_rows or not _is_like(each, first):
                    break
                batch.append(each)
                num_rows += each.num_rows
            del self._waiting[: len(batch)]
        return batch


def _is_like(one: _Question, other: _Question) -> bool:
    def form(question: _Question) -> dict[str, tuple[object, ...]]:
        return {name: (a.dtype, *a.shape[1:]) for name, a in question.inputs.items()}

    return form(one) == form(other)


def _joined(batch: list[_Question]) -> Inputs:
    if len(batch) == 1:
        return batch[0].inputs
    return {name: np.concatenate([q.inputs[name] for q in batch]) for name in batch[0].inputs}
