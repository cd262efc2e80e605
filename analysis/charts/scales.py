"""Axes: from values to pixels, with round ticks and a place for values far from all others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

STRIP = 36.0  # pixels at the end of a cut axis, for what lies beyond it
MOST_BEYOND = 0.1  # share of the values that a cut may leave beyond an axis
LEAST_GAIN = 2.0  # how much more room a cut must give to the others
PADDING = 0.05  # of an axis, free at each end
N_TICKS = 6  # at most, and no more than have room
TICK_ROOM = 45.0  # pixels


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis from pixel `start` at value `low` to pixel `end` at value `high`.

    Args:
        is_log: whether equal factors, rather than differences, are equally long.
        below, above: pixel at which values below `low` or above `high` are marked; None where there are none.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False
    below: float | None = None
    above: float | None = None

    @property
    def slope(self) -> float:
        """Pixels for one unit, of the logarithm where the axis is logarithmic."""
        return (self.end - self.start) / (self._measure(self.high) - self._measure(self.low))

    @property
    def origin(self) -> float:
        """Pixel of the value 0, or of 1 on a logarithmic axis."""
        return self.start - self.slope * self._measure(self.low)

    def covers(self, value: float) -> bool:
        """Return whether the axis reaches a value."""
        return self.low <= value <= self.high

    def place(self, value: float) -> float:
        """Return the pixel of a value; one beyond the axis is placed at its end, in the strip where there is one."""
        if value < self.low:
            return self.start if self.below is None else self.below
        if value > self.high:
            return self.end if self.above is None else self.above
        return self.origin + self.slope * self._measure(value)

    def ticks(self) -> list[tuple[float, str]]:
        """Return round values on the axis, each with its text."""
        if self.is_log:
            for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
                powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
                values = [step * 10.0**power for power in powers for step in steps]
                values = [value for value in values if self.covers(value)]
                if len(values) >= 3:
                    return [(value, f"{value:g}".replace("e-0", "e-")) for value in values]
        step = _choose_step(self.high - self.low, min(N_TICKS, abs(self.end - self.start) / TICK_ROOM))
        digits = max(0, -math.floor(math.log10(step) + 1e-9) + (1 if f"{step:e}".startswith("2.5") else 0))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [(step * n, f"{step * n:z,.{digits}f}".replace("-", "\u2212")) for n in range(first, last + 1)]

    def _measure(self, value: float) -> float:
        return math.log10(value) if self.is_log else value


def fit_scale(values: Sequence[float], start: float, end: float, is_log: bool = False) -> Scale:
    """Return an axis for values; few of them far from all others are left to a strip at its end.

    >>> fit_scale([0.0, 10.0], 0, 330).ticks()
    [(0.0, '0'), (2.0, '2'), (4.0, '4'), (6.0, '6'), (8.0, '8'), (10.0, '10')]
    >>> cut = fit_scale([*range(10), 100], 0, 300)
    >>> cut.high < 12, cut.above, cut.place(100)
    (True, 282.0, 282.0)
    """
    usable = [value for value in values if math.isfinite(value) and (value > 0 or not is_log)]
    measured = sorted(math.log10(value) if is_log else value for value in usable) or [0.0, 1.0]
    low, high = find_bulk(measured)
    sign = math.copysign(1.0, end - start)
    below = start + sign * STRIP / 2 if measured[0] < low else None
    above = end - sign * STRIP / 2 if measured[-1] > high else None
    width = high - low or abs(high)
    width = width if width > 1e-300 else 1.0  # less than that has no pixels for a unit
    low, high = low - PADDING * width, high + PADDING * width
    start = start if below is None else start + sign * STRIP
    end = end if above is None else end - sign * STRIP
    if is_log:
        low, high = 10**low, 10**high
    return Scale(low, high, start, end, is_log, below, above)


def find_bulk(ordered: Sequence[float]) -> tuple[float, float]:
    """Return the range of values, without the few far ones that would take more than half of it.

    As few as possible are left out, and never more than MOST_BEYOND of them.

    Args:
        ordered: sorted values, at least one.

    >>> find_bulk([1.0, 2.0, 3.0, 30.0]), find_bulk([*range(20), 30.0]), find_bulk([*range(20), 220.0])
    ((1.0, 30.0), (0, 30.0), (0, 19))
    """
    kept = list(ordered)
    n_least = len(ordered) - math.floor(MOST_BEYOND * len(ordered))
    while len(kept) > n_least:
        for n in range(len(kept) - 1, n_least - 1, -1):
            width, first = min((kept[place + n - 1] - kept[place], place) for place in range(len(kept) - n + 1))
            if kept[-1] - kept[0] >= LEAST_GAIN * width:
                kept = kept[first : first + n]
                break
        else:
            break
    return kept[0], kept[-1]


def _choose_step(width: float, n_ticks: float) -> float:
    """Return the round number of which about so many fit into a width."""
    rough = width / max(n_ticks, 1.0)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * 0.999)
