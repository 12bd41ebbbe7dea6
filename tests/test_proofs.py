"""Proofs that are kept: what they close and imply is true of every answer, and of every linear program."""

import itertools
import time

import numpy as np
import pytest
from bab_settings import LARGER, SECONDS, SEEDS, SETTINGS, columns_of, exact_of, larger, relaxation_at, relaxed
from hypothesis import given, settings
from hypothesis import strategies as st

from arfj.attack.closing import Closing
from arfj.bab import Relaxation, Search
from arfj.bab.proofs import Proofs


def phases_of(relaxation, question, x):
    """The phases of the open neurons at x; those on their kinks have none."""
    y, s = columns_of(relaxation, question, x)
    return {neuron: bool(y[neuron] > 0) for neuron in range(len(y)) if y[neuron] + s[neuron] > 1e-9}


def bound_at(total, gains, phases):
    """What a proof says of a node: the better phase where none is held."""
    return total - sum(gains[int(on), neuron] for neuron, on in phases.items())


def some_phases(rng, count, share):
    """This share of the phases, off and on at random."""
    return {neuron: bool(rng.random() < 0.5) for neuron in range(count) if rng.random() < share}


def made_up(relaxation, shares, needed, of_objective=1.0, target=-1.0):
    """Proofs with these shares (proofs, 2, neurons), which need so much at this target."""
    count = len(shares)
    proofs = Proofs(relaxation, count)
    gains = shares.max(axis=1, keepdims=True) - shares
    proofs.count, proofs.gains[:], proofs.largest[:] = count, gains.reshape(count, -1).T, gains.max(axis=(1, 2))
    proofs.of_objective[:], proofs.used[:] = of_objective, np.arange(count)
    proofs.totals[:] = needed + proofs.of_objective * target
    return proofs, gains


def filled(seed, room=50, nodes=200):
    """A relaxation whose search has kept proofs, the search, its target and an answer."""
    question, x, bounds = larger(seed)
    relaxation = Relaxation(question, bounds)
    relaxation.maximise(None)
    relaxation.enter(x)
    search = Search(relaxation, 2, room)
    search.run({}, -question.distance(x), time.perf_counter() + SECONDS, 1e-7, most=nodes)
    return question, x, search


class TestByPhase:
    @given(st.sampled_from(SEEDS), st.integers(0, 2**32 - 1), st.floats(-9, 1), st.booleans())
    @settings(max_examples=80, deadline=None)
    def test_any_multipliers_bound_every_phase(self, seed, draw, exponent, of_distance):
        question, x, _ = SETTINGS[seed]
        relaxation = relaxed(seed)
        rng = np.random.default_rng(draw)
        held = some_phases(rng, len(relaxation.neurons), 0.5)
        best = relaxation_at(relaxation, held)
        noise = 10.0**exponent * rng.normal(size=len(relaxation.sides[0]))
        multipliers = noise + np.array(relaxation.program.getDual())
        proof = relaxation.by_phase(relaxation.lagrangian(multipliers, None, float(of_distance)))
        if of_distance:
            assert bound_at(*proof, held) >= best - 1e-7
            assert bound_at(*proof, phases_of(relaxation, question, x)) >= -question.distance(x) - 1e-9
        elif best > -np.inf:
            assert bound_at(*proof, held) >= 0.0

    @given(st.sampled_from(SEEDS), st.integers(0, 2**32 - 1))
    @settings(max_examples=40, deadline=None)
    def test_it_is_no_worse_than_the_bound_with_phases_held(self, seed, draw):
        relaxation = relaxed(seed)
        rng = np.random.default_rng(draw)
        held = some_phases(rng, len(relaxation.neurons), 0.5)
        relaxation_at(relaxation, held)
        multipliers = np.array(relaxation.program.getDual()) + 1e-3 * rng.normal(size=len(relaxation.sides[0]))
        bound, _ = relaxation.certified(relaxation.lagrangian(multipliers, None, 1.0))
        proof = relaxation.by_phase(relaxation.lagrangian(multipliers, None, 1.0))
        assert bound_at(*proof, held) <= bound + 1e-9

    def test_one_of_y_or_s(self):
        """With another objective than the distance, likewise."""
        for seed, on in itertools.product(SEEDS[:5], (False, True)):
            question, x, _ = SETTINGS[seed]
            relaxation = relaxed(seed)
            column = int((relaxation.y if on else relaxation.s)[0])
            relaxation.maximise(column)
            best = relaxation_at(relaxation, {0: on})
            proof = relaxation.by_phase(relaxation.behind)
            value = bound_at(*proof, {0: on})
            assert value < 0 if best == -np.inf else value == pytest.approx(best, abs=1e-7)
            if best == -np.inf:
                continue
            y, s = columns_of(relaxation, question, x)
            assert bound_at(*proof, phases_of(relaxation, question, x)) >= (y if on else s)[0] - 1e-9


