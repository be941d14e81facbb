"""The networks that score a stream: in this process, or in Triton; the settings decide."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from flows import wiring
from flows.export import export_to_triton, triton_names
from flows.settings import Settings
from fusion.errors import InferenceUnavailableError
from fusion.manifest import Manifest
from fusion.ports import Inference

PLANTS_AT_ONCE = 16
"""Asked together, so that Triton has something to batch."""


def open_serving(
    model_dir: Path, settings: Settings, *, deadline_s: float | None = None
) -> Inference:
    """Return what answers for the model version in ``model_dir``.

    For Triton the version is first put into its repository, where it is not there yet; the server
    loads it at the first question. A server that is away raises nothing here.

    Raises:
        ParityError: Its networks do not answer the golden windows as the model did.
        InputError: There is no model, or the repository holds another one of that name.
    """
    if settings.inference == "local":
        return wiring.open_inference(model_dir)
    exported = export_to_triton(
        model_dir,
        settings.triton_repository_dir,
        backend=settings.triton_backend,
        device_if_new=settings.triton_device,
        batching=None,  # (this and the device: as `fusion export` left it)
    )
    return wiring.open_triton_inference(settings, exported.models, deadline_s=deadline_s)


def end_serving(manifest: Manifest, settings: Settings) -> None:
    """Free what Triton holds of a version that nobody asks any more, or of a try to load it.

    Nothing where networks run in this process. What the server could not be told is logged: one
    that is away holds nothing, any other goes on holding it.
    """
    if settings.inference == "local":
        return
    try:
        wiring.unload_from_triton(settings, triton_names(manifest).values())
    except InferenceUnavailableError as away:
        logging.getLogger(__name__).warning(
            "Triton may go on holding %s %s: %s", manifest.name, manifest.version, away
        )


@contextmanager
def plants_together(settings: Settings) -> Iterator[Executor | None]:
    """Yield what scores several plants at once; None where that would only cost time."""
    if settings.inference == "local":
        yield None
        return
    with ThreadPoolExecutor(PLANTS_AT_ONCE, thread_name_prefix="score") as threads:
        yield threads
