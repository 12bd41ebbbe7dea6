"""Phases of two networks that no answer has together: what enumeration says, and proofs that they change no optimum."""

import functools
import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from bab_settings import HARDER, LARGER, SECONDS, SEEDS, SETTINGS, counted, exact_of, harder, larger
from reference import joint_distances
from test_crew import threads, until_ready  # noqa: F401
from test_probe import known

from arfj.across import decided, pairs_of, probe_pairs
from arfj.attack import closing as closing_module
from arfj.attack.closing import Closing
from arfj.attack.crew import Crew
from arfj.attack.helper import Pairing
from arfj.attack.known import ASKED, BRANCHINGS, LAST, MORE, Known, cut_off_radius
from arfj.attack.options import Options
from arfj.attack.prove import Prover
from arfj.attack.regions import Corner
from arfj.bab import Search
from arfj.bounds import Bounds
from arfj.conflicts import hold, numbered, within
from arfj.question import Demand

ALL = -0.01
"""How likely phases are that are asked for: below 0 all of them are."""


def found_of(question, x, bounds, size=2, likely=ALL, seconds=SECONDS, room=1.0, conflicts=None):
    """All conflicts of pairs, and R."""
    radius = room * cut_off_radius(question.distance(x))
    conflicts = [()] * len(bounds) if conflicts is None else conflicts
    until = time.perf_counter() + seconds
    pairs = pairs_of(range(len(bounds)))
    found = probe_pairs(question, bounds, conflicts, (), x, radius, until, pairs, size, likely)
    return [one for mine in found for one in mine], radius


def lasting(question, x, monkeypatch):
    """A proof with all scenarios from this answer, whose trials are over at once."""
    monkeypatch.setattr(Prover, "warm_up", lambda self: self.offer(x, walk=False))
    monkeypatch.setattr(Prover, "first", lambda self: list(range(len(question.ensemble))))
    monkeypatch.setattr("arfj.attack.known.TRIAL", 0.01)
    prover = Prover(question, Options(bounds="exact", time_limit=SECONDS), lambda *_: None)
    return prover, prover.prove()


@functools.cache
def regions(seed):
    return joint_distances(SETTINGS[seed][0])


def near(seed, radius):
    """The phases of all regions of both networks that have answers within a radius."""
    return [
        {
            (scenario, (layer, neuron, bool(on)))
            for scenario, pattern in enumerate(patterns)
            for layer, phase in enumerate(pattern)
            for neuron, on in enumerate(phase)
        }
        for patterns, value in regions(seed)
        if value < radius
    ]


@pytest.mark.parametrize("seed", SEEDS)
class TestProbePairs:
    @pytest.mark.parametrize("alone", [False, True])
    def test_no_region_with_an_answer_within_the_radius_has_a_conflict(self, seed, alone):
        question, x, bounds = SETTINGS[seed]
        conflicts = [one.conflicts for one in known(question, bounds, x)] if alone else None
        found, radius = found_of(question, x, bounds, conflicts=conflicts)
        inside = near(seed, radius * (1 - 1e-7))
        assert inside
        for conflict in found:
            assert not any(set(conflict) <= region for region in inside)
        assert hold(found, question.ensemble.networks, x)

    def test_every_sign_and_pair_is_possible_or_known(self, seed):
        question, x, bounds = SETTINGS[seed]
        found, radius = found_of(question, x, bounds)
        inside = near(seed, radius * (1 + 1e-7))
        opened = [
            (scenario, layer, int(neuron))
            for scenario, one in enumerate(bounds)
            for layer, (low, up) in enumerate(zip(one.lower[:-1], one.upper[:-1], strict=True))
            for neuron in np.flatnonzero((low < 0) & (up > 0))
        ]
        conflicts = numbered(opened, bounds, [(), ()], found)
        always = conflicts.implied({})
        for number, (scenario, layer, neuron) in enumerate(opened):
            for on in (False, True):
                if not any((scenario, (layer, neuron, on)) in region for region in inside):
                    assert always.get(number) == (not on)
        for one, other in itertools.combinations(range(len(opened)), 2):
            for on, too in itertools.product((False, True), repeat=2):
                (a, *at), (b, *there) = opened[one], opened[other]
                pair = {(a, (*at, on)), (b, (*there, too))}
                if a != b and not any(pair <= region for region in inside):
                    implied = conflicts.implied({one: on})
                    assert implied is None or implied.get(other) == (not too)

    def test_searches_in_vain_are_given_up(self, seed, monkeypatch):
        """Each pair has nodes of its own."""
        question, x, bounds = SETTINGS[seed]
        nodes = counted(monkeypatch)
        everything, _ = found_of(question, x, bounds)
        whole, nodes[0] = nodes[0], 0
        monkeypatch.setattr("arfj.across.VAIN", -1)
        found, _ = found_of(question, x, bounds)
        assert (found, nodes) == ([], [0])
        monkeypatch.setattr("arfj.across.VAIN", whole)
        assert found_of(question, x, bounds)[0] == everything

    @pytest.mark.parametrize("likely", [0.8, 2.0])
    def test_the_unlikely_is_not_asked_for(self, seed, likely, monkeypatch):
        """Of all that is asked a linear program says so; with 2 that there is no point at all."""
        question, x, bounds = SETTINGS[seed]
        asked, honest = [], Search.excluded

        def excluded(search, phases, *given):
            search.relaxation.hold(phases)
            asked.append(-search.relaxation.solve()[0])
            return honest(search, phases, *given)

        monkeypatch.setattr(Search, "excluded", excluded)
        found, radius = found_of(question, x, bounds, likely=likely)
        assert all(least >= likely * radius - 1e-6 for least in asked)
        inside = near(seed, radius * (1 - 1e-7))
        assert not any(set(conflict) <= region for conflict in found for region in inside)

    def test_signs_alone(self, seed):
        question, x, bounds = SETTINGS[seed]
        signs, _ = found_of(question, x, bounds, size=1)
        assert all(len(conflict) == 1 for conflict in signs)
        assert set(signs) == {one for one in found_of(question, x, bounds)[0] if len(one) == 1}
        inside = decided(bounds, signs)
        for k, network in enumerate(question.ensemble):
            assert inside[k].hold(network.preactivations(x[None]))
        assert sum(one.unstable for one in inside) == sum(one.unstable for one in bounds) - len(signs)

    def test_a_smaller_ball_has_more(self, seed):
        """Conflicts of a ball that holds the optimum just so, and of one that just does not."""
        question, x, bounds = SETTINGS[seed]
        room = exact_of(seed) / question.distance(x)
        found, radius = found_of(question, x, bounds, room=room * (1 + 1e-6))
        inside = near(seed, radius * (1 - 1e-7))
        assert inside
        assert not any(set(conflict) <= region for conflict in found for region in inside)