class TestProofs:
    @pytest.mark.parametrize("seed", LARGER)
    def test_what_was_closed_is_closed_again(self, seed):
        _, _, search = filled(seed)
        target, relaxation = search.target, search.relaxation
        rng = np.random.default_rng(seed)
        closed = 0
        for _ in range(300):
            held = some_phases(rng, len(relaxation.neurons), 0.4)
            fresh = Proofs(relaxation, 5)
            relaxation.hold(held)
            bound, _ = relaxation.solve(target)
            if bound <= target:
                fresh.keep(held, target)
                closed += fresh.count
                assert fresh.count == 0 or fresh.implied(held, target) is None
        assert closed > 10

    @pytest.mark.parametrize("seed", LARGER)
    def test_nothing_implied_contradicts_an_answer(self, seed):
        """For a target below its value, an answer's phases, and any part of them, imply none but its own."""
        question, x, search = filled(seed)
        assert search.proofs.count
        mine = phases_of(search.relaxation, question, x)
        target = -question.distance(x) - 1e-6
        rng = np.random.default_rng(seed)
        for share in (0.0, 0.2, 0.5, 0.8, 1.0):
            for _ in range(20):
                held = {neuron: on for neuron, on in mine.items() if rng.random() < share}
                implied = search.proofs.implied(held, target)
                assert implied is not None
                assert all(mine.get(neuron, on) == on for neuron, on in implied.items())

    @pytest.mark.parametrize("seed", LARGER)
    def test_whatever_is_closed_or_implied_is_so_by_linear_programs(self, seed):
        """What the proofs say of random nodes is confirmed by searches without any."""
        _, _, search = filled(seed)
        relaxation, target = search.relaxation, search.target
        rng = np.random.default_rng(seed)
        alone = Search(relaxation)
        told = 0
        for _ in range(150):
            held = some_phases(rng, len(relaxation.neurons), 0.3)
            implied = search.proofs.implied(held, target)
            others = [held] if implied is None else [{**held, n: not on} for n, on in implied.items() if n not in held]
            for one in others:
                found = alone.run(one, target, time.perf_counter() + SECONDS)
                assert found.bound <= target + 1e-7
                told += 1
        assert told

    @given(st.integers(0, 2**32 - 1))
    @settings(max_examples=60, deadline=None)
    def test_all_that_follows_is_found(self, draw):
        """Beside a plain loop over proofs, neurons and sides."""
        relaxation = relaxed(SEEDS[0])
        rng = np.random.default_rng(draw)
        count, target = len(relaxation.neurons), -float(rng.integers(1, 4))
        shares = rng.integers(0, 6, size=(8, 2, count)) * (rng.random((8, 2, count)) < 0.4)
        needed = rng.integers(1, 12, size=8) + 0.5
        proofs, gains = made_up(relaxation, shares, needed, rng.integers(0, 2, size=8), target)
        phases = some_phases(rng, count, 0.3)
        expected = dict(phases)
        while expected is not None:
            slack = [n - sum(g[int(on), j] for j, on in expected.items()) for n, g in zip(needed, gains, strict=True)]
            cannot = [
                (j, on)
                for n, g in zip(slack, gains, strict=True)
                for j, on in itertools.product(range(count), (False, True))
                if j not in expected and g[int(on), j] >= n
            ]
            if min(slack) <= 0 or any((j, not on) in cannot for j, on in cannot):
                expected = None
            elif cannot:
                expected.update((j, not on) for j, on in cannot)
            else:
                break
        assert proofs.implied(phases, target) == expected

    @given(st.integers(0, 2**32 - 1))
    @settings(max_examples=40, deadline=None)
    def test_proofs_of_another_relaxation(self, draw):
        """Neurons change their numbers, some have a phase that is known now: as if it were held there."""
        relaxation = relaxed(SEEDS[0])
        rng = np.random.default_rng(draw)
        count = len(relaxation.neurons)
        shares, needed = rng.integers(0, 6, size=(6, 2, count)), rng.integers(3, 12, size=6) + 0.5
        theirs, _ = made_up(relaxation, shares, needed, 0.0)
        places, phases = rng.permutation(count), rng.random(count) < 0.5
        gone = rng.random(count) < 0.3
        mine = Proofs(relaxation, int(rng.integers(6, 9)))
        mine.take(theirs, np.where(gone, -1, places), phases)
        held = some_phases(rng, count, 0.3)
        known = {int(places[n]): on for n, on in held.items() if not gone[n]}
        before = theirs.implied({**held, **{int(n): bool(phases[n]) for n in np.flatnonzero(gone)}}, -1.0)
        after = mine.implied(known, -1.0)
        if before is None:
            assert after is None
        else:
            assert after == {int(places[n]): on for n, on in before.items() if not gone[n]}

    def test_neurons_that_matter_in_proofs(self, monkeypatch):
        proofs = Proofs(relaxed(SEEDS[0]), 8)
        count = proofs.neurons
        assert proofs.importance(-1.0) is None
        monkeypatch.setattr("arfj.bab.proofs.FEW", 2)
        proofs.count, proofs.totals[:2] = 2, (1.0, 3.0)
        proofs.of_objective[:2] = 1.0
        proofs.gains[1, 0], proofs.gains[count + 2, 1] = 1.0, 8.0
        np.testing.assert_allclose(proofs.importance(-1.0)[:3], [0.0, 0.25, 1.0])
        proofs.totals[1] = 1e9
        assert proofs.importance(-1.0)[2] == 1.0
        proofs.clock = 50
        assert proofs.importance(-1.0)[1] == 1.0

    def test_a_proof_that_closes_nothing_is_not_kept(self):
        relaxation = relaxed(SEEDS[0])
        proofs = Proofs(relaxation, 5)
        proofs.keep({}, 0.0)
        bound = relaxation_at(relaxation, {})
        proofs.keep({}, bound - 1e-3)
        assert proofs.count == 0
        assert proofs.implied({}, bound - 1e-3) == {}

    def test_the_one_of_use_longest_ago_gives_way(self):
        _, _, search = filled(LARGER[0], room=3)
        proofs, relaxation, target = search.proofs, search.relaxation, search.target
        assert proofs.count == 3
        rng = np.random.default_rng(0)
        for oldest in (1, 2, 0):
            proofs.used[:], proofs.used[oldest] = proofs.clock, 0
            others = np.delete(proofs.gains, oldest, axis=1)
            before = proofs.clock
            while proofs.clock == before:
                held = some_phases(rng, proofs.neurons, 0.6)
                if relaxation_at(relaxation, held) <= target:
                    proofs.keep(held, target)
            np.testing.assert_array_equal(np.delete(proofs.gains, oldest, axis=1), others)
            assert (proofs.count, proofs.used[oldest]) == (3, proofs.clock)
            np.testing.assert_array_equal(proofs.largest, proofs.gains.max(axis=0))

    @pytest.mark.parametrize("seed", SEEDS)
    def test_the_optimum_is_that_without(self, seed, monkeypatch):
        question, x, bounds = SETTINGS[seed]
        for room in (0, 2, 500):
            monkeypatch.setattr("arfj.attack.closing.PROOFS", room)
            found = Closing(question, bounds, x).run(SECONDS)
            assert (found.status, found.value) == ("optimal", pytest.approx(exact_of(seed), rel=1e-6, abs=1e-6))
