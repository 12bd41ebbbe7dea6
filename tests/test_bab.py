"""Our own branch and bound: known optima, certificates that hold for any multipliers, and nothing that fails open."""

import functools
import itertools
import sys
import time
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from conftest import SEESAW, SEESAW_DISTANCE
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference import exact_bounds, exact_distance, random_network, random_question
from scipy.optimize import Bounds as Box
from scipy.optimize import LinearConstraint, milp

from arfj.attack import closing as module
from arfj.attack.closing import Closing
from arfj.attack.descent import RegionProgram, descend
from arfj.attack.gradient import gradient_answers
from arfj.attack.prove import Options, Prover, cut_off_radius
from arfj.bab import Relaxation, Search, tree
from arfj.bab.relaxation import LP
from arfj.bounds import Bounds, pre_activation_bounds
from arfj.encoding import encode_tight
from arfj.ensemble import Ensemble
from arfj.network import Network
from arfj.question import Question
from arfj.solver import Limits, solve

SECONDS = 30.0


def first_answer(question):
    """An answer that is not the optimum, where one is easily found."""
    found = gradient_answers(question, 0, time.perf_counter() + 5.0)
    return None if not found else max(found, key=question.distance)


def setting(seed, scenarios=2, **sizes):
    """A question, an answer, and bounds over the ball of the answer's distance."""
    question = random_question(seed, scenarios, **sizes)
    x = first_answer(question)
    if x is None:
        return None
    radius = cut_off_radius(question.distance(x))
    return question, x, [pre_activation_bounds(network, question.region(radius)) for network in question.ensemble]


SETTINGS = {seed: found for seed in range(30) if (found := setting(seed)) is not None}
SEEDS = list(SETTINGS)[:10]
LARGER = [seed for seed in range(40, 60) if setting(seed, 3, inputs=10, hidden=(5, 5, 4), classes=4) is not None][:4]
assert (len(SEEDS), len(LARGER)) == (10, 4)


def larger(seed):
    return setting(seed, 3, inputs=10, hidden=(5, 5, 4), classes=4)


def relaxed(seed, column=None):
    question, x, bounds = SETTINGS[seed]
    relaxation = Relaxation(question, bounds)
    relaxation.maximise(column)
    relaxation.enter(x)
    return relaxation


@functools.cache
def exact_of(seed):
    return exact_distance(SETTINGS[seed][0])


def in_rationals(relaxation, multipliers, column):
    """The certified bound of these multipliers, each as it is in float64, without any rounding."""
    lower, upper = relaxation.sides
    value, used = Fraction(0), []
    for row, one in enumerate(multipliers.tolist()):
        side = float(upper[row] if one > 0 else lower[row])
        used.append(Fraction(one if np.isfinite(side) else 0.0))
        value += used[-1] * Fraction(side if np.isfinite(side) else 0.0)
    for index, line in enumerate(relaxation.columns.toarray().tolist()):
        reduced = Fraction(int(index == column)) if column is not None else Fraction(0)
        reduced -= sum(Fraction(a) * m for a, m in zip(line, used, strict=True) if a)
        value += max(reduced * Fraction(float(end)) for end in (relaxation.low[index], relaxation.up[index]))
    cost = Fraction(int(column is None)) + (0 if relaxation.ball is None else used[relaxation.ball])
    mine = [used[row] for row in relaxation.pixel_rows.tolist()]
    for pixel, caps in enumerate(zip(*np.split(relaxation.caps, 2), strict=True)):
        total = sum(Fraction(w) * m for w, m in zip(relaxation.weights[pixel].tolist(), mine, strict=True))
        for sign, cap in zip((1, -1), caps, strict=True):
            value += max(-sign * total - cost, Fraction(0)) * Fraction(float(cap))
    return value


def columns_of(relaxation, question, x):
    """The relaxation's columns y, s at an image, in the order of its neurons, and the image's moves."""
    before = [network.preactivations(x[None]) for network in question.ensemble]
    values = np.array([before[scenario][layer][0, neuron] for scenario, layer, neuron in relaxation.neurons])
    return np.maximum(values, 0.0), np.maximum(-values, 0.0)


