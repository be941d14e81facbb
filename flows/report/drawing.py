"""How charts look, and how they get into the page.

High-performance HMI (ISA-101, section 5): everything normal is grey, colour is kept for the
abnormal, and a shape or a word always says the same as the colour. Each chart is drawn twice, for a
desk and for a phone, so that its letters stay readable on both.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK: Final = "#20262b"
MUTED: Final = "#5f686f"
LINE: Final = "#8b949b"
FILL: Final = "#c9cfd4"
PALE: Final = "#eceff1"
ABNORMAL: Final = "#b3261e"
WARNING: Final = "#a85b00"

_PATH: Final = re.compile(r' d="[^"]*"')
_NUMBER: Final = re.compile(r"-?\d+\.\d+")

WIDE_PX: Final = 1080
NARROW_PX: Final = 350

_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "hatch.color": LINE,
    "hatch.linewidth": 0.7,
    "lines.linewidth": 1.2,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "path.simplify_threshold": 0.3,
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """One rendering: a data URI and its size in CSS pixels."""

    uri: str
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart for a desk, the same for a phone, and the same in words."""

    wide: Drawn
    narrow: Drawn
    alt: str


def picture(paint: Callable[[int], Figure], *, alt: str) -> Picture:
    """Return what ``paint`` (width in px to figure) draws, at both widths, as SVG."""
    with mpl.rc_context(_STYLE):
        return Picture(_drawn(paint(WIDE_PX)), _drawn(paint(NARROW_PX)), alt)


def save_picture(paint: Callable[[], Figure], path: Path) -> None:
    """Write what ``paint`` draws to ``path``, on white; its suffix says in which format."""
    on_white: dict[Any, Any] = {"figure.facecolor": "white", "savefig.facecolor": "white"}
    with mpl.rc_context(_STYLE | on_white):
        is_png = path.suffix == ".png"
        paint().savefig(
            path, dpi=108 if is_png else 72, metadata=None if is_png else {"Date": None}
        )


def new_figure(width_px: int, height_px: float) -> Figure:
    """Return an empty figure whose points are CSS pixels."""
    return Figure(figsize=(width_px / 72, height_px / 72), dpi=72)


def stacked_rows(
    width_px: int, rows_px: Sequence[float], *, left_px: float, gap_px: float, bottom_px: float = 44
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its rows from the top, of the given heights, on one x axis."""
    height_px = sum(rows_px) + gap_px * len(rows_px) + bottom_px
    fig = new_figure(width_px, height_px)
    axes: list[Axes] = []
    y_px = height_px
    for row_px in rows_px:
        y_px -= gap_px + row_px
        across = (left_px / width_px, 1 - (left_px + 12) / width_px)
        box = (across[0], y_px / height_px, across[1], row_px / height_px)
        axes.append(fig.add_axes(box, sharex=axes[0] if axes else None))
    return fig, axes


def is_narrow(width_px: int) -> bool:
    """Whether the chart is drawn for a phone."""
    return width_px < 600


def bare(ax: Axes) -> None:
    """Take away every spine and tick of ``ax``."""
    ax.spines[:].set_visible(False)
    ax.xaxis.set_visible(False)  # not set_xticks([]): the axis is shared
    ax.set_yticks([])


def data_uri(content: bytes, media_type: str) -> str:
    """Return ``content`` as a data URI.

    Example:
        >>> data_uri(b"hi", "text/plain")
        'data:text/plain;base64,aGk='
    """
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _drawn(figure: Figure) -> Drawn:
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    svg = _PATH.sub(_rounded, content.getvalue().decode())
    width_in, height_in = figure.get_size_inches()
    return Drawn(
        data_uri(svg.encode(), "image/svg+xml"), round(72 * width_in), round(72 * height_in)
    )


def _rounded(path: re.Match[str]) -> str:
    """Return a path with a tenth of a pixel of precision: a third of the size, the same picture."""
    return _NUMBER.sub(lambda number: f"{float(number.group()):.1f}", path.group())
