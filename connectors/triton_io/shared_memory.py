"""Arrays through memory that this process and a server on the same machine both map.

What goes over gRPC is then a few names and sizes. A slot has one region for what is asked and one
for what is answered; a call takes a slot for itself. A region never changes: a larger call gets a
new one, and so does a server that has forgotten them.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype
from tritonclient.utils import shared_memory as regions

from connectors.triton_io.leftovers import SHARED_MEMORY, Owner, remove_leftovers
from fusion.errors import InferenceUnavailableError, SettingsError

Inputs = Mapping[str, NDArray[np.generic]]
CLOSE_DEADLINE_S = 2.0


def left_s(deadline_s: float) -> float:
    """Return the seconds until ``deadline_s`` of the monotonic clock: never none at all."""
    return max(deadline_s - time.monotonic(), 1e-3)


class _Region:
    """A piece of memory that has a name.

    Raises:
        InferenceUnavailableError: There is none to be had.
    """

    def __init__(self, name: str, num_bytes: int) -> None:
        self.name = name
        self.num_bytes = num_bytes
        try:
            self.handle: Any = regions.create_shared_memory_region(
                name, f"/{name}", num_bytes, create_only=True
            )
            try:
                _reserve(SHARED_MEMORY / name, num_bytes)
            except OSError:
                self.free()
                raise
        except (regions.SharedMemoryException, OSError) as full:
            raise InferenceUnavailableError(
                f"{num_bytes} bytes of {SHARED_MEMORY} must be free to share with Triton, but: "
                f"{full.__cause__ or full}; make it larger, or set "
                "FUSION_TRITON_SHARED_MEMORY=false; it is tried again"
            ) from full

    def free(self) -> None:
        """Free it here; a server that maps it has it until it is told to forget the name."""
        with contextlib.suppress(FileNotFoundError):  # (somebody has cleared up)
            regions.destroy_shared_memory_region(self.handle)


class _Slot:
    """The memory of one call at a time."""

    def __init__(self) -> None:
        self.asked: _Region | None = None
        self.answered: _Region | None = None

    def regions(self) -> list[_Region]:
        """Return what it has by now."""
        return [region for region in (self.asked, self.answered) if region is not None]


class Slots:
    """As many slots as calls were ever under way at once.

    Whatever is asked of the server here ends with the deadline of the call that needs it.

    Raises:
        SettingsError: This process may not put anything into shared memory.
    """

    def __init__(self, client: triton.InferenceServerClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._free: list[_Slot] = []
        self._all: list[_Slot] = []
        self._shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        try:
            self._to_forget = remove_leftovers()
            """Names that the server may still map. It is told when it has just answered."""
            self._owner = Owner()
        except OSError as closed:
            raise SettingsError(
                f"FUSION_TRITON_SHARED_MEMORY needs {SHARED_MEMORY}, where this process may make "
                f"files, but: {closed}; mend that, or set it to false"
            ) from closed

    def infer(
        self, model: str, inputs: Inputs, deadline_s: float
    ) -> dict[str, NDArray[np.float32]]:
        """Return the outputs of ``model``: copies, because the slot is used again.

        Raises:
            InferenceServerException: As over gRPC; also when the server forgot a region.
            InferenceUnavailableError: There is no memory to share.
        """
        shapes = self._shapes.get(model) or self._learn(model, deadline_s)
        num_rows = len(next(iter(inputs.values())))
        with self._slot() as slot:
            num_bytes = sum(array.nbytes for array in inputs.values())
            slot.asked = self._with_room(slot.asked, num_bytes, deadline_s)
            places, num_bytes = _places(shapes, num_rows)
            slot.answered = self._with_room(slot.answered, num_bytes, deadline_s)
            timeout_s = left_s(deadline_s)
            self._client.infer(
                model,
                _put(slot.asked, inputs),
                outputs=_wanted(slot.answered, places),
                client_timeout=timeout_s,
                timeout=round(timeout_s * 1e6),
            )
            answer = {
                name: np.array(
                    regions.get_contents_as_numpy(slot.answered.handle, np.float32, shape, offset)
                )
                for name, (shape, offset) in places.items()
            }
        self._let_forget(deadline_s)
        return answer

    def forget(self) -> None:
        """Note that the server knows no region any more; calls under way find that themselves."""
        with self._lock:
            for slot in self._free:
                self._all.remove(slot)
                for region in slot.regions():
                    region.free()
            self._free.clear()

    def close(self) -> None:
        """Free all memory."""
        for slot in self._all:
            self._discard(slot)
        self._let_forget(time.monotonic() + CLOSE_DEADLINE_S)
        self._owner.close()

    def _learn(self, model: str, deadline_s: float) -> dict[str, tuple[int, ...]]:
        found: Any = self._client.get_model_metadata(model, client_timeout=left_s(deadline_s))
        shapes = {each.name: tuple(int(n) for n in each.shape[1:]) for each in found.outputs}
        self._shapes[model] = shapes
        return shapes

    @contextlib.contextmanager
    def _slot(self) -> Iterator[_Slot]:
        with self._lock:
            if not self._free:
                self._free.append(_Slot())
                self._all.append(self._free[-1])
            taken = self._free.pop()
        try:
            yield taken
        except BaseException:
            # A late answer may still be written there: nobody uses this memory again.
            with self._lock:
                self._all.remove(taken)
            self._discard(taken)
            raise
        with self._lock:
            self._free.append(taken)

    def _with_room(self, region: _Region | None, num_bytes: int, deadline_s: float) -> _Region:
        """Return ``region``, or in its place a larger one that the server knows."""
        if region is not None and region.num_bytes >= num_bytes:
            return region
        new = _Region(self._owner.new_name(), num_bytes)
        try:
            self._client.register_system_shared_memory(
                new.name, f"/{new.name}", num_bytes, client_timeout=left_s(deadline_s)
            )
        except BaseException:
            self._let_go(new)  # (the server may have it, and be late to say so)
            raise
        if region is not None:
            self._let_go(region)
        return new

    def _discard(self, slot: _Slot) -> None:
        for region in slot.regions():
            self._let_go(region)

    def _let_go(self, region: _Region) -> None:
        region.free()
        with self._lock:
            self._to_forget.append(region.name)

    def _let_forget(self, deadline_s: float) -> None:
        """Tell a server that answers what it need not map any longer; never after the deadline."""
        while time.monotonic() < deadline_s:
            with self._lock:
                if not self._to_forget:
                    return
                name = self._to_forget.pop()
            try:
                self._client.unregister_system_shared_memory(
                    name, client_timeout=left_s(deadline_s)
                )
            except InferenceServerException:
                return  # (it is away, and forgets all of them; or it hangs, and was told)


def _reserve(file: Path, num_bytes: int) -> None:
    """Return when every byte of ``file`` has a place.

    The kernel gives a region its size without looking; who writes where none is left is killed.
    """
    handle = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.posix_fallocate(handle, 0, num_bytes)
    finally:
        os.close(handle)


def _places(
    shapes: Mapping[str, tuple[int, ...]], num_rows: int
) -> tuple[dict[str, tuple[tuple[int, ...], int]], int]:
    """Return shape and offset of every output, and the bytes of all of them."""
    places: dict[str, tuple[tuple[int, ...], int]] = {}
    offset = 0
    for name, shape in shapes.items():
        places[name] = ((num_rows, *shape), offset)
        offset += _num_bytes((num_rows, *shape))
    return places, offset


def _num_bytes(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape)) * np.dtype(np.float32).itemsize


def _put(region: _Region, inputs: Inputs) -> list[triton.InferInput]:
    tensors: list[triton.InferInput] = []
    offset = 0
    for name, array in inputs.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        regions.set_shared_memory_region(
            region.handle, [np.ascontiguousarray(array)], offset=offset
        )
        tensor.set_shared_memory(region.name, array.nbytes, offset=offset)
        tensors.append(tensor)
        offset += array.nbytes
    return tensors


def _wanted(
    region: _Region, places: Mapping[str, tuple[tuple[int, ...], int]]
) -> list[triton.InferRequestedOutput]:
    wanted: list[triton.InferRequestedOutput] = []
    for name, (shape, begin) in places.items():
        wanted.append(triton.InferRequestedOutput(name))
        wanted[-1].set_shared_memory(region.name, _num_bytes(shape), offset=begin)
    return wanted