class TestOptimum:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_is_that_of_enumeration(self, seed):
        question, x, bounds = SETTINGS[seed]
        found = Closing(question, bounds, x).run(SECONDS)
        expected = exact_distance(question)
        assert (found.status, found.reason, found.interrupted) == ("optimal", "", False)
        assert found.value == pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert expected * (1 - 1e-6) - 1e-9 <= found.bound <= expected * (1 + 1e-9) + 1e-9

    @pytest.mark.parametrize("seed", LARGER)
    def test_is_that_of_scip(self, seed):
        question, x, bounds = larger(seed)
        found = Closing(question, bounds, x).run(SECONDS)
        theirs = solve("scip", encode_tight(question, bounds).problem, Limits(seconds=SECONDS))
        assert found.status == "optimal"
        assert found.value == pytest.approx(theirs.value, rel=1e-6)

    @pytest.mark.parametrize("seed", SEEDS[:4])
    def test_restarts_and_no_look_ahead_move_nothing(self, seed, monkeypatch):
        question, x, bounds = SETTINGS[seed]
        expected = Closing(question, bounds, x).run(SECONDS).value
        monkeypatch.setattr(module, "FIRST", 1)
        monkeypatch.setattr(module, "GROWTH", 2.0)
        assert Closing(question, bounds, x).run(SECONDS).value == pytest.approx(expected, rel=1e-6)
        monkeypatch.setattr(module, "RELIABLE", 0)
        assert Closing(question, bounds, x).run(SECONDS).value == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("seed", SEEDS[:4])
    def test_bounds_from_the_interval_arithmetic_do_as_well(self, seed):
        question, x, _ = SETTINGS[seed]
        radius = cut_off_radius(question.distance(x))
        bounds = [pre_activation_bounds(n, question.region(radius), "interval") for n in question.ensemble]
        found = Closing(question, bounds, x).run(SECONDS)
        assert (found.status, found.value) == ("optimal", pytest.approx(exact_of(seed), rel=1e-6, abs=1e-6))

    def test_an_optimum_that_is_known_already_is_only_proven(self):
        question, x, bounds = larger(LARGER[0])
        best = Closing(question, bounds, x).run(SECONDS).value
        corner = descend(RegionProgram(question), [x], time.perf_counter() + 5.0)
        closing = Closing(question, bounds, corner.x)
        found = closing.run(SECONDS)
        assert found.value == pytest.approx(best, rel=1e-6)
        assert question.slack(closing.best.x) >= -1e-9

    def test_a_classifier_without_hidden_layers(self):
        network = random_network((3, 3), 4)
        question = Question(np.array([0.5, 0.1, 0.9]), 0, 1, Ensemble((network,), "given"))
        radius = question.region().radius
        bounds = [pre_activation_bounds(network, question.region(radius))]
        expected = solve("scip", encode_tight(question, bounds).problem, Limits(seconds=SECONDS)).value
        x = first_answer(question)
        found = Closing(question, bounds, x).run(SECONDS)
        assert (found.status, found.value) == ("optimal", pytest.approx(expected, rel=1e-6))

    def test_neurons_that_are_all_stable(self):
        network = Network.from_arrays([np.eye(2), np.eye(2)], [np.ones(2), np.zeros(2)])
        question = Question(np.array([0.9, 0.1]), 0, 1, Ensemble((network,), "given"))
        x = np.array([0.0, 1.0])
        bounds = [pre_activation_bounds(network, question.region(3.0))]
        found = Closing(question, bounds, x).run(SECONDS)
        # 1.2 (1 + 0.9 - p) <= 1 + 0.1 + q: p is worth more than q, and 0.9 of it are not enough.
        assert (found.status, found.value) == ("optimal", pytest.approx(1.0, rel=1e-6))


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
        assert relaxation.certified(multipliers, None, 1.0)[0] >= -exact_of(seed) * (1 + 1e-9)
        y, s = columns_of(relaxation, question, x)
        for columns, values in ((relaxation.y, y), (relaxation.s, s)):
            for column, value in zip(columns.tolist(), values.tolist(), strict=True):
                assert relaxation.certified(multipliers, column, 0.0)[0] >= value - 1e-12
        assert relaxation.certified(multipliers, None, 0.0)[0] >= 0.0

    @given(arrays(np.float64, 3, elements=st.floats()))
    @settings(deadline=None)
    def test_numbers_that_are_none_give_no_bound_that_is_wrong(self, some):
        question, x, _ = SETTINGS[SEEDS[0]]
        relaxation = relaxed(SEEDS[0])
        multipliers = np.zeros(len(relaxation.sides[0]))
        multipliers[: len(some)] = some
        with np.errstate(all="ignore"):
            assert relaxation.certified(multipliers, None, 1.0)[0] >= -question.distance(x)

    def test_is_that_of_exact_arithmetic(self):
        """The float64 sum with its margin is above the same sum in rationals, and by little."""
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
                    bound, _ = relaxation.certified(multipliers, column, float(column is None))
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
            whole = np.hstack([relaxation.columns.T.toarray(), pixels])
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


