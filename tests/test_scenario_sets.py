"""Sets of outputs: optima known by hand, against a general solver, and proven to hold the optimum."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize

from arfj.certify.scenario import Gaussian, Request, Safe, Source, certify, from_outputs
from arfj.certify.scenario.diamond import l1_ball, tilted
from arfj.certify.scenario.euclidean import l2_ball
from arfj.certify.scenario.sets import Ball, Box, box, covering, linf_ball
from arfj.errors import ArfjError, UsageError
from arfj.network import Network

SURE = 1e-6


def points_of(seed, count, outputs):
    rng = np.random.default_rng(seed)
    return np.maximum(rng.normal(size=(count, outputs)), -0.5) * rng.uniform(0.1, 3.0, outputs) + 1


def general(points, a, weight, order):
    """The optimum by a solver that knows nothing of balls: c and r."""
    start = np.append(points.mean(axis=0), 0.0)
    start[-1] = 2 * np.linalg.norm(points - start[:-1], order, axis=1).max()
    dual = np.linalg.norm(a, {1: np.inf, 2: 2, np.inf: 1}[order])
    found = minimize(
        lambda z: (
            -tilted(a) @ z[:-1] + dual * z[-1] + weight * z[-1] ** 2
            if order == 1
            else -a @ z[:-1] + dual * z[-1] + weight * z[-1] ** 2
        ),
        start,
        constraints={"type": "ineq", "fun": lambda z: z[-1] - np.linalg.norm(points - z[:-1], order, axis=1)},
        method="SLSQP",
        options={"maxiter": 2000, "ftol": 1e-13},
    )
    return found.x[:-1], float(found.x[-1])


def active_signs(points, a, steep, weight):
    """The optimum of max a'c - steep r - weight r^2, s'c + r >= max_j s'y_j for all signs s: by trying active ones."""
    n = len(a)
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=n)))
    levels = (signs @ points.T).max(axis=1)
    best = (-np.inf, None, None)
    for count in (n, n + 1):
        for chosen in map(list, itertools.combinations(range(len(signs)), count)):
            # Unknown c, r, m: a + S'm = 0, sum m = steep + 2 weight r, S c + r = h.
            s = signs[chosen]
            system = np.zeros((n + 1 + count, n + 1 + count))
            system[:n, n + 1 :], system[n, n + 1 :], system[n, n] = s.T, 1.0, -2 * weight
            system[n + 1 :, :n], system[n + 1 :, n] = s, 1.0
            if np.linalg.matrix_rank(system) < len(system):
                continue
            z = np.linalg.solve(system, np.concatenate([-a, [steep], levels[chosen]]))
            c, r, m = z[:n], z[n], z[n + 1 :]
            if (m > -1e-9).all() and (signs @ c + r >= levels - 1e-9).all():
                best = max(best, (a @ c - steep * r - weight * r * r, c.tolist(), r))
    return np.array(best[1]), best[2]


