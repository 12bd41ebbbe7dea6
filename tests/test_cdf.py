"""Distribution functions of networks: references, closed forms, the rational oracle, Monte Carlo, nesting."""

import itertools
import json
from dataclasses import replace
from fractions import Fraction
from math import erf, factorial, sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull, HalfspaceIntersection
from scipy.special import ndtri
from scipy.stats import binom

from arfj.certify.cdf import answers, regions, units
from arfj.certify.cdf.densities import Axes, Axis, Betas, beta_axis
from arfj.certify.cdf.evaluation import Evaluation, as_fractions, restricted
from arfj.certify.cdf.gaussians import Mixture
from arfj.certify.cdf.mesh import BLOCK, halved, volumes
from arfj.certify.cdf.question import Question, beta, question
from arfj.certify.cdf.regions import Budget
from arfj.errors import UsageError
from arfj.evaluate.certificate import transfer_certificate
from arfj.graph import Activation, Affine, Graph
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


@needs_data
def test_polynomial_reference():
    """The published values lie between the bounds, which are 1e-10 apart."""
    reference, network, row = _reference("iris_beta2d")
    expected = reference["outputs"]["0"]
    density = Axes((beta_axis(2, 2, -1, 1), beta_axis(3, 2, -1, 1)))
    this = question(network, row, (0, 1), density, -np.ones(2), np.ones(2))
    pieces = this.pieces()
    assert pieces.regions == reference["n_regions"]
    found = answers.one_output(pieces, this, 0, np.array(expected["y"]), Budget(), 1e-9).bounds
    assert (found.lower <= expected["F"]).all()
    assert (found.upper >= expected["F"]).all()
    assert (found.upper - found.lower).max() < 1e-10
    low, high = answers.output_range(pieces, 0)
    assert [low, high] == pytest.approx(expected["range"], abs=1e-10)


@needs_data
def test_rational_mode_gives_the_reference_to_its_last_digit():
    reference, network, row = _reference("iris_beta2d")
    expected = reference["outputs"]["0"]
    density = Axes((beta_axis(2, 2, -1, 1), beta_axis(3, 2, -1, 1)))
    this = question(network, row, (0, 1), density, -np.ones(2), np.ones(2))
    pieces = this.pieces(exact=True)
    found = answers.one_output(pieces, this, 0, as_fractions(np.array(expected["y"])), Budget(), 0.0)
    assert (found.bounds.lower == found.bounds.upper).all()
    assert found.cells.least.sum() == 1
    assert found.bounds.lower.astype(float) == pytest.approx(expected["F"], abs=1e-14)


@needs_data
def test_mixture_reference():
    reference, network, _ = _reference("iris_25_3")
    data = np.load(DATA / "plt_iris.npz")
    at = list(data["iris__25__ids"]).index(3)
    row = np.nan_to_num(data["iris__25__X_missing"][3])
    column, centers = int(data["iris__25__cols"][at][0]), data["iris__25__centers"][at][:, :1]
    mixture = Mixture(np.full(50, 1 / 50), centers, data["iris__25__cov"][at][None, :1, :1])
    low, high = np.array(reference["box"])
    this = question(network, row, (column,), mixture, low, high)
    pieces = this.pieces()
    assert pieces.regions == reference["regions_in_box"]
    found = answers.joint(pieces, this, np.array(reference["y"]), Budget(), 1e-9)
    inside, full = np.array(reference["F_box"]), np.array(reference["F_full"])
    outside = 1 - float(found.cells.inside[0])
    assert found.bounds.lower == pytest.approx(inside, abs=1e-7)
    assert (found.bounds.lower <= full).all()
    assert (found.bounds.upper >= full).all()
    assert found.bounds.upper - outside == pytest.approx(inside, abs=1e-7)


def _reference(name):
    reference = json.loads((DATA / "references.json").read_text())[name]
    data = np.load(DATA / "plt_iris.npz")
    weights = [data[f"iris__weights_{k}"].T for k in range(3)]
    network = Network.from_arrays(weights, [data[f"iris__bias_{k}"] for k in range(3)], "linear")
    return reference, network, np.array(reference.get("row", []))


@pytest.mark.parametrize("y", [-0.9, -0.25, 0.0, 0.4, 1.0])
def test_identity_under_a_uniform_density(y):
    low, high = bounds(IDENTITY, [y])
    assert low[0] <= (y + 1) / 2 <= high[0]
    assert high[0] - low[0] < 1e-11


def test_sum_of_two_uniforms_is_triangular():
    network = Network.from_arrays([[[1.0], [1.0]]], [[0.0]], "linear")
    y = np.array([0.25, 1.0, 1.5])
    low, high = bounds(network, y, low=0.0, high=1.0)
    true = np.where(y <= 1, y**2 / 2, 1 - (2 - y) ** 2 / 2)
    assert (low <= true).all()
    assert (true <= high).all()
    assert (high - low).max() < 1e-11


