"""Networks, densities and questions that tests of distribution functions share."""

import itertools
from math import erf, sqrt
from pathlib import Path

import numpy as np
import pytest

from arfj.certify.cdf import answers
from arfj.certify.cdf.densities import Axes, beta_axis
from arfj.certify.cdf.gaussians import Mixture
from arfj.certify.cdf.question import question
from arfj.certify.cdf.regions import Budget
from arfj.network import Network

DATA = Path(__file__).parents[2] / "shared" / "data" / "plt"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the networks in ../shared/data/plt are not there")
NORMAL = Mixture(np.ones(1), np.zeros((1, 1)), np.ones((1, 1, 1)))
IDENTITY = Network.from_arrays([[[1.0]]], [[0.0]], "linear")
RELU = Network.from_arrays([[[1.0]]], [[0.0]], "relu")


def phi(z):
    return 0.5 * (1 + erf(z / sqrt(2)))


def random_network(sizes, seed, rounded=False):
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=pair) * np.sqrt(2 / pair[0]) for pair in itertools.pairwise(sizes)]
    biases = [rng.normal(size=size) * 0.4 for size in sizes[1:]]
    if rounded:  # many neurons meet in one point then
        weights, biases = [np.round(2 * w) / 2 for w in weights], [np.round(2 * b) / 2 for b in biases]
    return Network.from_arrays(weights, biases, "linear")


def uniform(d, low=-1.0, high=1.0):
    return Axes(tuple(beta_axis(1, 1, low, high) for _ in range(d)))


def asked(network, density=None, low=-1.0, high=1.0):
    d = network.graph().inputs
    density = density or uniform(d, low, high)
    return question(network, np.zeros(d), range(d), density, np.full(d, low), np.full(d, high))


def bounds(network, y, density=None, column=0, low=-1.0, high=1.0, **options):
    this = asked(network, density, low, high)
    budget = Budget(options.pop("cells", 200_000))
    found = answers.one_output(this.pieces(budget), this, column, np.array(y), budget, 1e-9, **options)
    return found.bounds.lower, found.bounds.upper
