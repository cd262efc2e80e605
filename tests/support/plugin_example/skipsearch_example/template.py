from search_spaces.pattern import ConnectionPattern


def every_third(depth: int) -> ConnectionPattern:
    """Let every third layer read the block's input too."""
    layers = range(1, depth + 1)
    return ConnectionPattern.from_sources({layer - 1, 0 if layer % 3 == 0 else layer - 1} for layer in layers)