def test_an_atom_lies_between_the_bounds():
    """max(x, 0) on [-1, 1] is 0 with probability 1/2: F jumps there, and rounding cannot tell on which side 0 is."""
    low, high = bounds(RELU, [-1e-6, 0.0, 1e-6, 0.5])
    assert high[0] < 1e-9
    assert low[1] <= 0.5 <= high[1]
    assert low[2] == pytest.approx(0.5, abs=1e-6)
    assert [low[3], high[3]] == pytest.approx([0.75, 0.75], abs=1e-10)


def test_an_atom_is_resolved_in_fractions():
    this = asked(RELU)
    y = np.array([Fraction(-1, 10**30), Fraction(0)], dtype=object)
    found = answers.one_output(this.pieces(exact=True), this, 0, y, Budget(), 0.0).bounds
    assert list(found.lower) == list(found.upper) == [0, Fraction(1, 2)]


@pytest.mark.parametrize("outside", ["add", "renormalise"])
def test_normal_distribution_of_one_input(outside):
    y = np.array([-1.0, 0.3, 1.7])
    low, high = bounds(IDENTITY, y, NORMAL, low=-2.0, high=2.0, outside=outside)
    below, inside = np.array([phi(v) - phi(-2.0) for v in y]), phi(2.0) - phi(-2.0)
    if outside == "add":
        assert low == pytest.approx(below, abs=1e-11)
        assert high == pytest.approx(below + 1 - inside, abs=1e-11)
        assert (low <= [phi(v) for v in y]).all()
        assert (high >= [phi(v) for v in y]).all()
    else:
        assert low == pytest.approx(below / inside, abs=1e-11)
        assert high == pytest.approx(below / inside, abs=1e-11)


def test_correlated_normals_in_two_inputs():
    """w x is normal with variance w S w: Owen's T against the closed form."""
    covariance = np.array([[1.0, 0.6], [0.6, 2.0]])
    mixture = Mixture(np.ones(1), np.array([[0.3, -0.2]]), covariance[None])
    weights = np.array([[1.5], [-0.5]])
    network = Network.from_arrays([weights], [[0.1]], "linear")
    y = np.array([-2.0, 0.0, 0.65, 3.0])
    low, high = bounds(network, y, mixture, low=-14.0, high=14.0)
    mean, spread = (
        float(mixture.means[0] @ weights[:, 0]) + 0.1,
        sqrt(float(weights[:, 0] @ covariance @ weights[:, 0])),
    )
    true = np.array([phi((v - mean) / spread) for v in y])
    assert (low <= true + 1e-15).all()
    assert (true <= high + 1e-15).all()
    assert (high - low).max() < 1e-9


@pytest.mark.parametrize("spreads", [(0.01, 100.0), (3.0, 1e-3)])
def test_inputs_of_unlike_sizes(spreads):
    """Deviations of 0.01 and 100, correlated: w x is normal, and its distribution as near as that of any other."""
    spread = np.array(spreads)
    covariance = np.outer(spread, spread) * np.array([[1.0, 0.6], [0.6, 1.0]])
    mixture = Mixture(np.ones(1), np.zeros((1, 2)), covariance[None])
    network = Network.from_arrays([[[1 / spread[0]], [0.5 / spread[1]]]], [[0.25]], "linear")
    this = question(network, np.zeros(2), (0, 1), mixture, -8 * spread, 8 * spread)
    y = np.array([-1.0, 0.25, 1.5])
    found = answers.one_output(this.pieces(), this, 0, y, Budget(), 1e-9).bounds
    true = np.array([phi((v - 0.25) / sqrt(1 + 0.25 + 0.6)) for v in y])
    assert (found.lower <= true + 1e-14).all()
    assert (true <= found.upper + 1e-14).all()
    assert (found.upper - found.lower).max() < 1e-7
    assert this.sampled(20_000, 0)[0].std(axis=0) == pytest.approx(spread, rel=0.05)


def test_units_change_no_law():
    """Three inputs, deviations from 0.5 to 4: masses in either unit enclose the same, and so do greatest values."""
    rng = np.random.default_rng(2)
    mixture = Mixture(np.array([0.4, 0.6]), rng.normal(size=(2, 3)), np.diag([0.25, 1.0, 16.0])[None])
    other = units.in_units(mixture)
    assert isinstance(other, units.Rescaled)
    assert other.scale.tolist() == [0.5, 1.0, 4.0]
    assert units.in_units(other) is other
    assert units.in_units(NORMAL) is NORMAL
    mesh = regions.triangulated(regions.box_polytope(-np.ones(3), np.ones(3)))[0]
    for _ in range(6):
        mesh = halved(mesh, np.ones(len(mesh.cells), dtype=bool), other.metric).mesh
    one, two = mixture.masses(mesh.points, mesh.cells), other.masses(mesh.points, mesh.cells)
    assert (one[0] <= two[1]).all()
    assert (two[0] <= one[1]).all()
    assert two[1].sum() == pytest.approx(one[1].sum(), rel=1e-6)
    assert other.greatest(mesh.points, mesh.cells) == pytest.approx(mixture.greatest(mesh.points, mesh.cells), rel=1e-6)
    assert other.top == pytest.approx(mixture.top)
    assert other.metric == pytest.approx(mixture.metric)


