"""What the study certifies: the published controller, a digits network that is committed, and numbers to stand beside
ours.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arfj.certify.cvar import Moments
from arfj.errors import DataError
from arfj.files import load_arrays, save_arrays
from arfj.network import Floats, Network

HERE = Path(__file__).parent
PLT = HERE.parents[2] / "shared" / "data" / "plt" / "plt_iris.npz"
CLASS = 6
STATE, CONTROL, GAIN = np.array([[0.2, 0.0], [0.1, 0.3]]), np.array([[-1.0], [0.0]]), np.array([[-1.0, 2.0]])
CONTROLLER = Network.from_arrays(
    [np.array([[-1.0, 1.0, 0.0], [2.0, -2.0, 0.0]]), np.array([[1.0], [-1.0], [0.0]])],
    [np.zeros(3), np.zeros(1)],
    "linear",
)
"""u = K x by two ReLUs: W0 = [[-1, 2], [1, -2], [0, 0]], W1 = (1, -1, 0), no biases."""
SHAPE, DETERMINANT, TRUE_DETERMINANT, JOINT_DETERMINANT = (20.8422, -0.9698, 0.1471), 2.12530, 0.3136, 1.6056
"""E and det E in units of r and r^2: with P fixed, exact, and with P found jointly."""
IRIS = {
    "0/1": {"diagonal": -6.410586, "pairs": -6.414139, "products": -6.599537},
    "1/0": {"diagonal": 0.819037, "pairs": -0.226770, "products": -2.510700},
    "1/2": {"diagonal": 2.502439, "pairs": 2.264386, "products": 1.044845},
}
"""Bounds at eps 0.2 by two other semidefinite solvers, by true class and rival; up to 5e-4, with cuts 3e-3."""


@dataclass(frozen=True, eq=False)
class Digits:
    """64-32-10 on scikit-learn's digits, pixels divided by 16; the moments are those of class 6 among the training
    images.
    """

    network: Network
    moments: Moments
    accuracy: float


@functools.cache
def digits() -> Digits:
    """The committed network."""
    arrays = {name: np.asarray(array, dtype=np.float64) for name, array in load_arrays(HERE / "digits.npz").items()}
    network = Network.from_arrays([arrays["W0"], arrays["W1"]], [arrays["b0"], arrays["b1"]], "linear")
    return Digits(network, Moments(arrays["mean"], arrays["covariance"]), float(arrays["accuracy"]))


def make_digits(path: Path) -> float:
    """Train it with scikit-learn (dev extra) on three quarters of the images; the accuracy on the others."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = order[:1347], order[1347:]
    pixels = images / 16.0
    model = MLPClassifier((32,), random_state=0, max_iter=1000, alpha=1e-4).fit(pixels[train], labels[train])
    moments = Moments.of(pixels[train][labels[train] == CLASS])
    accuracy = float(model.score(pixels[test], labels[test]))
    arrays = {"W0": model.coefs_[0], "W1": model.coefs_[1], "b0": model.intercepts_[0], "b1": model.intercepts_[1]}
    save_arrays(path, arrays | {"mean": moments.mean, "covariance": moments.covariance, "accuracy": np.array(accuracy)})
    return accuracy


def iris() -> tuple[Network, Sequence[Floats]]:
    """The 4-5-5-3 network, and its test inputs class by class.

    Raises:
        DataError: the file is not there.
    """
    if not PLT.is_file():
        raise DataError(f"{PLT} is not there; iris rows are made where ../shared/data/plt lies beside the checkout")
    arrays = {name: np.asarray(array) for name, array in load_arrays(PLT).items() if name.startswith("iris__")}
    weights = [arrays[f"iris__weights_{k}"].T for k in range(3)]
    network = Network.from_arrays(weights, [arrays[f"iris__bias_{k}"] for k in range(3)], "linear")
    inputs, labels = arrays["iris__X_test"].astype(np.float64), arrays["iris__y_test"]
    return network, [inputs[labels == c] for c in range(3)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the digits network again.")
    parser.add_argument("--output", type=Path, default=HERE / "digits.npz")
    print(f"accuracy {make_digits(parser.parse_args().output):.4f}", file=sys.stderr)
