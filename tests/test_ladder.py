"""Bounds from smaller balls: proven where they hold, and no more than that."""

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from bab_settings import HARDER, SECONDS, SEEDS, SETTINGS, exact_of, harder
from reference import random_question

from arfj.attack import closing as module
from arfj.attack import helper, ladder
from arfj.attack.climb import Climber
from arfj.attack.closing import Closing
from arfj.attack.crew import Crew
from arfj.attack.ladder import Ladder, Rung, contradictory, search_ball
from arfj.attack.options import Options
from arfj.bounds import Bounds, pre_activation_bounds


def over_ball(question, radius):
    return [pre_activation_bounds(network, question.region(radius)) for network in question.ensemble]


def ball(question, answer, radius, seconds=SECONDS):
    """The search over a ball, and how it tightened."""
    tightened = []

    def tighten(*given):
        tightened.append(1)
        return Crew(lambda: 1).tighten(*given)

    def closing_of(bounds):
        return Closing(question, bounds, answer, within=radius)

    found = search_ball(
        question, over_ball(question, radius), radius, time.perf_counter() + seconds, closing_of, tighten
    )
    return found, len(tightened)


class TestBall:
    @pytest.mark.parametrize("share", [0.3, 0.7, 0.99, 1.01, 1.5])
    def test_proves_its_radius_below_the_optimum_and_the_optimum_above(self, share):
        for seed in SEEDS:
            question, x, _ = SETTINGS[seed]
            best = exact_of(seed)
            radius = share * best
            if best == 0 or radius >= question.distance(x):
                continue
            found, _ = ball(question, x, radius)
            assert found.bound == pytest.approx(min(radius, best), rel=1e-6)
            assert found.bound <= best * (1 + 1e-9)
            assert found.bound <= radius
            if share > 1:
                assert found.closing.best.distance == pytest.approx(best, rel=1e-6)
            elif found.closing is not None:
                assert found.closing.best.distance == question.distance(x)
                assert not found.interrupted

    @pytest.mark.parametrize("seed", HARDER)
    def test_bounds_are_tightened_where_the_first_search_stays_open(self, seed, monkeypatch):
        question, x, bounds = harder(seed)
        best = Closing(question, bounds, x).run(SECONDS).value
        monkeypatch.setattr(ladder, "DIRECT", 0.0)
        found, tightened = ball(question, x, 0.97 * best)
        assert found.bound == pytest.approx(0.97 * best, rel=1e-6)
        assert found.bound <= 0.97 * best
        assert tightened == 1

    @pytest.mark.parametrize("seconds", [0.0, 0.02, 0.1])
    def test_without_time_it_proves_what_it_can(self, seconds):
        for seed in HARDER:
            question, x, bounds = harder(seed)
            best = Closing(question, bounds, x).run(SECONDS).value
            found, _ = ball(question, x, 0.97 * best, seconds)
            assert 0.0 <= found.bound <= 0.97 * best

    def test_smaller_balls_need_fewer_nodes(self):
        nodes = []
        for seed in HARDER:
            question, x, bounds = harder(seed)
            best = Closing(question, bounds, x).run(SECONDS).value
            nodes.append([ball(question, x, share * best)[0].nodes for share in (0.25, 0.99)])
        assert all(few <= many for few, many in nodes)
        assert sum(few for few, _ in nodes) < 0.5 * sum(many for _, many in nodes)


class TestContradictions:
    def test_prove_the_radius(self):
        question = SETTINGS[SEEDS[0]][0]

        def none(_bounds):
            pytest.fail("searched")

        (first, *others) = over_ball(question, 0.1)
        high = first.replaced(0, first.upper[0] + 1.0, first.upper[0] + 2.0)
        found = search_ball(question, [high, *others], 0.1, time.perf_counter(), none, none)
        assert (found.bound, found.closing, found.nodes) == (0.1, None, 0)

    @pytest.mark.parametrize(
        ("low", "up", "expected"),
        [
            (1.0, 1.0, False),
            (1.0 + 1e-12, 1.0, False),
            (1.0 + 1e-8, 1.0, True),
            (1e9 + 1e-6, 1e9, False),
            (-np.inf, np.inf, False),
            (2.0, -2.0, True),
        ],
    )
    def test_are_more_than_rounding(self, low, up, expected):
        fine = Bounds((np.zeros(2), np.zeros(1)), (np.ones(2), np.ones(1)))
        bounds = Bounds((np.array([0.0, low]), np.zeros(1)), (np.array([1.0, up]), np.ones(1)))
        assert contradictory([fine, bounds]) == expected
        assert not contradictory([fine])