def test_normals_in_three_inputs():
    mixture = Mixture(np.ones(1), np.zeros((1, 3)), np.eye(3)[None])
    network = Network.from_arrays([np.full((3, 1), 1 / sqrt(3))], [[0.0]], "linear")
    this = asked(network, mixture, -5.0, 5.0)
    budget = Budget(20_000)
    found = answers.one_output(this.pieces(budget), this, 0, np.array([-1.0, 0.0, 0.5]), budget, 0.01).bounds
    true = np.array([phi(-1.0), 0.5, phi(0.5)])
    assert (found.lower <= true).all()
    assert (true <= found.upper).all()
    assert (found.upper - found.lower).max() < 0.02


@given(st.integers(1, 3), st.integers(0, 10**6), st.booleans())
@settings(max_examples=15, deadline=None)
def test_floats_enclose_fractions(d, seed, rounded):
    """Random networks, degenerate ones among them: the rational oracle lies between the bounds, and regions agree."""
    sizes = (d, 4, 3, 2) if d < 3 else (d, 3, 2)
    network = random_network(sizes, seed, rounded)
    density = Axes(tuple(beta_axis(1 + k, 2 - k // 2, -1, 1) for k in range(d))) if d < 3 else uniform(3)
    this = asked(network, density)
    exact, pieces = this.pieces(exact=True), this.pieces()
    assert exact.regions == pieces.regions == patterns(network, exact)
    y = np.quantile(network(np.random.default_rng(seed).uniform(-1, 1, (500, d)))[:, 0], [0.1, 0.4, 0.8])
    y = np.append(y, network(np.zeros((1, d)))[0, 0])
    true = answers.one_output(exact, this, 0, as_fractions(y), Budget(), 0.0)
    found = answers.one_output(pieces, this, 0, y, Budget(), 1e-9).bounds
    assert true.cells.least.sum() == 1
    assert (true.bounds.lower == true.bounds.upper).all()
    assert (np.array([Fraction(v) for v in found.lower]) <= true.bounds.lower).all()
    assert (np.array([Fraction(v) for v in found.upper]) >= true.bounds.upper).all()


def patterns(network, exact):
    """Region counts by brute force: sign patterns of random points, never more than the enumerated ones hold."""
    seen = exact.regions
    x = np.random.default_rng(0).uniform(-1, 1, (2000, network.inputs))
    hidden = [before > 0 for before in network.preactivations(x)[:-1]]
    assert len(np.unique(np.hstack(hidden), axis=0)) <= seen
    return seen


@pytest.mark.parametrize(("d", "seed"), [(2, 0), (2, 1), (3, 2)])
def test_regions_against_all_sign_patterns(d, seed):
    """Every sign pattern of 7 neurons in one layer and 2 behind it: is there a point of it inside the box?"""
    network = random_network((d, 5, 2, 1), seed)
    this = asked(network)
    count = sum(_volume(network, signs) > 1e-12 for signs in itertools.product((False, True), repeat=7))
    assert this.pieces().regions == count


def _volume(network, signs):
    """Of a sign pattern's polytope, by scipy, which shares no code with ours."""
    from scipy.optimize import linprog

    (one, two), first, second = network.layers[:2], np.array(signs[:5]), np.array(signs[5:])
    rows, offsets = [one.weight.T], [one.bias]
    rows.append((one.weight * first @ two.weight).T)
    offsets.append((one.bias * first) @ two.weight + two.bias)
    turn = np.where(np.append(first, second), -1.0, 1.0)
    a, b = turn[:, None] * np.vstack(rows), turn * np.concatenate(offsets)
    a, b = np.vstack([a, np.eye(a.shape[1]), -np.eye(a.shape[1])]), np.append(b, -np.ones(2 * a.shape[1]))
    norms = np.linalg.norm(a, axis=1)
    inner = linprog(
        np.append(np.zeros(a.shape[1]), -1.0),
        A_ub=np.hstack([a, norms[:, None]]),
        b_ub=-b,
        bounds=[(None, None)] * (a.shape[1] + 1),
    )
    if inner.status != 0 or inner.x[-1] < 1e-9:
        return 0.0
    return ConvexHull(HalfspaceIntersection(np.hstack([a, b[:, None]]), inner.x[:-1]).intersections).volume


def test_two_ways_to_cut_agree(monkeypatch):
    """Polytopes that are pulled, and simplices that are bisected: other cells, the same law."""
    network = random_network((2, 6, 5, 2), 3)
    y = np.linspace(-1, 1, 7)
    low, high = bounds(network, y)
    monkeypatch.setattr(regions, "covers", lambda *_: False)
    other_low, other_high = bounds(network, y)
    assert np.abs(np.array([low - other_high, other_low - high])).max() < 1e-9
    assert (low <= other_high).all()
    assert (other_low <= high).all()


@given(st.integers(0, 10**6), st.sampled_from(["relu", "tanh", "sigmoid"]))
@settings(max_examples=12, deadline=None)
def test_monte_carlo_never_leaves_the_bounds(seed, kind):
    """Counts of samples, against the binomial law at either bound: a failure has probability 1e-9."""
    network = random_network((2, 5, 4, 2), seed)
    graph = network.graph()
    nodes = tuple(Activation(n.source, kind) if isinstance(n, Activation) else n for n in graph.nodes)
    this = asked(Graph(2, nodes), Axes((beta_axis(2, 3, -1, 1), beta_axis(1, 2, -1, 1))))
    _, values = this.sampled(20_000, seed)
    y = np.quantile(values[:, 0], [0.05, 0.3, 0.5, 0.9])
    _, fresh = this.sampled(20_000, seed + 1)
    budget = Budget(3000)
    found = answers.one_output(this.pieces(budget), this, 0, y, budget, 0.02).bounds
    counts = (fresh[:, :1] <= y).sum(axis=0)
    assert (binom.sf(counts - 1, 20_000, found.upper) > 1e-10).all()
    assert (binom.cdf(counts, 20_000, found.lower) > 1e-10).all()
    assert (found.upper - found.lower).max() < 0.2
    for side in (found.lower, found.upper):
        assert (np.diff(side) >= -1e-12).all()
        assert ((side >= 0) & (side <= 1)).all()


def test_bounds_are_monotone_and_nested_under_refinement():
    rng = np.random.default_rng(5)
    nodes = (
        Affine((0,), (rng.normal(size=(2, 4)),), rng.normal(size=4)),
        Activation(1, "tanh"),
        Affine((2,), (rng.normal(size=(4, 1)),), np.zeros(1)),
    )
    this = asked(Graph(2, nodes))
    y = np.linspace(-2, 2, 15)
    last = None
    for cells in (50, 400, 3000):
        budget = Budget(cells)
        found = answers.one_output(this.pieces(budget), this, 0, y, budget, 1e-4).bounds
        for side in (found.lower, found.upper):
            assert (np.diff(side) >= -1e-12).all()
            assert ((side >= 0) & (side <= 1)).all()
        assert (found.lower <= found.upper).all()
        if last is not None:
            assert (found.upper - found.lower).max() < (last.upper - last.lower).max()
            assert (found.lower >= last.lower - 1e-12).all()
            assert (found.upper <= last.upper + 1e-12).all()
        last = found


def test_a_budget_that_ends_gives_valid_bounds():
    network = random_network((2, 8, 8, 2), 8)
    y = np.linspace(-1, 1, 5)
    this = asked(network)
    tight = answers.one_output(this.pieces(), this, 0, y, Budget(), 1e-9).bounds
    few = Budget(5)
    pieces = this.pieces(few)
    assert not pieces.complete
    loose = answers.one_output(pieces, this, 0, y, few, 1e-9).bounds
    assert (loose.lower <= tight.upper).all()
    assert (loose.upper >= tight.lower).all()


def test_grid_and_points_agree():
    network = random_network((2, 5, 2), 11)
    this = asked(network)
    pieces = this.pieces()
    levels = [np.linspace(-1, 1, 4), np.linspace(-0.5, 1.5, 3)]
    y = np.array(list(itertools.product(*levels)))
    one = answers.grid(pieces, this, levels, Budget(), 1e-9).bounds
    two = answers.joint(pieces, this, y, Budget(), 1e-9).bounds
    assert one.lower.ravel() == pytest.approx(two.lower, abs=1e-11)
    assert one.upper.ravel() == pytest.approx(two.upper, abs=1e-11)
    x = np.random.default_rng(0).uniform(-1, 1, (40_000, 2))
    share = (network(x)[:, None, :] <= y).all(axis=2).mean(axis=0)
    assert np.abs(share - two.lower).max() < 0.02


def test_points_in_any_order_and_many_of_them():
    """Unsorted, some twice, and 50,000 at once: no more work than for as many cells."""
    this = asked(random_network((2, 5, 2), 11))
    pieces, y = this.pieces(), np.array([0.5, -0.5, 0.5, 0.0])
    found = answers.one_output(pieces, this, 0, y, Budget(), 1e-9).bounds
    alone = answers.joint(pieces, this, np.stack([y, np.full(4, 1e3)], axis=1), Budget(), 1e-9).bounds
    assert found.lower == pytest.approx(alone.lower, abs=1e-10)
    assert found.upper == pytest.approx(alone.upper, abs=1e-10)
    assert found.lower[0] == found.lower[2] > found.lower[3] > found.lower[1]
    many = answers.one_output(pieces, this, 0, np.linspace(-0.5, 0.5, 20_001), Budget(), 1e-9).bounds
    assert (np.diff(many.lower) >= -1e-11).all()
    assert many.lower[[0, 10_000, -1]] == pytest.approx(found.lower[[1, 3, 0]], abs=1e-9)


def test_quantiles_of_a_uniform():
    this = asked(IDENTITY)
    found = answers.quantile(this.pieces(), this, 0, 0.3, Budget())
    assert found.lower <= -0.4 <= found.upper
    assert found.upper - found.lower < 1e-8


def test_mass_outside_the_box_leaves_quantiles_open():
    this = asked(IDENTITY, NORMAL, -1.0, 1.0)
    assert answers.quantile(this.pieces(), this, 0, 0.1, Budget()).lower == -np.inf
    assert answers.quantile(this.pieces(), this, 0, 0.9, Budget()).upper == np.inf


@pytest.mark.filterwarnings("error")
def test_a_box_whose_mass_underflows_says_nothing():
    density = Mixture(np.ones(1), np.full((1, 3), 100.0), np.eye(3)[None])
    this = asked(random_network((3, 4, 2), 0), density)
    found = answers.one_output(this.pieces(), this, 0, np.zeros(1), Budget(1000), 1e-3, "renormalise").bounds
    assert (found.lower == 0.0).all()
    assert (found.upper == 1.0).all()


def test_both_ends_of_a_quantile_are_found_where_mass_lies_outside():
    """f(x) = x under N(0, 1) on [-2, 2]: L and U are Phi(y) - Phi(-2) and that plus the mass outside."""
    this = asked(IDENTITY, NORMAL, -2.0, 2.0)
    outside = 2 * phi(-2.0)
    found = answers.quantile(this.pieces(), this, 0, 0.4, Budget(), "add")
    assert found.lower == pytest.approx(ndtri(0.4 + phi(-2.0) - outside), abs=1e-7)
    assert found.upper == pytest.approx(ndtri(0.4 + phi(-2.0)), abs=1e-7)


def test_quantiles_do_not_leave_the_network_where_all_mass_is_in_the_box():
    """However loose the bounds are: tanh on a budget of one cell, whose range is known to less than 0.4."""
    graph = Graph(1, (Affine((0,), (np.ones((1, 1)),), np.zeros(1)), Activation(1, "tanh")))
    this = asked(graph)
    for q in (0.001, 0.999):
        found = answers.quantile(this.pieces(), this, 0, q, Budget(1))
        assert -1.2 <= found.lower <= np.tanh(2 * q - 1) <= found.upper <= 1.2


def test_class_probabilities():
    """Classes 1 - x and x on [0, 1]: one half each. Equal outputs: the first class has all."""
    seesaw = Network.from_arrays([[[-1.0, 1.0]]], [[1.0, 0.0]], "linear")
    this = asked(seesaw, low=0.0, high=1.0)
    found = answers.class_probabilities(this.pieces(), this, Budget())
    assert found == pytest.approx(np.full((2, 2), 0.5), abs=1e-10)
    tie = Network.from_arrays([[[1.0, 1.0]]], [[0.0, 0.0]], "linear")
    this = asked(tie)
    found = answers.class_probabilities(this.pieces(), this, Budget())
    assert found[0, 1] == 1.0
    assert found[1, 0] == 0.0


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=8, deadline=None)
def test_classes_in_fractions(seed, rounded):
    """They add up to 1 exactly, ties on whole regions among them, and lie between the bounds in floats."""
    this = asked(random_network((2, 3, 3), seed, rounded))
    exact = answers.class_probabilities(this.pieces(exact=True), this, Budget())
    assert (exact[:, 0] == exact[:, 1]).all()
    assert exact[:, 0].sum() == 1
    found = answers.class_probabilities(this.pieces(), this, Budget())
    assert (as_fractions(found[:, 0]) <= exact[:, 0]).all()
    assert (as_fractions(found[:, 1]) >= exact[:, 1]).all()


def test_classes_in_fractions_that_no_time_was_left_to_cut():
    """Cells on both sides of a tie are neither won nor lost: bounds, and no longer one number."""
    this = asked(random_network((2, 3, 3), 1))
    pieces = this.pieces(exact=True)
    exact = answers.class_probabilities(pieces, this, Budget())
    found = answers.class_probabilities(pieces, this, Budget(seconds=-1.0))
    assert (found[:, 0] <= exact[:, 0]).all()
    assert (found[:, 1] >= exact[:, 1]).all()
    assert (found[:, 0] < found[:, 1]).any()


def test_pieces_of_a_density():
    """Half of the mass on [-1, 0], evenly, and half on [0, 1], as 2 x: F(0.5) = 1/2 + 1/8."""
    axis = Axis((-1.0, 0.0, 1.0), ((0.5,), (0.0, 1.0)))
    low, high = bounds(IDENTITY, [-0.5, 0.0, 0.5], Axes((axis,)))
    assert low == pytest.approx([0.25, 0.5, 0.625], abs=1e-11)
    assert (low <= [0.25, 0.5, 0.625]).all()
    assert (high >= [0.25, 0.5, 0.625]).all()


def test_betas_that_are_no_polynomials():
    from scipy.special import betainc

    density = Betas(((1.5, 2.5),), (-1.0,), (1.0,))
    low, high = bounds(IDENTITY, [0.0], density)
    assert low[0] <= betainc(1.5, 2.5, 0.5) <= high[0]
    assert high[0] - low[0] < 1e-10
    this = asked(
        Network.from_arrays([[[1.0], [1.0]]], [[0.0]], "linear"), Betas(((1.5, 1.5),) * 2, (-1.0,) * 2, (1.0,) * 2)
    )
    budget = Budget(5000)
    found = answers.one_output(this.pieces(budget), this, 0, np.zeros(1), budget, 0.02).bounds
    assert found.lower[0] <= 0.5 <= found.upper[0]
    assert found.upper[0] - found.lower[0] < 0.05


@given(st.lists(st.tuples(st.floats(1, 40), st.floats(1, 40)), min_size=2, max_size=3), st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_masses_of_betas_enclose_those_of_finer_cells(parameters, seed):
    """Random simplices in the box, its corners among them: halving never leaves the bounds, and they close in."""
    d, rng = len(parameters), np.random.default_rng(seed)
    density = Betas(tuple(parameters), (-1.0,) * d, (2.0,) * d)
    corners = rng.uniform(-1, 2, (d + 1, d))
    corners[0] = np.where(rng.random(d) < 0.5, corners[0], rng.choice([-1.0, 2.0], d))
    mesh = regions.simplices.Mesh(corners, np.arange(d + 1)[None], np.zeros((d + 1, 0)))
    low, high = density.masses(mesh.points, mesh.cells)
    assert (density.greatest(mesh.points, mesh.cells) * np.abs(volumes(corners, mesh.cells)[0]) >= low).all()
    first = high.sum() - low.sum()
    for _ in range(4 * d):
        mesh = halved(mesh, np.ones(len(mesh.cells), dtype=bool)).mesh
        finer = tuple(side.sum() for side in density.masses(mesh.points, mesh.cells))
        assert low.sum() <= finer[1] * (1 + 1e-9)
        assert finer[0] <= high.sum() * (1 + 1e-9)
    x = rng.dirichlet(np.ones(d + 1), 4000) @ corners
    values = np.prod([beta_density(column, *pair) for column, pair in zip(x.T, parameters, strict=True)], axis=0)
    size = float(np.abs(volumes(corners, np.arange(d + 1)[None])[0][0]))
    room = 6 * values.std() / np.sqrt(4000) * size + 1e-12
    assert low.sum() - room <= values.mean() * size <= high.sum() + room
    assert finer[1] - finer[0] <= 0.7 * first + 3e-9


def test_masses_of_betas_close_in_as_the_square_of_the_size():
    """A simplex and the same at half its size: bounds of the mean are four times as near, around the exact one."""
    parameters = ((3, 2), (2, 4))
    smooth, exact = Betas(parameters, (0.0, 0.0), (1.0, 1.0)), Axes((beta_axis(3, 2, 0, 1), beta_axis(2, 4, 0, 1)))
    corners, gaps = np.array([[0.3, 0.3], [0.36, 0.31], [0.33, 0.37]]), []
    for scale in (1.0, 0.5, 0.25):
        points, cells = corners[0] + scale * (corners - corners[0]), np.array([[0, 1, 2]])
        low, high = smooth.masses(points, cells)
        least, most = exact.masses(points, cells)
        assert low[0] <= most[0]
        assert least[0] <= high[0]
        gaps.append(float((high - low)[0] / most[0]))
    assert gaps[0] < 0.03
    for one, two in itertools.pairwise(gaps):
        assert 3.5 < one / two < 4.5


def beta_density(x, a, b):
    from scipy.stats import beta as law

    return law.pdf((x + 1) / 3, a, b) / 3


def test_whole_betas_agree_with_scipy():
    from scipy.special import betainc

    low, high = bounds(IDENTITY, [-0.3, 0.6], Axes((beta_axis(3, 5, -1, 1),)))
    true = betainc(3, 5, [0.35, 0.8])
    assert (low <= true + 1e-15).all()
    assert (high >= true - 1e-15).all()
    assert (high - low).max() < 1e-11


def test_an_input_without_width_is_held():
    network = Network.from_arrays([[[1.0], [2.0]]], [[0.0]], "linear")
    low, high = np.array([0.0, 0.5]), np.array([1.0, 0.5])
    this = question(network, np.zeros(2), (0, 1), beta([(1, 1), (2, 2)], low, high), low, high)
    found = answers.one_output(this.pieces(), this, 0, np.array([1.25]), Budget(), 1e-9).bounds
    assert [found.lower[0], found.upper[0]] == pytest.approx([0.25, 0.25], abs=1e-11)
    point = question(network, np.zeros(2), (1,), beta([(2, 2)], low[1:], low[1:]), low[1:], low[1:])
    found = answers.one_output(point.pieces(), point, 0, np.array([0.9, 1.1]), Budget(), 1e-9).bounds
    assert list(found.upper) == [pytest.approx(0, abs=1e-12), 1]
    assert list(found.lower) == [0, pytest.approx(1, abs=1e-12)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Axis((0.0, 1.0), ((-1.0, 3.0),)), "may be negative"),
        (lambda: Axis((0.0, 1.0), ((0.5,),)), "integrates to 0.5"),
        (lambda: Axis((1.0, 0.0), ((1.0,),)), "do not rise"),
        (lambda: Mixture(np.array([0.7, 0.7]), np.zeros((2, 1)), np.ones((1, 1, 1))), "add up to 1.4"),
        (lambda: Mixture(np.array([1.5, -0.5]), np.zeros((2, 1)), np.ones((1, 1, 1))), "the least is -0.5"),
        (lambda: Mixture(np.ones(1), np.zeros((1, 2)), np.array([[[1.0, 2.0], [2.0, 1.0]]])), "positive definite"),
        (lambda: beta([(0.5, 1.0)], np.zeros(1), np.ones(1)), "not bounded"),
        (lambda: asked(IDENTITY, NORMAL, 1.0, -1.0), "is empty"),
        (lambda: asked(IDENTITY, NORMAL, 1.0, 1.0), "no mass"),
        (lambda: restricted(IDENTITY, np.zeros(1), (1,)), "not distinct indices"),
    ],
)
def test_bad_input_is_one_clear_line(make, words):
    with pytest.raises(UsageError, match=words):
        make()


def test_restricted_holds_the_other_inputs():
    network = random_network((4, 5, 2), 2)
    x = np.array([0.1, -0.4, 0.7, 0.2])
    graph = restricted(network, x, (2, 0))
    assert graph(np.array([[0.7, 0.1]]))[0] == pytest.approx(network(x[None])[0], abs=1e-14)
    assert Evaluation(graph, True).values(as_fractions(np.array([[0.7, 0.1]])))[-1].astype(float)[0] == pytest.approx(
        network(x[None])[0], abs=1e-14
    )


def test_hundred_points_take_about_as_long_as_enumeration():
    """2 inputs, 3 x 12 neurons: 1.5 times as long where it was measured, and 15 times is too long anywhere."""
    import time

    this, y = asked(random_network((2, 12, 12, 12, 3), 0)), np.linspace(-1, 1, 100)
    pieces = this.pieces()

    def least(call):
        taken = []
        for _ in range(6):
            began = time.perf_counter()
            call()
            taken.append(time.perf_counter() - began)
        return min(taken)

    assert least(lambda: answers.one_output(pieces, this, 0, y, Budget(), 1e-9)) < 15 * least(this.pieces)


@pytest.mark.parametrize("density", [uniform(1, 0.0, 1.0), Betas(((1.5, 2.5),), (0.0,), (1.0,))])
def test_a_product_has_its_density_on_the_box(density):
    with pytest.raises(UsageError, match=r"input 0 is one on \[0, 1\], its box is \[0, 2\]; expected the same"):
        asked(IDENTITY, density, 0.0, 2.0)


def test_question_is_a_record():
    assert isinstance(asked(IDENTITY), Question)


@pytest.mark.parametrize("seed", range(4))
def test_masses_of_triangles_against_quadrature(seed):
    """Owen's T against an integral of normal distribution functions along x."""
    from scipy.integrate import quad
    from scipy.special import ndtr

    rng = np.random.default_rng(seed)
    a, b, c = sorted((rng.normal(size=(3, 2)) * 1.5).tolist())
    mixture = Mixture(np.ones(1), np.zeros((1, 2)), np.eye(2)[None])
    low, high = mixture.masses(np.array([a, b, c]), np.array([[0, 1, 2]]))

    def height(x):
        over = a[1] + (c[1] - a[1]) * (x - a[0]) / (c[0] - a[0])
        p, q = (a, b) if x < b[0] else (b, c)
        under = p[1] + (q[1] - p[1]) * (x - p[0]) / (q[0] - p[0])
        return abs(ndtr(over) - ndtr(under)) * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)

    true = quad(height, a[0], b[0], epsabs=1e-14)[0] + quad(height, b[0], c[0], epsabs=1e-14)[0]
    assert low[0] - 1e-13 <= true <= high[0] + 1e-13
    assert high[0] - low[0] < 1e-11


