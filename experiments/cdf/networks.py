"""The networks of the study: trained here in NumPy, or of the piecewise-linear-transformation repository."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from arfj.certify.cdf.gaussians import Mixture
from arfj.certify.cdf.question import Question, question
from arfj.errors import DataError
from arfj.files import load_arrays
from arfj.network import Floats, Network

DATA = Path(__file__).parents[3] / "shared" / "data" / "plt" / "plt_iris.npz"
STEPS, RATE = 500, 0.01


def sklearn_data(name: str) -> tuple[Floats, Floats]:
    """Inputs and labels of "iris" or "diabetes".

    Raises:
        DataError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError:
        raise DataError("the data sets of this study come with scikit-learn; pip install scikit-learn") from None
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)


@functools.cache
def iris_weights(kind: str) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
    """Weights and biases of 2-12-12-12-3 on the sepal features, scaled to [0, 1]; `kind` is relu or tanh."""
    x, y = sklearn_data("iris")
    x = x[:, :2]
    x = (x - x.min(axis=0)) / (x.max(axis=0) - x.min(axis=0))
    return trained(x, np.eye(3)[y.astype(int)], (2, 12, 12, 12, 3), kind, classes=True)


def diabetes() -> tuple[Network, Floats]:
    """The network 10-32-16-8-1, ReLU, on standardised targets, and the inputs."""
    x, y = sklearn_data("diabetes")
    target = ((y - y.mean()) / y.std())[:, None]
    weights, biases = trained(x / x.std(axis=0), target, (10, 32, 16, 8, 1), "relu", classes=False, steps=1000)
    return Network.from_arrays(weights, biases, "linear"), x / x.std(axis=0)


def random_network(sizes: Sequence[int], seed: int) -> Network:
    """ReLU layers with normal weights of variance 2 / inputs, and biases of deviation 0.4."""
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=pair) * np.sqrt(2 / pair[0]) for pair in itertools.pairwise(sizes)]
    return Network.from_arrays(weights, [rng.normal(size=size) * 0.4 for size in sizes[1:]], "linear")


def trained(
    x: Floats, target: Floats, sizes: Sequence[int], kind: str, classes: bool, steps: int = STEPS
) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
    """Full-batch Adam on cross-entropy (`classes`) or squared error, from seed 0."""
    rng = np.random.default_rng(0)
    parameters = [rng.normal(size=pair) * np.sqrt(2 / pair[0]) for pair in itertools.pairwise(sizes)]
    parameters += [np.zeros(size) for size in sizes[1:]]
    first, second = ([np.zeros_like(p) for p in parameters] for _ in range(2))
    for step in range(1, steps + 1):
        for k, slope in enumerate(_gradient(parameters, x, target, kind, classes)):
            first[k] = 0.9 * first[k] + 0.1 * slope
            second[k] = 0.999 * second[k] + 0.001 * slope**2
            move = first[k] / (1 - 0.9**step) / (np.sqrt(second[k] / (1 - 0.999**step)) + 1e-8)
            parameters[k] = parameters[k] - RATE * move
    half = len(parameters) // 2
    return tuple(parameters[:half]), tuple(parameters[half:])


def _gradient(parameters: Sequence[Floats], x: Floats, target: Floats, kind: str, classes: bool) -> list[Floats]:
    half = len(parameters) // 2
    values = [x]
    for k in range(half):
        value = values[-1] @ parameters[k] + parameters[half + k]
        values.append(value if k == half - 1 else np.tanh(value) if kind == "tanh" else np.maximum(value, 0.0))
    output = values[-1]
    if classes:
        powers = np.exp(output - output.max(axis=1, keepdims=True))
        output = powers / powers.sum(axis=1, keepdims=True)
    back = (output - target) / len(x)
    slopes: list[Floats] = [np.zeros(0)] * (2 * half)
    for k in range(half - 1, -1, -1):
        slopes[k], slopes[half + k] = values[k].T @ back, back.sum(axis=0)
        back = back @ parameters[k].T * ((1 - values[k] ** 2) if kind == "tanh" else values[k] > 0)
    return slopes


@functools.cache
def repository() -> dict[str, np.ndarray]:
    """The arrays of the repository, without the prefix of its data set.

    Raises:
        ArfjError: the file is missing.
    """
    return {key.removeprefix("iris__"): value for key, value in load_arrays(DATA).items()}


def instances(percent: int) -> list[tuple[int, int]]:
    """Places and numbers of free inputs of the instances with so many deleted cells."""
    return list(enumerate(int(count) for count in repository()[f"{percent}__n0"]))


def instance(percent: int, place: int) -> Question:
    """An instance with its missing features as a mixture, on the box of the repository."""
    data = repository()
    network = Network.from_arrays(
        [data[f"weights_{k}"].T for k in range(3)], [data[f"bias_{k}"] for k in range(3)], "linear"
    )
    d = int(data[f"{percent}__n0"][place])
    centers = data[f"{percent}__centers"][place][:, :d]
    mixture = Mixture(np.full(len(centers), 1 / len(centers)), centers, data[f"{percent}__cov"][place][None, :d, :d])
    row = np.nan_to_num(data[f"{percent}__X_missing"][data[f"{percent}__ids"][place]])
    columns = [int(column) for column in data[f"{percent}__cols"][place][:d]]
    low, high = (data[f"{percent}__box_{side}"][place][:d] for side in ("lo", "hi"))
    return question(network, row, columns, mixture, low, high)
