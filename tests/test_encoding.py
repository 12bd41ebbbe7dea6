"""Both formulations: sizes as published, the same feasible images, and the same optimum."""

import dataclasses

import numpy as np
import pytest
from catalogue import ANSWERED, CATALOGUE
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import exact_distance, random_network, random_question

from arfj.bounds import crown_bounds, pre_activation_bounds
from arfj.data import bundled_images, bundled_inner, bundled_nominal, bundled_outer
from arfj.encoding import Indicator, encode_paper, encode_tight
from arfj.ensemble import Ensemble
from arfj.question import Question
from arfj.solver import Limits, available, solve
from arfj.solver.scip import build_model

SOLVERS = ["scip"] + (["gurobi"] if available("gurobi") else [])
LIMITS = Limits(seconds=60)
PUBLISHED = {1: (1772, 68, 2565), 6: (6712, 408, 8334)}


def tight(question, radius=np.inf, method="crown"):
    region = question.region(radius)
    return encode_tight(question, [pre_activation_bounds(network, region, method) for network in question.ensemble])


ENCODERS = {"tight": tight, "paper": encode_paper}
every_formulation = pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS.keys())


def paper_question(scenarios):
    networks = tuple(random_network((784, 8, 8, 8, 10), seed) for seed in range(scenarios))
    return Question(np.random.default_rng(0).uniform(0.1, 0.9, 784), 0, 9, Ensemble(networks, "given"))


class TestSizes:
    @pytest.mark.parametrize("scenarios", PUBLISHED)
    def test_paper_has_the_published_sizes(self, scenarios):
        problem = encode_paper(paper_question(scenarios)).problem
        assert (problem.variables, problem.binaries, problem.constraints) == PUBLISHED[scenarios]

    @pytest.mark.parametrize("scenarios", PUBLISHED)
    def test_scip_counts_the_same(self, scenarios):
        problem = encode_paper(paper_question(scenarios)).problem
        model = build_model(problem)[0]
        counts = (model.getNVars(transformed=False), model.getNBinVars(), model.getNConss(transformed=False))
        assert counts == PUBLISHED[scenarios]

    def test_paper_takes_nothing_from_us(self):
        """The baseline carries no big-M and no bound on any activation."""
        problem = encode_paper(paper_question(1)).problem
        free = problem.upper[~problem.integer]
        assert set(free) == {1.0, np.inf}
        assert all(one.rhs == 0 and one.values == (1.0,) for one in problem.indicators)

    def test_tight_has_no_binaries_for_outputs_and_stable_neurons(self):
        question = paper_question(2)
        bounds = [crown_bounds(network, question.region(2.0)) for network in question.ensemble]
        problem = encode_tight(question, bounds).problem
        assert problem.binaries == sum(one.unstable for one in bounds)
        assert problem.binaries < 48
        assert not problem.indicators

    def test_pixels_at_their_bounds_have_one_column(self):
        entry = next(entry for entry in CATALOGUE if entry.name == "pixels at their bounds")
        inside = dataclasses.replace(entry, nominal=[0.5, 0.5])
        assert [tight(one.question).problem.variables for one in (entry, inside)] == [2, 4]

    @pytest.mark.parametrize("sample", [bundled_inner, bundled_outer], ids=["inner", "outer"])
    @pytest.mark.parametrize("c", range(10))
    def test_bundled_problems_fit_the_free_licence(self, sample, c):
        """Even without a ball."""
        ensemble = Ensemble((bundled_nominal(), *sample()), "given")
        problem = tight(Question(bundled_images().nominal[c], c, (c - 1) % 10, ensemble)).problem
        assert problem.variables <= 2000
        assert problem.constraints <= 2000


@st.composite
def questions(draw):
    seed = draw(st.integers(0, 2**20))
    return random_question(
        seed,
        draw(st.integers(1, 3)),
        draw(st.sampled_from([0.0, 0.2, 1.0])),
        draw(st.integers(1, 6)),
        draw(st.sampled_from([(), (3,), (3, 3), (2, 1, 4)])),
        draw(st.integers(2, 4)),
    ), np.random.default_rng(seed)


