"""Rows from hulls of neurons: no point of a neuron violates one, the most violated one is found, optima stay."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import exact_distance, random_question
from scipy.optimize import linprog

from arfj.attack.gradient import gradient_answers
from arfj.bounds import pre_activation_bounds
from arfj.encoding import encode_tight
from arfj.question import Demand
from arfj.solver import Limits, scip
from arfj.solver.hulls import LEAST, HullRows, Hulls, hulls_of

PROVING = Limits(60.0, proving=True)


def neuron(seed, count=4):
    """One neuron (y is column 0, z column 1, its inputs follow), and the box of its inputs."""
    rng = np.random.default_rng(seed)
    weights, bias = rng.normal(size=count), float(rng.normal())
    low = rng.uniform(-1, 1, count) * (rng.random(count) < 0.5)
    up = low + rng.uniform(0, 3, count)
    ends = weights * low, weights * up
    inputs = np.arange(2, 2 + count)[None]
    hulls = Hulls(
        np.array([0]),
        np.array([1]),
        inputs,
        weights[None],
        np.array([bias]),
        np.minimum(*ends)[None],
        np.maximum(*ends)[None],
    )
    return hulls, weights, bias, low, up, rng


def excess(row, values):
    """How far a row is violated."""
    columns, coefficients, upper = row
    return float(coefficients @ values[columns] - upper)


def masks(count):
    return [np.array(one) for one in itertools.product([False, True], repeat=count)]


@given(st.integers(0, 2**31))
def test_no_point_of_a_neuron_violates_a_row(seed):
    hulls, weights, bias, low, up, rng = neuron(seed)
    rows = [hulls.row(0, mask) for mask in masks(4)]
    for _ in range(20):
        corner = np.where(rng.random(4) < 0.5, low, up)
        h = corner if rng.random() < 0.5 else rng.uniform(low, up)
        before = float(weights @ h + bias)
        for z in (0.0, 1.0) if before == 0 else (float(before > 0),):
            values = np.concatenate([[max(before, 0.0), z], h])
            assert max(excess(row, values) for row in rows) <= 0.0
            assert hulls.violated(values) == []


@given(st.integers(0, 2**31))
def test_the_row_is_the_most_violated_one(seed):
    hulls, weights, bias, low, up, rng = neuron(seed)
    h, z = rng.uniform(low, up), rng.uniform()
    values = np.concatenate([[rng.uniform(0, max(weights @ h + bias, 0.0) + 1.0), z], h])
    most = max(excess(hulls.row(0, mask), values) for mask in masks(4))
    least = LEAST * np.abs(weights).max()
    found = hulls.violated(values)
    assert len(found) == (most > least)
    if found:
        assert excess(found[0], values) == pytest.approx(most)


@given(st.integers(0, 2**31))
def test_rows_are_the_hull(seed):
    """Any (h, y, z) that no row cuts off is a mix of a point that is off and one that is on."""
    hulls, weights, bias, low, up, rng = neuron(seed, 3)
    h, z = rng.uniform(low, up), float(rng.uniform(0.05, 0.95))
    values = np.concatenate([[0.0, z], h])
    highest = min(-excess(hulls.row(0, mask), values) for mask in masks(3))
    # h = a + c, a in (1 - z) box and off, c in z box and on: the most of w'c + b z.
    eye = np.eye(3)
    found = linprog(
        -np.concatenate([np.zeros(3), weights]),
        A_ub=np.stack([np.concatenate([weights, np.zeros(3)]), np.concatenate([np.zeros(3), -weights])]),
        b_ub=[-bias * (1 - z), bias * z],
        A_eq=np.hstack([eye, eye]),
        b_eq=h,
        bounds=[*zip((1 - z) * low, (1 - z) * up, strict=True), *zip(z * low, z * up, strict=True)],
    )
    room = highest - max(weights @ h + bias, 0.0)
    if room > 1e-6:
        assert -found.fun + bias * z == pytest.approx(highest, abs=1e-7)
    elif room < -1e-6:
        assert found.status == 2, "what the rows cut off is a mix"


def tight(question, bounds=None):
    region = question.region()
    return encode_tight(
        question, bounds or [pre_activation_bounds(network, region, "interval") for network in question.ensemble]
    )


@pytest.mark.parametrize("seed", range(8))
def test_rows_of_a_problem_keep_every_image(seed):
    question = random_question(seed, 2, inputs=4)
    encoding = tight(question)
    hulls = hulls_of(encoding.problem)
    assert hulls is not None
    deep = {y for y, _, _ in encoding.problem.phases} - {int(y) for network in encoding.neurons for y in network[0].y}
    assert set(hulls.y.tolist()) == deep
    rng = np.random.default_rng(seed)
    region = question.region()
    for _ in range(50):
        values = encoding.complete(rng.uniform(region.lower, region.upper), question.ensemble)
        assert hulls.violated(values) == []
        for k in range(len(hulls.y)):
            assert excess(hulls.row(k, rng.random(hulls.inputs.shape[1]) < 0.5), values) <= 0.0


def test_nothing_beyond_the_first_layer_has_no_hulls():
    question = random_question(0, 1, inputs=4)
    problem = tight(question).problem
    assert hulls_of(replace(problem, phases=())) is None


def test_a_scenario_that_counts_or_not_has_none():
    question = replace(random_question(3, 3, inputs=4), demand=Demand(share=0.5))
    problem = tight(question).problem
    assert any(y == z for y, _, z in problem.phases)
    hulls = hulls_of(problem)
    assert hulls is not None
    assert not set(hulls.y.tolist()) & {y for y, _, z in problem.phases if y == z}


@pytest.fixture
def made(monkeypatch):
    """The separators that are made."""
    found = []

    class Watched(HullRows):
        def __init__(self, *args):
            super().__init__(*args)
            found.append(self)

    monkeypatch.setattr(scip, "HullRows", Watched)
    return found


def proven(question):
    encoding = tight(question)
    answers = gradient_answers(question, 0, np.inf)
    start = encoding.complete(answers[0], question.ensemble) if answers else None
    return scip.solve_scip(encoding.problem, PROVING, start)


@pytest.mark.parametrize("seed", [2, 4, 9, 13, 15])
def test_optimum_is_that_of_enumeration(seed, made):
    question = random_question(seed, 2, inputs=4)
    solution = proven(question)
    assert (solution.status, solution.value) == ("optimal", pytest.approx(exact_distance(question), rel=1e-6))
    assert made[0].failure == ""
    assert made[0].made > 0


def test_a_separator_that_fails_gives_way(made, monkeypatch, caplog):
    question = random_question(9, 2, inputs=4)
    expected = proven(question).value

    def broken(_self):
        raise ZeroDivisionError

    monkeypatch.setattr(HullRows, "separated", broken)
    solution = proven(question)
    assert made[-1].failure == "ZeroDivisionError()"
    assert "hulls of neurons" in caplog.text
    assert (solution.status, solution.value) == ("optimal", pytest.approx(expected, rel=1e-7))
