"""The rig's camera: a drawn tank with a sight glass, pump, coupling, pipe, valve, leak, and people.

Geometry is in pixels of a 160 x 120 picture and scaled to the stream's size.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fusion.plant import NANOSECONDS, VideoStream
from fusion.schema import VideoFrame
from fusion.simulation.dynamics import BLOCK_S, COLUMNS, STEP_S
from fusion.simulation.scenario import Scenario

WALL, FLOOR, STEEL, DARK = (178, 182, 186), (120, 118, 114), (150, 156, 162), (70, 74, 80)
GLASS, FRAME = (214, 222, 226), (40, 44, 48)
TANK = (92, 22, 140, 92)
GLASS_BOX = (110, 28, 122, 86)
COUPLING = (56, 86)
VALVE = (74, 50)
LEAK = (88, 88)
KNOCK_PX = 7


class Camera:
    """Draws the frames of one rig."""

    def __init__(self, scenario: Scenario, stream: VideoStream) -> None:
        self._scenario = scenario
        self._stream = stream
        self._scene = _draw_scene()
        rng = np.random.default_rng([scenario.seed, 5])
        self._walks_at_s = np.cumsum(rng.exponential(70.0, size=2_000)).tolist()

    def look(self, steps_KC: NDArray[np.float64], *, block: int) -> list[VideoFrame]:
        """Return the frames of one block, at the stream's rate and size."""
        num_frames = round(BLOCK_S * self._stream.rate_hz)
        rng = np.random.default_rng([self._scenario.seed, 4, block])
        every = len(steps_KC) / num_frames
        frames: list[VideoFrame] = []
        for index in range(num_frames):
            step = int(index * every)
            state = dict(zip(COLUMNS, steps_KC[step].tolist(), strict=True))
            time_s = block * BLOCK_S + step * STEP_S
            t_capture_ns = self._scenario.t_start_ns + round(time_s * NANOSECONDS)
            frames.append(
                VideoFrame(self._stream.name, t_capture_ns, self._frame(state, time_s, rng))
            )
        return frames

    def _frame(
        self, state: dict[str, float], time_s: float, rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        picture = self._scene.copy()
        draw = ImageDraw.Draw(picture)
        _draw_level(draw, state["level"] / self._scenario.physics.tank_height_m)
        _draw_heat(draw, state["heater_kw"] / self._scenario.physics.heater_max_kw)
        _draw_motor(draw, state["motor_temperature"])
        _draw_coupling(draw, state["turns"])
        _draw_valve(draw, state["valve"])
        _draw_leak(draw, state["leak"], time_s)
        strength = self._scenario.distractors
        if strength > 0:
            self._draw_walker(draw, time_s, strength)
        if state["camera_moved"] > 0:
            picture = picture.transform(
                picture.size,
                Image.Transform.AFFINE,
                (1, 0, KNOCK_PX, 0, 1, -KNOCK_PX / 2),
                fillcolor=WALL,
            )
        size = (self._stream.width_px, self._stream.height_px)
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        pixels_HW3 = np.asarray(picture, np.float32)
        flicker = 1 + 0.03 * strength * math.sin(2 * math.pi * 0.37 * time_s + rng.normal() * 0.5)
        noise_HW1 = rng.normal(0, 2.0 + 1.5 * strength, size=(*pixels_HW3.shape[:2], 1))
        return np.clip(pixels_HW3 * flicker + noise_HW1, 0, 255).astype(np.uint8)

    def _draw_walker(self, draw: ImageDraw.ImageDraw, time_s: float, strength: float) -> None:
        """Draw a person who crosses the picture in six seconds, in front of the wall."""
        for start_s in self._walks_at_s:
            if start_s > time_s:
                return
            across = (time_s - start_s) / 6.0
            if across <= 1:
                x = -14 + across * 188
                shade = max(20, round(110 - 50 * strength))
                swing = 4 * math.sin(time_s * 6)
                draw.ellipse((x - 4, 30, x + 4, 39), fill=(shade, shade - 8, shade - 12))
                draw.rectangle((x - 6, 40, x + 6, 72), fill=(shade, shade, shade + 24))
                draw.line((x, 72, x - swing, 100), fill=(shade, shade, shade), width=4)
                draw.line((x, 72, x + swing, 100), fill=(shade, shade, shade), width=4)


def _draw_scene() -> Image.Image:
    picture = Image.new("RGB", (160, 120), WALL)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 96, 160, 120), fill=FLOOR)
    draw.line((0, 96, 160, 96), fill=DARK)
    draw.rectangle((8, 92, 84, 98), fill=DARK)
    draw.rounded_rectangle((12, 72, 48, 94), 3, fill=STEEL, outline=FRAME)
    for x in range(16, 46, 4):
        draw.line((x, 75, x, 91), fill=DARK)
    draw.ellipse((62, 72, 86, 96), fill=STEEL, outline=FRAME)
    draw.rectangle((72, 40, 77, 74), fill=STEEL, outline=FRAME)
    draw.rectangle((72, 38, 96, 43), fill=STEEL, outline=FRAME)
    draw.rounded_rectangle(TANK, 4, fill=STEEL, outline=FRAME, width=2)
    draw.rectangle((96, 92, 100, 100), fill=DARK)
    draw.rectangle((132, 92, 136, 100), fill=DARK)
    draw.rectangle((140, 80, 158, 85), fill=STEEL, outline=FRAME)
    draw.rectangle(GLASS_BOX, fill=GLASS, outline=FRAME)
    for mark in range(1, 6):
        y = GLASS_BOX[3] - mark * (GLASS_BOX[3] - GLASS_BOX[1]) / 6
        draw.line((GLASS_BOX[2] + 1, y, GLASS_BOX[2] + 4, y), fill=FRAME)
    return picture


