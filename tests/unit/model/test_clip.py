"""A clip tells motion, which a picture cannot: a square that moves, at places that tell nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from fusion.features import StreamLayout
from fusion.model.encoder import NewestAndChanges, make_stem

HW = (24, 32)
DIRECTIONS = torch.tensor([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0]])
WIDTH = 32
STEPS = 220


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """So small a network is slower on many."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def layout(num_frames: int) -> StreamLayout:
    shape = (3, *HW) if num_frames == 1 else (num_frames, 3, *HW)
    return StreamLayout(name="eye", modality="video", input_shape=shape, readings=(), units=())


def moving_squares(
    count: int, num_frames: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return clips (the newest picture of each at num_frames 1), directions, and speeds.

    The square's place in the newest frame is drawn alone: it says nothing of how it came there.
    """
    which = torch.randint(0, 4, (count,), generator=generator)
    speed = torch.rand(count, generator=generator) * 2 + 0.5
    centre = torch.rand(count, 2, generator=generator) * torch.tensor([8.0, 16.0]) + 8.0
    rows, columns = torch.arange(HW[0])[:, None], torch.arange(HW[1])[None]
    frames: list[Tensor] = []
    for back in range(max(2, num_frames) - 1, -1, -1):
        at = centre - back * speed[:, None] * DIRECTIONS[which]
        inside = ((rows - at[:, :1, None]).abs() < 3) & ((columns - at[:, 1:, None]).abs() < 3)
        frames.append(inside.float()[:, None].expand(-1, 3, -1, -1))
    clips = torch.stack(frames, dim=1)
    return (clips[:, -1] if num_frames == 1 else clips), which, speed


def learned(num_frames: int, seed: int) -> tuple[float, float]:
    """Return accuracy of the direction and R2 of the speed, on clips that were not learned from."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    stem, probe = make_stem(layout(num_frames), WIDTH), nn.Linear(WIDTH, 5)
    optimiser = torch.optim.AdamW([*stem.parameters(), *probe.parameters()], lr=2e-3)
    for _ in range(STEPS):
        clips, which, speed = moving_squares(48, num_frames, generator)
        said = probe(stem(clips))
        loss = nn.functional.cross_entropy(said[:, :4], which)
        loss = loss + ((said[:, 4] - speed) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    clips, which, speed = moving_squares(400, num_frames, generator)
    with torch.no_grad():
        said = probe(stem(clips))
    accuracy = (said[:, :4].argmax(dim=1) == which).float().mean().item()
    return accuracy, 1 - ((said[:, 4] - speed) ** 2).mean().item() / speed.var().item()


@pytest.mark.parametrize("seed", range(3))
def test_a_clip_tells_direction_and_speed_and_a_picture_does_not(seed: int) -> None:
    direction, speed = learned(1, seed)
    assert direction == pytest.approx(0.25, abs=0.08)
    assert speed < 0.05
    direction, speed = learned(4, seed)
    assert direction > 0.8
    assert speed > 0.5


def test_a_clip_that_stands_still_has_no_changes() -> None:
    picture = torch.rand(5, 1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    channels = NewestAndChanges()(picture.expand(-1, 4, -1, -1, -1))
    assert channels.shape == (5, 12, 6, 8)
    assert torch.equal(channels[:, :3], picture[:, 0])
    assert not channels[:, 3:].any()


def test_one_frame_per_tick_has_the_stem_of_a_picture() -> None:
    assert not any(
        isinstance(part, NewestAndChanges) for part in make_stem(layout(1), 32).modules()
    )