class TestWhatIsFound:
    def test_there_is_something_to_be_found(self):
        assert sum(len(found_of(*SETTINGS[seed])[0]) for seed in SEEDS) > 10

    def test_no_time_proves_nothing(self):
        question, x, bounds = SETTINGS[SEEDS[0]]
        assert found_of(question, x, bounds, seconds=-1.0)[0] == []

    def test_a_search_that_is_cut_short_proves_nothing(self, monkeypatch):
        monkeypatch.setattr("arfj.across.MOST", 0)
        monkeypatch.setattr("arfj.bab.relaxation.Relaxation.solve", lambda *_: (-1e-3, None))
        monkeypatch.setattr("arfj.bab.tree.Search.solved", lambda *_: 1.0)  # a bound that nothing is known of
        question, x, bounds = SETTINGS[SEEDS[0]]
        assert found_of(question, x, bounds)[0] == []

    @pytest.mark.parametrize("seed", SEEDS[:5])
    def test_few_nodes_prove_little_and_nothing_wrong(self, seed, monkeypatch):
        monkeypatch.setattr("arfj.across.MOST", 1)
        question, x, bounds = SETTINGS[seed]
        found, radius = found_of(question, x, bounds)
        inside = near(seed, radius * (1 - 1e-7))
        assert not any(set(conflict) <= region for conflict in found for region in inside)

    def test_a_soft_demand_is_refused(self):
        question, x, bounds = SETTINGS[SEEDS[0]]
        with pytest.raises(ValueError, match="soft demand"):
            found_of(replace(question, demand=Demand(share=0.5)), x, bounds)

    def test_a_conflict_too_many_is_noticed(self):
        """The answer's own phases."""
        question, x, _ = SETTINGS[SEEDS[0]]
        before = [network.preactivations(x[None])[0][0] for network in question.ensemble]
        wrong = tuple((k, (0, 0, bool(one[0] > 0))) for k, one in enumerate(before))
        assert not hold([wrong], question.ensemble.networks, x)
        assert not hold([wrong[:1]], question.ensemble.networks, x)
        right = (wrong[0], (1, (0, 0, not wrong[1][1][2])))
        assert hold([right], question.ensemble.networks, x)

    def test_what_is_known_is_not_found_again(self):
        question, x, bounds = SETTINGS[SEEDS[1]]
        found, radius = found_of(question, x, bounds)
        again = probe_pairs(
            question, bounds, [(), ()], found, x, radius, time.perf_counter() + SECONDS, [(0, 1)], 2, ALL
        )
        assert again == [[]]

    def test_numbers_of_a_part(self):
        conflict = (3, (0, 1, True)), (5, (2, 0, False))
        assert within(conflict, [5, 4, 3]) == ((2, (0, 1, True)), (0, (2, 0, False)))
        assert within(conflict, [5, 4]) is None

    def test_bounds_that_decide_a_phase(self):
        """A phase that bounds rule out makes it no conflict; one that they imply is left out."""
        on = Bounds((np.array([1.0]), np.array([0.0])), (np.array([2.0]), np.array([0.0])))
        open_ = Bounds((np.array([-1.0]), np.array([0.0])), (np.array([2.0]), np.array([0.0])))
        places = [(1, 0, 0)]
        both = (0, (0, 0, True)), (1, (0, 0, False))
        assert numbered(places, [on, open_], [(), ()], [both]).sets == [(0,)]
        other = (0, (0, 0, False)), (1, (0, 0, False))
        assert numbered(places, [on, open_], [(), ()], [other]).sets == []


