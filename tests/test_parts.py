"""Parts that grow from one scenario: the same optima as the whole, and bounds that hold whenever they are stopped."""

import functools
import time
from dataclasses import replace

import numpy as np
import pytest
from bab_settings import SECONDS
from reference import exact_distance, random_network, random_question

from arfj.attack import parts as module
from arfj.attack.crew import Crew
from arfj.attack.gradient import gradient_answers
from arfj.attack.judge import Proof
from arfj.attack.options import Earlier, Options
from arfj.attack.parts import Divided, hardest
from arfj.attack.parts import larger as grown_by_one
from arfj.attack.prove import Prover
from arfj.attack.regions import Corner, drawn_towards
from arfj.attack.solve import solve_question
from arfj.ensemble import Ensemble
from arfj.network import Network
from arfj.question import Demand, Question


def shifted(*least):
    """Two inputs at 0; network k is fooled where the second exceeds the first by least[k]: so far is its answer."""
    weights = [np.eye(2), np.eye(2)]
    networks = [Network.from_arrays(weights, [np.zeros(2), np.array([shift, 0.1])]) for shift in least]
    return Question(np.zeros(2), 0, 1, Ensemble(tuple(networks), "given"), 0.0)


VARIED = (3, 12, 16)
"""Of the second one three scenarios are needed, of the others two."""


@functools.cache
def varied(seed):
    """Four networks that differ so much that none of them stands for all."""
    rng = np.random.default_rng(seed)
    first = random_network((10, 5, 5, 4), seed)
    size = first.parameters().size
    networks = [first, *(first.with_parameters(first.parameters() + 0.3 * rng.normal(size=size)) for _ in range(3))]
    nominal = rng.random(10)
    true = int(first.classify(nominal[None])[0])
    points = rng.random((300, 10))
    others = [k for k in range(4) if k != true]
    questions = [Question(nominal, true, other, Ensemble(tuple(networks), "given"), 0.2) for other in others]
    return max(questions, key=lambda question: sum(question.slack(x) >= 0 for x in points))


@functools.cache
def optimum(seed, indices=(0, 1, 2, 3)):
    """Of these scenarios, all in one model, by SCIP."""
    options = Options(solver="scip", time_limit=SECONDS)
    prover = Prover(varied(seed).restricted(indices), options, lambda *_: None)
    proof = prover.prove()
    assert proof.bound == pytest.approx(prover.best.distance, rel=1e-6)
    return proof.bound


def answer(question):
    """Some answer to all."""
    found = gradient_answers(question, 0, time.perf_counter() + SECONDS)
    return Corner(found[-1], question.distance(found[-1]), ())


def failing(monkeypatch):
    """No first try at a proof closes anything, and all scenarios of a part hold its answer back."""
    monkeypatch.setattr(Prover, "first", lambda self: list(range(len(self.question.ensemble))))

    def tried(self, deadline, corner):
        self.found(corner)
        self.failed = corner.distance
        return corner

    monkeypatch.setattr(Prover, "tried", tried)


def divided(question, told=lambda *_: None):
    return Divided(question, Options(time_limit=SECONDS), told)


