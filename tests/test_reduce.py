"""Reduced networks: the same function on the region, bounds that hold, fewer activations, and covered rounding."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import KINDS, badly_scaled, exact_values, points_of, random_graph, random_region

from arfj.bounds import crown_bounds, interval_bounds
from arfj.bounds import reduce as module
from arfj.bounds.backward import sites
from arfj.bounds.batched import PhaseProgram, activations
from arfj.bounds.reduce import reduce
from arfj.graph import Activation, Affine, Graph
from arfj.region import Region
from arfj.verify.margins import Margins
from arfj.verify.phases import PhaseSearch


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**20), tight=st.booleans(), scaled=st.booleans())
def test_same_function(kind, seed, tight, scaled):
    rng = np.random.default_rng(seed)
    graph = random_graph(seed, kind)
    graph = badly_scaled(graph, seed, 3) if scaled else graph
    region = random_region(graph.inputs, rng, balls=False)
    bounds = (crown_bounds if tight else interval_bounds)(graph, region)
    reduced = reduce(graph, bounds)
    points = points_of(region, rng, 40)
    whole, values, sizes = exact_values(graph, points), exact_values(reduced.graph, points), reduced.sizes(region)
    for value, size, (index, chosen) in zip(values, sizes, reduced.origins, strict=True):
        assert (np.abs(value - whole[index][:, chosen]) <= 1e-13 * (size + 1)).all(), "another function"
        assert (np.abs(value) <= size * (1 + 1e-12) + 1e-12).all(), "sizes are bounds of the values"
    for index, low, up, (site, chosen) in zip(
        activations(reduced.graph), reduced.bounds.lower, reduced.bounds.upper, reduced.neurons, strict=False
    ):
        before = whole[sites(graph)[site]][:, chosen]
        assert ((low <= before) & (before <= up)).all()
        if reduced.graph.nodes[index - 1].kind == "relu":
            assert ((low < 0) & (up > 0)).all(), "a stable neuron was kept"
    assert [len(low) for low in reduced.bounds.lower] == [reduced.graph.sizes[i] for i in sites(reduced.graph)]


def test_by_hand():
    """Of three ReLUs on [0, 1], one is on, one off and one open."""
    first = Affine((0,), (np.array([[1.0, 1.0, 1.0]]),), np.array([1.0, -2.0, -0.5]))
    last = Affine((2,), (np.array([[1.0], [5.0], [2.0]]),), np.array([0.25]))
    graph = Graph(1, (first, Activation(1, "relu"), last))
    region = Region.between([0.0], [1.0])
    reduced = reduce(graph, interval_bounds(graph, region))
    assert reduced.graph.sizes == (1, 1, 1, 1)
    assert [(site, chosen.tolist()) for site, chosen in reduced.neurons] == [(0, [2])]
    assert reduced.graph.nodes[-1].sources == (0, 2)
    assert reduced.graph([[0.0], [1.0]]).tolist() == graph([[0.0], [1.0]]).tolist() == [[1.25], [3.25]]
    assert reduced.sizes(region)[0].tolist() == [1]
    assert reduced.sizes(region)[-1] == pytest.approx([2 + 5 * 3 + 2 * 1.5 + 0.25], rel=1e-9)


def test_nothing_left():
    """All ReLUs off: a constant."""
    nodes = (
        Affine((0,), (np.ones((2, 3)),), np.full(3, -5.0)),
        Activation(1, "relu"),
        Affine((2,), (np.ones((3, 1)),), [2.0]),
    )
    graph = Graph(2, nodes)
    reduced = reduce(graph, interval_bounds(graph, Region.between([0.0, 0.0], [1.0, 1.0])))
    assert (len(reduced.graph.nodes), reduced.graph([[0.3, 0.4]]).tolist()) == (1, [[2.0]])


def test_too_large(monkeypatch):
    monkeypatch.setattr(module, "MOST_ENTRIES", 5)
    graph = random_graph(1, "convolution")
    assert reduce(graph, interval_bounds(graph, random_region(graph.inputs, np.random.default_rng(1), False))) is None


@pytest.mark.parametrize("scale", [1e5, 1e7, 1e9])
def test_large_weights_that_cancel(scale):
    """3 w - fl(3 w) is 0 in float64, but not in truth: the merged map has lost it, the margin has to cover it."""
    rng = np.random.default_rng(1)
    w = rng.normal(size=(16, 1)) * scale
    weight = np.hstack([w, 3 * w, rng.normal(size=(16, 2))])
    last = Affine((2,), (np.array([[3.0], [-1.0], [1e-9], [1e-9]]),), np.zeros(1))
    bias = np.array([100 * scale, 300 * scale, 0.1, 0.2])
    graph = Graph(16, (Affine((0,), (weight,), bias), Activation(1, "relu"), last))
    region = Region.between(np.full(16, -1.0), np.ones(16))
    reduced = reduce(graph, crown_bounds(graph, region))
    program = PhaseProgram(reduced.graph, reduced.bounds, region, least=reduced.sizes(region))
    searched = PhaseSearch(Margins(graph, np.zeros(1, dtype=int)), reduced, region).program
    proven = max(
        one(np.ones((1, 1)), np.zeros((1, one.neurons), dtype=np.int8)).bound[0] for one in (program, searched)
    )
    lost = [3 * Fraction(a) - Fraction(b) for a, b in zip(weight[:, 0].tolist(), weight[:, 1].tolist(), strict=True)]
    x = np.array([[-1.0 if part > 0 else 1.0 for part in lost]])
    assert proven <= exact_values(graph, x)[-1][0, 0]
    assert proven <= -float(sum(map(abs, lost))) + 1e-7  # the two open neurons add less than that
