"""Many networks, one process per core through joblib: no backend is named, so a cluster's own can be put around it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
from numpy.typing import NDArray

from arfj.data import FashionMnist, load_fashion_mnist, scaled
from arfj.network import Network, load_dense
from training.settings import Settings
from training.trainer import train


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a seed gave.

    Attributes:
        seed: of the initial weights and of the order of the images.
        network: the trained network, whether kept or not.
        accuracy: the share of the test images that it classifies correctly.
        reason: why it is discarded; empty if it is kept.
    """

    seed: int
    network: Network
    accuracy: float
    reason: str

    @property
    def kept(self) -> bool:
        """Whether the accuracy is in the range asked for."""
        return not self.reason


def fresh_networks(
    seeds: Iterable[int], settings: Settings | None = None, n_jobs: int = 1, data: FashionMnist | None = None
) -> Iterator[Network | None]:
    """Train a network for each seed, lazily and in order; None stands for one discarded for its accuracy.

    Made for `arfj.ensemble.outer_samples`, which stops asking when it has enough.

    Raises:
        ArfjError: TensorFlow or the data set is missing.
    """
    for outcome in outcomes(seeds, settings or Settings(), n_jobs, data):
        yield outcome.network if outcome.kept else None


def outcomes(
    seeds: Iterable[int],
    settings: Settings,
    n_jobs: int = 1,
    data: FashionMnist | None = None,
    cache: Path | None = None,
) -> Iterator[Outcome]:
    """Train a network for each seed, lazily and in order, `n_jobs` at a time.

    Args:
        seeds: may be endless; at most `n_jobs - 1` more are trained than are asked for.
        settings: the method.
        n_jobs: processes, -1 for one a core; the networks do not depend on it.
        data: the data set; by default it is looked for on this machine.
        cache: a folder for finished networks, from which an interrupted run resumes.

    Raises:
        ArfjError: TensorFlow or the data set is missing.
    """
    images = load_fashion_mnist() if data is None else data
    batch = joblib.effective_n_jobs(n_jobs)
    waiting = iter(seeds)
    with joblib.Parallel(n_jobs=n_jobs) as parallel:
        # Trainings take equally long, so waiting for a whole batch costs little; it keeps the iterator lazy.
        while chunk := list(itertools.islice(waiting, batch)):
            tasks = (joblib.delayed(_resumed)(seed, settings, images, cache) for seed in chunk)
            for seed, network in zip(chunk, parallel(tasks), strict=True):
                yield judged(seed, network, settings, images)


def _resumed(seed: int, settings: Settings, data: FashionMnist, cache: Path | None) -> Network:
    if cache is None:
        return train(seed, settings, data)
    path = cache / f"{settings.digest()}-{seed}.npz"
    if not path.exists():
        train(seed, settings, data).save(path)
    return load_dense(path)


def judged(seed: int, network: Network, settings: Settings, data: FashionMnist) -> Outcome:
    """The outcome of a trained network: its test accuracy, and the reason if it is not to be kept."""
    outputs = network(scaled(data.test_images))
    accuracy = accuracy_of(outputs.argmax(axis=1), data)
    reason = ""
    if not settings.least <= accuracy <= settings.most:
        reason = f"accuracy {accuracy:.4f} is outside [{settings.least}, {settings.most}]"
        if silent := silence(outputs.argmax(axis=1), network.classes):
            reason += f"; {silent}"
    return Outcome(seed, network, accuracy, reason)


def silence(given: NDArray[np.intp], classes: int) -> str:
    """Which of the classes 0..`classes` - 1 are never given, in words; empty if none."""
    silent = np.flatnonzero(np.bincount(given, minlength=classes) == 0)
    return f"never gives class {', '.join(map(str, silent))} (a dead output unit)" if silent.size else ""


def accuracy_of(classes: NDArray[np.intp], data: FashionMnist) -> float:
    """The share of the test images that get their class."""
    return float((classes == data.test_labels).mean())
