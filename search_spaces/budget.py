"""Budgets: a total or an in-degree for every layer, with caps on degrees; which of them are feasible."""

import itertools
import math
from dataclasses import dataclass

from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern


def log_in_degree(layer: int) -> int:
    """Return floor(log2 i) + 1 for layer i: the number of sources i - 2^k that are at least 0.

    >>> [log_in_degree(i) for i in (1, 2, 3, 4, 8)]
    [1, 2, 2, 3, 4]
    """
    return layer.bit_length()


FORMS = "log, total:E (as total:94) or layers:d1,d2,... (one in-degree a layer); ;max-in:K and ;max-out:K may follow"
MAX_DIGITS = 9  # of a cap; Python refuses to read more than 4300


@dataclass(frozen=True, slots=True)
class Budget:
    """What is fixed while connections move: their total number, or the in-degree of every layer.

    Args:
        depth: number of layers L.
        total: number of connections E, the chain's L included; or
        per_layer: in-degrees of layers 1..L, the chain connection included.
        max_in: largest number of inputs of a layer, or None.
        max_out: largest number of readers of a node, or None.

    Raises:
        InputError: total and per_layer are both given or both missing, or no pattern of that depth meets the budget.

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
        if any(cap < 1 for cap in self._caps.values()):
            raise InputError("a cap below 1 leaves no room for the chain: give a max-in and max-out of 1 or more")
        if self.total is not None:
            self._check_total(self.total)
        if self.per_layer is not None:
            object.__setattr__(self, "per_layer", tuple(self.per_layer))
            self._check_per_layer(self.per_layer)

    def _check_total(self, total: int) -> None:
        most = sum(map(len, self._fill())) if self.is_capped else self.depth * (self.depth + 1) // 2
        if not self.depth <= total <= most:
            raise InputError(
                f"budget total:{total} cannot be met with {self.depth} layers{self._describe_caps()}: the chain "
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
        for layer, degree in enumerate(per_layer, start=1):
            if degree > self.most_in:
                raise InputError(
                    f"layer {layer} cannot have {degree} inputs under max-in:{self.max_in}: give it 1 to {self.max_in}"
                )
        filled = [] if self.max_out is None else self._fill()  # without that cap all are feasible
        for layer, inputs in enumerate(filled, start=1):
            if len(inputs) < per_layer[layer - 1]:
                raise InputError(
                    f"layer {layer} cannot have {per_layer[layer - 1]} inputs{self._describe_caps()}, where the layers "
                    f"below leave so few readers to spare: give it 1 to {len(inputs)}, or give a larger max-out"
                )

    @property
    def _caps(self) -> dict[str, int]:
        caps = {"max-in": self.max_in, "max-out": self.max_out}
        return {name: cap for name, cap in caps.items() if cap is not None}

    @property
    def is_capped(self) -> bool:
        """Whether inputs or readers are capped further than the depth caps them."""
        return bool(self._caps)

    @property
    def most_in(self) -> int:
        """Largest number of inputs of a layer: the cap, or L."""
        return self.depth if self.max_in is None else self.max_in

    @property
    def most_out(self) -> int:
        """Largest number of readers of a node: the cap, or L."""
        return self.depth if self.max_out is None else self.max_out

    def _describe_caps(self) -> str:
        return " under " + " and ".join(f"{name}:{cap}" for name, cap in self._caps.items()) if self.is_capped else ""

    def _fill(self) -> list[list[int]]:
        """Return the inputs of layers 1..L, as many as the in-degrees and caps allow.

        Each layer takes the nodes with most readers to spare. Whatever a layer can read, all later layers can read too,
        so nothing is gained by sparing one node rather than another, and an even use wastes no distinct choice.
        """
        spare = [self.most_out - 1] * self.depth  # besides the chain's reader
        filled = []
        for layer in range(1, self.depth + 1):
            wanted = self.per_layer[layer - 1] if self.per_layer else min(layer, self.most_in)
            open_nodes = sorted((node for node in range(layer - 1) if spare[node]), key=lambda node: -spare[node])
            chosen = open_nodes[: wanted - 1]
            for node in chosen:
                spare[node] -= 1
            filled.append([*chosen, layer - 1])
        return filled

    def example(self) -> ConnectionPattern:
        """Return a pattern that spends this budget, from which a search may start.

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
    def _choices(self) -> list[tuple[int, int]]:
        """Numbers of (skips possible, skips chosen), for each layer or for all of them together."""
        if self.per_layer is not None:
            return [(layer, degree - 1) for layer, degree in enumerate(self.per_layer)]
        return [(self.depth * (self.depth - 1) // 2, self.n_connections - self.depth)]

    @property
    def n_patterns(self) -> int:
        """Number of patterns that meet this budget: each chooses its skips freely, the chain is given.

        Raises:
            InputError: with caps there is no closed form.
        """
        if self.is_capped:
            raise InputError(f"the patterns of budget {self} are not counted: caps leave no closed form")
        return math.prod(math.comb(n_possible, n_chosen) for n_possible, n_chosen in self._choices)

    def count_up_to(self, most: int) -> int:
        """Return the number of patterns without caps, or `most` if less: the number may have millions of digits.

        >>> Budget(4, total=6).count_up_to(10), Budget(4, total=6).count_up_to(100)
        (10, 15)
        """
        count = 1
        for n_possible, n_chosen in self._choices:
            # Up to half of what is possible, each skip that is chosen makes more choices.
            ways = 1
            for number in range(min(n_chosen, n_possible - n_chosen)):
                ways = ways * (n_possible - number) // (number + 1)
                if count * ways >= most:
                    return most
            count *= ways
        return min(count, most)

    def is_met_by(self, pattern: ConnectionPattern) -> bool:
        """Return whether the pattern spends exactly this budget."""
        if pattern.depth != self.depth:
            return False
        if self.max_in is not None and max(pattern.in_degrees) > self.max_in:
            return False
        if self.max_out is not None and max(pattern.out_degrees) > self.max_out:
            return False
        return pattern.in_degrees == self.per_layer if self.per_layer else pattern.n_connections == self.total

    def __str__(self) -> str:
        """Return the form of the command line: one text for one budget.

        >>> str(Budget(3, per_layer=(1, 2, 2))), str(Budget(3, per_layer=(1, 1, 2))), str(Budget(3, total=4))
        ('log', 'layers:1,1,2', 'total:4')
        """
        caps = "".join(f";{name}:{cap}" for name, cap in self._caps.items())
        if self.total is not None:
            return f"total:{self.total}{caps}"
        if self.per_layer == log_budget(self.depth).per_layer:
            return f"log{caps}"
        return "layers:" + ",".join(map(str, self.per_layer or ())) + caps


def log_budget(depth: int) -> Budget:
    """Return Log-DenseNet's budget: in-degree floor(log2 i) + 1 for each layer i."""
    return Budget(depth, per_layer=tuple(log_in_degree(layer) for layer in range(1, depth + 1)))


def parse_budget(text: str, depth: int) -> Budget:
    """Read a budget from its form on the command line.

    Raises:
        InputError: the text has none of the forms, or no pattern of that depth can meet the budget.

    >>> parse_budget("log", 4).per_layer
    (1, 2, 2, 3)
    >>> parse_budget("total:8", 4).n_connections
    8
    """
    first, *rest = text.strip().split(";")
    form, colon, numbers = first.partition(":")
    caps = _parse_caps(text, rest)
    if form not in ("total", "layers") and (form, colon) != ("log", ""):
        raise InputError(f"budget {text!r} is not of a known form: {FORMS}")
    try:
        total = int(numbers) if form == "total" else None
        per_layer = tuple(map(int, numbers.split(","))) if form == "layers" else None
    except ValueError:
        raise InputError(f"budget {text!r}: {numbers!r} is not made of whole numbers; the forms are {FORMS}") from None
    if form == "log":
        per_layer = log_budget(depth).per_layer
    return Budget(depth, total, per_layer, caps.get("max_in"), caps.get("max_out"))


def _parse_caps(text: str, parts: list[str]) -> dict[str, int]:
    caps: dict[str, int] = {}
    for part in parts:
        name, _, number = part.strip().partition(":")
        field = {"max-in": "max_in", "max-out": "max_out"}.get(name)
        is_number = number.removeprefix("-").isdecimal() and len(number) <= MAX_DIGITS
        if field is None or field in caps or not is_number:
            raise InputError(
                f"budget {text!r}: {part!r} is not max-in:K or max-out:K, each once; the forms are {FORMS}"
            )
        caps[field] = int(number)
    return caps