class TestLadder:
    def test_radii(self):
        """A fifth of R, then a quarter more each time, up to 0.97 R."""
        steps, radii = Ladder(10.0, 0.0), []
        while not steps.over:
            radii.append(steps.radius)
            steps.risen(steps.radius, 10.0)
        assert radii == pytest.approx(
            [2.0, 2.5, 3.125, 3.90625, 4.8828125, 6.103515625, 7.62939453125, 9.5367431640625]
        )

    def test_a_step_that_failed_is_halved(self):
        steps = Ladder(10.0, 4.0)
        assert steps.radius == 5.0
        steps.risen(4.0, 10.0)
        assert steps.radius == 4.5
        steps.risen(4.3, 10.0)
        assert steps.radius == pytest.approx(4.4)
        assert steps.over

    def test_it_ends_where_nothing_is_proven(self):
        steps, radii = Ladder(10.0, 0.0), []
        while not steps.over:
            radii.append(steps.radius)
            steps.risen(0.0, 10.0)
        assert radii == [2.0, 1.0, 0.5, 0.25]

    def test_a_nearer_answer(self):
        steps = Ladder(10.0, 4.0)
        steps.risen(5.0, 5.1)
        assert (steps.distance, steps.bound) == (5.1, 5.0)
        assert steps.over

    def test_nothing_to_search(self):
        assert Ladder(0.0, 0.0).radius == 0.0


@pytest.fixture
def hopeless(monkeypatch):
    """Every first search of a hard part is given up at once, and there are no stages before it."""
    monkeypatch.setattr("arfj.attack.known.LAST", 0)
    monkeypatch.setattr("arfj.attack.climb.HOPELESS", -9.0)
    monkeypatch.setattr(module, "EVERY", 0.0)
    monkeypatch.setattr("arfj.attack.climb.DOUBT_LEAST", 0.0)
    monkeypatch.setattr("arfj.attack.climb.DOUBT_SHARE", 0.0)
    monkeypatch.setattr("arfj.attack.prove.EARLY_SECONDS", 0.0)
    monkeypatch.setattr("arfj.attack.prove.warm_start", lambda question, *_: weak(question))


def weak(question):
    """An answer that leaves something to do."""
    _, x, _ = next(one for one in map(harder, HARDER) if np.array_equal(one[0].nominal, question.nominal))
    return Climber(question, Options(), lambda *_: None).regions.at(x)


