"""Convolution, pooling and residual layers under random pixels: sparse maps, dense ones, fractions, samples."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph
from scipy.sparse import csr_array
from scipy.stats import binom

from arfj.builder import Builder, average, convolution, windows
from arfj.certify.__main__ import main
from arfj.certify.cdf import answers
from arfj.certify.cdf.densities import Axes, beta_axis
from arfj.certify.cdf.evaluation import as_fractions, dense
from arfj.certify.cdf.plot import dkw
from arfj.certify.cdf.question import question
from arfj.certify.cdf.regions import Budget
from arfj.cli import run
from arfj.graph import Activation, Affine, Graph
from arfj.network import Network

SIDE, FREE = 7, (16, 25)
"""7 x 7 pixels, of which two in the middle are random: many windows hold both."""


def conv_network(pooling, seed=0, side=SIDE):
    """Convolution of 3 x 3 with two filters, ReLU, pooling of 2 x 2, dense to three outputs; scaled to be lively."""
    rng = np.random.default_rng(seed)
    builder, out, half = Builder((1, side, side)), side - 2, (side - 2) // 2
    reads = windows(builder.input.places, (3, 3), (1, 1), (1, 1), ((0, 0), (0, 0))).reshape(1, out**2, 9)
    places = np.arange(2 * out**2).reshape(2, -1)
    matrix = convolution(reads, rng.normal(size=(2, 1, 9)), 1, side**2, places)
    bias = 0.3 * rng.normal(size=(2, 1, 1))
    value = builder.activate(builder.sparse(builder.input, matrix, bias, (2, out, out)), "relu")
    pooled = windows(value.places, (2, 2), (2, 2), (1, 1), ((0, 0), (0, 0))).reshape(2, half**2, 4)
    count = 2 * half**2
    if pooling == "average":
        value = builder.sparse(value, average(pooled, 4.0, value.size, np.arange(count).reshape(2, -1)), 0.0, (count,))
    else:
        value = builder.maximum(value, pooled.reshape(count, 4), (count,))
    value = builder.linear(value, rng.normal(size=(count, 3)), rng.normal(size=3), (3,))
    return builder.finish(value, (1, side, side))


def asked(network, free=FREE, seed=1):
    """Beta(2, 2) x Beta(1, 2) on [-2, 2] for the free values, the others held at random ones in [-1, 1]."""
    inputs = np.random.default_rng(seed).uniform(-1, 1, network.graph().inputs)
    axes = (beta_axis(2, 2, -2, 2), beta_axis(1, 2, -2, 2))[: len(free)]
    return question(network, inputs, free, Axes(axes), np.full(len(free), -2.0), np.full(len(free), 2.0))


def densified(graph):
    nodes = [
        replace(node, maps=tuple(map(dense, node.maps))) if isinstance(node, Affine) else node for node in graph.nodes
    ]
    return Graph(graph.inputs, tuple(nodes), graph.input_shape)


def points(this, count=9):
    low, high = answers.output_range(this.pieces(), 0)
    return np.linspace(float(low), float(high), count)


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_samples_stay_in_the_band(pooling):
    """Samples stray from the exact bounds by no more than Dvoretzky, Kiefer and Wolfowitz allow."""
    this = asked(conv_network(pooling))
    pieces = this.pieces()
    assert pieces.complete
    assert pieces.regions > 15
    assert isinstance(this.graph.nodes[1].maps[0], csr_array)
    y = points(this, 40)
    found = answers.one_output(pieces, this, 0, y, Budget(), 1e-9).bounds
    values = np.sort(this.sampled(100_000, 0)[1][:, 0])
    share = np.searchsorted(values, y, side="right") / len(values)
    assert (found.upper - found.lower).max() < 1e-9
    assert np.maximum(found.lower - share, share - found.upper).max() <= dkw(len(values), 1e-9)


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("seed", range(2))
def test_sparse_and_dense_maps_give_one_law(pooling, seed):
    network = conv_network(pooling, seed)
    this, other = asked(network), asked(densified(network.graph()))
    y = points(this)
    one, two = (answers.one_output(q.pieces(), q, 0, y, Budget(), 1e-9) for q in (this, other))
    assert one.pieces.regions == two.pieces.regions
    assert (one.bounds.lower <= two.bounds.upper).all()
    assert (two.bounds.lower <= one.bounds.upper).all()
    assert one.bounds.lower == pytest.approx(two.bounds.lower, abs=1e-10)


def test_the_chain_of_dense_layers_gives_the_same_law():
    """Average pooling and the dense layer behind it are affine maps in a row; composed, they make a `Network`."""
    network = conv_network("average")
    chain = network.dense_chain()
    assert isinstance(chain, Network)
    this, other = asked(network), asked(chain)
    y = points(this)
    one, two = (answers.one_output(q.pieces(), q, 0, y, Budget(), 1e-9).bounds for q in (this, other))
    assert (one.lower <= two.upper).all()
    assert (two.lower <= one.upper).all()
    assert conv_network("max").dense_chain() is None


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_floats_enclose_fractions(pooling):
    this = asked(conv_network(pooling, side=5), (7, 12))
    exact, pieces = this.pieces(exact=True), this.pieces()
    assert exact.regions == pieces.regions
    y = points(this, 3)
    true = answers.one_output(exact, this, 0, as_fractions(y), Budget(), 0.0)
    found = answers.one_output(pieces, this, 0, y, Budget(), 1e-9).bounds
    assert true.cells.least.sum() == 1
    assert (true.bounds.lower == true.bounds.upper).all()
    assert (as_fractions(found.lower) <= true.bounds.lower).all()
    assert (as_fractions(found.upper) >= true.bounds.upper).all()
    assert (found.upper - found.lower).max() < 1e-9


@given(st.sampled_from(["wild", "convolution", "leaky", "smooth", "ties"]), st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_networks_of_every_kind(kind, seed):
    """Residual sums, sparse maps, leaky ReLU, activations as outputs, constant regions: counts of samples agree."""
    graph = random_graph(seed, kind)
    free = tuple(np.random.default_rng(seed).permutation(graph.inputs)[:2].tolist())
    this = asked(graph, free, seed)
    _, values = this.sampled(20_000, seed)
    y = np.quantile(values[:, 1], [0.1, 0.5, 0.9])
    y = np.append(y + 1e-3 * (1 + np.abs(y)), values[0, 1])
    budget = Budget(3000)
    found = answers.one_output(this.pieces(budget), this, 1, y, budget, 0.02).bounds
    _, fresh = this.sampled(20_000, seed + 1)
    counts = (fresh[:, 1:] <= y).sum(axis=0)
    assert (found.lower <= found.upper).all()
    assert (binom.sf(counts - 1, 20_000, found.upper) > 1e-10).all()
    assert (binom.cdf(counts, 20_000, found.lower) > 1e-10).all()


def test_a_maximum_by_hand():
    """max(x, y) of independent uniforms: F(t) = t^2; and its network in fractions."""
    builder = Builder((2,))
    network = builder.finish(builder.maximum(builder.input, np.array([[0, 1]]), (1,)), (2,))
    box = (np.zeros(2), np.ones(2))
    this = question(network, np.zeros(2), (0, 1), Axes((beta_axis(1, 1, 0, 1),) * 2), *box)
    y = np.array([0.25, 0.5, 1.0])
    exact = answers.one_output(this.pieces(exact=True), this, 0, as_fractions(y), Budget(), 0.0).bounds
    assert list(exact.lower) == list(exact.upper) == list(as_fractions(y**2))


def test_the_command_reads_them(tmp_path, capsys):
    network = conv_network("max")
    network.save(tmp_path / "conv.npz")
    this = asked(network)
    np.save(tmp_path / "x.npy", this.inputs.reshape(1, SIDE, SIDE))
    y = points(this, 5)
    np.save(tmp_path / "y.npy", y)
    arguments = ["cdf", "--network", str(tmp_path / "conv.npz"), "--input", str(tmp_path / "x.npy"), "--free", "16,25"]
    arguments += ["--density", "beta:2,2;beta:1,2", "--box=-2:2", "--at", str(tmp_path / "y.npy"), "--json"]
    assert run(main, arguments) == 0
    document = json.loads(capsys.readouterr().out)
    found = answers.one_output(this.pieces(), this, 0, y, Budget(), 1e-3)
    assert document["lower"] == found.bounds.lower.tolist()
    assert document["upper"] == found.bounds.upper.tolist()
    assert document["regions"] == found.pieces.regions


def test_an_activation_that_is_not_relu_has_no_fractions():
    nodes = (Affine((0,), (np.ones((1, 1)),), np.zeros(1)), Activation(1, "tanh"))
    this = asked(Graph(1, nodes), (0,))
    with pytest.raises(Exception, match="ReLUs alone; this one has tanh"):
        this.pieces(exact=True)
