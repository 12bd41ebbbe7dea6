"""Moments, networks and forms that tests of worst-case CVaR share."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from arfj.certify.cvar import Moments
from arfj.network import Network

PLT = Path(__file__).parents[2] / "shared" / "data" / "plt"
SEEDS = st.integers(0, 2**32 - 1)
LOOP = Network.from_arrays([[[-1, 1, 0], [2, -2, 0.0]], [[1], [-1], [0.0]]], [[0, 0, 0], [0]], "linear")
"""K x for K = (-1, 2), by two ReLUs and an idle one."""


def random_moments(rng, size, rank=None):
    root = rng.normal(size=(size, size if rank is None else rank)) / np.sqrt(size)
    return Moments(rng.normal(size=size), root @ root.T)


def random_network(rng, sizes, output="linear"):
    weights = [rng.normal(size=pair) / np.sqrt(pair[0]) * 1.5 for pair in pairwise(sizes)]
    return Network.from_arrays(weights, [rng.normal(size=size) * 0.3 for size in sizes[1:]], output)


def random_form(rng, size):
    form = rng.normal(size=(size, size))
    return form + form.T


def quadratic(form, points):
    lifted_points = np.column_stack([points, np.ones(len(points))])
    return np.einsum("ki,ij,kj->k", lifted_points, form, lifted_points)