class TestEuclidean:
    @pytest.mark.parametrize("weight", [0.01, 0.1, 3.0])
    def test_two_points_by_hand(self, weight):
        """(+-1, 0), a = (0, 1): c = (0, t), r^2 = 1 + t^2, and the value peaks where 1 / t - 1 / r = 2 lambda."""
        points = np.array([[1.0, 0.0], [-1.0, 0.0]])
        found = l2_ball(points, np.array([0.0, 1.0]), weight)
        t, r = found.centre[1], np.hypot(1.0, found.centre[1])
        assert found.centre[0] == pytest.approx(0.0, abs=1e-6)
        assert 1 / t - 1 / r == pytest.approx(2 * weight, rel=1e-5)
        assert found.radius == pytest.approx(r, rel=1e-5)

    @given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([1e-3, 0.1, 2.0]))
    @settings(max_examples=30, deadline=None)
    def test_against_a_general_solver(self, seed, outputs, weight):
        """No better point is found, and its ball lies in ours."""
        points = points_of(seed, 12, outputs)
        a = np.random.default_rng(seed + 1).normal(size=outputs)
        found = l2_ball(points, a, weight)
        centre, radius = general(points, a, weight, 2)
        radius = max(radius, np.linalg.norm(points - centre, axis=1).max())
        dual = np.linalg.norm(a)
        ours = a @ found.centre - dual * found.radius - weight * found.radius**2
        assert a @ centre - dual * radius - weight * radius**2 <= ours + 1e-4 * (1 + found.radius) * dual
        assert np.linalg.norm(centre - found.centre) + radius <= found.radius + 0.02 * radius

    @given(st.integers(0, 10**6), st.floats(1e-3, 10.0))
    @settings(max_examples=20, deadline=None)
    def test_the_ball_of_the_optimum_is_inside(self, seed, weight):
        """Of points whose optimum is built from its conditions: active points, multipliers, then a follows."""
        rng = np.random.default_rng(seed)
        n = 4
        centre, radius = rng.normal(size=n), 2.0
        directions = rng.normal(size=(n + 1, n))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        m = rng.uniform(0.5, 1.0, n + 1)
        # a = sum m_j u_j with u_j = (c - y_j) / r, and sum m_j = ||a|| + 2 lambda r fixes lambda.
        a = m @ directions
        weight = (m.sum() - np.linalg.norm(a)) / (2 * radius)
        inner = centre + 0.9 * radius * rng.uniform(-1, 1, (50, n)) / np.sqrt(n)
        found = l2_ball(np.vstack([centre - radius * directions, inner]), a, weight)
        assert np.linalg.norm(found.centre - centre) + radius <= found.radius * (1 + 1e-14)
        assert found.radius <= radius * (1 + 1e-4)

    def test_identical_points(self):
        found = l2_ball(np.full((7, 3), 2.0), np.ones(3), 0.1)
        assert found.radius <= 1e-12
        assert found.least(np.ones(3), 0.0) == pytest.approx(6.0)

    @pytest.mark.parametrize("apart", [1e-15, 1e-12, 1e-10])
    @pytest.mark.parametrize("weight", [0.1, 1e-3])
    def test_points_that_are_next_to_equal(self, weight, apart):
        """As by hand above, with t^3 about s^2 / (4 lambda): far larger than s, and far smaller than the outputs."""
        points = np.array([[1.0 + apart, 1.0], [1.0 - apart, 1.0]])
        spread = 0.5 * (points[0, 0] - points[1, 0])
        found = l2_ball(points, np.array([0.0, 1.0]), weight)
        t = np.cbrt(spread**2 / (4 * weight))
        assert np.linalg.norm(found.centre - [1.0, 1.0 + t]) + np.hypot(t, spread) <= found.radius
        assert found.radius <= 1e-3

    def test_a_small_scale_far_away(self):
        points = 1e6 + 1e-3 * points_of(0, 30, 3)
        found = l2_ball(points, np.array([1.0, 0, 0]), 0.1)
        assert (np.linalg.norm(points - found.centre, axis=1) <= found.radius).all()
        assert found.radius < 1e-1

    def test_a_failed_search_is_no_certificate(self, monkeypatch):
        """Whatever it finds is measured: a centre far off proves nothing."""
        monkeypatch.setattr("arfj.certify.scenario.euclidean.SHARPEST", 10.0)
        monkeypatch.setattr("arfj.certify.scenario.euclidean.POLISHING", 0)
        with pytest.raises(ArfjError, match="from what it can prove"):
            l2_ball(points_of(0, 30, 3), np.ones(3), 0.1)


class TestLinf:
    def test_by_hand(self):
        """Extremes 0..2 and 1..2, a = (1, -1): radius 1, the centre at lower + r and upper - r; value 0 - 2."""
        points = np.array([[0.0, 1.0], [2.0, 2.0], [1.0, 1.5]])
        found = linf_ball(points, np.array([1.0, -1.0]))
        assert found.radius == pytest.approx(1.0)
        assert found.centre.tolist() == [1.0, 1.0]
        assert found.least(np.array([1.0, -1.0]), 0.25) == pytest.approx(-1.75)

    @given(st.integers(0, 10**6), st.integers(1, 4), st.sampled_from([1e-2, 0.1, 2.0]))
    @settings(max_examples=6, deadline=None)
    def test_against_a_general_solver(self, seed, outputs, weight):
        points = points_of(seed, 10, outputs)
        a = np.random.default_rng(seed + 1).normal(size=outputs)
        found = linf_ball(points, a)
        centre, radius = general(points, a, weight, np.inf)
        assert radius == pytest.approx(found.radius, rel=1e-3)
        steep = np.abs(a).sum()
        assert found.least(a, 0.0) == pytest.approx(a @ centre - radius * steep, abs=1e-3 * (1 + steep))

    def test_the_value_of_the_box(self):
        points = points_of(3, 20, 4)
        a = np.array([1.0, -2.0, 0.0, 0.5])
        assert linf_ball(points, a).least(a, 1.0) == pytest.approx(box(points).least(a, 1.0))


