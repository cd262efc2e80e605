"""Budget: total or per layer, feasibility, size of the space."""

import math
from dataclasses import dataclass

from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import log_in_degree

FORMS = "log, total:E (as total:94) or layers:d1,d2,... (one in-degree a layer)"


@dataclass(frozen=True, slots=True)
class Budget:
    """What is fixed while connections move: their total number, or the in-degree of every layer.

    Args:
        depth: number of layers L.
        total: number of connections E, the chain's L included; or
        per_layer: the in-degrees of layers 1..L, the chain connection included.

    Raises:
        InputError: both or neither given, or no pattern of that depth can meet it.

    >>> Budget(4, total=6).n_patterns
    15
    >>> Budget(4, per_layer=(1, 2, 2, 3)).n_patterns
    6
    """

    depth: int
    total: int | None = None
    per_layer: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if (self.total is None) == (self.per_layer is None):
            raise InputError("a budget is either a total or an in-degree for each layer: give exactly one")
        counts = [self.depth, *(self.per_layer or ()), *([] if self.total is None else [self.total])]
        if any(not isinstance(count, int) or isinstance(count, bool) for count in counts):
            raise InputError(f"a budget counts layers and connections in whole numbers, not {counts}")
        if self.depth < 1:
            raise InputError(f"a budget needs at least 1 layer, not {self.depth}")
        if self.total is not None:
            self._check_total(self.total)
        if self.per_layer is not None:
            object.__setattr__(self, "per_layer", tuple(self.per_layer))
            self._check_per_layer(self.per_layer)

    def _check_total(self, total: int) -> None:
        most = self.depth * (self.depth + 1) // 2
        if not self.depth <= total <= most:
            raise InputError(
                f"budget total:{total} cannot be met with {self.depth} layers: the chain alone takes {self.depth} "
                f"connections and all pairs are {most}; give total:{self.depth} to total:{most}"
            )

    def _check_per_layer(self, per_layer: tuple[int, ...]) -> None:
        if len(per_layer) != self.depth:
            raise InputError(
                f"a budget by layer for {self.depth} layers needs {self.depth} in-degrees, not {len(per_layer)}"
            )
        wrong = [(layer, degree) for layer, degree in enumerate(per_layer, start=1) if not 1 <= degree <= layer]
        if wrong:
            layer, degree = wrong[0]
            raise InputError(
                f"layer {layer} cannot have {degree} inputs: it reads at least the layer before it and at most the "
                f"{layer} nodes below it" + (f" ({len(wrong)} layers are out of range)" if len(wrong) > 1 else "")
            )

    @property
    def n_connections(self) -> int:
        """Number of connections E that every pattern of this budget has."""
        return self.total if self.total is not None else sum(self.per_layer or ())

    @property
    def n_patterns(self) -> int:
        """How many patterns meet this budget: each chooses its skips freely, the chain is given."""
        if self.per_layer is not None:
            return math.prod(math.comb(layer - 1, degree - 1) for layer, degree in enumerate(self.per_layer, start=1))
        n_skips_possible = self.depth * (self.depth - 1) // 2
        return math.comb(n_skips_possible, self.n_connections - self.depth)

    def is_met_by(self, pattern: ConnectionPattern) -> bool:
        """Whether the pattern spends exactly this budget."""
        if pattern.depth != self.depth:
            return False
        return pattern.in_degrees == self.per_layer if self.per_layer else pattern.n_connections == self.total

    def __str__(self) -> str:
        """The command line's form: one text for one budget.

        >>> str(Budget(3, per_layer=(1, 2, 2))), str(Budget(3, per_layer=(1, 1, 2))), str(Budget(3, total=4))
        ('log', 'layers:1,1,2', 'total:4')
        """
        if self.total is not None:
            return f"total:{self.total}"
        if self == log_budget(self.depth):
            return "log"
        return "layers:" + ",".join(map(str, self.per_layer or ()))


def log_budget(depth: int) -> Budget:
    """In-degree floor(log2 i) + 1 for each layer i: Log-DenseNet's."""
    return Budget(depth, per_layer=tuple(log_in_degree(layer) for layer in range(1, depth + 1)))


def parse_budget(text: str, depth: int) -> Budget:
    """Read the command line's form of a budget.

    Raises:
        InputError: not one of the forms, or one that no pattern of that depth can meet.

    >>> parse_budget("log", 4).per_layer
    (1, 2, 2, 3)
    >>> parse_budget("total:8", 4).n_connections
    8
    """
    form, _, rest = text.strip().partition(":")
    try:
        if text.strip() == "log":
            return log_budget(depth)
        if form == "total":
            return Budget(depth, total=int(rest))
        if form == "layers":
            return Budget(depth, per_layer=tuple(int(part) for part in rest.split(",")))
    except InputError:
        raise
    except ValueError:
        raise InputError(f"budget {text!r}: {rest!r} is not made of whole numbers; the forms are {FORMS}") from None
    raise InputError(f"budget {text!r} is not of a known form: {FORMS}")
