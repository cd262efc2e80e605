"""Compare the trainings of two checkouts of skipsearch: how fast, and whether they end with the same numbers.

python scripts/two_versions.py OTHER [--rounds 12] [--settings '{"growth": 8}']

OTHER is the folder of the other checkout. Both train the same candidates of a search with these settings, in turn, one
single-thread process each. A ratio is OTHER's seconds by this one's, of one round; the first round is dropped.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, cast

import torch
from shared import ROOT, format_range

from nas.data.readers import load_data
from nas.model.candidate import Candidate
from nas.settings.search import SearchConfig
from nas.workers.jobs import Job
from nas.workers.trainer import Trainer
from search_spaces.budget import parse_budget
from search_spaces.sampling.draw import sample_uniform
from search_spaces.seeds import derive_generator

N_SEEDS = 3


def main() -> None:
    """Measure, or in a process of one checkout train what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, nargs="?", help="folder of the other checkout")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--settings", default="{}", help="settings of the search as JSON, other than the defaults")
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    if arguments.other is None:
        answer(settings)
        return
    processes = [start(folder.absolute(), settings) for folder in (arguments.other, ROOT)]
    rounds = []
    for number in range(arguments.rounds):
        order = (0, 1) if number % 2 else (1, 0)
        answers = {place: ask(processes[place], number) for place in order}
        rounds.append((answers[0], answers[1]))
    n_same = sum(other["outcome"] == own["outcome"] for other, own in rounds)
    print(f"{n_same} of {len(rounds)} trainings end with the same numbers to the last digit")  # noqa: T201
    for kind in ("cpu", "wall"):
        ratios = [other[kind] / own[kind] for other, own in rounds[1:]]
        seconds = [format_range((each[place][kind] for each in rounds[1:]), 3) for place in (0, 1)]
        print(f"{kind} time: {format_range(ratios, 2)} times as fast, {seconds[0]} s by {seconds[1]} s")  # noqa: T201
    for process in processes:
        cast(IO[str], process.stdin).close()
        process.wait()


def start(folder: Path, settings: dict[str, Any]) -> "subprocess.Popen[str]":
    """Start a process that trains by the code of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--settings", json.dumps(settings)]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def ask(process: "subprocess.Popen[str]", number: int) -> dict[str, Any]:
    """Let a process train a candidate; return its seconds and its outcome."""
    pipe, answers = cast(IO[str], process.stdin), cast(IO[str], process.stdout)
    pipe.write(f"{number}\n")
    pipe.flush()
    return dict(json.loads(answers.readline()))


def answer(settings: dict[str, Any]) -> None:
    """Train the candidates whose numbers come as lines, and print what became of each."""
    torch.set_num_threads(1)
    data = load_data("digits", None)
    config = SearchConfig(device="cpu", engine="fused", **settings)
    network = config.network(data.n_classes, data.images.shape[1:])
    budget = parse_budget("log", config.layers)
    for line in sys.stdin:
        number = int(line)
        pattern = sample_uniform(budget, derive_generator("two versions", number))
        cpu, wall = time.process_time(), time.perf_counter()
        outcome = Trainer(data, config).train(Job(number, Candidate(pattern, network, number % N_SEEDS)))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        numbers = (outcome.metrics, outcome.curve, outcome.strengths, outcome.error)
        digest = hashlib.sha256(repr(numbers).encode()).hexdigest()
        print(json.dumps({"cpu": cpu, "wall": wall, "outcome": digest}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
