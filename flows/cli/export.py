"""``fusion export``: a model version into the repository that Triton serves from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from flows import wiring
from flows.export import Exported, export_to_triton, int8_loss, quantised
from flows.settings import Settings
from flows.terminal import CONSOLE
from flows.trust import seal, trusted_model
from fusion.rollout.parity import MAX_INT8_LOSS


def export(
    model_dir: Annotated[
        Path, typer.Argument(metavar="MODEL_DIR", help="The folder that `fusion train` printed.")
    ],
    repository: Annotated[
        Path | None,
        typer.Argument(help="Triton's model repository; default: FUSION_TRITON_REPOSITORY."),
    ] = None,
    backend: Annotated[
        Literal["python", "onnxruntime"] | None,
        typer.Option(
            help="onnxruntime for NVIDIA's container; python for servers without it, such as the "
            "one of `fusion triton start`. Default: FUSION_TRITON_BACKEND."
        ),
    ] = None,
    device: Annotated[
        Literal["cpu", "gpu"] | None,
        typer.Option(
            help="Where the server runs the networks; gpu needs backend onnxruntime. Default: as "
            "it was exported, or else FUSION_TRITON_DEVICE; `fusion live` and `fusion models "
            "promote` do the same."
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Quantise the weights to 8 bits first, as a version of its own beside the model; "
            "refused when its answers differ too much.",
        ),
    ] = False,
    max_wait_ms: Annotated[
        float,
        typer.Option(
            help="How long a window may wait for others to share a batch. 0: only while the "
            "network is busy.",
            min=0,
            max=100,
        ),
    ] = 0.0,
    max_queue: Annotated[
        int | None,
        typer.Option(
            help="Requests that may wait in the server; it refuses more, and what waits for longer "
            "than a second. Default: no bound there, because with one Triton lets requests sleep "
            "now and then; what nobody waits for any more leaves the queue anyhow.",
            min=1,
        ),
    ] = None,
) -> None:
    """Write a model version into Triton's model repository: whole, or not at all.

    Each network becomes a model named PLANT.VERSION.NETWORK, with static configuration, dynamic
    batching, warm-up, labels, manifest and golden windows. Before that its networks must answer
    the golden windows as the model did in training.

    Example: [bold]fusion export out/models/rig/20261126T101500-standard --int8[/bold]
    """
    settings = Settings.load()
    made_of = _quantised(model_dir, settings) if int8 else model_dir
    target = repository or settings.triton_repository_dir
    with trusted_model(made_of, settings) as folder:
        exported = export_to_triton(
            folder,
            target,
            backend=backend or settings.triton_backend,
            device=device,
            device_if_new=settings.triton_device,
            batching=_batching(max_wait_ms, max_queue),
        )
    _tell(exported, made_of, target)
    if made_of != model_dir:
        loss = int8_loss(model_dir, made_of)
        CONSOLE.print(
            f"8 bits differ from {model_dir.name} by {loss:.1%} of the outputs' deviation; "
            f"{MAX_INT8_LOSS:.0%} may",
            highlight=False,
        )


def _batching(max_wait_ms: float, max_queue: int | None) -> wiring.Batching | None:
    """Return what was asked for; None where nothing was."""
    if not max_wait_ms and max_queue is None:
        return None
    return wiring.Batching(max_wait_us=round(max_wait_ms * 1000), max_queue=max_queue)


def _quantised(model_dir: Path, settings: Settings) -> Path:
    with trusted_model(model_dir, settings) as folder:
        return quantised(model_dir, source=folder, sealed=lambda made: seal(made, settings))


def _tell(exported: Exported, made_of: Path, target: Path) -> None:
    worst = max(each.largest for found in exported.deviations.values() for each in found)
    said = "was there already" if exported.was_there else "is written"
    CONSOLE.print(f"[bold]{made_of.name}[/bold] {said} in {target}:")
    for name in exported.models.values():
        CONSOLE.print(f"  {name}")
    CONSOLE.print(f"ONNX differs from its golden windows by {worst:.1e} at most", highlight=False)
