"""Our own branch and bound: certificates that hold for any multipliers, and a linear solver that fails."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from bab_settings import (
    LARGER,
    SECONDS,
    SEEDS,
    SETTINGS,
    columns_of,
    exact_of,
    in_rationals,
    larger,
    relaxation_at,
    relaxed,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference import exact_distance
from scipy.optimize import Bounds as Box
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import csr_matrix

from arfj.attack.closing import Closing
from arfj.bab import Relaxation, kernels, plain
from arfj.bab.plain import DENSE
from arfj.bab.relaxation import LP
from arfj.bounds import Bounds, pre_activation_bounds
from arfj.ensemble import Ensemble
from arfj.network import Network
from arfj.question import Question


class TestCertificate:
    """Any multipliers give a bound that no point of the question exceeds."""

    @given(st.sampled_from(SEEDS), st.integers(0, 2**32 - 1), st.floats(-9, 2), st.booleans())
    @settings(max_examples=80, deadline=None)
    def test_multipliers_that_are_wrong(self, seed, draw, exponent, from_optimum):
        """Noise of every size, by itself and on top of the optimal ones."""
        question, x, _ = SETTINGS[seed]
        relaxation = relaxed(seed)
        relaxation.solve()
        noise = 10.0**exponent * np.random.default_rng(draw).normal(size=len(relaxation.sides[0]))
        multipliers = noise + (np.array(relaxation.program.getDual()) if from_optimum else 0.0)
        assert relaxation.certified(relaxation.lagrangian(multipliers, None, 1.0))[0] >= -exact_of(seed) * (1 + 1e-9)
        y, s = columns_of(relaxation, question, x)
        for columns, values in ((relaxation.y, y), (relaxation.s, s)):
            for column, value in zip(columns.tolist(), values.tolist(), strict=True):
                assert relaxation.certified(relaxation.lagrangian(multipliers, column, 0.0))[0] >= value - 1e-12
        assert relaxation.certified(relaxation.lagrangian(multipliers, None, 0.0))[0] >= 0.0

    @given(arrays(np.float64, 3, elements=st.floats()))
    @settings(deadline=None)
    def test_numbers_that_are_none_give_no_bound_that_is_wrong(self, some):
        question, x, _ = SETTINGS[SEEDS[0]]
        relaxation = relaxed(SEEDS[0])
        multipliers = np.zeros(len(relaxation.sides[0]))
        multipliers[: len(some)] = some
        with np.errstate(all="ignore"):
            assert relaxation.certified(relaxation.lagrangian(multipliers, None, 1.0))[0] >= -question.distance(x)

    @pytest.mark.parametrize(("loops", "dense"), [(kernels, DENSE), (plain, 0), (plain, DENSE)])
    def test_is_that_of_exact_arithmetic(self, monkeypatch, loops, dense):
        """The float64 sum with its margin is above the same sum in rationals, and by little."""
        monkeypatch.setattr(plain, "DENSE", dense)
        for name in ("Table", "best_columns"):
            monkeypatch.setattr(kernels, name, getattr(loops, name))
        rng = np.random.default_rng(0)
        for seed, ball, on in itertools.product(SEEDS[:3], (False, True), (None, False, True)):
            question, x, bounds = SETTINGS[seed]
            relaxation = Relaxation(question, bounds, 1.1 * question.distance(x) if ball else None)
            relaxation.enter(x)
            for column in (None, relaxation.y[0], relaxation.s[-1]):
                relaxation.maximise(column)
                relaxation.hold({} if on is None else {0: on})
                relaxation.solve()
                best = np.array(relaxation.program.getDual())
                for multipliers in (best, best * (1 + 1e-3 * rng.normal(size=len(best)))):
                    bound, _ = relaxation.certified(relaxation.lagrangian(multipliers, column, float(column is None)))
                    value = in_rationals(relaxation, multipliers, column)
                    assert Fraction(bound) >= value
                    assert bound <= float(value) + 1e-9

    def test_the_bound_of_a_program_is_that_of_another_solver(self):
        """Without a phase held: the linear relaxation of the same rows by HiGHS."""
        for seed in SEEDS[:5]:
            relaxation = relaxed(seed)
            bound, _ = relaxation.solve()
            count = len(relaxation.low)
            pixels = np.zeros((len(relaxation.sides[0]), len(relaxation.caps)))
            pixels[relaxation.pixel_rows] = np.hstack([relaxation.weights.T, -relaxation.weights.T])
            whole = np.hstack([csr_matrix(relaxation.columns).toarray().T, pixels])
            answer = milp(
                np.concatenate([np.zeros(count), np.ones(len(relaxation.caps))]),
                bounds=Box(
                    np.concatenate([relaxation.low, 0.0 * relaxation.caps]), np.append(relaxation.full, relaxation.caps)
                ),
                constraints=LinearConstraint(whole, *relaxation.sides),
            )
            assert bound == pytest.approx(-answer.fun, abs=1e-7)


class TestRelaxation:
    @pytest.mark.parametrize("seed", SEEDS[:5])
    def test_phases_that_are_held_and_let_go(self, seed):
        relaxation = relaxed(seed)
        free, _ = relaxation.solve()
        bounds = [relaxation_at(relaxation, {0: on}) for on in (False, True)]
        assert max(bounds) <= free + 1e-9
        assert relaxation_at(relaxation, {}) == pytest.approx(free, abs=1e-8)

    @pytest.mark.parametrize("seed", SEEDS[:5])
    def test_pixels_enter_as_they_are_needed(self, seed):
        """The bound with few pixels is that with all of them."""
        question, _, bounds = SETTINGS[seed]
        few, many = Relaxation(question, bounds), Relaxation(question, bounds)
        many._enter(np.arange(len(many.caps)))
        for relaxation in (few, many):
            relaxation.maximise(None)
        assert few.solve()[0] == pytest.approx(many.solve()[0], abs=1e-7)

    def test_a_basis_is_resumed_after_pixels_entered(self):
        question, x, bounds = SETTINGS[SEEDS[0]]
        relaxation = Relaxation(question, bounds)
        relaxation.maximise(None)
        expected, _ = relaxation.solve()
        basis = relaxation.basis()
        relaxation.enter(x)
        relaxation._enter(np.arange(len(relaxation.caps)))
        relaxation.start_from(basis)
        assert relaxation.solve()[0] == pytest.approx(expected, abs=1e-8)

    def test_a_basis_is_gone_back_to_once_it_has_been_left(self):
        relaxation = relaxed(SEEDS[0])
        relaxation.solve()
        basis = relaxation.basis()
        for phases in ({}, {0: False, 1: True}, {0: True, 1: False}):
            relaxation.hold(phases)
            relaxation.solve()
            relaxation.start_from(basis)
            columns, rows = relaxation.program.getBase()
            assert (bytes(columns)[: len(basis[0])], bytes(rows)) == basis

    def test_the_image_is_where_the_bound_is_reached(self):
        question, _, _ = SETTINGS[SEEDS[0]]
        relaxation = relaxed(SEEDS[0])
        bound, amounts = relaxation.solve()
        assert amounts is not None
        assert question.distance(relaxation.image()) == pytest.approx(-bound, abs=1e-7)

    def test_a_floor_is_enough(self):
        relaxation = relaxed(SEEDS[0])
        bound, _ = relaxation.solve()
        for floor, above in ((bound + 1.0, False), (bound - 1e-3, True)):
            found, amounts = relaxation.solve(floor)
            assert found >= bound - 1e-9
            assert (amounts is not None) == above

    def test_enough_is_not_tried_again(self, monkeypatch):
        """A solver that stops short of the floor, with a bound that closes the node all the same."""
        relaxation = relaxed(SEEDS[0])
        bound, _ = relaxation.solve()
        entered = relaxation.entered.copy()
        monkeypatch.setattr(relaxation, "_solved", lambda _dual: (bound, "stopped"))
        assert relaxation.solve(bound - 1.0, enough=bound) == (bound, None)
        np.testing.assert_array_equal(relaxation.entered, entered)
        assert relaxation.solve(bound - 1.0) == (bound, None)
        assert relaxation.entered.sum() > entered.sum()

    def test_phases_that_no_point_has(self):
        """y = x and y' = x - 1/2: the second is not on where the first is off."""
        network = Network.from_arrays([np.array([[1.0, 1.0]]), np.eye(2)], [np.array([0.0, -0.5]), np.zeros(2)])
        question = Question(np.array([0.6]), 1, 0, Ensemble((network,), "given"))
        bounds = pre_activation_bounds(network, question.region(1.0), "interval")
        wide = bounds.replaced(0, np.array([-1.0, -1.0]), np.array([2.0, 2.0]))
        relaxation = Relaxation(question, [wide])
        relaxation.maximise(None)
        assert relaxation_at(relaxation, {0: False, 1: True}) == -np.inf
        assert relaxation_at(relaxation, {0: True}) > -np.inf


