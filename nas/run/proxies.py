"""The zero-cost proxies of a run's candidates, each measured once."""

from dataclasses import replace

from nas.data.data_set import DataSet
from nas.data.splits import split_data
from nas.model.candidate import Candidate
from nas.model.cost import predict_activation_bytes
from nas.model.proxies import Batch, measure_proxies
from nas.settings.machine import measure_memory
from nas.settings.search import SearchConfig
from nas.training.train import first_batch
from search_spaces.errors import InputError

FLOAT64_SIZE = 2  # over float32's, in which activations are predicted


class ProxyRecorder:
    """Measures candidates by the batch that their training begins with, and remembers what it has measured.

    The regimes of a study share a pattern's proxies: its initial weights and first batch are the same in all.

    Args:
        data: the run's data set.
        config: the run's settings, for the sizes of the training set and of the batch.
    """

    def __init__(self, data: DataSet, config: SearchConfig) -> None:
        self._data = data
        self._config = config
        self._batches: dict[int, Batch] = {}  # by seed
        self._measured: dict[Candidate, dict[str, float | None]] = {}  # by the candidate without its training

    def measure(self, candidate: Candidate) -> dict[str, float | None]:
        """Return a candidate's proxies by name, with its own seed; None where one is not finite.

        Raises:
            InputError: the data cannot be split, or the network does not fit into this machine's memory.
        """
        untrained = replace(candidate, training=None)
        if untrained not in self._measured:
            batch = self._batch(candidate.seed)
            _check_memory(candidate, len(batch.labels))
            self._measured[untrained] = measure_proxies(candidate, batch, candidate.seed)
        return self._measured[untrained]

    def _batch(self, seed: int) -> Batch:
        if seed not in self._batches:
            split = split_data(self._data, seed, self._config.train_examples, "cpu", self._config.validation_examples)
            self._batches[seed] = first_batch(split, self._config.batch_size, seed)
        return self._batches[seed]


def _check_memory(candidate: Candidate, batch_size: int) -> None:
    needed = FLOAT64_SIZE * batch_size * predict_activation_bytes(candidate, memory_efficient=False)
    memory = measure_memory("cpu")
    if memory is not None and needed > memory:
        raise InputError(
            f"the proxies of a network of {candidate.network.pattern_depth} layers need {needed / 1e9:,.1f} GB or more "
            f"for a batch of {batch_size} images, and this machine has {memory / 1e9:,.1f} GB: give a smaller "
            "--batch-size, --growth or --layers, or drop --proxies"
        )
