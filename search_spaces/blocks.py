"""Several blocks of a pattern, what passes between them, distances through transitions."""

from dataclasses import dataclass

import networkx as nx

from search_spaces.errors import InputError
from search_spaces.pattern import ConnectionPattern
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


@dataclass(frozen=True, slots=True)
class GlobalDistance:
    """Backprop distances through a whole network of blocks, in hops.

    Args:
        mean, max: over all pairs of nodes 0..L of all blocks, the later one first.
        from_loss_mean: mean over all these nodes of the distance from the classifier.
    """

    mean: float
    max: int
    from_loss_mean: float


def global_distance(pattern: ConnectionPattern, n_blocks: int, read: tuple[int, ...]) -> GlobalDistance:
    """Distances through n_blocks blocks of a pattern, by the closed formula; networkx gives those within a block.

    A transition, and the classifier like it, is one hop and the only way between blocks: for blocks b > a,
    BD((b, i), (a, j)) = BD(i, 0) + (b - a - 1) out(0) + out(j), with out(j) = 1 + min over the layers t read of
    BD(t, j). A transition's output is the next block's node 0, with no further hop.

    Args:
        pattern: of every block.
        n_blocks: at least 1.
        read: the nodes that each transition and the classifier read, layer L among them.

    Raises:
        InputError: layer L is not read, so that some distances would be infinite.

    >>> global_distance(ConnectionPattern(1, ((0,),)), 2, (1,))
    GlobalDistance(mean=1.6666666666666667, max=3, from_loss_mean=2.5)
    """
    if pattern.depth not in read:
        raise InputError(f"a transition that reads {read} and not layer {pattern.depth} cuts some layers off the loss")
    n_nodes = pattern.depth + 1
    rows = dict(nx.all_pairs_shortest_path_length(pattern.gradient_graph()))
    out = [1 + min(rows[t][j] for t in read if t >= j) for j in range(n_nodes)]
    within = [rows[i][j] for i in range(n_nodes) for j in range(i)]
    to_input = [rows[i][0] for i in range(n_nodes)]
    total, largest = n_blocks * sum(within), max(within)
    from_loss = 0
    for between in range(n_blocks):  # blocks that lie between: n_blocks - 1 - between pairs of blocks have so many
        n_pairs = n_blocks - 1 - between
        crossing = n_nodes * (sum(to_input) + n_nodes * between * out[0] + sum(out))
        total += n_pairs * crossing
        if n_pairs:
            largest = max(largest, max(to_input) + between * out[0] + max(out))
        from_loss += n_nodes * between * out[0] + sum(out)
    n_all = n_blocks * n_nodes
    return GlobalDistance(total / (n_all * (n_all - 1) / 2), largest, from_loss / n_all)
