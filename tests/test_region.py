"""The region: its support function against a linear program and against the points that attain it."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog

from arfj.errors import UsageError
from arfj.region import Region

SOLVE = settings(deadline=None, max_examples=60)
# Halves, quarters and so on: ties among weights and pixels at the ends of the box come up often.
PIXEL = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1, allow_subnormal=False))
WEIGHT = st.one_of(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), st.floats(-10, 10, allow_subnormal=False))
RADIUS = st.one_of(st.sampled_from([0.0, 0.25, 1.0, 100.0, np.inf]), st.floats(0, 6, allow_subnormal=False))


@st.composite
def cases(draw):
    size = draw(st.integers(1, 6))
    image = draw(arrays(np.float64, size, elements=PIXEL))
    return Region.around(image, draw(RADIUS)), draw(arrays(np.float64, (2, size), elements=WEIGHT))


def by_linear_program(region, w):
    """max w.x over x = centre + p - q, 0 <= p, q, sum p + q <= R.

    For w of size 1: a solver takes gains below its tolerance, some 1e-7, for none.
    """
    size, scale = len(w), max(float(np.abs(w).max()), 1e-300)
    radius = min(region.radius, region.reach)
    caps = [*zip([0] * size, region.upper - region.centre), *zip([0] * size, region.centre - region.lower)]  # noqa: B905
    answer = linprog(
        np.r_[-w, w] / scale, A_ub=np.ones((1, 2 * size)), b_ub=[radius], bounds=caps, options={"time_limit": 30.0}
    )
    assert answer.status == 0
    return float(w @ region.centre) - scale * answer.fun


@SOLVE
@given(cases())
def test_support_is_the_optimum_of_the_linear_program(case):
    region, weights = case
    for value, w in zip(region.support(weights), weights, strict=True):
        # The solver's columns and its row may each be off by 1e-7.
        assert value == pytest.approx(by_linear_program(region, w), abs=1e-6 * (1.0 + np.abs(w).sum()))


@SOLVE
@given(cases())
def test_support_is_attained(case):
    region, weights = case
    points = region.maximiser(weights)
    for value, w, x in zip(region.support(weights), weights, points, strict=True):
        assert region.contains(x, 1e-12)
        assert w @ x == pytest.approx(value, abs=1e-10)


@SOLVE
@given(cases(), st.integers(0, 2**32))
def test_no_point_of_the_region_exceeds_the_support(case, seed):
    region, weights = case
    rng = np.random.default_rng(seed)
    step = rng.random((50, len(region.centre))) - region.centre
    lengths = np.maximum(np.abs(step).sum(axis=1, keepdims=True), 1e-300)
    points = region.centre + step * np.minimum(1.0, min(region.radius, 1e9) / lengths)
    assert all(region.contains(x, 1e-9) for x in points)
    assert (points @ weights.T <= region.support(weights) + 1e-9).all()


@SOLVE
@given(cases(), st.floats(0, 3), st.floats(0, 3))
def test_larger_radius_is_no_smaller(case, one, two):
    region, weights = case
    small, large = sorted((one, two))
    nested = [region.with_radius(radius).support(weights) for radius in (small, large, np.inf)]
    assert (nested[0] <= nested[1] + 1e-12).all()
    assert (nested[1] <= nested[2] + 1e-12).all()


@SOLVE
@given(cases())
def test_radius_zero_is_the_centre(case):
    region, weights = case
    assert np.array_equal(region.with_radius(0).support(weights), weights @ region.centre)


@SOLVE
@given(cases())
def test_box_alone_beyond_the_reach(case):
    region, weights = case
    everything = np.maximum(weights, 0).sum(axis=1)
    for radius in (region.reach, region.reach + 1, np.inf):
        assert region.with_radius(radius).support(weights) == pytest.approx(everything, abs=1e-10)
        assert not region.with_radius(radius).has_ball


def test_knapsack_by_hand():
    # Gains 3, 2, 1 per unit, room 0.5 up, 0.75 down, 1 up: 1.5 units pay for the first two and 0.25 of the third.
    region = Region.around([0.5, 0.75, 0.0], 1.5)
    w = [3.0, -2.0, 1.0]
    assert region.support(w) == pytest.approx([3 * 1.0 - 2 * 0.0 + 0.25])
    assert np.array_equal(region.maximiser(w), [[1.0, 0.0, 0.25]])


@SOLVE
@given(
    seed=st.integers(0, 2**32),
    share=st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.95]),
    scale=st.sampled_from([1e-3, 0.2, 1.0, 50.0]),
    kind=st.sampled_from(["any", "ties", "few"]),
)
def test_of_many_pixels_the_best_are_enough_or_all_are_sorted(seed, share, scale, kind):
    """With small rooms those selected cannot hold the radius; those at a side of the box have none at all."""
    rng = np.random.default_rng(seed)
    count = 300
    lower, upper = np.zeros(count), scale * rng.random(count)
    centre = np.where(rng.random(count) < 0.4, 0.0, 0.5 * upper)
    region = Region(centre, lower, upper)
    radius = share * region.reach
    region = region.with_radius(radius)
    assert region.has_ball
    weights = rng.normal(size=(5, count)) * 10.0 ** rng.integers(-3, 4, (5, 1))
    if kind == "ties":
        weights = np.round(weights)
    elif kind == "few":  # nothing to gain but from a few pixels, and from none in the last row
        weights = weights * (rng.random(count) < 0.02) * np.array([[1.0], [1.0], [1.0], [1.0], [0.0]])
    values, points = region.attained(weights)
    tolerance = 1e-13 * region.magnitude(weights) + 1e-300
    for w, value, x, close in zip(weights, values, points, tolerance, strict=True):
        left, best = radius, float(w @ region.centre)
        for pixel in sorted(range(count), key=lambda pixel: -abs(w[pixel])):
            room = upper[pixel] - region.centre[pixel] if w[pixel] > 0 else region.centre[pixel]
            best += abs(w[pixel]) * min(room, left)
            left -= min(room, left)
        assert abs(value - best) <= close
        assert abs(w @ x - best) <= close
        assert region.contains(x, 1e-12 * scale * count)


def test_magnitude_and_reach():
    region = Region(np.array([0.5, 0.0]), np.array([-1.0, 0.0]), np.array([0.5, 2.0]))
    assert region.magnitude([[3.0, -4.0]]).tolist() == [3 + 8]
    assert region.reach == 1.5 + 2


def test_contains():
    region = Region.around([0.5, 0.5], 0.25)
    assert region.contains(np.array([0.75, 0.5]))
    assert not region.contains(np.array([0.75, 0.51]))
    assert region.contains(np.array([0.75, 0.51]), 0.02)
    assert not Region.around([0.9]).contains(np.array([1.1]))


@pytest.mark.parametrize(
    ("centre", "lower", "upper", "radius", "message"),
    [
        ([0.5], [0.0], [1.0], -1, "radius"),
        ([0.5], [0.0], [1.0], np.nan, "radius"),
        ([1.5], [0.0], [1.0], 1, "in its box"),
        ([np.nan], [0.0], [1.0], 1, "NaN"),
        ([0.5], [1.0], [0.0], 1, "in its box"),
        ([0.5], [0.0], [np.inf], 1, "finite"),
        ([0.5, 0.5], [0.0], [1.0], 1, "one shape"),
        ([[0.5]], [[0.0]], [[1.0]], 1, "one shape"),
    ],
)
def test_refused(centre, lower, upper, radius, message):
    with pytest.raises(UsageError, match=message):
        Region(np.array(centre), np.array(lower), np.array(upper), radius)


def test_frozen():
    image = np.array([0.5])
    region = Region.around(image)
    image[0] = 0.9
    assert region.centre[0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        region.centre[0] = 0.1


class TestEuclideanBalls:
    """p = 2: the support against bisection on the step's length, and against points."""

    @staticmethod
    def region(seed):
        rng = np.random.default_rng(seed)
        size = int(rng.integers(1, 7))
        centre = rng.normal(size=size) * rng.choice([1.0, 50.0])
        room = rng.random((2, size)) * 10.0 ** rng.uniform(-3, 1, size=(2, size)) * (rng.random((2, size)) > 0.2)
        region = Region(centre, centre - room[0], centre + room[1], norm=2)
        weights = rng.normal(size=(4, size)) * 10.0 ** rng.uniform(-3, 3, size=size) * (rng.random((4, size)) > 0.2)
        return region.with_radius(float(region.reach * rng.choice([0.0, 0.1, 0.5, 0.9, 1.0, 2.0]))), weights, rng

    @staticmethod
    def by_bisection(region, w):
        """max w.x: every pixel moves by min(t |w|, its room), t as large as the ball allows."""
        gain = np.abs(w).astype(np.longdouble)
        room = np.where(w > 0, region.upper - region.centre, region.centre - region.lower).astype(np.longdouble)
        room = np.where(gain > 0, room, 0)
        low, high = np.longdouble(0), 2 * max(room.max(), region.radius, 1) / max(gain[gain > 0].min(initial=1), 1e-300)
        for _ in range(300):
            middle = (low + high) / 2
            inside = np.sqrt((np.minimum(middle * gain, room) ** 2).sum()) <= region.radius
            low, high = (middle, high) if inside else (low, middle)
        return (w * region.centre).sum() + (gain * np.minimum(low * gain, room)).sum()

    @pytest.mark.parametrize("seed", range(60))
    def test_support(self, seed):
        region, weights, rng = self.region(seed)
        points = region.maximiser(weights)
        spare = 1e-12 * (region.magnitude(weights) + 1)
        for value, w, x, more in zip(region.support(weights), weights, points, spare, strict=True):
            assert value == pytest.approx(float(self.by_bisection(region, w)), abs=more)
            assert w @ x == pytest.approx(value, abs=more)
            assert region.contains(x, 1e-12 * (1 + np.abs(region.centre).max()))
        steps = rng.normal(size=(200, len(region.centre)))
        steps *= region.radius / np.linalg.norm(steps, axis=1, keepdims=True) * rng.random((200, 1))
        inside = np.clip(region.centre + steps, region.lower, region.upper)
        assert (inside @ weights.T <= region.support(weights) + spare).all()
        low, up = region.box
        assert ((inside >= low) & (inside <= up)).all()

    def test_by_hand(self):
        region = Region(np.zeros(2), np.array([-1.0, -1.0]), np.array([0.6, 9.0]), 1.0, 2)
        assert region.support([[3.0, 4.0], [100.0, 1.0], [0.0, -2.0], [0.0, 0.0]]) == pytest.approx([5, 60.8, 2, 0])
        assert region.maximiser([[100.0, 1.0]]) == pytest.approx(np.array([[0.6, 0.8]]))
        assert region.reach == pytest.approx(np.sqrt(1 + 81))
        assert region.contains(np.array([0.6, 0.8]), 1e-12)
        assert not region.contains(np.array([0.6, 0.81]))

    @given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([(-3, 0), (-14, -5), (-300, -90)]))
    @settings(max_examples=300, deadline=None)
    def test_no_flip_of_black_and_white_pixels_is_above(self, seed, size, powers):
        """Where whole pixels use the radius up, no rounding takes them back; exact sums of all flips within it."""
        rng = np.random.default_rng(seed)
        centre = rng.integers(0, 2, size).astype(float)
        flipped = int(rng.integers(1, 5))
        region = Region.around(centre, float(np.sqrt(flipped)), 2)
        large = rng.permutation(size) < flipped
        w = np.where(large, 1.0, 10.0 ** rng.uniform(*powers, size) * (rng.random(size) > 0.2)) * rng.random(size)
        w *= np.where((centre == 0) | (rng.random(size) < 0.1), 1.0, -1.0)  # most can move
        (value,), (x,) = region.support([w]), region.maximiser([w])
        gains = sorted(
            (Fraction(float(v)) * (1 if c == 0 else -1) for v, c in zip(w, centre, strict=True)), reverse=True
        )
        reached = sum((max(gain, Fraction(0)) for gain in gains[:flipped]), Fraction(0))
        start = sum((Fraction(float(v)) for v, c in zip(w, centre, strict=True) if c), Fraction(0))
        spare = 1e-14 * float(region.magnitude([w])[0])
        assert np.isfinite(value)
        assert value >= float(start + reached) - spare
        assert region.contains(x, 1e-12)
        assert w @ x == pytest.approx(value, abs=1e-12 * (1 + np.abs(w).sum()))

    def test_a_weight_of_0_beside_pixels_that_use_up_the_radius(self):
        region = Region.around([1.0, 0.0, 1.0], 1.0, 2)
        assert region.support([[-0.828, 0.0, 0.0], [-0.828, -2.185, -1.341]]) == pytest.approx(
            [0.0, -2.169 + np.hypot(0.828, 1.341)]
        )

    def test_between_the_other_norms(self):
        """The L1 ball lies in the L2 ball, that in the box."""
        rng = np.random.default_rng(0)
        weights = rng.normal(size=(20, 5))
        found = [Region.around(rng.random(5), 0.4, norm).support(weights) for norm in (1, 2)]
        centre = np.full(5, 0.5)
        one, two = (Region.around(centre, 0.4, norm).support(weights) for norm in (1, 2))
        assert (one <= two + 1e-12).all()
        assert (two <= Region.cube(centre, 0.4).support(weights) + 1e-12).all()
        assert np.isfinite(found).all()

    def test_other_norms_are_refused(self):
        with pytest.raises(UsageError, match="norm"):
            Region.around([0.5], 1.0, 3)
