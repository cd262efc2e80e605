"""Search as one would write it by hand with Optuna and PyTorch: as many networks of the same cost as `search` trains.

    python scripts/hand_written.py [--trainings N] [--processes N]

Nothing of skipsearch is in it. Layers read as many nodes as in Log-DenseNet; Optuna's TPE chooses which. With several
processes, each with one thread, they share a study in a file, as Optuna's manual has it.
"""

import argparse
import math
import multiprocessing
import tempfile
from functools import partial
from pathlib import Path

import optuna
import torch
from optuna.study import MaxTrialsCallback
from optuna.trial import FrozenTrial, TrialState
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

LAYERS, GROWTH, CLASSES = 24, 4, 10
EPOCHS, BATCH, RATE, TRAINING_IMAGES, TEST_IMAGES = 9, 16, 0.15, 300, 360


class Network(nn.Module):
    """A stem, layers of BN-ReLU-conv3x3 that read concatenated nodes, and a classifier of some nodes' means."""

    def __init__(self, sources: list[list[int]], read: list[int]) -> None:
        super().__init__()
        self.sources, self.read = sources, read
        self.stem = nn.Conv2d(1, GROWTH, 3, padding=1, bias=False)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(GROWTH * len(nodes)),
                nn.ReLU(inplace=True),
                nn.Conv2d(GROWTH * len(nodes), GROWTH, 3, padding=1, bias=False),
            )
            for nodes in sources
        )
        self.head = nn.Sequential(nn.BatchNorm2d(GROWTH * len(read)), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(GROWTH * len(read), CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        nodes = [self.stem(images)]
        for layer, sources in zip(self.layers, self.sources, strict=True):
            nodes.append(layer(torch.cat([nodes[node] for node in sources], dim=1)))
        logits: Tensor = self.classifier(
            self.head(torch.cat([nodes[node] for node in self.read], dim=1)).mean(dim=(2, 3))
        )
        return logits


def list_powers(layer: int) -> list[int]:
    """Return the nodes that a layer of Log-DenseNet reads: 1, 2, 4, ... before it."""
    return [layer - 2**power for power in range(layer.bit_length())]


def suggest_sources(trial: optuna.Trial) -> list[list[int]]:
    """Choose what each layer reads: the node before it, and as many others as in Log-DenseNet."""
    sources = []
    for layer in range(1, LAYERS + 1):
        others = list(range(layer - 1))
        places = range(1, len(list_powers(layer)))
        chosen = [others.pop(trial.suggest_int(f"{layer}.{place}", 0, len(others) - 1)) for place in places]
        sources.append([*sorted(chosen), layer - 1])
    return sources


def load_data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return images and labels to train on, and those for validation; the test's are left out."""
    digits = load_digits()
    images, labels = digits.images[:, None] / 16, digits.target
    images, _, labels, _ = train_test_split(images, labels, test_size=TEST_IMAGES, stratify=labels, random_state=0)
    images, own_images, labels, own_labels = train_test_split(
        images, labels, test_size=len(labels) // 3, stratify=labels, random_state=0
    )
    images, _, labels, _ = train_test_split(images, labels, train_size=TRAINING_IMAGES, stratify=labels, random_state=0)
    mean, deviation = images.mean(), images.std()
    return (
        torch.tensor((images - mean) / deviation, dtype=torch.float32),
        torch.tensor(labels),
        torch.tensor((own_images - mean) / deviation, dtype=torch.float32),
        torch.tensor(own_labels),
    )


class Objective:
    """Trains a network and returns its validation loss."""

    def __init__(self) -> None:
        self.data = load_data()

    def __call__(self, trial: optuna.Trial) -> float:
        images, labels, own_images, own_labels = self.data
        torch.manual_seed(trial.number)
        network = Network(suggest_sources(trial), list_powers(LAYERS + 1))
        optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-4, nesterov=True)
        n_steps = EPOCHS * (len(labels) // BATCH)
        n_warm_up = n_steps // 10
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: (
                (step + 1) / n_warm_up
                if step < n_warm_up
                else (1 + math.cos(math.pi * (step - n_warm_up) / (n_steps - n_warm_up))) / 2
            ),
        )
        for _ in range(EPOCHS):
            for batch in torch.split(torch.randperm(len(labels)), BATCH)[: len(labels) // BATCH]:
                optimizer.zero_grad()
                F.cross_entropy(network(images[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
        network.eval()
        with torch.no_grad():
            logits = network(own_images)
        trial.set_user_attr("accuracy", float((logits.argmax(dim=1) == own_labels).float().mean()))
        return float(F.cross_entropy(logits, own_labels))


def say(study: optuna.Study, trial: FrozenTrial, n_trainings: int) -> None:
    """Print how a training ended."""
    n_done = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    print(f"{n_done}/{n_trainings} loss {trial.value:.4f}, accuracy {trial.user_attrs['accuracy']:.4f}", flush=True)  # noqa: T201


def search(storage: str | None, seed: int, n_trainings: int) -> optuna.Study:
    """Train until the study has so many networks."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="patterns",
        storage=storage,
        sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=storage is not None),
        load_if_exists=True,
    )
    # The trial that is just ending, and those of the other processes, count: none is trained in vain.
    most = MaxTrialsCallback(n_trainings, states=(TrialState.COMPLETE, TrialState.RUNNING))
    study.optimize(Objective(), n_trials=n_trainings, callbacks=[partial(say, n_trainings=n_trainings), most])
    return study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", type=int, default=60, metavar="N", help="networks to train; default 60")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="how many at a time; default 1")
    arguments = parser.parse_args()
    n_processes, n_trainings = arguments.processes, arguments.trainings
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{Path(folder)}/study.db" if n_processes > 1 else None
        if storage is not None:
            optuna.create_study(study_name="patterns", storage=storage)  # before two processes make it at once
        context = multiprocessing.get_context("spawn")
        others = [context.Process(target=search, args=(storage, seed, n_trainings)) for seed in range(1, n_processes)]
        for process in others:
            process.start()
        study = search(storage, 0, n_trainings)
        for process in others:
            process.join()
        print(f"{len(study.trials)} trainings, best loss {study.best_value:.4f}")  # noqa: T201


if __name__ == "__main__":
    main()
