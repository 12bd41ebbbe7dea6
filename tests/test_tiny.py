"""Numbers that a solver takes for 0 hide no answer: small weights, slivers of bounds, and what tolerances amount to."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from reference import random_question

from arfj.attack import Options, solve_question
from arfj.attack.judge import badly_scaled
from arfj.attack.prove import Prover
from arfj.bounds import pre_activation_bounds
from arfj.encoding import Problem, encode_tight
from arfj.encoding.eased import TOLERANCE, tolerated
from arfj.encoding.tight import LEAST_OPEN, clear_of_zero
from arfj.ensemble import Ensemble
from arfj.evaluate import Witness, replay
from arfj.network import Network
from arfj.question import Demand, Question, class_rows
from arfj.solver import Limits, Solution, available, solve
from arfj.solver.hulls import TINY, hulls_of
from arfj.solver.scip import build_model

ENGINES = ["bab", "scip"] + (["gurobi"] if available("gurobi") else [])
QUICK = Options(time_limit=20.0)


def asked(weights, biases, image):
    return Question(np.array(image), 0, 1, Ensemble((Network.from_arrays(weights, biases, "relu"),), "given"))


def by_small_weights(size, large, count=400):
    """Output 1 is `large` times 1e-7 (x_0 - 1) + `size` times the sum of the others; x_0 is at 1 already."""
    first = np.full((count, 1), size)
    first[0, 0] = 1e-7
    return asked([first, [[0.0, large]]], [[-1e-7], [0.5, 0.0]], np.eye(count)[0])


def by_two_ways(count=400):
    """A near way through weights of 5e-10, a far one through weights of 4e-3."""
    first = np.full((count, 2), 5e-10)
    first[0, 0] = 1e-7
    first[:, 1] = 4e-3
    first[0, 1] = 0.0
    return asked([first, [[0.0, 1e7], [0.0, 1.0]]], [[-1e-7, 0.0], [0.5, 0.0]], np.eye(count)[0])


def by_a_sliver():
    """The one way is a neuron that is above 0 by 5e-10 at most; another one, always off, misleads gradients."""
    first = [[1.0, -10.0, 0.0], [0.0, 0.0, 1.0]]
    second = [[0.0, 1e7], [0.0, 1e7], [0.0, 0.0]]
    return asked([first, second], [[-1.0 + 5e-10, -1.0, 0.0], [1e-3, -2e-3]], [0.5, 0.0])


CASES = {
    "weights": (by_small_weights(5e-10, 1e7), np.ones(400)),
    "two ways": (by_two_ways(), np.concatenate([np.ones(68), np.zeros(332)])),
    "sliver": (by_a_sliver(), np.array([1.0, 0.0])),
}


class TestAttacks:
    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("name", CASES)
    def test_nothing_that_an_answer_contradicts_is_said(self, tmp_path, name, engine):
        question, answer = CASES[name]
        assert badly_scaled(question) is None, "a case of numbers that are attacked at all"
        witness = Witness(answer, question.flat, 0, 1, question.gamma, question.distance(answer), 0.0)
        assert replay(witness, question.ensemble).hit
        result = solve_question(question, replace(QUICK, solver=engine), tmp_path / "w.npz")
        assert result.status != "infeasible"
        assert result.bound <= question.distance(answer) * (1 + 1e-6)
        assert result.status != "optimal" or result.distance <= question.distance(answer) * (1 + 1e-6)

    @pytest.mark.parametrize("networks", [1, 2])
    def test_a_confirmed_answer_is_kept(self, tmp_path, networks):
        """The region of every answer has no optimum to a linear solver that takes 5e-10 for 0."""
        question = CASES["weights"][0]
        question = replace(question, ensemble=Ensemble(question.ensemble.networks * networks, "given"))
        result = solve_question(question, QUICK, tmp_path / "w.npz")
        assert result.replay is not None
        assert result.replay.hit
        assert result.distance == pytest.approx(120.0, rel=1e-4)
        assert result.bound == pytest.approx(120.0, rel=1e-6)

    def test_the_printed_model_is_not_believed_alone(self, tmp_path):
        question = CASES["sliver"][0]
        result = solve_question(question, replace(QUICK, solver="scip", formulation="paper"), tmp_path / "w.npz")
        assert result.status in ("feasible", "optimal", "unknown")


class TestInfeasible:
    """`infeasible` is said of a model without a ball alone, and where it holds with eased conditions, too."""

    def asked_twice(self, monkeypatch, second):
        """The first model is called infeasible; `second` is what the solver says of the eased one."""
        given = []

        def lied(self, question, encoding, start=None, solutions=None, seconds=np.inf):
            given.append(encoding.problem)
            return Solution("infeasible", "", None, None, np.inf, 0, 0.0) if len(given) == 1 else second

        monkeypatch.setattr(Prover, "optimise", lied)
        return given

    @pytest.mark.parametrize(
        ("second", "status", "words"),
        [
            (Solution("infeasible", "", None, None, np.inf, 0, 0.0), "infeasible", "no image"),
            (Solution("unknown", "time limit reached", None, None, 0.0, 0, 0.0), "unknown", "time limit reached"),
            (Solution("unknown", "", None, None, 0.0, 0, 0.0), "unknown", "within tolerances"),
            (Solution("feasible", "", np.zeros(1), 0.0, 0.0, 0, 0.0), "unknown", "within tolerances"),
        ],
    )
    def test_only_twice(self, tmp_path, monkeypatch, second, status, words):
        question = asked([[[1.0]], [[0.0, 1.0]]], [[-2.0], [0.5, 0.0]], [0.5])
        given = self.asked_twice(monkeypatch, second)
        result = solve_question(question, QUICK, tmp_path / "w.npz")
        assert result.status == status
        assert words in result.reason
        least = [np.where(np.isfinite(one.row_lower), one.row_lower, 0.0) for one in given]
        assert (least[1] <= least[0]).all()
        assert (least[1] < least[0]).any(), "the second one asks for less"

    def test_it_still_is(self, tmp_path):
        question = asked([[[1.0]], [[0.0, 1.0]]], [[-2.0], [0.5, 0.0]], [0.5])
        two = replace(question, ensemble=Ensemble(question.ensemble.networks * 2, "given"))
        for one in (question, two):
            for formulation in ("tight", "paper"):
                result = solve_question(one, replace(QUICK, formulation=formulation), tmp_path / "w.npz")
                assert result.status == "infeasible"


def random_problem(rng, tiny):
    columns, rows = 6, 4
    matrix = rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < 0.7)
    matrix[rng.random((rows, columns)) < 0.4] *= tiny
    lower = rng.uniform(-2.0, 0.0, columns)
    upper = lower + np.where(rng.random(columns) < 0.3, tiny, 3.0)
    integer = np.arange(columns) == 0
    lower[0], upper[0] = 0.0, 1.0
    values = rng.uniform(lower, upper)
    values[0] = float(rng.random() < 0.5)
    activity = matrix @ values
    low = activity - np.where(rng.random(rows) < 0.5, 0.0, np.inf)
    up = activity + np.where(rng.random(rows) < 0.5, 0.0, 1.0)
    cost = rng.normal(size=columns)
    return Problem(cost, lower, upper, integer, sp.csr_matrix(matrix), low, up), values


class TestWithoutTiny:
    @given(st.integers(0, 10**6), st.sampled_from([1e-9, 1e-10, 1e-13]))
    def test_is_a_relaxation_that_a_solver_reads_as_it_is(self, seed, tiny):
        problem, values = random_problem(np.random.default_rng(seed), tiny)
        looser = problem.without_tiny(TINY)
        assert looser.violation(values) <= 1e-12
        assert np.abs(looser.matrix.data).min(initial=1.0) > TINY
        moving = looser.upper > looser.lower
        assert (looser.upper - looser.lower)[moving & ~looser.integer].min(initial=1.0) > TINY
        assert (looser.integer == problem.integer).all()

    def test_every_corner_stays(self):
        """Not only some point: all corners of a box, the row exact at the farthest of them."""
        row = sp.csr_matrix([[1.0, 1e-9, -1e-9]])
        box = np.array([-1.0, -3.0, 0.0]), np.array([1.0, 2.0, 5.0])
        problem = Problem(np.zeros(3), *box, np.zeros(3, dtype=bool), row, np.zeros(1), np.zeros(1))
        looser = problem.without_tiny(TINY)
        for second in (box[0][1], box[1][1]):
            for third in (box[0][2], box[1][2]):
                point = np.array([-1e-9 * second + 1e-9 * third, second, third])
                assert looser.violation(point) == 0.0
        assert looser.row_upper[0] == pytest.approx(8e-9, rel=1e-6)

    def test_what_has_none_is_the_same(self):
        problem = encode_tight(*bounded(random_question(0, 2))).problem
        assert problem.without_tiny(TINY) is problem

    def test_scip_gets_no_other(self, monkeypatch):
        given = []
        monkeypatch.setattr("arfj.solver.scip.build_model", lambda one: (given.append(one), build_model(one))[1])
        problem, _ = random_problem(np.random.default_rng(0), 1e-10)
        assert np.abs(problem.matrix.data).min() <= TINY
        solve("scip", problem, Limits(seconds=10))
        assert np.abs(given[0].matrix.data).min() > TINY

    def test_a_column_without_bounds_keeps_its_term(self):
        """SCIP is told to tell such a coefficient from 0 then: v is 2e9, not anything."""
        row = sp.csr_matrix([[5e-10, -1.0]])
        ends = np.array([0.0, 1.0]), np.array([np.inf, 1.0])
        sides = np.array([0.0]), np.array([np.inf])
        problem = Problem(np.array([1.0, 0.0]), *ends, np.zeros(2, dtype=bool), row, *sides)
        assert problem.without_tiny(TINY).matrix.nnz == 2
        model = build_model(problem)[0]
        assert model.getParam("numerics/epsilon") < 5e-10
        assert solve("scip", problem, Limits(seconds=10)).value == pytest.approx(2e9, rel=1e-6)


def bounded(question):
    return question, [pre_activation_bounds(network, question.region()) for network in question.ensemble]


class TestSlivers:
    def test_open_neurons_are_clear_of_zero(self):
        lower, upper = clear_of_zero(np.array([-1e-12, -1.0, 0.0, -2.0]), np.array([3.0, 1e-12, 1e-12, -1e-12]))
        assert lower.tolist() == [-LEAST_OPEN, -1.0, 0.0, -2.0]
        assert upper.tolist() == [3.0, LEAST_OPEN, 1e-12, -1e-12]

    def test_a_model_has_every_image(self):
        question, bounds = bounded(by_a_sliver())
        encoding = encode_tight(question, bounds)
        assert (encoding.problem.upper > 0).all()
        for x in ([1.0, 0.0], [0.5, 0.7], [0.0, 1.0]):
            values = encoding.complete(np.array(x), question.ensemble)
            assert encoding.problem.without_tiny(TINY).violation(values) <= 1e-2  # the class rows alone


class TestTolerated:
    @pytest.mark.parametrize("demand", [Demand(), Demand(share=0.5), Demand(cvar=0.5)])
    @pytest.mark.parametrize("seed", range(4))
    def test_covers_rows_that_are_off(self, seed, demand):
        """Every row and ReLU off by its tolerance, at random: class rows are off by no more than delta."""
        question, bounds = bounded(replace(random_question(seed, 2, inputs=5, hidden=(4, 4)), demand=demand))
        rng = np.random.default_rng(seed)
        for network, one, delta in zip(question.ensemble, bounds, tolerated(question, bounds), strict=True):
            weights, _ = class_rows(network, question.target, question.gamma)
            for _ in range(50):
                exact = moved = rng.random(network.inputs)
                moved = moved + TOLERANCE * rng.uniform(-1, 1, network.inputs)
                for layer, low, up in zip(network.layers[:-1], one.lower, one.upper, strict=False):
                    terms = 1.0 + np.abs(moved) @ np.abs(layer.weight) + np.abs(layer.bias)
                    exact, moved = exact @ layer.weight + layer.bias, moved @ layer.weight + layer.bias
                    moved = moved + TOLERANCE * terms * rng.choice([-0.5, 0.5], layer.outputs)
                    exact, moved = np.maximum(exact, 0.0), np.maximum(moved, 0.0)
                    moved = moved + TOLERANCE * (up - low) * rng.choice([-0.5, 0.5], layer.outputs)
                assert (np.abs(weights @ (exact - moved)) <= delta).all()
            assert delta.max() < 1e-4, "not much more than that for ordinary networks"

    def test_grows_with_what_networks_make_of_it(self):
        question, bounds = bounded(by_a_sliver())
        assert tolerated(question, bounds)[0].max() >= 1e7 * TOLERANCE
        deeper = asked([[[1.0]], [[1e7]], [[0.0, 1.0]]], [[5e-10 - 1.0], [0.0], [1e-3, 0.0]], [0.5])
        assert tolerated(*bounded(deeper))[0].max() >= 1e7 * TOLERANCE, "by a layer between"

    def test_eases_class_rows_alone(self):
        question, bounds = bounded(random_question(1, 2))
        plain, eased = (encode_tight(question, bounds, None, less).problem for less in (None, [np.ones(3)] * 2))
        moved = plain.row_lower != eased.row_lower
        assert moved.sum() == 2 * question.ensemble.networks[0].classes
        assert np.allclose(plain.row_lower[moved] - eased.row_lower[moved], 1.0)


def test_rows_of_hulls_have_no_small_weights():
    """Every choice of a neuron's terms is a row that holds, so inputs with small weights are bounded instead."""
    network = Network.from_arrays(
        [[[1.0, -1.0, 0.5]], [[1.0, -2.0], [5e-10, 1e-3], [-0.1, 1.0]], [[1.0, -1.0], [0.5, 1.0]]],
        [[-0.5, 0.5, 0.0], [-0.1, 0.2], [0.0, 0.0]],
    )
    question = Question(np.array([0.4]), 0, 1, Ensemble((network,), "given"))
    encoding = encode_tight(*bounded(question))
    hulls = hulls_of(encoding.problem)
    assert hulls is not None
    assert (np.abs(hulls.weights[hulls.weights != 0]) <= TINY).any()
    for k in range(len(hulls.y)):
        columns, coefficients, upper = hulls.row(k, np.ones(hulls.inputs.shape[1], dtype=bool))
        assert (np.abs(coefficients[2:]) > TINY).all()
        for x in np.linspace(0, 1, 21):
            values = encoding.complete(np.array([x]), question.ensemble)
            assert coefficients @ values[columns] <= upper