def test_masses_in_three_inputs_enclose_those_of_finer_cells():
    rng = np.random.default_rng(3)
    mixture = Mixture(np.array([0.4, 0.6]), rng.normal(size=(2, 3)) * 0.5, np.array([np.eye(3), 0.5 * np.eye(3)]))
    mesh = regions.triangulated(regions.box_polytope(-np.ones(3), np.ones(3)))[0]
    low, high = (side.sum() for side in mixture.masses(mesh.points, mesh.cells))
    for _ in range(6):
        mesh = halved(mesh, np.ones(len(mesh.cells), dtype=bool)).mesh
        finer = tuple(side.sum() for side in mixture.masses(mesh.points, mesh.cells))
        assert low <= finer[1]
        assert finer[0] <= high
        size = np.abs(volumes(mesh.points, mesh.cells)[0])
        assert (mixture.greatest(mesh.points, mesh.cells) * size >= mixture.masses(mesh.points, mesh.cells)[0]).all()
        low, high = max(low, finer[0]), min(high, finer[1])
    phis = np.array([phi(1 - m) - phi(-1 - m) for m in mixture.means[0]])
    others = np.array([phi((1 - m) / sqrt(0.5)) - phi((-1 - m) / sqrt(0.5)) for m in mixture.means[1]])
    assert low <= 0.4 * phis.prod() + 0.6 * others.prod() <= high
    assert high - low < 1e-3


