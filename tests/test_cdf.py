"""Distribution functions of networks: references, closed forms, the rational oracle, Monte Carlo, nesting."""

import itertools
import json
from fractions import Fraction
from math import sqrt

import numpy as np
import pytest
from cdf_cases import DATA, IDENTITY, NORMAL, RELU, asked, bounds, needs_data, phi, random_network, uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import binom

from arfj.certify.cdf import answers
from arfj.certify.cdf.densities import Axes, beta_axis
from arfj.certify.cdf.evaluation import Evaluation, as_fractions, restricted
from arfj.certify.cdf.gaussians import Mixture
from arfj.certify.cdf.question import Question, beta, question
from arfj.certify.cdf.regions import Budget
from arfj.evaluate.certificate import transfer_certificate
from arfj.graph import Activation, Affine, Graph
from arfj.network import Network


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
    atoms = np.isclose(fresh[:, :1], y, rtol=0, atol=1e-12).mean(axis=0)  # they count in U and not in L
    assert (found.upper - found.lower - atoms).max() < 0.2
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
    for exact in (False, True):
        this = asked(Network.from_arrays([[[1.0]]], [[0.0]], "linear"))
        alone = answers.class_probabilities(this.pieces(exact=exact), this, Budget())
        assert alone.tolist() == [[1.0, 1.0]], "the only class"


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


def test_question_is_a_record():
    assert isinstance(asked(IDENTITY), Question)


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
