"""The script that a search is compared with trains networks of the same cost, on as many images."""

import sys

import optuna
import torch

from nas.model.candidate import Candidate
from nas.model.cost import predict_cost
from nas.settings.search import SearchConfig
from search_spaces.templates import TEMPLATES
from tests.support.small import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import hand_written

sys.path.pop(0)
CONFIG = SearchConfig()


def test_its_networks_cost_what_those_of_a_search_do() -> None:
    candidate = Candidate(TEMPLATES["log"].build(CONFIG.layers), CONFIG.network(10, (1, 8, 8)), seed=0)
    for seed in range(3):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
        sources = hand_written.suggest_sources(study.ask())
        assert [len(set(nodes)) for nodes in sources] == [len(nodes) for nodes in candidate.pattern.sources]
        assert all(max(nodes) == layer - 1 for layer, nodes in enumerate(sources, start=1))
        network = hand_written.Network(sources, hand_written.list_powers(CONFIG.layers + 1))
        assert sum(parameter.numel() for parameter in network.parameters()) == predict_cost(candidate).params
        assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_it_trains_as_long_on_as_many_images() -> None:
    assert (CONFIG.epochs, CONFIG.batch_size) == (hand_written.EPOCHS, hand_written.BATCH)
    images, labels, own_images, own_labels = hand_written.load_data()
    assert images.shape == (300, 1, 8, 8)
    assert own_images.shape == (479, 1, 8, 8)
    assert (len(labels), len(own_labels)) == (300, 479)