class TestProof:
    @pytest.mark.parametrize("size", [1, 2])
    @pytest.mark.parametrize("seed", SEEDS)
    def test_optimum_is_that_of_enumeration(self, seed, size):
        question, x, bounds = SETTINGS[seed]
        across, _ = found_of(question, x, bounds, size)
        found = Closing(question, bounds, x, probed=known(question, bounds, x), across=across).run(SECONDS)
        assert (found.status, found.reason) == ("optimal", "")
        assert found.value == pytest.approx(exact_of(seed), rel=1e-6, abs=1e-6)
        assert found.bound <= exact_of(seed) * (1 + 1e-9) + 1e-9

    @pytest.mark.parametrize("seed", LARGER)
    def test_optimum_is_that_without(self, seed):
        question, x, bounds = larger(seed)
        expected = Closing(question, bounds, x).run(SECONDS).value
        across, _ = found_of(question, x, bounds)
        closing = Closing(question, bounds, x, probed=known(question, bounds, x), across=across)
        assert closing.run(SECONDS).value == pytest.approx(expected, rel=1e-6)

    def test_fewer_nodes(self):
        """Fewer than conflicts of single networks leave, on the whole."""
        counts = []
        for seed in HARDER[::2]:
            question, x, bounds = harder(seed)
            probed = known(question, bounds, x)
            across, _ = found_of(question, x, bounds, conflicts=[one.conflicts for one in probed])
            without, learnt = (
                Closing(question, bounds, x, probed=probed),
                Closing(question, bounds, x, probed=probed, across=across),
            )
            assert without.run(SECONDS).value == pytest.approx(learnt.run(SECONDS).value, rel=1e-6)
            counts.append((without.nodes, learnt.nodes))
        before, after = np.array(counts).sum(axis=0)
        assert after < 0.9 * before, counts

    @pytest.mark.parametrize("seed", HARDER)
    def test_stage_by_stage(self, seed, monkeypatch):
        question, x, bounds = harder(seed)
        expected = Closing(question, bounds, x).run(SECONDS).value
        prover, proof = lasting(question, x, monkeypatch)
        assert (proof.bound, proof.reason) == (pytest.approx(expected, rel=1e-6), "")
        assert prover.known.stage in range(1, LAST + 1)  # the proof may be over before the last one
        assert set(prover.known.paired.values()) <= set(range(1, len(ASKED) + 1))
        assert prover.known.across

    def test_conflicts_of_an_answer_are_thrown_away(self, monkeypatch):
        """A solver's error: they would cut the optimum off."""
        question, x, bounds = harder(HARDER[0])
        expected = Closing(question, bounds, x).run(SECONDS).value
        asked = []

        def wrong(_crew, given):
            asked.append(given.pairs)
            before = given.question.ensemble.networks[0].preactivations(given.answer[None])[0][0]
            return {pair: [((0, (0, 0, bool(before[0] > 0))),)] for pair in given.pairs}

        monkeypatch.setattr(Crew, "probe_pairs", wrong)
        prover, proof = lasting(question, x, monkeypatch)
        assert (proof.bound, proof.reason) == (pytest.approx(expected, rel=1e-6), "")
        assert asked
        assert not prover.known.across


