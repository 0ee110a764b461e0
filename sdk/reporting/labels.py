"""Where the labels of a figure's points stand: near them, and never on one another."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgefold.reporting.canvas import Canvas

LABEL_HEIGHT, CHARACTER_WIDTH = 15, 6.9
"""Of a 12-pixel label; every character is counted as wide as a wide letter."""
DISTANCE = 9
"""From a point to the label beside it."""
MISLEADING = 40
"""Pixels that a label goes further rather than stand nearest to another point than its own."""


@dataclass(frozen=True)
class Box:
    """An area that a label, a point or an error bar takes."""

    x: float
    y: float
    width: float
    height: float

    def overlaps(self, other: "Box") -> bool:
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """Its point that is nearest to (x, y)."""
        return min(max(x, self.x), self.x + self.width), min(max(y, self.y), self.y + self.height)

    def distance(self, x: float, y: float) -> float:
        return math.dist(self.nearest(x, y), (x, y))


def shorten(name: str, canvas: Canvas) -> str:
    """The name, cut where not even an empty canvas could hold its label."""
    room = int((canvas.x_end - canvas.left) / CHARACTER_WIDTH)
    return name if len(name) <= room else name[: room - 3] + "..."


def place_labels(
    points: Sequence[tuple[float, float]], names: Sequence[str], canvas: Canvas, bars: Sequence[Box] = ()
) -> list[Box] | None:
    """A box for each label, as near to its point as can be; None where the canvas is too small for all of them.

    No box overlaps another, a point, a bar, or the edge.
    """
    taken = [*bars, *(Box(x - 6, y - 6, 12, 12) for x, y in points)]
    placed: list[Box] = []
    for point, name in zip(points, names, strict=True):
        box = _find_place(point, CHARACTER_WIDTH * len(name), canvas, points, taken)
        if box is None:
            return None
        placed.append(box)
        taken.append(box)
    return placed


def _find_place(
    point: tuple[float, float],
    width: float,
    canvas: Canvas,
    points: Sequence[tuple[float, float]],
    taken: Sequence[Box],
) -> Box | None:
    """The free box of least cost, sought from near to far."""
    corners = (*_beside(*point, width), *_everywhere(canvas, width))
    boxes = sorted((Box(left, top, width, LABEL_HEIGHT) for left, top in corners), key=lambda box: _reach(box, point))
    best, least = None, math.inf
    for box in boxes:
        if _reach(box, point) >= least:
            break
        if _is_inside(box, canvas) and not any(map(box.overlaps, taken)):
            cost = _reach(box, point) + (MISLEADING if _is_misleading(box, point, points) else 0)
            best, least = (box, cost) if cost < least else (best, least)
    return best


def _reach(box: Box, point: tuple[float, float]) -> float:
    """Whole pixels to its point; nearer than beside it is no better."""
    return max(round(box.distance(*point)), DISTANCE)


def _is_misleading(box: Box, point: tuple[float, float], points: Sequence[tuple[float, float]]) -> bool:
    """Whether another point is nearer, whose label it would seem to be."""
    own = box.distance(*point)
    return any(box.distance(*other) < own for other in points)


def _beside(x: float, y: float, width: float) -> Iterator[tuple[float, float]]:
    """Right, left, above and below the point."""
    middle = y - LABEL_HEIGHT / 2
    yield from ((x + DISTANCE, middle), (x - DISTANCE - width, middle))
    yield from ((x - width / 2, y - DISTANCE - LABEL_HEIGHT), (x - width / 2, y + DISTANCE))


def _everywhere(canvas: Canvas, width: float) -> Iterator[tuple[float, float]]:
    for top in range(canvas.top, canvas.y_end - LABEL_HEIGHT, 6):
        for left in range(canvas.left + 4, max(canvas.left + 5, int(canvas.x_end - width)), 12):
            yield left, top


def _is_inside(box: Box, canvas: Canvas) -> bool:
    return (
        box.x >= canvas.left
        and box.x + box.width <= canvas.width
        and box.y >= canvas.top - 12
        and box.y + box.height <= canvas.y_end
    )
