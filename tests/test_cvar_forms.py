"""Quadratic forms and moments: closed forms, semidefinite programs, distributions that attain them; bad moments."""

import numpy as np
import pytest
from cvar_cases import LOOP, SEEDS, quadratic, random_form, random_moments
from hypothesis import given, settings
from hypothesis import strategies as st

from arfj.certify.cvar import (
    Moments,
    attaining,
    certify_classes,
    cvar,
    worst_case_cvar,
)
from arfj.certify.cvar.samples import LAWS, T_SCALE, draw, matched
from arfj.certify.cvar.sdp import load_cvxpy
from arfj.errors import UsageError
from arfj.network import Network


class TestForms:
    @pytest.mark.parametrize(
        ("pi", "theta", "rho", "mean", "variance", "epsilon", "expected"),
        [
            (1, 0.5, -1, 0.3, 2, 0.1, 24.17823),
            (-1, 0.7, 0.2, 0.5, 1, 0.2, 0.69000),
            (-0.3, 2, 0, 0, 1, 0.05, 11.73560),
            (0.4, -1, 3, -1, 0.5, 0.5, 7.57990),
            (-1, 0, 0, 0, 1, 0.3, 0),
        ],
    )
    def test_one_dimension(self, pi, theta, rho, mean, variance, epsilon, expected):
        found = worst_case_cvar([[pi, theta], [theta, rho]], Moments([mean], [[variance]]), epsilon)
        assert found.value == pytest.approx(expected, abs=6e-6)
        assert found.value >= found.attained - 1e-15
        assert found.value - found.attained < 1e-10

    @pytest.mark.parametrize("epsilon", [0.01, 0.2, 0.5, 0.9])
    def test_closed_forms(self, epsilon):
        rng = np.random.default_rng(7)
        assert worst_case_cvar(np.diag([1.0, 1, 0]), Moments([0, 0], np.eye(2) / 4), epsilon).value == pytest.approx(
            1 / (2 * epsilon), rel=1e-12
        )
        for size in (1, 3, 6):
            moments = random_moments(rng, size)
            centred = Moments(np.zeros(size), moments.covariance)
            whitening = np.zeros((size + 1, size + 1))
            whitening[:-1, :-1] = np.linalg.inv(centred.covariance)
            assert worst_case_cvar(whitening, centred, epsilon).value == pytest.approx(size / epsilon, rel=1e-9)
            a, b = rng.normal(size=size), rng.normal()
            linear = np.zeros((size + 1, size + 1))
            linear[:-1, -1] = linear[-1, :-1] = a / 2
            linear[-1, -1] = b
            spread = np.sqrt((1 - epsilon) / epsilon * a @ moments.covariance @ a)
            expected = a @ moments.mean + b + spread
            assert worst_case_cvar(linear, moments, epsilon).value == pytest.approx(expected, rel=1e-10)

    @pytest.mark.parametrize("size", [1, 2, 4])
    def test_against_the_semidefinite_program(self, size):
        """The published form, in the coordinates of x: min beta + Tr(Omega N) / eps."""
        cp = load_cvxpy()
        rng = np.random.default_rng(size)
        form, moments, epsilon = random_form(rng, size + 1), random_moments(rng, size), 0.3
        cover, beta = cp.Variable((size + 1, size + 1), PSD=True), cp.Variable()
        corner = np.zeros((size + 1, size + 1))
        corner[-1, -1] = 1
        problem = cp.Problem(
            cp.Minimize(beta + cp.trace(moments.omega @ cover) / epsilon), [cover - form + beta * corner >> 0]
        )
        problem.solve(solver="CLARABEL")
        assert worst_case_cvar(form, moments, epsilon).value == pytest.approx(problem.value, rel=1e-6, abs=1e-6)

    @given(SEEDS, st.integers(1, 6), st.floats(0.02, 0.95), st.booleans())
    @settings(max_examples=60, deadline=None)
    def test_some_distribution_attains_it(self, seed, size, epsilon, singular):
        rng = np.random.default_rng(seed)
        moments = random_moments(rng, size, max(size - 1, 1) if singular else None)
        form = random_form(rng, size + 1)
        found = worst_case_cvar(form, moments, epsilon)
        met = attaining(found.tail, moments, epsilon)
        mean, covariance = met.moments()
        assert mean == pytest.approx(moments.mean, abs=1e-9)
        assert covariance == pytest.approx(moments.covariance, abs=1e-9)
        assert met.weights.sum() == pytest.approx(1)
        scale = np.abs(form).max() * (1 + np.trace(moments.covariance) + moments.mean @ moments.mean) / epsilon
        reached = cvar(quadratic(form, met.points), epsilon, met.weights)
        assert found.value - 1e-8 * scale <= reached <= found.value

    @given(SEEDS, st.integers(1, 4), st.floats(0.05, 0.9))
    @settings(max_examples=30, deadline=None)
    def test_no_sample_exceeds_it(self, seed, size, epsilon):
        rng = np.random.default_rng(seed)
        moments, form = random_moments(rng, size), random_form(rng, size + 1)
        bound = worst_case_cvar(form, moments, epsilon).value
        for law in LAWS:
            points = matched(draw(law, moments, 500, rng), moments)
            assert cvar(quadratic(form, points), epsilon) <= bound + 1e-9 * abs(bound)

    def test_a_point(self):
        """Sigma = 0: one distribution, and CVaR is the loss there."""
        moments = Moments([2.0, -1.0], np.zeros((2, 2)))
        assert moments.rank == 0
        assert worst_case_cvar(np.diag([1.0, 1, 3]), moments, 0.1).value == pytest.approx(8)

    def test_large(self):
        rng = np.random.default_rng(0)
        found = worst_case_cvar(random_form(rng, 65), random_moments(rng, 64), 0.2)
        assert found.value - found.attained < 1e-8 * found.value

    def test_cvar_of_samples(self):
        assert cvar([1, 2, 3, 4, 5], 0.4) == pytest.approx(4.5)
        assert cvar([1, 2, 3, 4, 5], 0.3) == pytest.approx((5 * 0.2 + 4 * 0.1) / 0.3)
        assert cvar([0, 10], 0.5, [0.9, 0.1]) == pytest.approx(2)


