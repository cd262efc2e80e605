"""Budget: total or per layer, degree caps, feasibility."""

import itertools
import math
from dataclasses import dataclass

from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern


def log_in_degree(layer: int) -> int:
    """floor(log2 layer) + 1: how many sources i - 2^k >= 0 a layer i has.

    >>> [log_in_degree(i) for i in (1, 2, 3, 4, 8)]
    [1, 2, 2, 3, 4]
    """
    return layer.bit_length()


FORMS = "log, total:E (as total:94) or layers:d1,d2,... (one in-degree a layer); ;max-in:K and ;max-out:K may follow"
MAX_DIGITS = 9  # of a cap; Python reads none of more than 4300
_CAPS = {"max-in": "max_in", "max-out": "max_out"}


@dataclass(frozen=True, slots=True)
class Budget:
    """What is fixed while connections move: their total number, or the in-degree of every layer.

    Args:
        depth: number of layers L.
        total: number of connections E, the chain's L included; or
        per_layer: the in-degrees of layers 1..L, the chain connection included.
        max_in: most inputs of a layer, or None.
        max_out: most readers of a node, or None.

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
    max_in: int | None = None
    max_out: int | None = None

    def __post_init__(self) -> None:
        if (self.total is None) == (self.per_layer is None):
            raise InputError("a budget is either a total or an in-degree for each layer: give exactly one")
        optional = [count for count in (self.total, self.max_in, self.max_out) if count is not None]
        counts = [self.depth, *(self.per_layer or ()), *optional]
        if any(not isinstance(count, int) or isinstance(count, bool) for count in counts):
            raise InputError(f"a budget counts layers and connections in whole numbers, not {counts}")
        if self.depth < 1:
            raise InputError(f"a budget needs at least 1 layer, not {self.depth}")
        if min(self.max_in or 1, self.max_out or 1) < 1 or 0 in (self.max_in, self.max_out):
            raise InputError("a cap below 1 leaves no room for the chain: give --max-in and --max-out of 1 or more")
        if self.total is not None:
            self._check_total(self.total)
        if self.per_layer is not None:
            object.__setattr__(self, "per_layer", tuple(self.per_layer))
            self._check_per_layer(self.per_layer)

    def _check_total(self, total: int) -> None:
        most = sum(map(len, self._fill())) if self.is_capped else self.depth * (self.depth + 1) // 2
        if not self.depth <= total <= most:
            raise InputError(
                f"budget total:{total} cannot be met with {self.depth} layers{self._describe_caps()}: the chain alone "
                f"takes {self.depth} connections and there is room for {most}; give total:{self.depth} to total:{most}"
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

        if self.max_in is not None and max(per_layer) > self.max_in:
            layer = next(layer for layer, degree in enumerate(per_layer, start=1) if degree > self.max_in)
            degree = per_layer[layer - 1]
            raise InputError(
                f"layer {layer} cannot have {degree} inputs under max-in:{self.max_in}: give it 1 to {self.max_in}"
            )
        if self.max_out is None:
            return
        for layer, inputs in enumerate(self._fill(), start=1):
            if len(inputs) < per_layer[layer - 1]:
                raise InputError(
                    f"layer {layer} cannot have {per_layer[layer - 1]} inputs{self._describe_caps()}, where the layers "
                    f"below leave so few readers to spare: give it 1 to {len(inputs)}, or give a larger --max-out"
                )

    @property
    def is_capped(self) -> bool:
        """Whether inputs or readers are capped beyond what the depth does."""
        return self.max_in is not None or self.max_out is not None

    def _describe_caps(self) -> str:
        caps = [f"max-{name}:{cap}" for name, cap in (("in", self.max_in), ("out", self.max_out)) if cap is not None]
        return f" under {' and '.join(caps)}" if caps else ""

    def _fill(self) -> list[list[int]]:
        """The inputs of layers 1..L, as many as the in-degrees and caps allow.

        Layer by layer, the nodes with most readers to spare: whatever a layer can read, all later layers can read too,
        so nothing is gained by sparing one node rather than another, and an even use wastes no distinct choice.
        """
        most_out = self.depth if self.max_out is None else self.max_out
        spare = [most_out - 1] * self.depth  # beyond the chain's reader
        filled = []
        for layer in range(1, self.depth + 1):
            wanted = self.per_layer[layer - 1] if self.per_layer else min(layer, self.max_in or layer)
            open_nodes = sorted((node for node in range(layer - 1) if spare[node]), key=lambda node: -spare[node])
            chosen = open_nodes[: wanted - 1]
            for node in chosen:
                spare[node] -= 1
            filled.append([*chosen, layer - 1])
        return filled

    def example(self) -> ConnectionPattern:
        """Some pattern that spends this budget: where a search may start.

        >>> Budget(4, total=6, max_out=2).example().out_degrees
        (2, 2, 1, 1, 0)
        """
        filled = self._fill()
        n_surplus = sum(map(len, filled)) - self.n_connections
        for inputs in itertools.cycle(reversed(filled)):
            if n_surplus == 0:
                break
            if len(inputs) > 1:
                del inputs[0]
                n_surplus -= 1
        return ConnectionPattern.from_sources(filled)

    @property
    def n_connections(self) -> int:
        """Number of connections E that every pattern of this budget has."""
        return self.total if self.total is not None else sum(self.per_layer or ())

    @property
    def n_patterns(self) -> int:
        """How many patterns meet this budget: each chooses its skips freely, the chain is given.

        Raises:
            InputError: with caps there is no closed form.
        """
        if self.is_capped:
            raise InputError(f"the patterns of budget {self} are not counted: caps leave no closed form")
        return self.n_patterns_at_most

    @property
    def n_patterns_at_most(self) -> int:
        """How many patterns meet this budget if its caps, where it has any, are left out."""
        if self.per_layer is not None:
            return math.prod(math.comb(layer - 1, degree - 1) for layer, degree in enumerate(self.per_layer, start=1))
        n_skips_possible = self.depth * (self.depth - 1) // 2
        return math.comb(n_skips_possible, self.n_connections - self.depth)

    def count_up_to(self, most: int) -> int:
        """Return n_patterns_at_most, or `most` if that is less: the former may have millions of digits.

        >>> Budget(4, total=6).count_up_to(10), Budget(4, total=6).count_up_to(100)
        (10, 15)
        """
        if self.per_layer is not None:
            choices = [(layer - 1, degree - 1) for layer, degree in enumerate(self.per_layer, start=1)]
        else:
            choices = [(self.depth * (self.depth - 1) // 2, self.n_connections - self.depth)]
        count = 1
        for n_possible, n_chosen in choices:
            # Up to half of what is possible, the number of choices grows with every one that is added.
            ways = 1
            for number in range(min(n_chosen, n_possible - n_chosen)):
                ways = ways * (n_possible - number) // (number + 1)
                if count * ways >= most:
                    return most
            count *= ways
        return min(count, most)

    def is_met_by(self, pattern: ConnectionPattern) -> bool:
        """Whether the pattern spends exactly this budget."""
        if pattern.depth != self.depth:
            return False
        if self.max_in is not None and max(pattern.in_degrees) > self.max_in:
            return False
        if self.max_out is not None and max(pattern.out_degrees) > self.max_out:
            return False
        return pattern.in_degrees == self.per_layer if self.per_layer else pattern.n_connections == self.total

    def __str__(self) -> str:
        """The command line's form: one text for one budget.

        >>> str(Budget(3, per_layer=(1, 2, 2))), str(Budget(3, per_layer=(1, 1, 2))), str(Budget(3, total=4))
        ('log', 'layers:1,1,2', 'total:4')
        """
        caps = "".join(
            f";max-{name}:{cap}" for name, cap in (("in", self.max_in), ("out", self.max_out)) if cap is not None
        )
        if self.total is not None:
            return f"total:{self.total}{caps}"
        if self.per_layer == log_budget(self.depth).per_layer:
            return f"log{caps}"
        return "layers:" + ",".join(map(str, self.per_layer or ())) + caps


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
    first, *rest = text.strip().split(";")
    form, colon, numbers = first.partition(":")
    caps = _parse_caps(text, rest)
    try:
        if form == "log" and not colon:
            return Budget(depth, None, log_budget(depth).per_layer, caps.get("max_in"), caps.get("max_out"))
        if form == "total":
            return Budget(depth, int(numbers), None, caps.get("max_in"), caps.get("max_out"))
        if form == "layers":
            return Budget(
                depth, None, tuple(int(part) for part in numbers.split(",")), caps.get("max_in"), caps.get("max_out")
            )
    except InputError:
        raise
    except ValueError:
        raise InputError(f"budget {text!r}: {numbers!r} is not made of whole numbers; the forms are {FORMS}") from None
    raise InputError(f"budget {text!r} is not of a known form: {FORMS}")


def _parse_caps(text: str, parts: list[str]) -> dict[str, int]:
    caps: dict[str, int] = {}
    for part in parts:
        name, _, number = part.strip().partition(":")
        is_number = number.removeprefix("-").isdecimal() and len(number) <= MAX_DIGITS
        if name not in _CAPS or _CAPS[name] in caps or not is_number:
            raise InputError(
                f"budget {text!r}: {part!r} is not max-in:K or max-out:K, each once; the forms are {FORMS}"
            )
        caps[_CAPS[name]] = int(number)
    return caps