class TestStages:
    def known(self, own=True):
        question, x, bounds = harder(HARDER[0])
        best = Corner(x, question.distance(x), ())
        return Known(question, Crew(lambda: 1), "alpha-crown", own), best, list(range(len(bounds)))

    def improve(self, record, best, active, further=False):
        record.improve(best, active, lambda: SECONDS, lambda _: None, further)

    def test_one_after_the_other(self, monkeypatch):
        monkeypatch.setattr("arfj.attack.known.SIGNS", -1.0)  # so that none of them says little
        record, best, active = self.known()
        self.improve(record, best, active)
        assert (record.stage, record.paired) == (0, {})
        assert 0 < record.trial < np.inf
        self.improve(record, best, active, further=True)
        assert (record.stage, set(record.paired.values())) == (1, {1})
        assert set(record.tightened.values()) == {BRANCHINGS}
        self.improve(record, best, active, further=True)
        assert (record.stage, set(record.paired.values()), record.trial) == (2, {2}, np.inf)
        assert set(record.tightened.values()) == {np.inf}

    def test_one_that_says_little_is_followed_by_the_next(self, monkeypatch):
        monkeypatch.setattr("arfj.attack.known.SIGNS", 2.0)
        record, best, active = self.known()
        self.improve(record, best, active)
        self.improve(record, best, active, further=True)
        assert (record.stage, record.trial) == (LAST, np.inf)

    def test_new_scenarios_are_brought_to_the_stage_of_the_others(self):
        record, best, active = self.known()
        self.improve(record, best, active[:3])
        self.improve(record, best, active[:3], further=True)
        stage = record.stage
        self.improve(record, best, active)
        assert record.stage == stage
        assert set(record.paired) == set(pairs_of(active))
        assert set(record.tightened) == set(active)

    def test_scenarios_in_another_order(self, monkeypatch):
        """A part numbers its scenarios by itself; what is kept is numbered as those of the question."""
        record, best, _ = self.known()
        active = [4, 1, 3]
        before = [network.preactivations(best.x[None])[0][0, 0] for network in record.question.ensemble]
        asked = []

        def found(_crew, given):
            asked.append((given.size, given.pairs))
            part = given.question
            absent = [
                (k, (0, 0, bool(part.ensemble.networks[k].preactivations(best.x[None])[0][0, 0] < 0))) for k in (0, 2)
            ]
            return {(0, 2): [tuple(absent)]}

        monkeypatch.setattr(Crew, "probe_pairs", found)
        self.improve(record, best, active)
        self.improve(record, best, active, further=True)
        assert [size for size, _ in asked] == [1, 2]
        assert {tuple(sorted(active[k] for k in pair)) for pair in asked[0][1]} == {(1, 3), (1, 4), (3, 4)}
        expected = (4, (0, 0, bool(before[4] < 0))), (3, (0, 0, bool(before[3] < 0)))
        assert set(record.across) == {expected}
        assert record.across_of([3, 4])[0] == ((1, expected[0][1]), (0, expected[1][1]))
        assert record.across_of([1, 3]) == []

    def test_many_begin_with_signs(self, monkeypatch):
        monkeypatch.setattr("arfj.attack.known.MANY", 5)
        record, best, active = self.known()
        self.improve(record, best, active)
        assert (record.stage, set(record.paired.values())) == (1, {1})

    def test_other_solvers_have_two(self, monkeypatch):
        """Small programs and triples, then longer programs; conflicts of pairs say nothing to them."""
        monkeypatch.setattr("arfj.attack.known.MANY", 5)
        record, best, active = self.known(own=False)
        self.improve(record, best, active)
        assert (record.stage, set(record.tightened.values())) == (0, {BRANCHINGS})
        assert 0 < record.trial < np.inf
        before = record.conflicts_of(active)
        self.improve(record, best, active, further=True)
        assert (record.stage, set(record.tightened.values())) == (1, {MORE})
        assert (record.paired, record.trial) == ({}, np.inf)
        assert record.conflicts_of(active) == before


@pytest.mark.usefixtures("threads")
class TestCrew:
    @pytest.mark.parametrize("cores", [2, 4])
    def test_finds_what_one_process_finds(self, cores):
        """Up to what a pair in another process cannot be told of."""
        question, x, bounds = harder(HARDER[0])
        radius = cut_off_radius(question.distance(x))
        pairs, alone = pairs_of(range(len(bounds))), [()] * len(bounds)
        with Crew(lambda: cores) as helpers:
            until_ready(helpers)
            found = helpers.probe_pairs(Pairing(question, bounds, alone, (), x, radius, SECONDS, pairs, 1, ALL))
        assert set(found) == set(pairs)
        one, _ = found_of(question, x, bounds, size=1)
        mine = {conflict for pair in found.values() for conflict in pair}
        assert mine <= set(one)
        assert len(mine) >= 0.8 * len(set(one))

    @pytest.mark.parametrize("seed", HARDER[::2])
    def test_searches_with_them(self, seed, monkeypatch):
        monkeypatch.setattr(closing_module, "FIRST", 1)
        monkeypatch.setattr("arfj.bab.tree.MEETING", 1)
        question, x, bounds = harder(seed)
        expected = Closing(question, bounds, x).run(SECONDS).value
        across, _ = found_of(question, x, bounds)
        with Crew(lambda: 3) as helpers:
            until_ready(helpers)
            closing = Closing(question, bounds, x, helpers=helpers, probed=[None] * len(bounds), across=across)
            found = closing.run(SECONDS)
        assert (found.status, found.value) == ("optimal", pytest.approx(expected, rel=1e-6))