class TestOptimum:
    @pytest.mark.parametrize("seed", VARIED)
    def test_is_that_of_all_at_once(self, seed, monkeypatch):
        question, expected = varied(seed), optimum(seed)
        failing(monkeypatch)
        monkeypatch.setattr("arfj.attack.closing.EVERY", 0.0)
        phases = []
        prover = divided(question, lambda phase, step: phases.append((phase, step)))
        proof = prover.prove()
        assert proof.bound == pytest.approx(expected, rel=1e-6)
        assert proof.reason == ""
        assert prover.best.distance == pytest.approx(expected, rel=1e-6)
        assert prover.active == (3 if seed == VARIED[1] else 2)
        for active in range(1, prover.active + 1):
            assert f"proof, {active} of 4 networks" in [phase for phase, _ in phases]
        known = [step.bound for _, step in phases if step.bound is not None]
        assert known == sorted(known)
        assert known[-1] <= expected * (1 + 1e-6)
        assert all(step.incumbent is None or step.incumbent >= expected * (1 - 1e-6) for _, step in phases)
        assert [step.nodes for _, step in phases] == sorted(step.nodes for _, step in phases)

    @pytest.mark.parametrize("seed", VARIED)
    def test_every_part_is_a_bound(self, seed, monkeypatch):
        """Its own optimum, which is that of the whole at most, and is not lost where the time is over."""
        question = varied(seed)
        failing(monkeypatch)
        honest = Divided.begun_with
        begun = []

        def watched(self, active):
            begun.append((active, self.lent))
            if len(active) == 2:
                self.began -= SECONDS
            return honest(self, active)

        monkeypatch.setattr(Divided, "begun_with", watched)
        prover = divided(question)
        proof = prover.prove()
        (single, nothing), (pair, floor) = begun
        assert nothing == 0.0
        assert pair[:1] == single
        assert floor == pytest.approx(optimum(seed, tuple(single)), rel=1e-6)
        assert floor <= proof.bound <= optimum(seed) * (1 + 1e-9)
        assert prover.best.distance >= optimum(seed) * (1 - 1e-9)

    def test_with_a_helper(self, monkeypatch):
        failing(monkeypatch)
        monkeypatch.setattr("arfj.attack.closing.FIRST", 2)
        taking, honest = [], Crew.prepare

        def prepare(crew, closing):
            taking.append((crew, len(closing.question.ensemble)))
            honest(crew, closing)

        monkeypatch.setattr(Crew, "prepare", prepare)
        prover = Divided(varied(VARIED[1]), Options(time_limit=SECONDS, threads=2), lambda *_: None)
        proof = prover.prove()
        assert (prover.active, proof.reason) == (3, "")
        assert {crew for crew, _ in taking} == {prover.crew}
        assert {scenarios for _, scenarios in taking} <= {1, 2, 3, 4}
        assert taking
        assert proof.bound == pytest.approx(optimum(VARIED[1]), rel=1e-6)

    def test_where_a_part_ends_before_its_time_all_go_on_together(self, monkeypatch):
        failing(monkeypatch)
        honest, parts = Prover.proven_lazily, []

        def ended(self):
            if self.many == len(self.question.ensemble):
                return honest(self)
            parts.append(self)
            return Proof(self.bound, False, "memory limit reached")

        monkeypatch.setattr(Prover, "proven_lazily", ended)
        prover = divided(varied(VARIED[0]))
        proof = prover.prove()
        assert (proof.reason, len(parts), prover.over) == ("", 1, True)
        assert proof.bound == pytest.approx(optimum(VARIED[0]), rel=1e-6)

    def test_nothing_is_left_to_do_where_one_scenario_stands_for_all(self, monkeypatch):
        """Its first try closes it, and its optimum fools the others."""
        network = varied(VARIED[0]).ensemble.networks[0]
        question = replace(varied(VARIED[0]), ensemble=Ensemble((network,) * 4, "given"))
        monkeypatch.setattr(Prover, "learn", lambda *_: pytest.fail("it is proven"))
        prover = divided(question)
        prover.best = answer(question)
        prover.failed = prover.best.distance
        monkeypatch.setattr(Prover, "first", lambda self: list(range(len(self.question.ensemble))))
        proof = prover.proven_lazily()
        assert proof.bound == pytest.approx(optimum(VARIED[0], (0,)), rel=1e-6)
        assert (proof.reason, prover.best.distance) == ("", pytest.approx(proof.bound, rel=1e-6))

    def test_is_begun_whatever_an_earlier_run_has_left(self, monkeypatch):
        question, expected = varied(VARIED[1]), optimum(VARIED[1])
        failing(monkeypatch)
        earlier = Earlier(answer(question).x, 0.9 * expected)
        parts, honest = [], Prover.proven_lazily

        def proven(self):
            parts.append(len(self.question.ensemble))
            return honest(self)

        monkeypatch.setattr(Prover, "proven_lazily", proven)
        prover = Divided(question, Options(time_limit=SECONDS), lambda *_: None, earlier)
        assert prover.prove().bound == pytest.approx(expected, rel=1e-6)
        assert parts == [4, 3]  # the optima of one and two networks are below what is known

    def test_replays(self, monkeypatch, tmp_path):
        failing(monkeypatch)
        question = random_question(35, scenarios=3, inputs=6)
        result = solve_question(question, Options(time_limit=SECONDS), tmp_path / "w.npz")
        assert (result.status, result.replay.hit) == ("optimal", True)
        assert result.distance == pytest.approx(exact_distance(question), rel=1e-6)


