"""Piecewise linear bounds of activations and networks: valid everywhere, nested, and quadratic in the segments."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arfj.certify.cdf import answers
from arfj.certify.cdf.activations import (
    SHAPES,
    Maximum,
    Pointwise,
    absolute,
    bounding_network,
    envelope,
    evaluate,
    product,
    softmax,
    square,
)
from arfj.certify.cdf.densities import Axes, beta_axis
from arfj.certify.cdf.question import Question, question
from arfj.certify.cdf.regions import Budget
from arfj.errors import UsageError
from arfj.graph import Activation, Affine, Graph


@given(st.sampled_from(sorted(SHAPES)), st.floats(-6, 5), st.floats(0.001, 8), st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_envelopes_enclose_the_function(kind, low, width, segments):
    high = low + width
    below, above = envelope(kind, low, high, segments)
    t = np.linspace(low, high, 3001)
    true = SHAPES[kind].value(t)
    assert (below(t) <= true).all()
    assert (above(t) >= true).all()
    assert (np.diff(below(t)) >= -1e-12).all()
    finer = envelope(kind, low, high, 2 * segments)
    slack = 1e-9 * (1 + np.abs(true).max())
    assert (finer[0](t) >= below(t) - slack).all()
    assert (finer[1](t) <= above(t) + slack).all()


@pytest.mark.parametrize("kind", ["tanh", "sigmoid", "elu", "softplus"])
@pytest.mark.parametrize(("low", "high"), [(-1.7e15, 7.8e15), (-5e12, 5e12), (-1e30, 1e15), (-3e14, 2.0)])
def test_intervals_in_which_an_activation_is_a_step_are_enclosed(kind, low, high):
    """Knots that are too near to each other to be told apart may have values that are not."""
    t = np.concatenate([np.linspace(low, high, 101), np.clip(np.linspace(-20.0, 20.0, 101), low, high)])
    for segments in (1, 2, 8):
        below, above = envelope(kind, low, high, segments)
        assert (below(t) <= SHAPES[kind].value(t)).all()
        assert (above(t) >= SHAPES[kind].value(t)).all()


def tanh_layers(seed, sizes=(2, 6, 5, 2), kind="tanh"):
    rng = np.random.default_rng(seed)
    layers = []
    for one, two in itertools.pairwise(sizes):
        layers.append(Affine((len(layers),), (rng.normal(size=(one, two)),), rng.normal(size=two) * 0.3))
        if two != sizes[-1]:
            layers.append(Pointwise(len(layers), kind))
    return layers


def gap(layers, segments, x, low=-1.0, high=1.0):
    d = x.shape[1]
    graph = bounding_network(layers, np.full(d, low), np.full(d, high), segments)
    found, true = graph(x), evaluate(layers, x)[-1]
    size = true.shape[1]
    assert (found[:, :size] <= true).all()
    assert (true <= found[:, size:]).all()
    return found[:, :size], found[:, size:]


@pytest.mark.parametrize("kind", ["tanh", "sigmoid", "elu"])
def test_networks_are_enclosed_nested_and_quadratic(kind):
    layers = tanh_layers(1, kind=kind)
    x = np.random.default_rng(0).uniform(-1, 1, (2000, 2))
    found = [gap(layers, segments, x) for segments in (5, 10, 20, 40)]
    for (low, high), (lower, higher) in itertools.pairwise(found):
        assert (lower >= low - 1e-8).all()
        assert (higher <= high + 1e-8).all()
    widths = [(high - low).mean() for low, high in found]
    for one, two in itertools.pairwise(widths):
        assert 2.8 < one / two < 5.5


@pytest.mark.parametrize("seed", range(3))
def test_functions_of_several_arguments(seed):
    x = np.random.default_rng(seed).uniform(-1, 1, (1000, 4))
    for add, true in (
        (lambda layers: square(layers, 0, 4), x**2),
        (lambda layers: absolute(layers, 0, 4), np.abs(x)),
        (lambda layers: product(layers, 0, 2), x[:, :2] * x[:, 2:]),
        (lambda layers: softmax(layers, 0, 4), np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)),
        (lambda layers: layers.append(Maximum(0, (0, 1), (2, 3))), np.maximum(x[:, :2], x[:, 2:])),
    ):
        layers = []
        add(layers)
        assert evaluate(layers, x)[-1] == pytest.approx(true, abs=1e-12)
        low, high = gap(layers, 10, x)
        assert (high - low).max() < 0.2


def test_its_distribution_agrees_with_that_of_the_network():
    """F of the upper network is below F, that of the lower one above; refinement on the network itself lies between."""
    layers = tanh_layers(4, (2, 3, 1))
    box, density = (-np.ones(2), np.ones(2)), Axes((beta_axis(2, 2, -1, 1), beta_axis(1, 1, -1, 1)))
    graph = bounding_network(layers, *box, 3)
    both = question(graph, np.zeros(2), (0, 1), density, *box)
    pieces = both.pieces()
    y = np.linspace(-1, 1, 5)
    lower = answers.one_output(pieces, both, 1, y, Budget(), 1e-6).bounds.lower
    upper = answers.one_output(pieces, both, 0, y, Budget(), 1e-6).bounds.upper
    nodes = tuple(Activation(node.source, "tanh") if isinstance(node, Pointwise) else node for node in layers)
    itself = Question(Graph(2, nodes), *box, density, np.zeros(2), (0, 1))
    budget = Budget(20_000)
    found = answers.one_output(itself.pieces(budget), itself, 0, y, budget, 0.002).bounds
    assert (lower <= found.upper).all()
    assert (found.lower <= upper).all()
    assert (found.upper - found.lower).max() < (upper - lower).max()
    assert (upper - lower).max() < 0.25


def test_what_is_not_known_is_said():
    with pytest.raises(UsageError, match="has no bounds here"):
        envelope("sine", 0.0, 1.0, 2)
    with pytest.raises(UsageError, match="are none"):
        envelope("tanh", 1.0, 1.0, 2)