def relaxation_at(relaxation, phases):
    relaxation.hold(phases)
    return relaxation.solve()[0]


class TestSearch:
    @pytest.mark.parametrize("seed", SEEDS[:6])
    def test_largest_activations_lie_between_those_of_answers_and_of_enumeration(self, seed):
        """Over ball and class conditions; enumeration has the ball alone."""
        question, x, _ = SETTINGS[seed]
        part = question.restricted([0])
        network = part.ensemble.networks[0]
        radius = 1.2 * question.distance(x)
        points = np.random.default_rng(0).random((2000, len(x)))
        points = np.vstack([points, *(x + share * (points[:400] - x) for share in (0.1, 0.3, 0.6)), x[None]])
        kept = [p for p in points if part.slack(p) >= 0 and part.distance(p) <= radius]
        before = network.preactivations(np.array(kept))
        relaxation = Relaxation(part, [pre_activation_bounds(network, part.region(radius))], radius)
        lows, ups = exact_bounds(network, part.region(radius))
        search = Search(relaxation)
        for number, (_, layer, neuron) in enumerate(relaxation.neurons):
            values = before[layer][:, neuron]
            for on, column, end in ((True, relaxation.y, ups), (False, relaxation.s, lows)):
                relaxation.maximise(column[number])
                found = search.run({number: on}, 0.0, time.perf_counter() + SECONDS, 1e-7)
                assert found.closed
                assert found.bound >= (values if on else -values).max() - 1e-9
                assert found.bound <= abs(end[layer][neuron]) * (1 + 1e-6) + 1e-7

    @pytest.mark.parametrize("most", [0, 1, 3, 10])
    def test_a_search_that_is_cut_short_bounds_all_the_same(self, most):
        for seed in LARGER[:2]:
            question, x, bounds = larger(seed)
            best = Closing(question, bounds, x).run(SECONDS).value
            relaxation = Relaxation(question, bounds)
            relaxation.maximise(None)
            found = Search(relaxation, 8).run({}, -question.distance(x), time.perf_counter() + SECONDS, most=most)
            assert found.bound >= -best * (1 + 1e-9)
            assert found.nodes <= max(most, 1)

    def test_nodes_without_a_branching_count(self, monkeypatch):
        """A part of the tree that cannot be searched keeps its bound."""
        question, x, bounds = larger(LARGER[0])
        best = Closing(question, bounds, x).run(SECONDS).value
        honest = Search.chosen
        for after in (1, 3, 8):
            calls = []

            def chosen(search, node, after=after, calls=calls):
                calls.append(1)
                return None if len(calls) >= after else honest(search, node)

            monkeypatch.setattr(Search, "chosen", chosen)
            found = Closing(question, bounds, x).run(SECONDS)
            assert found.bound <= best * (1 + 1e-9)
            assert (found.status, "numerical trouble" in found.reason) == ("feasible", True)

    def test_a_value_that_is_too_good_closes_nothing_falsely(self):
        """With a value below the optimum's distance the bound is that value: the search says that none is better."""
        question, _, bounds = SETTINGS[SEEDS[0]]
        best = exact_distance(question)
        relaxation = Relaxation(question, bounds)
        relaxation.maximise(None)
        for share in (0.5, 0.999, 1.001):
            found = Search(relaxation, 8).run({}, -share * best, time.perf_counter() + SECONDS, 1e-6)
            assert found.closed
            assert found.bound == pytest.approx(-min(share, 1.0) * best, rel=3e-6)

    def test_no_time(self):
        question, x, bounds = larger(LARGER[0])
        found = Closing(question, bounds, x).run(0.0)
        assert (found.status, found.reason, found.value) == ("feasible", "time limit reached", question.distance(x))
        assert found.bound <= found.value

    def test_no_memory(self):
        question, x, bounds = larger(LARGER[0])
        best = Closing(question, bounds, x).run(SECONDS).value
        found = Closing(question, bounds, x, memory=0.004).run(SECONDS)
        assert (found.status, found.reason) == ("feasible", "memory limit reached")
        assert 0.0 <= found.bound <= best * (1 + 1e-9)

    def test_an_open_node_takes_no_more_than_is_reckoned(self):
        question, x, bounds = larger(LARGER[0])
        closing = Closing(question, bounds, x, memory=1.0)
        closing.search.run({}, -question.distance(x), time.perf_counter() + SECONDS, most=3)
        for *_, node in closing.search.heap:
            sizes = (node, node.phases, node.amounts, node.basis, *node.basis)
            assert sum(map(sys.getsizeof, sizes)) <= 2**20 / closing.room

    def test_interrupted(self, monkeypatch):
        question, x, bounds = larger(LARGER[0])
        best = Closing(question, bounds, x).run(SECONDS).value
        honest, calls = Search.branch, []

        def stopped(search, node):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            honest(search, node)

        monkeypatch.setattr(Search, "branch", stopped)
        found = Closing(question, bounds, x).run(SECONDS)
        assert (found.status, found.reason, found.interrupted) == ("feasible", "interrupted", True)
        assert 0.0 <= found.bound <= best * (1 + 1e-9)

    def test_progress_never_goes_back(self, monkeypatch):
        monkeypatch.setattr(module, "EVERY", 0.0)
        monkeypatch.setattr(module, "FIRST", 2)
        question, x, bounds = larger(LARGER[0])
        steps = []
        found = Closing(question, bounds, x, steps.append).run(SECONDS)
        assert len(steps) > 3
        for before, after in itertools.pairwise(steps):
            assert after.bound >= before.bound
            assert after.incumbent <= before.incumbent
            assert after.nodes >= before.nodes
        assert steps[-1].bound <= found.bound


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
        monkeypatch.setattr(tree, "open_neurons", lambda _amounts, _phases: np.zeros(0, dtype=np.intp))
        for seed in SEEDS[:4]:
            question, x, bounds = SETTINGS[seed]
            found = Closing(question, bounds, x).run(SECONDS)
            assert found.bound <= exact_distance(question) * (1 + 1e-9)
            if found.status == "optimal":
                assert found.value == pytest.approx(exact_distance(question), rel=1e-6)
            assert found.status == "optimal"


