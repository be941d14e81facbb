"""Arrays through memory that this process and a server on the same machine both map.

What goes over gRPC is then a few names and sizes. A slot has one region for what is asked and one
for what is answered; a call takes a slot for itself. Regions grow to the largest call, and are
registered again after the server has forgotten them.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype
from tritonclient.utils import shared_memory as regions

Inputs = Mapping[str, NDArray[np.generic]]
CONTROL_DEADLINE_S = 2.0


class _Region:
    """A piece of memory that the server knows by name."""

    def __init__(self) -> None:
        self.name = f"fusion-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self.num_bytes = 0
        self.handle: Any = None
        self.is_registered = False

    def grow(self, client: triton.InferenceServerClient, num_bytes: int) -> None:
        """Make room for ``num_bytes``, and let the server know the region."""
        if num_bytes > self.num_bytes:
            self.close(client)
            self.handle = regions.create_shared_memory_region(self.name, f"/{self.name}", num_bytes)
            self.num_bytes = num_bytes
        if not self.is_registered:
            client.register_system_shared_memory(
                self.name, f"/{self.name}", self.num_bytes, client_timeout=CONTROL_DEADLINE_S
            )
            self.is_registered = True

    def close(self, client: triton.InferenceServerClient) -> None:
        """Free the memory; a server that is away has forgotten it anyway."""
        if self.is_registered:
            with contextlib.suppress(InferenceServerException):
                client.unregister_system_shared_memory(self.name, client_timeout=CONTROL_DEADLINE_S)
        if self.handle is not None:
            regions.destroy_shared_memory_region(self.handle)
        self.handle, self.num_bytes, self.is_registered = None, 0, False


class Slots:
    """As many pairs of regions as calls were ever under way at once."""

    def __init__(self, client: triton.InferenceServerClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._free: list[tuple[_Region, _Region]] = []
        self._all: list[tuple[_Region, _Region]] = []
        self._shapes: dict[str, dict[str, tuple[int, ...]]] = {}

    def infer(self, model: str, inputs: Inputs, timeout_s: float) -> dict[str, NDArray[np.float32]]:
        """Return the outputs of ``model``: copies, because the slot is used again.

        Raises:
            InferenceServerException: As over gRPC; also when the server forgot a region.
        """
        shapes = self._shapes.get(model) or self._learn(model)
        num_rows = len(next(iter(inputs.values())))
        with self._slot() as (asked, answered):
            tensors = self._put(asked, inputs)
            wanted, places = self._room(answered, shapes, num_rows)
            self._client.infer(
                model,
                tensors,
                outputs=wanted,
                client_timeout=timeout_s,
                timeout=round(timeout_s * 1e6),
            )
            return {
                name: np.array(
                    regions.get_contents_as_numpy(answered.handle, np.float32, shape, offset)
                )
                for name, (shape, offset) in places.items()
            }

    def forget(self) -> None:
        """Note that the server knows no region any more."""
        with self._lock:
            for pair in self._all:
                for region in pair:
                    region.is_registered = False

    def close(self) -> None:
        """Free all memory."""
        for pair in self._all:
            for region in pair:
                region.close(self._client)

    def _learn(self, model: str) -> dict[str, tuple[int, ...]]:
        found: Any = self._client.get_model_metadata(model, client_timeout=CONTROL_DEADLINE_S)
        shapes = {each.name: tuple(int(n) for n in each.shape[1:]) for each in found.outputs}
        self._shapes[model] = shapes
        return shapes

    @contextlib.contextmanager
    def _slot(self) -> Iterator[tuple[_Region, _Region]]:
        with self._lock:
            if not self._free:
                pair = (_Region(), _Region())
                self._free.append(pair)
                self._all.append(pair)
            taken = self._free.pop()
        try:
            yield taken
        except BaseException:
            # A late answer may still be written there: nobody uses this memory again.
            with self._lock:
                self._all.remove(taken)
            for region in taken:
                region.close(self._client)
            raise
        with self._lock:
            self._free.append(taken)

    def _put(self, region: _Region, inputs: Inputs) -> list[triton.InferInput]:
        region.grow(self._client, sum(array.nbytes for array in inputs.values()))
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

    def _room(
        self, region: _Region, shapes: Mapping[str, tuple[int, ...]], num_rows: int
    ) -> tuple[list[triton.InferRequestedOutput], dict[str, tuple[tuple[int, ...], int]]]:
        places: dict[str, tuple[tuple[int, ...], int]] = {}
        offset = 0
        for name, shape in shapes.items():
            places[name] = ((num_rows, *shape), offset)
            offset += num_rows * int(np.prod(shape)) * np.dtype(np.float32).itemsize
        region.grow(self._client, offset)
        wanted: list[triton.InferRequestedOutput] = []
        for name, (shape, begin) in places.items():
            wanted.append(triton.InferRequestedOutput(name))
            size = int(np.prod(shape)) * np.dtype(np.float32).itemsize
            wanted[-1].set_shared_memory(region.name, size, offset=begin)
        return wanted, places