def test_class_probabilities_agree_with_a_certificate_of_counts():
    """The lower bound of Clopper and Pearson, which the certificate of transfer uses, is below the upper bound here."""
    network = random_network((2, 6, 3), 9)
    this = asked(network)
    found = answers.class_probabilities(this.pieces(), this, Budget())
    assert found[:, 0].sum() <= 1 <= found[:, 1].sum()
    classes = network.classify(np.random.default_rng(1).uniform(-1, 1, (20_000, 2)))
    for index, (low, high) in enumerate(found):
        count = int((classes == index).sum())
        assert high - low < 1e-9
        assert transfer_certificate(count, 20_000, 1e-6).probability <= high
        assert 1 - transfer_certificate(20_000 - count, 20_000, 1e-6).probability >= low


@pytest.mark.parametrize(("sizes", "rounded"), [((2, 6, 6, 2), True), ((2, 8, 8, 2), False), ((3, 5, 4, 2), True)])
def test_polytopes_do_without_the_way_that_cannot_fail(monkeypatch, sizes, rounded):
    """Degenerate networks, many neurons through one point: the pulled simplices are a complex at once."""

    def never(*_):
        raise AssertionError("cells do not cover the box")

    monkeypatch.setattr(regions, "_pieces_of_simplices", never)
    monkeypatch.setattr(regions.simplices, "sliced", never)
    for seed in range(6):
        network = random_network(sizes, seed, rounded)
        this = asked(network)
        pieces = this.pieces()
        mesh, _ = regions.levels_cut(pieces, [np.linspace(-1, 1, 9), np.linspace(-1, 1, 5)], 10**6)
        volume, error = volumes(mesh.points, mesh.cells)
        assert np.abs(volume).sum() == pytest.approx(2.0 ** sizes[0], abs=1e-9 + error.sum())