class TestWhen:
    def test_not_where_a_scenario_alone_is_no_trouble(self, monkeypatch):
        """What was proven of it is kept all the same; and once tightened bounds have not helped, it is the first."""
        question = varied(VARIED[0])
        monkeypatch.setattr(module, "HOPELESS", 0.0)
        prover = divided(question)
        prover.best = answer(question)
        prover.failed = prover.best.distance
        with prover.crew:
            assert prover.divided([0, 1, 2, 3], False) is None
            active, part = prover.single
            assert part.closed
            assert prover.bound == pytest.approx(optimum(VARIED[0], tuple(active)), rel=1e-6)
            proof = prover.divided([0, 1, 2, 3], True)
        assert prover.single[1] is part
        assert proof.bound == pytest.approx(optimum(VARIED[0]), rel=1e-6)

    def test_few_scenarios_are_tightened_before(self, monkeypatch):
        question = varied(VARIED[0])
        failing(monkeypatch)
        prover = divided(question)
        prover.best = answer(question)
        with prover.crew:
            assert prover.divided([0, 1, 2], False) is None
            assert prover.single is None
            proof = prover.divided([0, 1, 2], True)
        assert proof.bound == pytest.approx(optimum(VARIED[0]), rel=1e-6)

    def test_and_tried_for_a_while_alone(self, monkeypatch):
        question = varied(VARIED[0])
        failing(monkeypatch)
        monkeypatch.setattr(Prover, "first", lambda self: list(range(min(3, len(self.question.ensemble)))))
        monkeypatch.setattr(module, "HOPELESS", -9.0)
        monkeypatch.setattr(module, "LEAST", 0.0)
        monkeypatch.setattr(module, "SHARE", 0.0)
        monkeypatch.setattr("arfj.attack.closing.EVERY", 0.0)
        prover = divided(question)
        honest, given_up = Divided.following, []

        def following(self, solution, active):
            given_up.append((self.last[0].hopeless, self.single, solution.seconds < self.known.trial))
            return honest(self, solution, active)

        monkeypatch.setattr(Divided, "following", following)
        proof = prover.prove()
        assert given_up == [(True, None, True)]
        assert prover.single is not None
        assert prover.known.stage == 0
        assert proof.bound == pytest.approx(optimum(VARIED[0]), rel=1e-6)

    @pytest.mark.parametrize("why", ["one scenario", "near enough", "another solver", "a soft demand"])
    def test_not_otherwise(self, why):
        question = varied(VARIED[0])
        if why == "a soft demand":
            question = replace(question, demand=Demand(share=0.5))
        prover = Divided(question, Options(solver="scip" if why == "another solver" else "bab"), lambda *_: None)
        prover.best = answer(question)
        prover.reached = 0.6 * prover.best.distance if why == "near enough" else 0.0
        assert prover.divided([0] if why == "one scenario" else [0, 1, 2, 3], False) is None
        assert prover.single is None


class TestParts:
    def test_begin_with_the_scenario_whose_answer_is_farthest(self):
        question = shifted(0.3, 0.8, 0.5)
        singles = [[0], [1], [2]]
        answer = np.array([0.0, 0.95])
        assert [exact_distance(question.restricted([k])) for k in range(3)] == pytest.approx([0.201, 0.701, 0.401])
        later = time.perf_counter() + SECONDS
        assert hardest(question, singles, answer, 0, later) == [1]
        assert hardest(question, [[0], [2]], answer, 0, later) == [2]
        assert hardest(question, [[0], [1]], answer, 0, 0.0) == [0]  # no time to look

    def test_grow_by_one_that_is_missed(self):
        question = shifted(0.3, 0.8, 0.5, 0.1)
        x = np.array([0.0, 0.4])
        assert grown_by_one(question, [3], x) == [[3, 1], [3, 2]]
        assert grown_by_one(question, [3, 1], x) == [[3, 1, 2]]

    def test_or_by_the_one_with_the_least_room(self):
        question = shifted(0.3, 0.8, 0.5, 0.1)
        assert grown_by_one(question, [0], np.array([0.0, 0.95])) == [[0, 1]]
        with pytest.raises(ValueError, match="all scenarios"):
            grown_by_one(question, [0, 1, 2, 3], np.array([0.0, 0.95]))

    def test_few_are_looked_at(self, monkeypatch):
        monkeypatch.setattr(module, "LOOKED", 2)
        question = shifted(0.3, 0.8, 0.5, 0.1)
        assert grown_by_one(question, [0], np.zeros(2)) == [[0, 1], [0, 2]]