class Deaf(LP):
    """A solver that never comes to an end."""

    ray = None

    def solve(self, dual=True):
        return 0.0

    def isOptimal(self):
        return False

    def getDualRay(self):
        return None if self.ray is None else self.ray(self.nrows())

    def getDual(self):
        return [0.0] * self.nrows()


class NoRay(Deaf):
    """It calls a feasible program infeasible, and proves it by zeros."""

    ray = staticmethod(np.zeros)


class FalseRay(Deaf):
    """The same by noise that misses a proof by little."""

    ray = staticmethod(lambda rows: 1e-5 * np.random.default_rng(0).normal(size=rows))


class Broken(LP):
    """A solver that breaks down every third time."""

    calls = 0

    def solve(self, dual=True):
        Broken.calls += 1
        if Broken.calls % 3 == 0:
            raise Exception("SCIP: error in LP solver!")  # the class that PySCIPOpt raises
        return super().solve(dual)


class Liar(LP):
    """A solver whose multipliers are noise."""

    def getDual(self):
        return np.random.default_rng(self.nrows()).normal(size=self.nrows()).tolist()


class TestSolverThatFails:
    @pytest.mark.parametrize("kind", [Deaf, NoRay, FalseRay, Liar])
    def test_is_no_proof(self, monkeypatch, kind):
        question, x, bounds = SETTINGS[SEEDS[0]]
        best = exact_distance(question)
        monkeypatch.setattr("arfj.bab.relaxation.LP", kind)
        found = Closing(question, bounds, x).run(5.0)
        assert found.bound <= best * (1 + 1e-9)
        if found.status == "feasible":
            assert found.reason.startswith(("time limit", "linear programs come no nearer"))
            return
        assert found.value == pytest.approx(best, rel=1e-6)

    @pytest.mark.parametrize("kind", [NoRay, FalseRay])
    def test_a_ray_that_proves_nothing_is_none(self, monkeypatch, kind):
        monkeypatch.setattr("arfj.bab.relaxation.LP", kind)
        for seed in SEEDS:
            assert relaxed(seed).solve()[0] >= -exact_of(seed)

    def test_a_breakdown_is_tried_again(self, monkeypatch):
        monkeypatch.setattr("arfj.bab.relaxation.LP", Broken)
        for seed in SEEDS[:4]:
            question, x, bounds = SETTINGS[seed]
            found = Closing(question, bounds, x).run(SECONDS)
            assert (found.status, found.value) == ("optimal", pytest.approx(exact_of(seed), rel=1e-6, abs=1e-6))

    def test_tiny_bounds_of_open_neurons(self):
        """Bounds as wide as the linear solver's tolerance, about neurons that never change."""
        question, x, bounds = larger(LARGER[1])
        expected = Closing(question, bounds, x).run(SECONDS).value
        thin = [
            Bounds(
                tuple(np.where(low >= 0, np.minimum(low, -1e-9), low) for low in one.lower),
                tuple(np.where(up <= 0, np.maximum(up, 1e-9), up) for up in one.upper),
            )
            for one in bounds
        ]
        assert sum(one.unstable for one in thin) > sum(one.unstable for one in bounds)
        found = Closing(question, thin, x).run(SECONDS)
        assert (found.status, found.value) == ("optimal", pytest.approx(expected, rel=1e-6))

    def test_a_time_out_is_kept_and_leaves_no_pixels_behind(self, monkeypatch):
        monkeypatch.setattr("arfj.bab.relaxation.LP", Deaf)
        question, _, bounds = larger(LARGER[0])
        relaxation = Relaxation(question, bounds)
        relaxation.maximise(None)
        assert relaxation.solve(seconds=-1.0) == (np.inf, None)
        assert not relaxation.entered.any()

    def test_an_interrupt_while_phases_change_leaks_none(self, monkeypatch):
        relaxation = relaxed(SEEDS[0])
        honest = Relaxation._bound

        def stopped(*given, **named):
            honest(*given, **named)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Relaxation, "_bound", stopped)
            with pytest.raises(KeyboardInterrupt):
                relaxation.hold({0: True})
        relaxation.hold({})
        assert (relaxation.up == relaxation.full).all()

    def test_leaves_that_do_not_close_are_branched_on(self, monkeypatch):
        """As if every point kept its phases: the search goes on over phases that nobody asked for."""
        monkeypatch.setattr(kernels, "open_neurons", lambda _amounts, _phases: np.zeros(0, dtype=np.intp))
        for seed in SEEDS[:4]:
            question, x, bounds = SETTINGS[seed]
            found = Closing(question, bounds, x).run(SECONDS)
            assert found.bound <= exact_distance(question) * (1 + 1e-9)
            if found.status == "optimal":
                assert found.value == pytest.approx(exact_distance(question), rel=1e-6)
            assert found.status == "optimal"
