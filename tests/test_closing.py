"""The proof by our own branch and bound: known optima, and bounds that hold whenever it is stopped."""

import itertools
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from bab_settings import LARGER, SECONDS, SEEDS, SETTINGS, exact_of, first_answer, larger
from conftest import SEESAW, SEESAW_DISTANCE
from reference import exact_bounds, exact_distance, random_network, random_question

from arfj.attack import closing as module
from arfj.attack.closing import Closing
from arfj.attack.descent import descend
from arfj.attack.known import cut_off_radius
from arfj.attack.options import Options
from arfj.attack.prove import Prover
from arfj.attack.regions import Corner, RegionProgram
from arfj.bab import Relaxation, Search
from arfj.bounds import pre_activation_bounds
from arfj.encoding import encode_tight
from arfj.ensemble import Ensemble
from arfj.network import Network
from arfj.question import Question
from arfj.solver import Limits, solve


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

    @pytest.mark.parametrize(("poor", "rise"), [(10.0, 1.0), (10.0, 9.0), (0.0, 1.0)])
    def test_searches_are_no_longer_while_they_come_farther(self, poor, rise, monkeypatch):
        question, x, bounds = larger(LARGER[0])
        best = Closing(question, bounds, x).run(SECONDS).value
        for name, value in (("FIRST", 2), ("LAST", 3), ("POOR", poor), ("RISE", rise)):
            monkeypatch.setattr(module, name, value)
        lengths, reached, honest = [], [0.0], Search.run

        def run(search, *given, most, **options):
            lengths.append(most)
            found = honest(search, *given, most=most, **options)
            reached.append(max(reached[-1], -found.bound))
            return found

        monkeypatch.setattr(Search, "run", run)
        assert Closing(question, bounds, x).run(SECONDS).value == pytest.approx(best, rel=1e-6)
        expected = [2.0]
        for before, after in itertools.pairwise(reached[:-1]):
            expected.append(expected[-1] * (3 if poor == 0 or after <= rise * before else 1))
        assert len(lengths) > 1
        assert lengths == [one if poor or one < 3 else np.inf for one in expected]

    @pytest.mark.parametrize("poor", [0.0, 10.0])
    def test_a_nearer_answer_is_looked_for_once_before_long_searches(self, poor, monkeypatch):
        question, x, bounds = larger(LARGER[0])
        calls, honest = [], Search.run
        for name, value in (("FIRST", 2), ("LAST", 3), ("POOR", poor), ("RISE", 9.0)):
            monkeypatch.setattr(module, name, value)
        monkeypatch.setattr(
            module, "search_neighbourhoods", lambda _program, best, _until: calls.append("look") or best
        )

        def run(search, *given, most, **options):
            calls.append(most)
            return honest(search, *given, most=most, **options)

        monkeypatch.setattr(Search, "run", run)
        Closing(question, bounds, x, whole=lambda _: True).run(SECONDS)
        at = calls.index("look")
        assert calls.count("look") == 1
        assert max(calls[:at]) < 3 <= calls[at + 1]
        assert len(calls) > at + 2 or not poor, "or the case says nothing of later ones"

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