class TestCompletion:
    @every_formulation
    @settings(deadline=None, max_examples=60)
    @given(case=questions())
    def test_feasible_exactly_where_the_question_is_answered(self, encode, case):
        question, rng = case
        encoding = encode(question)
        for x in rng.random((20, question.flat.size)):
            values = encoding.complete(x, question.ensemble)
            assert encoding.decode(values) == pytest.approx(x, abs=1e-15)
            assert values @ encoding.problem.objective == pytest.approx(question.distance(x), abs=1e-12)
            slack, violation = question.slack(x), encoding.problem.violation(values)
            if slack >= 1e-9:
                assert violation <= 1e-9
            elif slack < -1e-9:
                assert violation > 0

    @pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
    @every_formulation
    def test_catalogue(self, encode, entry):
        question = entry.question
        encoding = encode(question)
        points = [question.flat] + ([np.array(entry.x)] if entry.x else [])
        for x in points:
            violation = encoding.problem.violation(encoding.complete(x, question.ensemble))
            assert (violation <= 1e-9) == (question.slack(x) >= -1e-12)

    @every_formulation
    def test_every_part_of_the_model_is_needed(self, encode):
        """Each activation moved by 1e-3, or a phase flipped, is a violation: rows, phases and copies all hold."""
        question = random_question(4, scenarios=2)
        encoding = encode(question)
        points = np.random.default_rng(1).random((500, 4))
        x = next(x for x in points if question.slack(x) > 0.01)
        values = encoding.complete(x, question.ensemble)
        assert encoding.problem.violation(values) <= 1e-12
        checked = 0
        for layers in encoding.neurons:
            for neurons in layers:
                for column in [*neurons.y, *neurons.s]:
                    if column < 0:
                        continue
                    for change in (1e-3, -1e-3):
                        moved = values.copy()
                        moved[column] += change
                        assert encoding.problem.violation(moved) > 1e-4
                    checked += 1
        assert checked >= 8

    @settings(deadline=None, max_examples=40)
    @given(case=questions(), radius=st.floats(0.05, 4.0), method=st.sampled_from(["interval", "crown", "alpha-crown"]))
    def test_a_ball_keeps_every_answer_inside_it(self, case, radius, method):
        question, rng = case
        encoding = tight(question, radius, method)
        for x in rng.random((40, question.flat.size)):
            inside = question.flat + (x - question.flat) * min(1.0, radius / max(question.distance(x), 1e-12))
            if question.slack(inside) >= 1e-9 and question.distance(inside) <= radius:
                assert encoding.problem.violation(encoding.complete(inside, question.ensemble)) <= 1e-9


class TestViolation:
    def test_every_kind_is_seen(self):
        problem = encode_paper(ANSWERED[0].question).problem
        x = np.array([0.9])
        values = encode_paper(ANSWERED[0].question).complete(x, ANSWERED[0].question.ensemble)
        assert problem.violation(values) == pytest.approx(0, abs=1e-15)
        at = int(np.flatnonzero(problem.integer)[0])
        half = values.copy()
        half[at] = 0.5
        assert problem.violation(half) == pytest.approx(0.5)
        implied = dataclasses.replace(problem, indicators=(Indicator(at, (1,), (1.0,), 0.3),))
        on = values.copy()
        on[at] = 1.0
        assert implied.violation(on) >= 0.6 - 1e-12
        assert dataclasses.replace(problem, upper=values - 0.25).violation(values) >= 0.25
        assert dataclasses.replace(problem, row_lower=problem.matrix @ values + 0.5).violation(values) >= 0.5


AGREEMENT = [(seed, 1 + seed % 3, (0.0, 0.2)[seed % 2], 4 + seed % 3) for seed in range(16)]


@pytest.mark.parametrize(("seed", "scenarios", "gamma", "inputs"), AGREEMENT)
def test_formulations_and_solvers_agree(seed, scenarios, gamma, inputs):
    question = random_question(seed, scenarios, gamma, inputs)
    answers = {}
    for name, encode in ENCODERS.items():
        encoding = encode(question)
        for solver in SOLVERS:
            solution = solve(solver, encoding.problem, LIMITS)
            assert solution.status in ("optimal", "infeasible")
            answers[name, solver] = np.inf if solution.value is None else solution.value
            if solution.values is not None:
                assert question.slack(encoding.decode(solution.values)) >= -1e-7
    values = np.array(list(answers.values()))
    assert values == pytest.approx(values[0], rel=1e-6, abs=1e-8), answers
    if np.isfinite(values[0]):
        ball = tight(question, values[0] * (1 + 1e-6) + 1e-9, "alpha-crown")
        for solver in SOLVERS:
            assert solve(solver, ball.problem, LIMITS).value == pytest.approx(values[0], rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("seed", [4, 16, 18])
def test_optimum_by_enumeration(seed):
    question = random_question(seed, 2, hidden=(3, 2))
    best = exact_distance(question)
    solution = solve("scip", tight(question).problem, LIMITS)
    assert solution.value == (None if np.isinf(best) else pytest.approx(best, rel=1e-7))


def test_phases_are_the_columns_of_every_open_neuron():
    """Every binary stands in one of them, and y or s is 0 in each at every image's values."""
    question = random_question(4, 2)
    encoding = tight(question)
    y, s, z = (list(columns) for columns in zip(*encoding.problem.phases, strict=True))
    assert sorted(z) == np.flatnonzero(encoding.problem.integer).tolist()
    assert len({*y, *s, *z}) == 3 * len(z)
    for x in np.random.default_rng(0).random((50, question.flat.size)):
        values = encoding.complete(x, question.ensemble)
        assert (np.where(values[z] > 0.5, values[s], values[y]) == 0.0).all()
        assert np.array_equal(values[z] > 0.5, values[y] > 0.0)