class TestMoments:
    def test_of_samples(self):
        rows = np.random.default_rng(0).normal(size=(20, 3))
        found = Moments.of(rows)
        assert found.covariance == pytest.approx(np.cov(rows.T))
        assert found.root @ found.root.T == pytest.approx(found.covariance)
        assert found.factor @ found.factor.T == pytest.approx(found.omega)
        assert Moments.of(rows[:, :1]).covariance.shape == (1, 1)

    @pytest.mark.parametrize(
        ("mean", "covariance", "told"),
        [
            ([0, 0], np.eye(3), r"shape \(2,\), the covariance \(3, 3\)"),
            ([[0, 0]], np.eye(2), r"expected \(n,\) and \(n, n\)"),
            ([0, 0], [[1, 0.5], [0, 1]], "not symmetric"),
            ([0, 0], [[1, 2], [2, 1]], "eigenvalue -1"),
            ([0, np.nan], np.eye(2), "NaN or infinity"),
            ([], np.zeros((0, 0)), "expected"),
            ("ab", np.eye(2), "numbers"),
        ],
    )
    def test_what_is_refused(self, mean, covariance, told):
        with pytest.raises(UsageError, match=told):
            Moments(mean, covariance)

    def test_units_do_not_matter(self):
        """An input in tiny units is no input that does not vary: 1e15 times its standard deviation of 1e-15 is 1."""
        units = np.array([1.0, 1e-15, 1e9])
        root = np.random.default_rng(1).normal(size=(3, 3))
        plain, scaled = Moments([0, 0, 0], root @ root.T), Moments([0, 0, 0], units[:, None] * (root @ root.T) * units)
        assert scaled.rank == 3
        assert scaled.root @ scaled.root.T / units[:, None] / units == pytest.approx(root @ root.T, rel=1e-12)
        network = Network.from_arrays([[[1.0, -1.0]] * 3, [[0.0, 1.0], [0.0, -1.0]]], [[0, 0], [0, 0]], "linear")
        first = network.layers[0].weight / units[:, None]
        other = Network.from_arrays([first, network.layers[1].weight], [[0, 0], [0, 0]], "linear")
        exact = np.sqrt(4 * np.ones(3) @ plain.covariance @ np.ones(3))  # f_1 - f_0 is the sum of the inputs
        for net, moments in ((network, plain), (other, scaled)):
            found = certify_classes(net, moments, 0, 0.2)[1].bound
            assert exact - 1e-9 <= found <= exact + 1e-3

    @given(SEEDS, st.integers(1, 5), st.integers(0, 5), st.integers(-8, 8))
    @settings(max_examples=40, deadline=None)
    def test_the_root_covers_the_covariance(self, seed, size, rank, power):
        """S S' >= Sigma, and next to it, whatever the rank: in the units of each input."""
        rng = np.random.default_rng(seed)
        units = 10.0 ** rng.integers(-abs(power), abs(power) + 1, size)
        half = units[:, None] * rng.normal(size=(size, min(rank, size)))
        moments = Moments(np.zeros(size), half @ half.T)
        above = (moments.root @ moments.root.T - moments.covariance) / units[:, None] / units
        assert np.linalg.eigvalsh(above)[0] >= 0
        assert np.abs(above).max() <= 1e-12 * size
        assert moments.rank == (size if rank else 0)

    def test_nearly_the_same_input_twice(self):
        """The difference has a variance below the rounding of Sigma's eigenvalues, and a network that magnifies it."""
        beside = 1.0 - 2.0**-53
        moments = Moments([0, 0], [[1.0, beside], [beside, 1.0]])
        network = Network.from_arrays([[[1e8], [-1e8]], [[0.0, 1.0]]], [[0], [0, 0]], "linear")
        spread = 1e8 * np.sqrt(2 * 2.0**-53)
        two = spread * np.array([1, -1, 0])  # x_1 - x_2 is one of these, with probabilities eps / 2, eps / 2, 1 - eps
        reached = cvar(np.maximum(two / np.sqrt(0.2), 0), 0.2, [0.1, 0.1, 0.8])
        assert certify_classes(network, moments, 0, 0.2)[1].bound >= reached > 1

    def test_covariances_that_tiny_variances_do_not_allow(self):
        """Within the tolerance for all of Sigma it is no error, and what is certified covers it."""
        for variance in (1e-30, 0.0):
            moments = Moments([0, 0], [[1.0, 1e-12], [1e-12, variance]])
            above = moments.root @ moments.root.T - moments.covariance
            assert np.linalg.eigvalsh(above)[0] >= 0
            assert np.abs(above).max() < 1e-11

    @pytest.mark.parametrize("rows", [np.zeros((1, 3)), np.zeros(3), np.zeros((3, 0))])
    def test_data_that_is_none(self, rows):
        with pytest.raises(UsageError, match="at least two samples"):
            Moments.of(rows)

    @pytest.mark.parametrize("epsilon", [0, 1, -0.1, 1.5, float("nan")])
    def test_levels(self, epsilon):
        with pytest.raises(UsageError, match="between 0 and 1"):
            worst_case_cvar(np.eye(2), Moments([0], [[1]]), epsilon)
        with pytest.raises(UsageError, match="between 0 and 1"):
            certify_classes(LOOP, Moments([0, 0], np.eye(2)), 0, epsilon, rivals=[])

    @pytest.mark.parametrize(("form", "told"), [(np.eye(3), "shape"), ([[1, 2], [0, 1]], "not symmetric")])
    def test_forms(self, form, told):
        with pytest.raises(UsageError, match=told):
            worst_case_cvar(form, Moments([0], [[1]]), 0.2)

    @pytest.mark.parametrize("law", LAWS)
    def test_samplers_have_the_moments(self, law):
        moments = random_moments(np.random.default_rng(3), 3)
        drawn = draw(law, moments, 400_000, np.random.default_rng(4))
        room = {"t": 0.12, "power law": 0.12, "lognormal": 0.06}.get(law, 0.02)  # by their fourth moments
        assert drawn.mean(axis=0) == pytest.approx(moments.mean, abs=0.02)
        assert np.cov(drawn.T) == pytest.approx(moments.covariance, abs=room)
        own = matched(drawn[:1000], moments)
        assert own.mean(axis=0) == pytest.approx(moments.mean, abs=1e-10)
        assert np.cov(own.T, ddof=0) == pytest.approx(moments.covariance, abs=1e-10)

    def test_t_with_a_scale_matrix_has_three_times_the_covariance(self):
        moments = Moments([0.0], [[1.0]])
        one, other = (draw(law, moments, 200_000, np.random.default_rng(1)) for law in ("t", T_SCALE))
        assert other == pytest.approx(np.sqrt(3) * one)

    def test_unknown_law(self):
        with pytest.raises(UsageError, match="no law"):
            draw("cauchy", Moments([0], [[1]]), 3, np.random.default_rng(0))
