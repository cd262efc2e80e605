from search_spaces.pattern import ConnectionPattern


def n_twos(pattern: ConnectionPattern, reads: tuple[int, ...]) -> float:
    """Number of layers with two inputs."""
    return pattern.in_degrees.count(2)