def test_a_hole_in_a_complex_is_seen():
    network = random_network((2, 6, 2), 1)
    pieces = asked(network).pieces()
    mesh, _ = pieces.mesh
    assert regions.covers(mesh, pieces.lower, pieces.upper)
    for index in range(len(mesh.cells)):
        less = replace(mesh, cells=np.delete(mesh.cells, index, axis=0))
        assert not regions.covers(less, pieces.lower, pieces.upper)
    twice = replace(mesh, cells=np.concatenate([mesh.cells, mesh.cells[:1]]))
    assert not regions.covers(twice, pieces.lower, pieces.upper)


def test_a_time_limit_holds():
    """Looser bounds in about the time that was given: levels cut nothing once it is over."""
    import time

    this = asked(random_network((3, 24, 24, 24, 2), 0))
    budget, began = Budget(seconds=0.2), time.monotonic()
    pieces = this.pieces(budget)
    found = answers.one_output(pieces, this, 0, np.linspace(-1, 1, 40), budget, 1e-3).bounds
    assert (found.lower <= found.upper).all()
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize("d", range(1, 8))
def test_volumes_are_what_fractions_say(d):
    """Up to the rounding that is told; of simplices in several blocks, some of them flat."""
    rng = np.random.default_rng(d)
    points, cells = rng.normal(size=(12, d)), rng.integers(0, 12, (BLOCK + 5, d + 1))
    volume, error = volumes(points, cells)
    assert volume.shape == error.shape == (len(cells),)
    some = np.r_[:4, BLOCK - 2 : BLOCK + 3]
    exact = volumes(as_fractions(points), cells[some])[0]
    assert (np.abs(as_fractions(volume[some]) - exact) <= as_fractions(error[some])).all()
    edges = points[cells[:, 1:]] - points[cells[:, :1]]
    assert volume == pytest.approx(np.linalg.det(edges) / factorial(d), abs=1e-9)