@pytest.mark.parametrize("scale", [1.0, 0.02])
def test_answers_clear_of_their_conditions_keep_no_part_open(scale):
    """Weights of the last layer that make the room for the replay cost a share of 1e-6 of the distance."""
    question = random_question(29, 6, inputs=6, hidden=(5, 5), classes=3)
    networks = [
        Network.from_arrays(
            [*(layer.weight for layer in one.layers[:-1]), scale * one.layers[-1].weight],
            [*(layer.bias for layer in one.layers[:-1]), scale * one.layers[-1].bias],
        )
        for one in question.ensemble
    ]
    question = replace(question, ensemble=Ensemble(tuple(networks), "given"))
    proofs = []
    for solver in ("bab", "scip"):
        prover = Prover(question, Options(solver=solver, time_limit=SECONDS), lambda *_: None)
        proofs.append(prover.prove())
    assert proofs[0].bound == pytest.approx(proofs[1].bound, rel=1e-6)
    assert proofs[0].reason == ""


def test_seesaw():
    """By hand: x falls from 0.2 by as much as it must."""
    question = Question(np.array([0.2]), 0, 1, Ensemble((SEESAW,), "given"))
    bounds = [pre_activation_bounds(SEESAW, question.region(0.9))]
    found = Closing(question, bounds, first_answer(question)).run(SECONDS)
    assert (found.status, found.value) == ("optimal", pytest.approx(SEESAW_DISTANCE, rel=1e-6))


@pytest.mark.parametrize("gamma", [0.0, 0.2, 1.0])
def test_margins(gamma):
    question, _, _ = SETTINGS[SEEDS[2]]
    question = replace(question, gamma=gamma)
    x = first_answer(question)
    if x is None:
        pytest.skip("no answer at this margin")
    radius = cut_off_radius(question.distance(x))
    bounds = [pre_activation_bounds(network, question.region(radius)) for network in question.ensemble]
    found = Closing(question, bounds, x).run(SECONDS)
    assert found.value == pytest.approx(exact_distance(question), rel=1e-6, abs=1e-6)