class TestTrouble:
    def test_a_bound_above_an_answer_to_the_part_is_not_believed(self):
        question = varied(VARIED[0])
        whole, part = divided(question), Prover(question.restricted([0]), Options(), lambda *_: None)
        whole.best = answer(question)
        part.best = replace(whole.best, distance=0.5 * whole.best.distance)
        part.bound = 0.6 * whole.best.distance
        whole.settle(part)
        assert whole.bound == 0.0
        part.bound = 0.4 * whole.best.distance
        whole.settle(part)
        assert whole.bound == part.bound

    def test_nor_is_it_once_a_later_answer_contradicts_it(self):
        """An answer to this part, or to a larger one."""
        question = varied(VARIED[0])
        whole, part = divided(question), Prover(question.restricted([0]), Options(), lambda *_: None)
        whole.best = part.best = answer(question)
        far = whole.best.distance
        whole.bound = whole.reached = 0.2 * far
        part.bound = 0.8 * far
        whole.settle(part)
        assert whole.bound == 0.8 * far
        part.best, part.bound = replace(whole.best, distance=0.7 * far), 0.0
        whole.settle(part)
        assert whole.bound == 0.2 * far

    def test_an_answer_to_all_is_kept_though_its_part_stays_open(self):
        question = varied(VARIED[0])
        whole, part = divided(question), Prover(question.restricted([0]), Options(), lambda *_: None)
        near, far = answer(question), drawn_towards(question, answer(question).x, np.ones(10))
        far = Corner(far, question.distance(far), ())
        whole.best, part.best = (far, near) if far.distance > near.distance else (near, far)
        before = whole.best.distance
        whole.settle(part)
        assert whole.best.distance < before

    def test_ctrl_c_in_the_first_try_of_a_scenario_alone(self, monkeypatch):
        question = varied(VARIED[0])
        failing(monkeypatch)

        def warm_up(self):
            self.best, self.interrupted = answer(question), self.many > len(self.question.ensemble)
            self.failed = self.best.distance

        def part(self, active):
            found = Prover(question.restricted(active), self.options, lambda *_: None)
            found.many = self.many
            found.warm_up()
            self.settle(found)
            return found

        monkeypatch.setattr(Prover, "warm_up", warm_up)
        monkeypatch.setattr(Divided, "begun_with", part)
        monkeypatch.setattr(Prover, "learn", lambda *_: pytest.fail("the user has ended it"))
        proof = divided(question).prove()
        assert proof.reason == "interrupted"

    @pytest.mark.parametrize("where", ["warm_up", "proven_lazily"])
    def test_ctrl_c_outside_of_the_solver_keeps_what_is_proven(self, where, monkeypatch):
        question, expected = varied(VARIED[0]), optimum(VARIED[0])
        least = min(optimum(VARIED[0], (index,)) for index in range(4)) * (1 - 1e-6)
        failing(monkeypatch)
        honest = getattr(Prover, where)

        def ended(self):
            found = honest(self)
            if self.question is not question:
                raise KeyboardInterrupt
            return found

        monkeypatch.setattr(Prover, where, ended)
        prover = divided(question)
        proof = prover.prove()
        assert (proof.reason, prover.interrupted) == ("interrupted", True)
        assert prover.best is not None
        assert (least if where == "proven_lazily" else 0.0) <= proof.bound <= expected * (1 + 1e-9)

    def test_ctrl_c_within_it_ends_the_whole(self, monkeypatch):
        failing(monkeypatch)
        begun = []

        def ended(self):
            if self.many > len(self.question.ensemble):
                begun.append(self)
                self.interrupted = True
            return honest(self)

        honest = Prover.proven_lazily
        monkeypatch.setattr(Prover, "proven_lazily", ended)
        prover = divided(varied(VARIED[0]))
        assert (prover.prove().reason, prover.interrupted, len(begun)) == ("interrupted", True, 1)
