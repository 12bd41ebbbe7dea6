"""The branching rule moves no optimum, learns what it sees, and gives way to SCIP's own rules where it fails."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import exact_distance, random_question
from scipy.optimize import brentq
from test_solvers import with_row

from arfj.attack.gradient import gradient_answers
from arfj.bounds import pre_activation_bounds
from arfj.data import bundled_images
from arfj.encoding import encode_tight
from arfj.ensemble import Ensemble
from arfj.question import Question
from arfj.solver import Limits, scip
from arfj.solver.branching import LEAST_GAIN, RELIABLE, Costs, PhaseRule, growth

PROVING = Limits(60.0, proving=True)
GAINS = st.floats(LEAST_GAIN, 1e4)


@given(GAINS, GAINS)
def test_growth_solves_its_equation(down, up):
    rate = growth(np.array([down]), np.array([up]))[0]
    assert np.exp(-rate * down) + np.exp(-rate * up) == pytest.approx(1.0, abs=1e-6)


def test_growth_is_exact_whatever_the_ratio():
    """Newton's steps begin at 67 % of the root or nearer to it, and never beyond it."""
    ratios = np.logspace(0, 12, 200)
    rates = growth(np.ones(200), ratios)
    for ratio, rate in zip(ratios.tolist(), rates.tolist(), strict=True):
        start = np.log1p(ratio / (1 + np.log1p(ratio))) / ratio
        root = brentq(lambda t, q=ratio: np.exp(-t) + np.expm1(-q * t), 1e-3 / ratio, 1.0, xtol=1e-300, rtol=1e-14)
        assert 0.669 * root < start <= root
        assert rate == pytest.approx(root, rel=1e-6)


def test_growth_of_equal_gains_is_that_of_a_full_binary_tree():
    assert growth(np.array([0.5, 2.0]), np.array([0.5, 2.0])) == pytest.approx(np.log(2) / np.array([0.5, 2.0]))


def test_a_large_gain_on_one_side_promises_a_smaller_tree():
    """A product of gains would take both pairs for the same."""
    rates = growth(np.array([0.01, 1.0]), np.array([100.0, 1.0]))
    assert rates[0] < rates[1]


def test_older_gains_count_less_and_less():
    costs = Costs(1, window=4)
    for gain in (8.0, 4.0, 4.0, 0.0):
        costs.note(0, 0, gain, 1.0)
    assert costs.of(np.array([0]))[0, 0] == 4.0
    costs.note(0, 0, 12.0, 1.0)
    assert (costs.of(np.array([0]))[0, 0], costs.seen[0, 0]) == (16.0 * 0.75 / 4 + 3.0, 4)
    for _ in range(60):
        costs.note(0, 0, 2.0, 1.0)
    assert costs.of(np.array([0]))[0, 0] == pytest.approx(2.0, abs=1e-6)


def test_costs_are_means_per_unit():
    costs = Costs(3)
    assert costs.of(np.arange(3)).tolist() == [[1.0] * 3] * 2
    for gain in (1.0, 3.0):
        costs.note(0, 1, gain, 0.5)
    costs.note(1, 1, 6.0, 2.0)
    # A neuron never seen has the mean of all that were.
    assert costs.of(np.array([1, 2])).tolist() == [[4.0, 4.0], [3.0, 3.0]]
    assert not costs.reliable(1)
    for _ in range(RELIABLE):
        costs.note(0, 1, 1.0, 1.0)
        costs.note(1, 1, 1.0, 1.0)
    assert costs.reliable(1)
    assert not costs.reliable(2)


@pytest.fixture
def rules(monkeypatch):
    """The rules that are made, and what each of them decided."""
    made = []

    class Watched(PhaseRule):
        def __init__(self, neurons):
            super().__init__(neurons)
            self.results = []
            made.append(self)

        def branchexeclp(self, allowaddcons):
            answer = super().branchexeclp(allowaddcons)
            self.results.append(answer["result"])
            return answer

    monkeypatch.setattr(scip, "PhaseRule", Watched)
    return made


def proven(question, radius=np.inf, upper=None):
    """SCIP's word on a question, with an answer as its start where the gradient attack finds one."""
    region = question.region(radius)
    encoding = encode_tight(question, [pre_activation_bounds(network, region) for network in question.ensemble])
    problem = encoding.problem if upper is None else with_row(encoding.problem, upper)
    answers = gradient_answers(question, 0, np.inf)
    start = encoding.complete(answers[0], question.ensemble) if answers and upper is None else None
    return scip.solve_scip(problem, PROVING, start)


@pytest.mark.parametrize("seed", range(24))
def test_optimum_is_that_of_enumeration(rules, seed):
    question = random_question(seed, 2, inputs=4)
    best = exact_distance(question)
    solution = proven(question)
    assert all(rule.failure == "" for rule in rules)
    if np.isinf(best):
        assert solution.status == "infeasible"
        return
    assert (solution.status, solution.value) == ("optimal", pytest.approx(best, rel=1e-6, abs=1e-8))
    assert solution.bound <= best * (1 + 1e-6) + 1e-8
    assert proven(question, upper=best + 1e-5).status == "optimal"
    if best > 1e-4:
        assert proven(question, upper=best - 1e-5).status == "infeasible"


@pytest.mark.parametrize("classes", [(1, 0), (4, 3)])
def test_the_rule_branches_and_agrees_with_scips_own(rules, nominal_question, classes):
    question = nominal_question(*classes)
    ours = proven(question)
    (rule,) = rules
    assert rule.failure == ""
    assert len(rule.results) > 1
    region = question.region()
    bounds = [pre_activation_bounds(network, region) for network in question.ensemble]
    problem = replace(encode_tight(question, bounds).problem, phases=())
    theirs = scip.solve_scip(problem, PROVING)
    assert rules[-1].results == []
    assert ours.status == theirs.status == "optimal"
    assert ours.value == pytest.approx(theirs.value, rel=1e-7)


def test_a_rule_that_fails_gives_way(rules, monkeypatch, nominal_question, caplog):
    expected = proven(nominal_question(4, 3)).value

    def broken(_self):
        raise ZeroDivisionError

    monkeypatch.setattr(PhaseRule, "decided", broken)
    solution = proven(nominal_question(4, 3))
    assert rules[-1].failure == "ZeroDivisionError()"
    assert "branching rule failed" in caplog.text
    assert (solution.status, solution.value) == ("optimal", pytest.approx(expected, rel=1e-7))


def test_branching_without_a_linear_program_is_left_to_scip():
    """PySCIPOpt takes a missing callback for an error that ends the search."""
    question = random_question(4, 2, inputs=4)
    problem = encode_tight(
        question, [pre_activation_bounds(network, question.region()) for network in question.ensemble]
    ).problem
    model, columns, _ = scip.build_model(problem)
    PhaseRule([(columns[y], columns[s], columns[z]) for y, s, z in problem.phases]).include(model)
    model.setParam("lp/solvefreq", 0)
    model.setParam("presolving/maxrounds", 0)
    model.optimize()
    assert model.getStatus() == "optimal"
    assert model.getObjVal() == pytest.approx(exact_distance(question), rel=1e-6)


@pytest.fixture
def nominal_question():
    from arfj.data import bundled_nominal

    def make(true, target):
        return Question(bundled_images().nominal[true], true, target, Ensemble((bundled_nominal(),), "nominal"), 0.2)

    return make
