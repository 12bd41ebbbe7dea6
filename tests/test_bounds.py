"""Bounds hold what they promise: no sample leaves them, nested regions nest, and exact optima fit inside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import exact_bounds, random_network

from arfj.bounds import Bounds, crown_bounds, interval_bounds, pre_activation_bounds
from arfj.data import bundled_images, bundled_nominal
from arfj.network import Network
from arfj.region import Region

METHODS = ["interval", "crown", "alpha-crown"]
every_method = pytest.mark.parametrize("method", METHODS)


@st.composite
def cases(draw):
    """A network of one to four layers, ReLU or linear at the end, and a region (ball, box, or one point)."""
    sizes = tuple(draw(st.lists(st.integers(1, 6), min_size=2, max_size=5)))
    seed = draw(st.integers(0, 2**20))
    network = random_network(sizes, seed, draw(st.sampled_from(["relu", "linear"])))
    rng = np.random.default_rng(seed)
    centre = np.clip(rng.uniform(-0.3, 1.3, sizes[0]), 0.0, 1.0)
    radius = draw(st.one_of(st.just(np.inf), st.floats(0.0, 3.0)))
    return network, Region.around(centre, radius), rng


def points_of(region, network, rng, count=60):
    """Random points, extreme points in random directions, and those that neurons and local gradients point at."""
    n = len(region.centre)
    steps = rng.laplace(size=(count, n)) * rng.choice([0.1, 1.0, 10.0], size=(count, 1))
    inside = np.clip(region.centre + steps, region.lower, region.upper) - region.centre
    length = np.abs(inside).sum(axis=1, keepdims=True)
    if region.has_ball:
        inside = inside * np.minimum(1.0, region.radius / np.maximum(length, 1e-300))
    extreme = region.maximiser(rng.normal(size=(count, n)))
    pointed = [region.centre[None], region.centre + inside, extreme]
    for base in (region.centre, extreme[0]):
        linear = np.eye(n)
        for layer, before in zip(network.layers, network.preactivations(base[None]), strict=True):
            linear = linear @ layer.weight
            pointed += [region.maximiser(linear.T), region.maximiser(-linear.T)]
            linear = linear * (before[0] > 0)
    return np.vstack(pointed)


def check_inside(network, bounds, points, tolerance=0.0):
    for k, before in enumerate(network.preactivations(points)):
        assert (before >= bounds.lower[k] - tolerance).all(), f"layer {k} falls below its bound"
        assert (before <= bounds.upper[k] + tolerance).all(), f"layer {k} rises above its bound"


def check_nested(inner, outer, tolerance=1e-9):
    for k in range(len(inner.lower)):
        assert (inner.lower[k] >= outer.lower[k] - tolerance).all()
        assert (inner.upper[k] <= outer.upper[k] + tolerance).all()


@every_method
@settings(deadline=None, max_examples=80)
@given(case=cases())
def test_no_point_leaves(method, case):
    network, region, rng = case
    bounds = pre_activation_bounds(network, region, method)
    check_inside(network, bounds, points_of(region, network, rng))
    assert all((low <= up).all() for low, up in zip(bounds.lower, bounds.upper, strict=True))
    assert [low.shape for low in bounds.lower] == [(layer.outputs,) for layer in network.layers]


@every_method
@settings(deadline=None, max_examples=40)
@given(case=cases())
def test_a_single_point(method, case):
    """At radius 0 both bounds are the forward pass."""
    network, region, _ = case
    bounds = pre_activation_bounds(network, region.with_radius(0.0), method)
    for k, before in enumerate(network.preactivations(region.centre[None])):
        assert bounds.lower[k] == pytest.approx(before[0], abs=1e-8)
        assert bounds.upper[k] == pytest.approx(before[0], abs=1e-8)


@settings(deadline=None, max_examples=60)
@given(case=cases(), share=st.floats(0.0, 1.0))
def test_smaller_balls_have_tighter_intervals(case, share):
    """Backward bounds are left out: another choice of slopes may make one of them a little looser."""
    network, region, _ = case
    smaller = region.with_radius(share * min(region.radius, region.reach))
    check_nested(interval_bounds(network, smaller), interval_bounds(network, region))
    check_nested(crown_bounds(network, smaller), interval_bounds(network, region))


@every_method
@settings(deadline=None, max_examples=40)
@given(case=cases())
def test_without_the_last_layer_all_others_are_the_same(method, case):
    network, region, _ = case
    whole, plain = pre_activation_bounds(network, region, method), interval_bounds(network, region)
    found = pre_activation_bounds(network, region, method, outputs=False)
    for side, of_all, of_intervals in (
        (found.lower, whole.lower, plain.lower),
        (found.upper, whole.upper, plain.upper),
    ):
        assert all((mine == theirs).all() for mine, theirs in zip(side[:-1], of_all[:-1], strict=True))
        if len(side) > 1:
            reach = np.abs(of_intervals[-1] - of_all[-1])
            assert (np.abs(side[-1] - of_all[-1]) <= reach + 1e-9).all()


@settings(deadline=None, max_examples=60)
@given(case=cases())
def test_methods_are_ordered(case):
    network, region, _ = case
    interval, crown, alpha = (pre_activation_bounds(network, region, method) for method in METHODS)
    check_nested(crown, interval)
    check_nested(alpha, crown)


@settings(deadline=None, max_examples=40)
@given(case=cases(), method=st.sampled_from(METHODS))
def test_ball_is_inside_its_box(case, method):
    """A ball as large as the box changes nothing."""
    network, region, _ = case
    box = pre_activation_bounds(network, region.with_radius(np.inf), method)
    ball = pre_activation_bounds(network, region.with_radius(region.reach), method)
    check_nested(ball, box)
    check_nested(box, ball)


EXACT = [((3, 2, 2, 2), 1, np.inf), ((3, 2, 2, 2), 2, 0.7), ((2, 4, 3), 3, 0.4), ((4, 3, 2), 4, 1.1), ((3, 2), 5, 0.5)]


@pytest.fixture(scope="module", params=EXACT, ids=str)
def exact(request):
    sizes, seed, radius = request.param
    network = random_network(sizes, seed)
    region = Region.around(np.clip(np.random.default_rng(seed).uniform(-0.3, 1.3, sizes[0]), 0, 1), radius)
    return network, region, Bounds(*map(tuple, exact_bounds(network, region)))


class TestAgainstExactOptima:
    @every_method
    def test_inside(self, exact, method):
        network, region, optima = exact
        bounds = pre_activation_bounds(network, region, method)
        check_nested(optima, bounds, 1e-8)
        first = Bounds(bounds.lower[:1], bounds.upper[:1])
        check_nested(first, Bounds(optima.lower[:1], optima.upper[:1]), 1e-8)

    def test_any_bound_too_tight_is_caught(self, exact):
        """The check above has teeth: exact bounds pass, each of them cut by a thousandth of its width fails."""
        _, _, optima = exact
        check_nested(optima, optima)
        for k, (low, up) in enumerate(zip(optima.lower, optima.upper, strict=True)):
            for j in range(len(low)):
                cut = np.zeros_like(low)
                cut[j] = 1e-3 * (up[j] - low[j])
                if cut[j] <= 1e-7:
                    continue
                with pytest.raises(AssertionError):
                    check_nested(optima, optima.replaced(k, low + cut, up), 1e-8)
                with pytest.raises(AssertionError):
                    check_nested(optima, optima.replaced(k, low, up - cut), 1e-8)

    def test_crown_is_exact_where_no_phase_is_open(self):
        network = Network.from_arrays(
            [[[1.0, -1.0], [1.0, -1.0]], [[1.0, 0.5], [-1.0, 3.0]]], [[0.5, -0.5], [0.0, 1.0]]
        )
        region = Region.around([0.5, 0.5])
        bounds = crown_bounds(network, region)
        # h1 = x1 + x2 + 0.5 on, h2 off; a = (h1, 0.5 h1 + 1)
        assert bounds.lower[1] == pytest.approx([0.5, 1.25])
        assert bounds.upper[1] == pytest.approx([2.5, 2.25])
        assert bounds.unstable == 0

    def test_one_open_phase_by_hand(self):
        """y = max(a, 0), -1 <= a <= 2: the chord 2/3 (a + 1) above, a (the slope 2/3 > 1/2) below; then b = 1 - y."""
        network = Network.from_arrays([[[3.0]], [[-1.0, 1.0]]], [[-1.0], [1.0, 0.0]])
        bounds = crown_bounds(network, Region.around([0.2]))
        assert bounds.unstable == 1
        assert (bounds.lower[0][0], bounds.upper[0][0]) == (pytest.approx(-1), pytest.approx(2))
        # intervals cut off what the lines allow beyond: b <= 1 and y >= 0
        assert bounds.lower[1] == pytest.approx([-1, 0], abs=1e-9)
        assert bounds.upper[1] == pytest.approx([1, 2], abs=1e-9)


class TestRecord:
    def test_replaced_never_loosens(self):
        bounds = Bounds((np.array([-1.0, 0.0]),), (np.array([1.0, 2.0]),))
        changed = bounds.replaced(0, np.array([-2.0, 1.0]), np.array([0.5, 3.0]))
        assert changed.lower[0].tolist() == [-1, 1]
        assert changed.upper[0].tolist() == [0.5, 2]
        both = bounds.intersect(Bounds((np.array([-0.5, -9.0]),), (np.array([9.0, 1.0]),)))
        assert (both.lower[0].tolist(), both.upper[0].tolist()) == ([-0.5, 0], [1, 1])

    def test_unstable_counts_hidden_neurons_only(self):
        low, up = np.array([-1.0, 0.0, -1.0]), np.array([1.0, 1.0, 0.0])
        assert Bounds((low, low), (up, up)).unstable == 1


@every_method
def test_a_real_network(method):
    network, rng = bundled_nominal(), np.random.default_rng(0)
    region = Region.around(bundled_images().nominal[3], 10.0)
    bounds = pre_activation_bounds(network, region, method)
    check_inside(network, bounds, points_of(region, network, rng, 300))


def test_optimised_slopes_gain_on_a_real_network():
    region = Region.around(bundled_images().nominal[3], 10.0)
    widths = [
        sum((up - low).sum() for low, up in zip(bounds.lower, bounds.upper, strict=True))
        for bounds in (pre_activation_bounds(bundled_nominal(), region, method) for method in METHODS)
    ]
    assert widths[0] > widths[1] > widths[2]
