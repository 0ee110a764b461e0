"""The ground of a figure: its size, axes and ticks, as SVG that takes its colours from the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Canvas:
    """Sizes in pixels of a figure whose text is 12 pixels high."""

    width: int
    height: int
    left: int = 60
    right: int = 16
    top: int = 20
    bottom: int = 48

    @property
    def x_end(self) -> int:
        return self.width - self.right

    @property
    def y_end(self) -> int:
        return self.height - self.bottom


WIDE, NARROW = Canvas(840, 420), Canvas(364, 400)
"""For a desk and for a phone; the page shows the one that fits."""


@dataclass(frozen=True)
class Axis:
    """A linear map from values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        return self.start + (value - self.low) / ((self.high - self.low) or 1.0) * (self.end - self.start)

    @property
    def step(self) -> float:
        """A round distance that gives about five ticks."""
        raw = (self.high - self.low) / 6 or 1.0
        power = 10.0 ** math.floor(math.log10(raw))
        return next(base * power for base in (1, 2, 5, 10) if base * power >= raw)

    @property
    def ticks(self) -> list[float]:
        first, last = math.ceil(self.low / self.step), math.floor(self.high / self.step)
        return [round(k * self.step, 12) for k in range(first, last + 1)]

    @property
    def decimals(self) -> int:
        """Of a tick's text."""
        return max(0, -math.floor(math.log10(self.step) + 1e-9))


def find_log_ticks(axis: Axis, space: float = 28) -> list[float]:
    """1, 2, 5 times powers of ten on an axis of logarithms, none closer to the last than `space` pixels."""
    ticks: list[float] = []
    for tick in (base * 10.0**power for power in range(-6, 7) for base in (1, 2, 5)):
        place = axis.place(math.log10(tick))
        is_free = not ticks or place - axis.place(math.log10(ticks[-1])) >= space
        if axis.low <= math.log10(tick) <= axis.high and is_free:
            ticks.append(tick)
    return ticks


def draw_frame(canvas: Canvas, x_label: str, y_label: str, top: float) -> str:
    """Both axes and what they mean."""
    middle_x, middle_y = (canvas.left + canvas.x_end) / 2, (top + canvas.y_end) / 2
    return (
        f'<path class="axis" d="M{canvas.left} {top:.0f}V{canvas.y_end}H{canvas.x_end}"/>'
        f'<text class="title" x="{middle_x:.0f}" y="{canvas.height - 8}">{escape(x_label)}</text>'
        f'<text class="title" transform="translate(13 {middle_y:.0f}) rotate(-90)">{escape(y_label)}</text>'
    )


def draw_x_tick(canvas: Canvas, x: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{x:.1f}" y1="{canvas.y_end}" x2="{x:.1f}" y2="{canvas.y_end + 5}"/>'
        f'<text class="tick middle" x="{x:.1f}" y="{canvas.y_end + 18}">{text}</text>'
    )


def draw_y_tick(canvas: Canvas, y: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{canvas.left}" y1="{y:.1f}" x2="{canvas.x_end}" y2="{y:.1f}"/>'
        f'<text class="tick end" x="{canvas.left - 6}" y="{y + 4:.1f}">{text}</text>'
    )


def draw_line(kind: str, places: Sequence[tuple[float, float]]) -> str:
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'


def draw_svg(canvas: Canvas, parts: Sequence[str], title: str) -> str:
    """The whole figure."""
    return (
        f'<svg viewBox="0 0 {canvas.width} {canvas.height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
