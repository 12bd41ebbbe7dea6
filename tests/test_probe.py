"""Phases that no answer has together: what enumeration says, and proofs that they change no optimum."""

import itertools
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from bab_settings import HARDER, LARGER, SECONDS, SEEDS, SETTINGS, counted, exact_of, first_answer, harder, larger
from reference import random_question, region_distances
from test_crew import threads, until_ready  # noqa: F401

from arfj.attack import closing as closing_module
from arfj.attack import prove as module
from arfj.attack.closing import Closing
from arfj.attack.crew import Crew
from arfj.attack.known import BRANCHINGS, MORE, cut_off_radius
from arfj.attack.options import Options
from arfj.attack.prove import Prover
from arfj.bab import Relaxation, Search
from arfj.bounds import pre_activation_bounds
from arfj.conflicts import numbered
from arfj.encoding import encode_tight
from arfj.probe import SHARE, Deduction, Prober, probe
from arfj.question import Demand
from arfj.solver import EnoughError, Limits, solve
from arfj.solver.scip import _Watcher
from arfj.tighten import tighten_scenario


def alone(seed, scenario=0, room=1.0):
    """One scenario of a setting: question, bounds, answer, R."""
    question, x, bounds = SETTINGS[seed]
    return question.fooling([scenario]), bounds[scenario], x, room * cut_off_radius(question.distance(x))


def literals(pattern):
    """Of a region's phases."""
    return {(layer, neuron, bool(on)) for layer, phase in enumerate(pattern) for neuron, on in enumerate(phase)}


def known(question, bounds, x, size=2):
    radius = cut_off_radius(question.distance(x))
    until = time.perf_counter() + SECONDS
    return [probe(question.fooling([k]), one, x, radius, until, size) for k, one in enumerate(bounds)]


@pytest.mark.parametrize("scenario", [0, 1])
@pytest.mark.parametrize("seed", SEEDS)
class TestProbe:
    def test_no_region_with_an_answer_within_the_radius_has_a_conflict(self, seed, scenario):
        question, bounds, x, radius = alone(seed, scenario)
        found = probe(question, bounds, x, radius, time.perf_counter() + SECONDS, 4)
        near = [literals(pattern) for pattern, value in region_distances(question) if value < radius * (1 - 1e-7)]
        assert near
        for conflict in found.conflicts:
            assert not any(set(conflict) <= region for region in near)

    def test_every_pair_is_possible_or_known(self, seed, scenario):
        question, bounds, x, radius = alone(seed, scenario)
        found = probe(question, bounds, x, radius, time.perf_counter() + SECONDS)
        near = [literals(pattern) for pattern, value in region_distances(question) if value < radius * (1 + 1e-7)]
        opened = [
            (layer, int(neuron))
            for layer, (low, up) in enumerate(zip(bounds.lower[:-1], bounds.upper[:-1], strict=True))
            for neuron in np.flatnonzero((low < 0) & (up > 0))
        ]
        conflicts = numbered([(0, *place) for place in opened], [bounds], [found.conflicts])
        for one, other in itertools.combinations(range(len(opened)), 2):
            for on, too in itertools.product((False, True), repeat=2):
                pair = {(*opened[one], on), (*opened[other], too)}
                if not any(pair <= region for region in near):
                    implied = conflicts.implied({one: on})
                    assert implied is None or implied.get(other) == (not too)

    def test_points_are_answers_near_enough(self, seed, scenario):
        question, bounds, x, radius = alone(seed, scenario)
        found = probe(question, bounds, x, radius, time.perf_counter() + SECONDS, 3)
        near = [literals(pattern) for pattern, value in region_distances(question) if value < radius * (1 + 1e-7)]
        widths = question.ensemble.networks[0].sizes[1:-1]
        for signs in found.signs:
            places = [(layer, neuron) for layer, width in enumerate(widths) for neuron in range(width)]
            phases = {(*place, sign > 0) for place, sign in zip(places, signs.tolist(), strict=True) if sign}
            assert any(phases <= region for region in near)