class TestL1:
    def test_by_hand(self):
        """(0, 0) and (2, 0), a = (0, 1): a unit up costs a unit of radius, so the centre stays at (1, 0)."""
        found = l1_ball(np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([0.0, 1.0]), 5.0)
        assert found.centre.tolist() == pytest.approx([1.0, 0.0], abs=1e-6)
        assert found.radius == pytest.approx(1.0, abs=1e-6)

    @given(st.integers(0, 10**6), st.integers(1, 4), st.sampled_from([1e-2, 0.1, 2.0]))
    @settings(max_examples=6, deadline=None)
    def test_against_a_general_solver(self, seed, outputs, weight):
        """The program in other words: no tilted value is better."""
        points = points_of(seed, 10, outputs)
        a = np.random.default_rng(seed + 1).normal(size=outputs)
        found = l1_ball(points, a, weight)
        centre, radius = general(points, a, weight, 1)
        radius = max(radius, np.abs(points - centre).sum(axis=1).max())

        def value(c, r):
            return tilted(a) @ c - np.abs(a).max() * r - weight * r * r

        assert value(centre, radius) <= value(found.centre, found.radius) + 1e-5 * (1 + np.abs(a).sum() * radius)

    @given(st.integers(0, 10**6), st.integers(1, 4), st.floats(1e-4, 10.0))
    @settings(deadline=None)
    def test_the_ball_of_the_optimum_is_inside(self, seed, outputs, weight):
        """Of all 2^n signs those are tried that may be active: n, or n + 1 of them, whose multipliers are positive."""
        points = points_of(seed, 30, outputs)
        a = np.random.default_rng(seed + 1).normal(size=outputs)
        centre, radius = active_signs(points, tilted(a), float(np.abs(a).max()), weight)
        found = l1_ball(points, a, weight)
        assert np.abs(centre - found.centre).sum() + radius <= found.radius * (1 + 1e-14)
        assert found.radius <= radius * (1 + 2e-3)

    @pytest.mark.parametrize("outputs", [2, 5, 10])
    def test_margins_of_two_classes(self, outputs):
        """a has zeros: the tilt decides."""
        a = np.zeros(outputs)
        a[0], a[1] = 1.0, -1.0
        points = points_of(outputs, 300, outputs)
        found = l1_ball(points, a, 0.1)
        assert (np.abs(points - found.centre).sum(axis=1) <= found.radius).all()
        assert found.least(a, 0.0) <= (points @ a).min()


class TestEllipsoid:
    SHAPE = np.array([[1.0, 0.5], [0.0, 3.0]])

    def test_it_is_a_ball_of_the_image(self):
        points, a = points_of(0, 200, 2), np.array([1.0, -2.0])
        found = from_outputs(points, Safe(a, [0.5]), Request(0.1, 0.01, set="ellipsoid", shape=self.SHAPE))
        image = l2_ball(points @ self.SHAPE.T, np.linalg.solve(self.SHAPE.T, a), 0.1)
        assert found.p == 3
        assert found.bound == pytest.approx(image.least(np.linalg.solve(self.SHAPE.T, a), 0.5), abs=1e-9)
        around = image.centre + image.radius * np.array([[np.cos(t), np.sin(t)] for t in np.linspace(0, 7, 5000)])
        least = (np.linalg.solve(self.SHAPE, around.T).T @ a + 0.5).min()
        assert found.bound == pytest.approx(least, abs=1e-4)
        assert found.bound <= least

    def test_refusals(self):
        with pytest.raises(UsageError, match="need a shape"):
            Request(set="ellipsoid")
        with pytest.raises(UsageError, match="they alone"):
            Request(set="l2", shape=self.SHAPE)
        for shape in (np.ones((2, 2)), np.eye(3), np.full((2, 2), np.nan)):
            with pytest.raises(UsageError, match=r"invertible matrix \(2, 2\)"):
                from_outputs(
                    points_of(0, 200, 2), Safe([1.0, 0], [0]), Request(0.1, 0.01, set="ellipsoid", shape=shape)
                )