def _draw_level(draw: ImageDraw.ImageDraw, share: float) -> None:
    left, top, right, bottom = GLASS_BOX
    surface = bottom - 1 - min(1.0, share) * (bottom - top - 2)
    draw.rectangle((left + 1, surface, right - 1, bottom - 1), fill=(38, 92, 160))
    draw.line((left + 1, surface, right - 1, surface), fill=(120, 170, 220))


def _draw_heat(draw: ImageDraw.ImageDraw, share: float) -> None:
    glow = round(150 * min(1.0, share))
    draw.rounded_rectangle(
        (98, 87, 136, 91), 1, fill=(90 + glow, 80, max(0, 80 - glow // 3)), outline=FRAME
    )


def _draw_motor(draw: ImageDraw.ImageDraw, temperature_c: float) -> None:
    warm = min(1.0, max(0.0, (temperature_c - 35) / 50))
    draw.rounded_rectangle(
        (18, 66, 42, 72),
        2,
        fill=(round(110 + 130 * warm), 112, round(118 - 60 * warm)),
        outline=FRAME,
    )


def _draw_coupling(draw: ImageDraw.ImageDraw, turns: float) -> None:
    x, y = COUPLING
    draw.rectangle((48, y - 2, 64, y), fill=DARK)
    draw.ellipse((x - 6, y - 7, x + 6, y + 5), fill=(186, 190, 194), outline=FRAME)
    angle = 2 * math.pi * (turns % 1.0)
    draw.line((x, y - 1, x + 6 * math.cos(angle), y - 1 + 6 * math.sin(angle)), fill=FRAME, width=2)


def _draw_valve(draw: ImageDraw.ImageDraw, opening: float) -> None:
    x, y = 150, 82
    draw.polygon(((x - 5, y - 5), (x + 5, y + 5), (x + 5, y - 5), (x - 5, y + 5)), fill=DARK)
    angle = math.pi * (1 - min(1.0, opening))
    draw.line(
        (x, y, x + 11 * math.cos(angle), y - 11 * math.sin(angle)), fill=(176, 40, 32), width=3
    )


def _draw_leak(draw: ImageDraw.ImageDraw, severity: float, time_s: float) -> None:
    if severity <= 0:
        return
    x, y = LEAK
    spread = 2 + 22 * severity
    draw.ellipse((x - spread, 98, x + spread, 100 + 8 * severity), fill=(64, 84, 110))
    for drop in range(1 + round(3 * severity)):
        fall = (time_s * 1.7 + drop * 0.29) % 1.0
        drop_y = y + fall * 12
        draw.ellipse((x - 1, drop_y, x + 2, drop_y + 4), fill=(52, 96, 150))
