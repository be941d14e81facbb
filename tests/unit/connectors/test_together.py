"""Threads that ask at once are answered each with its own rows, and fail together."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from connectors.triton_io.together import Inputs, Outputs, Together
from fusion.errors import InferenceUnavailableError

MAX_ROWS = 8


class Server:
    """Doubles, and keeps its first request until told to go on."""

    def __init__(self) -> None:
        self.requests: list[int] = []
        self.is_held = threading.Event()
        self.may_go = threading.Event()
        self.is_away = False

    def ask(self, inputs: Inputs) -> Outputs:
        self.requests.append(len(inputs["x"]))
        self.is_held.set()
        self.may_go.wait()
        if self.is_away:
            raise InferenceUnavailableError("away")
        return {"y": 2 * inputs["x"].astype(np.float32)}


def rows(*values: float) -> Inputs:
    return {"x": np.array(values, np.float32)[:, None]}


def wait_for(together: Together, num_waiting: int) -> None:
    while len(together._waiting) < num_waiting:
        threading.Event().wait(0.001)


def test_who_comes_meanwhile_goes_in_one_request_and_everybody_gets_the_own_rows() -> None:
    server = Server()
    together = Together(server.ask, max_rows=MAX_ROWS)
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(together.infer, rows(0))
        server.is_held.wait()
        others = [threads.submit(together.infer, rows(n, n + 0.5)) for n in range(1, 6)]
        wait_for(together, 5)
        server.may_go.set()
        assert first.result()["y"].tolist() == [[0]]
        for n, each in enumerate(others, 1):
            assert each.result()["y"].tolist() == [[2 * n], [2 * n + 1]]
    assert server.requests == [1, 8, 2], "no request is larger than the server takes"
    assert together.infer(rows(7))["y"].tolist() == [[14]]


def test_a_failure_is_everybodys_who_was_in_the_request_and_the_next_one_is_asked_anew() -> None:
    server = Server()
    server.is_away = True
    together = Together(server.ask, max_rows=MAX_ROWS)
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(together.infer, rows(0))]
        server.is_held.wait()
        asked += [threads.submit(together.infer, rows(n)) for n in range(1, 4)]
        wait_for(together, 3)
        server.may_go.set()
        for each in asked:
            with pytest.raises(InferenceUnavailableError):
                each.result()
    assert server.requests == [1, 3]
    server.is_away = False
    assert together.infer(rows(1))["y"].tolist() == [[2]]


def test_what_has_another_form_goes_in_a_request_of_its_own() -> None:
    server = Server()
    together = Together(server.ask, max_rows=MAX_ROWS)
    wide = {"x": np.ones((1, 3), np.float32)}
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(together.infer, rows(0))
        server.is_held.wait()
        narrow = threads.submit(together.infer, rows(1))
        wait_for(together, 1)
        other = threads.submit(together.infer, wide)
        wait_for(together, 2)
        server.may_go.set()
        assert first.result()["y"].shape == narrow.result()["y"].shape == (1, 1)
        assert other.result()["y"].shape == (1, 3)
    assert server.requests == [1, 1, 1]