class TestParts:
    @pytest.mark.parametrize("seed", LARGER)
    def test_what_a_part_has_learnt_serves_a_larger_one(self, seed):
        """Scenario by scenario, and with bounds over a smaller ball at last."""
        question, x, bounds = larger(seed)
        expected = Closing(question, bounds, x).run(SECONDS).value
        before, best = None, x
        for count in (1, 2, 3):
            closing = Closing(question.restricted(list(range(count))), bounds[:count], x)
            if before is not None:
                closing.learn_from(before)
                assert closing.search.proofs.count == before.search.proofs.count
            found = closing.run(SECONDS)
            assert found.status == "optimal"
            before, best = closing, closing.best.x
        assert found.value == pytest.approx(expected, rel=1e-6)
        radius = cut_off_radius(question.distance(best))
        again = Closing(question, [pre_activation_bounds(n, question.region(radius)) for n in question.ensemble], best)
        again.learn_from(before)
        found = again.run(SECONDS)
        assert (found.status, found.value) == ("optimal", pytest.approx(expected, rel=1e-6))

    @pytest.mark.parametrize("seed", LARGER)
    def test_a_nearer_answer_that_is_none_of_the_whole_ends_the_search(self, seed):
        question, x, bounds = larger(seed)
        part = question.restricted([0])
        best = Closing(part, bounds[:1], x).run(SECONDS).value
        assert best < question.distance(x) * (1 - 1e-3)
        for look in (False, True):
            closing = Closing(part, bounds[:1], x, whole=lambda x: question.slack(x) >= 0)
            found = closing.run(SECONDS, look)
            if closing.outgrown:
                assert (found.status, found.reason) == ("feasible", "")
                assert question.slack(closing.best.x) < 0 <= part.slack(closing.best.x)
            assert found.bound <= best * (1 + 1e-9)
            stubborn = Closing(part, bounds[:1], x, whole=lambda _: False)
            assert stubborn.run(SECONDS, look).status == "feasible"
            assert stubborn.outgrown
            assert part.distance(stubborn.best.x) < question.distance(x)

    @pytest.mark.parametrize("seed", LARGER)
    def test_the_whole_is_proven_part_by_part(self, seed, monkeypatch):
        """Begun with one scenario, whichever the best answer is held back by."""
        question, x, bounds = larger(seed)
        expected = Closing(question, bounds, x).run(SECONDS).value
        monkeypatch.setattr(Prover, "first", lambda _: [0])
        for early in (1.0, 0.0):
            monkeypatch.setattr("arfj.attack.prove.EARLY_SECONDS", early)
            prover = Prover(question, Options(time_limit=SECONDS), lambda *_: None)
            proof = prover.prove()
            assert proof.bound == pytest.approx(expected, rel=1e-6)
            assert prover.best.distance == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("interrupted", [False, True])
    def test_a_part_that_is_outgrown_when_the_time_is_over(self, monkeypatch, interrupted):
        question, x, bounds = larger(LARGER[0])
        best = Closing(question, bounds, x).run(SECONDS).value
        monkeypatch.setattr(Prover, "first", lambda _: [0])
        monkeypatch.setattr("arfj.attack.prove.EARLY_SECONDS", 0.0)
        monkeypatch.setattr(Prover, "answered", lambda *_: False)
        monkeypatch.setattr("arfj.attack.prove.warm_start", lambda *_: Corner(x, question.distance(x), ()))
        prover = Prover(question, Options(time_limit=SECONDS), lambda *_: None)
        honest = Closing.run

        def late(closing, seconds, look, milestones, brief):
            found = honest(closing, seconds, look, milestones, brief)
            prover.began -= SECONDS
            return replace(found, interrupted=interrupted)

        monkeypatch.setattr(Closing, "run", late)
        proof = prover.prove()
        assert prover.outgrown
        assert proof.reason == ("interrupted" if interrupted else "time limit reached")
        assert proof.bound <= best * (1 + 1e-9)


class TestFirstTry:
    @pytest.mark.parametrize(
        ("failed", "bound", "unlikely"),
        [(np.inf, 0.0, False), (1.0, 0.9, True), (2.0, 0.9, False), (2.0, 0.5, True)],
        ids=["none was made", "no nearer", "nearer, and near", "nearer, but far"],
    )
    def test_that_says_a_second_one_is_no_use(self, failed, bound, unlikely):
        """`failed` and `bound` in units of the distance known by now."""
        question, x, _ = SETTINGS[SEEDS[0]]
        prover = Prover(question, Options(), lambda *_: None)
        assert not prover.unlikely
        prover.best = Corner(x, question.distance(x), ())
        prover.failed, prover.bound = failed * prover.best.distance, bound * prover.best.distance
        assert prover.unlikely == unlikely


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

    def test_milestones(self, monkeypatch):
        """Given up at the first one that is missed, and only there; bound and answer are kept."""
        monkeypatch.setattr(module, "EVERY", 0.0)
        question, x, bounds = larger(LARGER[0])
        best = Closing(question, bounds, x).run(SECONDS).value
        missed = Closing(question, bounds, x)
        found = missed.run(SECONDS, milestones=((0.0, 0.0), (0.0, 2.0)))
        assert missed.hopeless
        assert (found.status, found.reason) == ("feasible", "time limit reached")
        assert found.bound <= best * (1 + 1e-9)
        for others in (((0.0, 0.0),), ((SECONDS, 2.0),)):
            reached = Closing(question, bounds, x)
            assert reached.run(SECONDS, milestones=others).value == pytest.approx(best, rel=1e-6)
            assert not reached.hopeless

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
