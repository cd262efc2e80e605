"""NN-Mass of a candidate, by hand, and that it does not see where connections lie."""

import pytest

from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import predict_nn_mass
from search_spaces.pattern import ConnectionPattern
from search_spaces.templates import find_template
from tests.support.patterns import random_pattern


def test_nn_mass_by_hand() -> None:
    """5 layers with 3 of the 10 possible skips, 4 channels a layer: 0.3 x 4 x 5 a block."""
    pattern = ConnectionPattern(5, ((0,), (0, 1), (1, 2), (3,), (0, 4)))
    assert predict_nn_mass(Candidate(pattern, NetworkConfig(layers=5, growth=4), 0)) == pytest.approx(6)
    two_blocks = NetworkConfig(layers=5, growth=8, blocks=2)
    assert predict_nn_mass(Candidate(pattern, two_blocks, 0)) == pytest.approx(2 * 0.3 * 8 * 5)
    assert predict_nn_mass(Candidate(find_template("chain").build(1), NetworkConfig(layers=1), 0)) == 0


@pytest.mark.parametrize("seed", range(20))
def test_nn_mass_is_blind_to_placement(seed: int) -> None:
    pattern = random_pattern(5 + seed, seed)
    network = NetworkConfig(layers=pattern.depth)
    masses = {predict_nn_mass(Candidate(each, network, 0)) for each in (pattern, pattern.reversed())}
    assert max(masses) == pytest.approx(min(masses))
