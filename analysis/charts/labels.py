"""Names next to their marks, where they cover neither one another nor many marks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from analysis.charts.drawing import FONT, SMALL, cut_text, draw_line, measure_text, write

CROWDED = 8  # names from which on they are small, and stay away where there is no room
LONGEST = 40  # characters
# From a mark to its name's near end, the nearest first.
OFFSETS = tuple((side, height) for height in (0, 11, -11, 21, -21, 33, -33, 46, -46) for side in (10, -10))


@dataclass(frozen=True, slots=True)
class Name:
    """A name of the mark at a pixel, and the key of its pattern."""

    key: str
    text: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        """Return whether two boxes have a point inside both."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def contains(self, other: "Box") -> bool:
        """Return whether another box lies inside this one."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )


def place_names(names: Sequence[Name], marks: Sequence[tuple[float, float]], room: Box) -> list[str]:
    """Write names next to their marks, the first with the first choice of a place.

    Few names are all written. Of many, one without a free place is left out: its mark still says it.

    Args:
        marks: pixels of all marks.
        room: panel that names have to stay inside.
    """
    size = SMALL if len(names) >= CROWDED else FONT
    taken = [Box(name.x - 6, name.y - 6, name.x + 6, name.y + 6) for name in names]
    own = list(taken)
    parts = []
    for name, home in zip(names, own, strict=True):
        text = cut_text(name.text, LONGEST)[0]
        choices = []
        for order, (side, height) in enumerate(OFFSETS):
            box = _frame(name, text, size, side, height)
            if room.contains(box) and not any(box.overlaps(other) for other in taken if other is not home):
                n_covered = sum(box.left <= x <= box.right and box.top <= y <= box.bottom for x, y in marks)
                choices.append((n_covered + order / 3, order, box))  # three steps away weigh as much as a mark
        if not choices and len(names) >= CROWDED:
            continue
        _, order, box = min(
            choices, key=lambda choice: choice[:2], default=(0, 0, _frame(name, text, size, *OFFSETS[0]))
        )
        side, height = OFFSETS[order]
        near = box.left if side > 0 else box.right
        lead = draw_line(name.x, name.y, near, name.y + height, "lead") if abs(height) > 12 else ""
        words = write(near, name.y + height, text, "small" if size == SMALL else "", "start" if side > 0 else "end")
        parts.append(f'<g data-of="{name.key}">{lead}{words}</g>')
        taken.append(box)
    return parts


def _frame(name: Name, text: str, size: float, side: int, height: int) -> Box:
    near, width = name.x + side, measure_text(text, size)
    left = near if side > 0 else near - width
    return Box(left, name.y + height - 0.6 * size, left + width, name.y + height + 0.6 * size)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places at least `gap` apart and in the same order, moved as little as a pass down and one up need.

    >>> spread([0.0, 1.0, 50.0], 10, 0, 55)
    [0.0, 10.0, 50.0]
    >>> spread([50.0, 54.0], 10, 0, 55)
    [45, 55]
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    for before, place in pairwise(order):
        moved[place] = max(moved[place], moved[before] + gap)
    limit = high
    for place in reversed(order):
        moved[place] = max(min(moved[place], limit), low)
        limit = moved[place] - gap
    return moved