@pytest.mark.usefixtures("hopeless")
class TestClimber:
    @pytest.mark.parametrize("seed", HARDER)
    def test_the_proof_goes_on_afterwards(self, seed, monkeypatch):
        question, x, bounds = harder(seed)
        best = Closing(question, bounds, x).run(SECONDS).value
        radii, honest = [], Climber.rung

        def rung(prover, corner, active, radius):
            found = honest(prover, corner, active, radius)
            radii.append((radius, found.bound))
            assert found.bound <= best * (1 + 1e-9)
            return found

        monkeypatch.setattr(Climber, "rung", rung)
        said = []
        prover = Climber(question, Options(bounds="exact", time_limit=SECONDS), lambda name, _: said.append(name))
        proof = prover.prove()
        assert (proof.bound, proof.reason) == (pytest.approx(best, rel=1e-6), "")
        assert prover.best.distance == pytest.approx(best, rel=1e-6)
        assert len(radii) > 1
        assert "smaller balls" in said

    @pytest.mark.parametrize("seed", HARDER[:2])
    def test_a_bound_is_left_where_the_proof_stays_out_of_reach(self, seed, monkeypatch):
        question, x, bounds = harder(seed)
        best = Closing(question, bounds, x).run(SECONDS).value
        honest = Closing.run

        def run(part, seconds, look=False, milestones=(), brief=False):
            if part.within == np.inf:
                part.hopeless = bool(milestones)
                return replace(honest(part, 0.0), status="feasible", reason="time limit reached")
            return honest(part, seconds)

        monkeypatch.setattr(Closing, "run", run)
        prover = Climber(question, Options(bounds="exact", time_limit=SECONDS), lambda *_: None)
        proof = prover.prove()
        assert 0.15 * best < proof.bound <= best * (1 + 1e-9)
        whole = proof.bound == pytest.approx(best, rel=1e-6)  # where the best answer known is not the optimum
        assert proof.reason == ("" if whole else "time limit reached")

    def test_progress_never_goes_back(self):
        question, _, _ = harder(HARDER[0])
        steps = []
        prover = Climber(question, Options(bounds="exact", time_limit=SECONDS), lambda _, step: steps.append(step))
        prover.prove()
        known = [step.bound for step in steps if step.bound is not None]
        assert len(known) > 5
        assert all(before <= after for before, after in itertools.pairwise(known))

    def test_a_second_search_of_a_ball_goes_on_where_the_first_one_ended(self, monkeypatch):
        """Its answer, its bound and its nodes are not lost."""
        question, x, bounds = harder(HARDER[0])
        solo = Closing(question, bounds, x)
        best = solo.run(SECONDS).value
        radius = 1.05 * best
        honest, runs = Closing.run, []

        def run(part, seconds, look=False, milestones=(), brief=False):
            runs.append((part.best.distance, part.bound, part.nodes))
            if len(runs) > 1:
                return honest(part, seconds)
            found = honest(part, 0.0)
            part.met(solo.best)
            part.bound, part.nodes = 0.5 * best, 7
            return found

        monkeypatch.setattr(Closing, "run", run)
        found, _ = ball(question, x, radius)
        assert runs == [(question.distance(x), 0.0, 0), (solo.best.distance, 0.5 * best, 7)]
        assert found.closing.best.distance == pytest.approx(best, rel=1e-6)
        assert found.bound == pytest.approx(best, rel=1e-6)
        assert found.nodes >= 7

    def test_a_bound_above_an_answer_is_not_believed(self, monkeypatch):
        """Where bounds of a ball contradict each other in which an answer lies."""
        question, x, bounds = harder(HARDER[0])
        best = Closing(question, bounds, x)
        best.run(SECONDS)

        def rung(prover, *_):
            prover.offer(best.best.x, walk=False)
            return Rung(1.2 * best.best.distance, None)

        monkeypatch.setattr(Climber, "rung", rung)
        proof = Climber(question, Options(bounds="exact", time_limit=SECONDS), lambda *_: None).prove()
        assert proof.bound == 0.0
        assert "numerical trouble" in proof.reason

    def test_nothing_is_proven_for_weights_beyond_proofs(self, monkeypatch):
        question, _, _ = harder(HARDER[0])
        for place in ("judge", "climb"):
            monkeypatch.setattr(f"arfj.attack.{place}.badly_scaled", lambda _: 1e-9)
        monkeypatch.setattr(Climber, "rung", lambda *_: pytest.fail("searched a smaller ball"))
        proof = Climber(question, Options(bounds="exact", time_limit=5.0), lambda *_: None).prove()
        assert proof.bound == 0.0
        assert "beyond what floating-point proofs can bear" in proof.reason

    def test_not_where_a_bound_is_near_already(self):
        question, x, bounds = harder(HARDER[0])
        best = Closing(question, bounds, x).run(SECONDS).value
        prover = Climber(question, Options(bounds="exact", time_limit=SECONDS), lambda *_: None)
        prover.best = weak(question)
        assert prover.doubts == ((0.0, 10.0),)
        prover.hard = False
        assert prover.doubts == ()
        prover.hard, prover.bound = True, 9.9 * prover.best.distance
        assert prover.doubts == ((0.0, 10.0),)
        prover.bound = 20 * best
        assert prover.doubts == ()
        prover.bound, prover.known.trial = 0.0, 1.0
        assert prover.doubts == (), "bounds and conflicts can still be better"

    def test_a_part_that_is_outgrown(self, monkeypatch):
        """Begun with one scenario, the others join on the ladder or after it."""
        question, x, bounds = harder(HARDER[1])
        best = Closing(question, bounds, x).run(SECONDS).value
        monkeypatch.setattr(Climber, "first", lambda _: [0])
        prover = Climber(question, Options(bounds="exact", time_limit=SECONDS), lambda *_: None)
        proof = prover.prove()
        assert (proof.bound, proof.reason) == (pytest.approx(best, rel=1e-6), "")


def test_soft_demands(monkeypatch):
    """Bounds of a ball come without class conditions there."""
    question = random_question(62, 5, inputs=8, hidden=(5, 4), classes=3)
    question = replace(question, demand=replace(question.demand, share=0.6))
    alone = Climber(question, Options(time_limit=SECONDS), lambda *_: None)
    best = alone.prove().bound
    assert alone.best is not None
    assert best == pytest.approx(alone.best.distance, rel=1e-6)
    prover = Climber(question, Options(time_limit=SECONDS), lambda *_: None)
    prover.best = alone.best
    asked, honest = [], helper.tighten_scenario

    def tighten_scenario(part, bounds, radius, deadline, demanded, *rest):
        asked.append(demanded)
        return honest(part, bounds, radius, deadline, demanded, *rest)

    monkeypatch.setattr(helper, "tighten_scenario", tighten_scenario)
    monkeypatch.setattr(ladder, "DIRECT", 0.0)
    for share in (0.5, 0.9, 0.99):
        found = prover.rung(alone.best, list(range(5)), share * best)
        assert found.bound == pytest.approx(share * best, rel=1e-6)
    assert set(asked) == {False}