class TestSound:
    """What a set says of a'y + b holds at every one of its points."""

    @given(st.integers(0, 10**6), st.sampled_from(["l1", "l2", "linf", "box"]))
    @settings(max_examples=40, deadline=None)
    def test_least(self, seed, kind):
        points = points_of(seed, 15, 3)
        a, b = np.random.default_rng(seed).normal(size=3), 0.5
        found = {
            "l1": lambda: l1_ball(points, a, 0.1),
            "l2": lambda: l2_ball(points, a, 0.1),
            "linf": lambda: linf_ball(points, a),
            "box": lambda: box(points),
        }[kind]()
        least = found.least(a, b)
        assert least <= (points @ a + b).min()
        if isinstance(found, Box):
            corner = np.where(a > 0, found.lower, found.upper)
        elif kind == "l2":
            corner = found.centre - found.radius * a / np.linalg.norm(a)
        elif kind == "linf":
            corner = found.centre - found.radius * np.sign(a)
        else:
            corner = found.centre.copy()
            corner[np.abs(a).argmax()] -= found.radius * np.sign(a[np.abs(a).argmax()])
        assert least == pytest.approx(a @ corner + b, abs=1e-9)
        assert least <= a @ corner + b

    @pytest.mark.parametrize("scale", [0.0, 1e-320, 1e-300, 1e-150, 1e-12, 1e12, 1e150, 1e300])
    @pytest.mark.parametrize("weight", [1e-300, 1e-6, 1.0, 1e6, 1e300])
    def test_where_floats_end(self, scale, weight):
        """What overflows or vanishes is refused, without a warning; what is not refused holds."""
        points = np.random.default_rng(0).normal(size=(80, 2)) * scale
        for kind in ("l1", "l2", "linf", "box"):
            for steep in (1e-200, 1.0, 1e200):
                a = np.array([1.0, -0.5]) * steep
                try:
                    found = from_outputs(points, Safe(a, [0.0]), Request(0.3, 0.01, set=kind, regularise=weight))
                except ArfjError:
                    assert kind in {"l1", "l2"} or scale * steep > 1e300
                    continue
                assert np.isfinite(found.bound)
                assert found.bound <= (points @ a).min()

    def test_a_sample_outside_is_refused(self):
        with pytest.raises(ArfjError, match="a sample lies outside the l2 ball"):
            covering(Ball(np.zeros(2), 1.0, "l2"), np.array([[1.0, 0.1]]))
        grown = covering(Ball(np.zeros(2), 1.0, "l2"), np.array([[1.0, 1e-8]]))
        assert grown.radius >= 1.0


def missed(found, sigma):
    """P(sigma (N, N) lies outside of a set), in closed form."""
    if isinstance(found, Box):
        return 1 - np.prod(stats.norm.cdf(found.upper / sigma) - stats.norm.cdf(found.lower / sigma))
    c, r = found.centre / sigma, found.radius / sigma
    if found.norm == "l2":
        return stats.ncx2.sf(r * r, 2, max(c @ c, 1e-300))
    if found.norm == "l1":  # a square, turned by an eighth
        c, r = np.array([c[0] + c[1], c[0] - c[1]]) / np.sqrt(2), r / np.sqrt(2)
    return 1 - np.prod(stats.norm.cdf(c + r) - stats.norm.cdf(c - r))


class TestCoverage:
    """Balls and boxes of a Gaussian in the plane: how often they miss more than epsilon."""

    @pytest.mark.parametrize("kind", ["l2", "linf", "l1", "box"])
    def test_failures(self, kind):
        epsilon, delta, repetitions = 0.15, 0.1, 120
        network = Network.from_arrays([np.eye(2)], [np.zeros(2)], "linear")
        safe, request = Safe([[1.0, 0.4]], [0.0]), Request(epsilon, delta, set=kind, regularise=0.3)
        found = [certify(Source(network, np.zeros(2), Gaussian(0.5), s), safe, request) for s in range(repetitions)]
        failures = sum(missed(one.localised, 0.5) > epsilon for one in found)
        assert failures <= stats.binom.ppf(1 - SURE, repetitions, delta)
        if kind != "box":  # fully supported: with fewer samples it would not hold
            assert failures > 0
        true = 0.5 * np.hypot(1, 0.4) * stats.norm.ppf(epsilon)
        assert sum(one.bound > true for one in found) <= failures

    def test_section_62(self):
        """ReLU of the l1 ball around (1, 0): the joint method certifies, the smallest enclosing ball does not."""
        rng = np.random.default_rng(0)
        lengths = rng.exponential(size=(581, 3))
        x = rng.choice([-1, 1], (581, 2)) * lengths[:, :2] / lengths.sum(axis=1, keepdims=True) + [1, 0]
        safe = Safe([[0.0, 1.0]], [0.5])
        joint = from_outputs(np.maximum(x, 0), safe, Request(0.05, 1e-5, set="l2", regularise=0.1))
        alone = from_outputs(np.maximum(x, 0), safe, Request(0.05, 1e-5, set="l2", regularise=1e6))
        assert 0.15 < joint.bound < 0.20
        assert -0.45 < alone.bound < -0.35
        assert (joint.safe, alone.safe) == (True, False)