class TestProber:
    def test_a_conflict_too_many_is_noticed(self):
        """The answer's own phases."""
        question, bounds, x, radius = alone(SEEDS[0])
        found = probe(question, bounds, x, radius, time.perf_counter() + SECONDS)
        network = question.ensemble.networks[0]
        assert found.hold(network, x)
        before = network.preactivations(x[None])[0][0]
        wrong = tuple((0, neuron, bool(a > 0)) for neuron, a in enumerate(before))
        assert not found._replace(conflicts=(*found.conflicts, wrong)).hold(network, x)

    def test_no_time_proves_nothing(self):
        question, bounds, x, radius = alone(SEEDS[0])
        assert probe(question, bounds, x, radius, time.perf_counter() - 1, 3).conflicts == ()

    def test_a_search_that_is_cut_short_proves_nothing(self, monkeypatch):
        monkeypatch.setattr("arfj.probe.MOST", 0)
        monkeypatch.setattr("arfj.bab.tree.Search.solved", lambda *_: 1.0)  # a bound that nothing is known of
        question, bounds, x, radius = alone(SEEDS[0])
        assert probe(question, bounds, x, radius, time.perf_counter() + SECONDS, 3).conflicts == ()

    def test_searches_in_vain_are_given_up(self, monkeypatch):
        """So many nodes are allowed, and more for every conflict."""
        whole, x, (bounds, *_) = harder(HARDER[0])
        question, radius = whole.fooling([0]), cut_off_radius(whole.distance(x))
        nodes = counted(monkeypatch)

        def spent(most, each):
            monkeypatch.setattr("arfj.probe.EACH", each)
            nodes[0] = 0
            found = probe(question, bounds, x, radius, time.perf_counter() + SECONDS, 2, most).conflicts
            return len(found), nodes[0]

        everything, all_nodes = spent(np.inf, 0)
        assert spent(-1, 0) == (0, 0)
        few, few_nodes = spent(all_nodes // 4, 0)
        assert 0 <= few < everything
        assert all_nodes // 4 < few_nodes < all_nodes
        assert spent(all_nodes // 4, 10**9) == (everything, all_nodes)

    def test_a_soft_demand_and_several_scenarios_are_refused(self):
        question, x, bounds = SETTINGS[SEEDS[0]]
        soft = replace(question, demand=Demand(share=0.5))
        for asked in (soft, question):
            with pytest.raises(ValueError, match="one scenario"):
                probe(asked, bounds[0], x, 1.0, time.perf_counter() + SECONDS)

    def test_a_network_without_hidden_layers_has_none(self):
        question = random_question(0, 2, hidden=())
        prover = Prover(question, Options(bounds="exact", time_limit=SECONDS), lambda *_: None)
        proof = prover.prove()
        assert (proof.bound, proof.reason) == (pytest.approx(prover.best.distance, rel=1e-6), "")

    @pytest.mark.parametrize("most", [0, 1])
    def test_few_nodes_prove_little_and_nothing_wrong(self, most, monkeypatch):
        question, bounds, x, radius = alone(SEEDS[1])
        until = time.perf_counter() + SECONDS
        everything = probe(question, bounds, x, radius, until, 3).conflicts
        monkeypatch.setattr("arfj.probe.MOST", most)
        near = [literals(pattern) for pattern, value in region_distances(question) if value < radius * (1 - 1e-7)]
        conflicts = probe(question, bounds, x, radius, until, 3).conflicts
        assert len(conflicts) <= len(everything)
        assert not any(set(conflict) <= region for conflict in conflicts for region in near)

    @pytest.mark.parametrize("seed", SEEDS)
    def test_what_is_deduced_is_what_regions_say(self, seed):
        """Phases held that are those of a region: afterwards exactly the phases of all near regions are left open."""
        question, bounds, x, radius = alone(seed)
        prober = Prober(question, bounds, x, radius)
        near = [literals(pattern) for pattern, value in region_distances(question) if value < radius * (1 - 1e-7)]
        rim = [literals(pattern) for pattern, value in region_distances(question) if value < radius * (1 + 1e-7)]
        for place, on in itertools.product(range(min(4, prober.count)), (False, True)):
            implied = prober.conflicts.implied({place: on})
            prober.deduce({place: on} if implied is None else implied)
            implied = prober.conflicts.implied({place: on})
            held = {(*prober.places[place], on)}
            inside = [region for region in near if held <= region]
            if implied is None:
                assert not inside
                continue
            for number, phase in implied.items():
                assert all((*prober.places[number], phase) in region for region in inside)
            for number in set(range(prober.count)) - set(implied):
                for phase in (False, True):
                    assert any(held | {(*prober.places[number], phase)} <= region for region in rim)

    def test_conflicts_of_others_are_used(self):
        question, bounds, x, radius = alone(SEEDS[0])
        prober = Prober(question, bounds, x, radius)
        (layer, neuron), (other_layer, other) = prober.places[:2]
        prober.learn(((layer, neuron, True), (other_layer, other, False)))
        assert prober.conflicts.implied({0: True}) == {0: True, 1: True}
        assert prober.probed.conflicts == (((layer, neuron, True), (other_layer, other, False)),)


class TestProof:
    @pytest.mark.parametrize("size", [1, 2, 3])
    @pytest.mark.parametrize("seed", SEEDS)
    def test_optimum_is_that_of_enumeration(self, seed, size):
        question, x, bounds = SETTINGS[seed]
        found = Closing(question, bounds, x, probed=known(question, bounds, x, size)).run(SECONDS)
        assert (found.status, found.reason) == ("optimal", "")
        assert found.value == pytest.approx(exact_of(seed), rel=1e-6, abs=1e-6)
        assert found.bound <= exact_of(seed) * (1 + 1e-9) + 1e-9

    @pytest.mark.parametrize("size", [1, 2])
    @pytest.mark.parametrize("seed", LARGER)
    def test_optimum_is_that_without(self, seed, size):
        question, x, bounds = larger(seed)
        expected = Closing(question, bounds, x).run(SECONDS).value
        closing = Closing(question, bounds, x, probed=known(question, bounds, x, size))
        assert closing.run(SECONDS).value == pytest.approx(expected, rel=1e-6)

    def test_fewer_nodes(self):
        """Many more than half of them are spared, on the whole."""
        counts = []
        for seed in HARDER:
            question, x, bounds = harder(seed)
            plain, learnt = (
                Closing(question, bounds, x),
                Closing(question, bounds, x, probed=known(question, bounds, x)),
            )
            assert plain.run(SECONDS).value == pytest.approx(learnt.run(SECONDS).value, rel=1e-6)
            counts.append((plain.nodes, learnt.nodes))
        before, after = np.array(counts).sum(axis=0)
        assert after < 0.7 * before, counts

    @pytest.mark.parametrize("seed", HARDER[:2])
    def test_what_is_found_on_the_way_is_kept(self, seed, monkeypatch):
        monkeypatch.setattr(closing_module, "FIRST", 20)
        question, x, bounds = harder(seed)
        probed = known(question, bounds, x)
        closing = Closing(question, bounds, x, probed=probed)
        closing.run(SECONDS)
        after = closing.deduction.probed
        assert sum(len(one.conflicts) for one in after) > sum(len(one.conflicts) for one in probed)
        for before, now, network in zip(probed, after, question.ensemble, strict=True):
            assert now.conflicts[: len(before.conflicts)] == before.conflicts
            assert now.hold(network, closing.best.x)

    @pytest.mark.parametrize("seed", SEEDS)
    def test_models_of_solvers_have_the_same_optimum(self, seed):
        question, x, bounds = SETTINGS[seed]
        conflicts = [one.conflicts for one in known(question, bounds, x, 3)]
        encoding = encode_tight(question, bounds, conflicts)
        start = encoding.complete(x, question.ensemble)
        assert encoding.problem.violation(start) < 1e-7
        found = solve("scip", encoding.problem, Limits(seconds=SECONDS))
        assert found.value == pytest.approx(exact_of(seed), rel=1e-6, abs=1e-6)

    @pytest.mark.parametrize("seed", SEEDS[:5])
    def test_tightening_ends_at_the_same_bounds(self, seed):
        question, bounds, x, radius = alone(seed)
        until = time.perf_counter() + SECONDS
        conflicts = probe(question, bounds, x, radius, until, 3).conflicts
        plain = tighten_scenario(question, bounds, radius, until)
        found = tighten_scenario(question, bounds, radius, until, conflicts=conflicts)
        for one, other in zip(plain.lower + plain.upper, found.lower + found.upper, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)

    @pytest.mark.parametrize("solver", ["bab", "scip"])
    @pytest.mark.parametrize("seed", HARDER[:2])
    def test_in_a_hard_proof(self, seed, solver, monkeypatch):
        """Small searches first, then all that there is; for another solver searches of middle size."""
        question, x, bounds = harder(seed)
        expected = Closing(question, bounds, x).run(SECONDS).value
        monkeypatch.setattr(Prover, "warm_up", lambda self: self.offer(x, walk=False))
        monkeypatch.setattr(Prover, "first", lambda _: list(range(len(bounds))))
        monkeypatch.setattr("arfj.attack.known.TRIAL", 0.01)
        prover = Prover(question, Options(solver=solver, bounds="exact", time_limit=SECONDS), lambda *_: None)
        proof = prover.prove()
        assert (proof.bound, proof.reason) == (pytest.approx(expected, rel=1e-6), "")
        assert any(one.conflicts for one in prover.known.probed.values())
        assert set(prover.known.tightened.values()) == {np.inf if solver == "bab" else MORE}

    @pytest.mark.parametrize("promising", [0.0, 2.0])
    def test_another_solvers_trial(self, promising, monkeypatch):
        """Given up at once where its bound promises too little, or closed in its time: the same optimum."""
        question, x, bounds = harder(HARDER[0])
        expected = Closing(question, bounds, x).run(SECONDS).value
        monkeypatch.setattr(Prover, "warm_up", lambda self: self.offer(x, walk=False))
        monkeypatch.setattr(Prover, "first", lambda _: list(range(len(bounds))))
        monkeypatch.setattr("arfj.attack.known.TRIAL", 100.0)
        monkeypatch.setattr(module, "SOON", 0.0)
        monkeypatch.setattr(module, "PROMISING", promising)
        doubts, honest = [], Prover.watch

        def watch(self, step, doubt=(np.inf, 0.0)):
            try:
                honest(self, step, doubt)
            except EnoughError:
                doubts.append(step)
                raise

        monkeypatch.setattr(Prover, "watch", watch)
        monkeypatch.setattr(_Watcher.__init__, "__defaults__", (0.0,))  # told of every step
        prover = Prover(question, Options(solver="scip", bounds="exact", time_limit=SECONDS), lambda *_: None)
        proof = prover.prove()
        assert (proof.bound, proof.reason) == (pytest.approx(expected, rel=1e-6), "")
        assert not prover.interrupted
        assert bool(doubts) == (promising > 1)
        assert set(prover.known.tightened.values()) == {MORE if doubts else BRANCHINGS}

    def test_conflicts_of_an_answer_are_thrown_away(self, monkeypatch):
        """A solver's error: they would cut the optimum off."""
        question, x, bounds = harder(HARDER[0])
        expected = Closing(question, bounds, x).run(SECONDS).value

        wrongs = []

        def wrong(_crew, part, bounds, answer, *_):
            for network in part.ensemble:
                before = network.preactivations(answer[None])[0][0]
                wrongs.append(tuple((0, neuron, bool(a > 0)) for neuron, a in enumerate(before[:2])))
            return [
                one._replace(conflicts=(*one.conflicts, own))
                for one, own in zip(known(part, bounds, answer), wrongs, strict=True)
            ]

        monkeypatch.setattr(Crew, "probe", wrong)
        monkeypatch.setattr(Prover, "warm_up", lambda self: self.offer(x, walk=False))
        monkeypatch.setattr(Prover, "first", lambda _: list(range(len(bounds))))
        prover = Prover(question, Options(bounds="exact", time_limit=SECONDS), lambda *_: None)
        proof = prover.prove()
        assert (proof.bound, proof.reason) == (pytest.approx(expected, rel=1e-6), "")
        assert wrongs
        assert not prover.known.probed


@pytest.mark.usefixtures("threads")
class TestCrew:
    @pytest.mark.parametrize("cores", [2, 4])
    def test_finds_what_one_process_finds(self, cores):
        question, x, bounds = harder(HARDER[0])
        radius, until = cut_off_radius(question.distance(x)), time.perf_counter() + SECONDS
        expected = known(question, bounds, x)
        with Crew(lambda: cores) as helpers:
            until_ready(helpers)
            found = helpers.probe(question, bounds, x, radius, until, 2)
        assert [set(one.conflicts) for one in found] == [set(one.conflicts) for one in expected]

    @pytest.mark.parametrize("seed", HARDER)
    def test_searches_with_them(self, seed, monkeypatch):
        monkeypatch.setattr(closing_module, "FIRST", 1)
        monkeypatch.setattr("arfj.bab.tree.MEETING", 1)
        question, x, bounds = harder(seed)
        expected = Closing(question, bounds, x).run(SECONDS).value
        told = []
        honest, honestly = Deduction.learn, Deduction.found

        def mine():
            return threading.current_thread() is threading.main_thread()

        def learn(deduction, conflicts):
            if mine():
                told.extend(conflicts)
            honest(deduction, conflicts)

        def found(deduction, phases, deadline):
            if mine():  # what they can find is not found here first, and they have the time that processes would have
                time.sleep(0.01)
                return False
            return honestly(deduction, phases, deadline)

        monkeypatch.setattr(Deduction, "learn", learn)
        monkeypatch.setattr(Deduction, "found", found)
        with Crew(lambda: 3) as helpers:
            until_ready(helpers)
            closing = Closing(question, bounds, x, helpers=helpers, probed=[None] * len(bounds))
            solution = closing.run(SECONDS)
        assert told, "so that helpers have found some"
        assert (solution.status, solution.value) == ("optimal", pytest.approx(expected, rel=1e-6))
        for one, network in zip(closing.deduction.probed, question.ensemble, strict=True):
            assert one.hold(network, closing.best.x)


class TestDeduction:
    def test_a_soft_demand_has_none(self):
        question, x, bounds = SETTINGS[SEEDS[0]]
        soft = replace(question, demand=Demand(share=0.5))
        with pytest.raises(ValueError, match="soft demand"):
            Closing(soft, bounds, x, probed=[None, None])

    def test_takes_its_share_of_the_time_at_most(self):
        """Networks whose every search would take long: nodes are branched on all the same."""
        question = random_question(3, 3, inputs=30, hidden=(30, 30))
        x = first_answer(question)
        radius = cut_off_radius(question.distance(x))
        bounds = [pre_activation_bounds(network, question.region(radius)) for network in question.ensemble]
        closing = Closing(question, bounds, x, probed=[None] * 3)
        began = time.perf_counter()
        closing.run(3.0)
        took = time.perf_counter() - began
        assert closing.deduction.spent <= SHARE * took + 1.0
        assert closing.nodes > 20

    def test_what_was_learnt_since_a_node_was_made_counts(self):
        question, _, bounds = SETTINGS[SEEDS[0]]
        relaxation = Relaxation(question, bounds)
        relaxation.maximise(None)
        conflicts = numbered(relaxation.neurons, bounds, [(), ()])
        search = Search(relaxation, conflicts=conflicts)
        search.begin(-np.inf, time.perf_counter() + SECONDS, 0.0, None)
        node = search.solved({0: True}, np.inf)
        conflicts.add([(0, True)])
        search.branch(node)
        assert (search.heap, search.stuck) == ([], -np.inf)


def test_a_search_without_conflicts_is_as_before():
    question, _, bounds = SETTINGS[SEEDS[0]]
    relaxation = Relaxation(question, bounds)
    relaxation.maximise(None)
    search = Search(relaxation, conflicts=numbered(relaxation.neurons, bounds, [(), ()]))
    assert search.implied({0: True}, None) == {0: True}
