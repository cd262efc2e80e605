"""Whether an effect is too small to matter."""

from dataclasses import dataclass

from analysis.data.protocol import MARGIN


@dataclass(frozen=True, slots=True)
class Equivalence:
    """A partial correlation over its ceiling, against +-MARGIN.

    Args:
        value: correlation that would be seen without noise.
        low, high: its 90 % interval: the two one-sided tests at ALPHA that it lies inside the margin (Schuirmann, J.
            Pharmacokinet. Biopharm. 15, 1987). The ceiling counts as known, which is right to first order at 0.
    """

    value: float
    low: float
    high: float

    @property
    def is_negligible(self) -> bool:
        """Whether both tests reject: the correlation lies inside the margin."""
        return self.low > -MARGIN and self.high < MARGIN


def compare_with_margin(value: float, interval: tuple[float, float] | None, ceiling: float) -> Equivalence | None:
    """Compare a correlation with the margin; None where its ceiling is 0 or it has no interval.

    Args:
        interval: quantiles ALPHA and 1 - ALPHA of its resamples.
    """
    if ceiling <= 0 or interval is None:
        return None
    return Equivalence(value / ceiling, interval[0] / ceiling, interval[1] / ceiling)
