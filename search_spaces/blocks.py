"""Several blocks of a pattern: what the transition after each of them reads."""

from search_spaces.errors import InputError
from search_spaces.templates import find_template

POLICIES = ("log", "all", "last", "rule")


def transition_inputs(policy: str, depth: int, template: str | None = None) -> tuple[int, ...]:
    """The nodes of a block of `depth` layers that its transition, or the classifier after the last block, reads.

    Args:
        policy: `log`, the layers L+1-2^k, equally many for every pattern; `all`, nodes 0..L (DenseNet); `last`, layer
            L; `rule`, what layer L+1 of the named template would read.
        depth: number of layers L.
        template: the name of the pattern's template, needed by `rule` alone.

    Raises:
        InputError: an unknown policy, or `rule` for a pattern that no named rule gave.

    >>> transition_inputs("log", 12)
    (5, 9, 11, 12)
    >>> transition_inputs("rule", 12, "midpoint")
    (6, 10, 12)
    """
    match policy:
        case "log":
            return find_template("log").inputs_after(depth)
        case "all":
            return tuple(range(depth + 1))
        case "last":
            return (depth,)
        case "rule" if template is not None:
            return find_template(template).inputs_after(depth)
        case "rule":
            raise InputError(
                "transition policy `rule` reads what the next layer of a named template would read, and this pattern "
                "has no named template; use log, all or last"
            )
    raise InputError(f"there is no transition policy {policy!r}; there are {', '.join(POLICIES)}")
