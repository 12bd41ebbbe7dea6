"""Unit propagation: all that follows, nothing that does not; conflicts by the numbers of a relaxation's neurons."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arfj.bounds import Bounds
from arfj.conflicts import Conflicts, cliques, numbered

NEURONS = 5
PHASES = st.dictionaries(st.integers(0, NEURONS - 1), st.booleans(), max_size=NEURONS)
SETS = st.lists(st.dictionaries(st.integers(0, NEURONS - 1), st.booleans(), min_size=1, max_size=3), max_size=12)


def of(sets):
    return Conflicts(NEURONS, [list(one.items()) for one in sets])


def points(sets, phases):
    """All assignments with these phases that have no conflict."""
    for bits in itertools.product((False, True), repeat=NEURONS):
        if all(bits[neuron] == on for neuron, on in phases.items()) and not any(
            all(bits[neuron] == on for neuron, on in one.items()) for one in sets
        ):
            yield bits


class TestImplied:
    @given(SETS, PHASES)
    def test_every_point_has_what_is_implied(self, sets, phases):
        found = of(sets).implied(phases)
        kept = list(points(sets, phases))
        if found is None:
            assert not kept
            return
        assert phases.items() <= found.items()
        for bits in kept:
            assert all(bits[neuron] == on for neuron, on in found.items())

    @given(SETS, PHASES)
    def test_no_conflict_is_left_with_one_phase_open(self, sets, phases):
        found = of(sets).implied(phases)
        for one in sets if found is not None else ():
            left = [neuron for neuron in one if neuron not in found]
            missed = [neuron for neuron in one if found.get(neuron, one[neuron]) != one[neuron]]
            assert missed or len(left) > 1

    @given(SETS, PHASES, PHASES)
    def test_going_on_from_what_is_closed_is_beginning_anew(self, sets, phases, more):
        conflicts = of(sets)
        closed = conflicts.implied(phases)
        if closed is not None and all(closed.get(neuron, on) == on for neuron, on in more.items()):
            assert conflicts.implied({**closed, **more}, closed) == conflicts.implied({**closed, **more})

    @given(SETS, PHASES)
    def test_nothing_new_is_the_same_object(self, sets, phases):
        found = of(sets).implied(phases)
        assert found is None or (found == phases) == (found is phases)

    def test_conflicts_that_are_added_later_count(self):
        conflicts = Conflicts(3, [[(0, True), (1, True)]])
        assert conflicts.implied({0: True}) == {0: True, 1: False}
        conflicts.add([(1, False), (2, False)])
        assert conflicts.implied({0: True}) == {0: True, 1: False, 2: True}
        conflicts.add([(2, True)])
        assert conflicts.implied({0: True}) is None
        assert conflicts.implied({}) == {0: False, 1: True, 2: False}

    def test_all_pairs_of_a_phase_count(self):
        conflicts = Conflicts(4, [[(0, True), (1, True)], [(0, True), (2, False)], [(3, True), (0, True)]])
        assert conflicts.implied({0: True}) == {0: True, 1: False, 2: True, 3: False}

    def test_a_phase_that_is_named_twice_is_one(self):
        assert Conflicts(3, [[(0, True), (1, False), (1, False)]]).implied({0: True}) == {0: True, 1: True}

    def test_the_empty_one_leaves_nothing(self):
        assert Conflicts(2, [[]]).implied({}) is None
        assert Conflicts(0).implied({}) == {}


class TestNumbered:
    BOUNDS = Bounds(tuple(map(np.array, ([-1.0, 0.5, -1.0], [-1.0]))), tuple(map(np.array, ([1.0, 1.0, 0.0], [1.0]))))
    """Neuron 0 is open, 1 is on and 2 is off."""

    @pytest.mark.parametrize(
        ("conflict", "kept"),
        [
            (((0, 0, True),), [(1,)]),
            (((0, 0, False), (0, 1, True)), [(0,)]),
            (((0, 0, True), (0, 1, False)), []),
            (((0, 0, True), (0, 2, False)), [(1,)]),
            (((0, 0, True), (0, 2, True)), []),
            (((0, 1, True), (0, 2, False)), [()]),
        ],
    )
    def test_what_bounds_have_decided(self, conflict, kept):
        assert numbered([(0, 0, 0)], [self.BOUNDS], [[conflict]]).sets == kept

    def test_scenarios_are_told_apart(self):
        neurons = [(0, 0, 0), (1, 0, 0)]
        found = numbered(neurons, [self.BOUNDS, self.BOUNDS], [[((0, 0, True),)], [((0, 0, False),)]])
        assert found.sets == [(2,), (1,)]


class TestCliques:
    @given(SETS)
    def test_pairs_in_them_are_conflicts_and_all_of_these_are_in_one(self, sets):
        conflicts = of(sets)
        pairs = {frozenset(one) for one in conflicts.sets if len(one) == 2}
        found = cliques(conflicts)
        inside = {frozenset(pair) for clique in found for pair in itertools.combinations(clique, 2)}
        assert inside == pairs
