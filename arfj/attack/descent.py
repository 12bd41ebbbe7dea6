"""Descent over linear regions: from any answer to one that no change of a single phase improves.

The optimum of a linear region (`arfj.attack.regions`) is that of `Relaxation` with all phases held. There each open
neuron has a column, y or s, which its phase holds at 0, and whose reduced cost says what the objective would gain at
first if the phase were given up. A flip is tried in the order of these gains: first of the neurons at their kinks,
whose flip keeps the point and opens a neighbouring region, then of those that are near, where the point moves into a
region that need not touch its own. A flipped program begins at the basis before and ends once it cannot be better.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from arfj.attack.regions import PRESSED, Corner, Phases, RegionProgram, phases_at
from arfj.bab import Relaxation
from arfj.bab.relaxation import Basis
from arfj.bounds import pre_activation_bounds
from arfj.encoding.problem import Indices
from arfj.network import Floats
from arfj.question import Question
from arfj.solver.branching import OPEN

GAIN = 1e-7
"""A flip has to bring the answer nearer by this much."""
NEAR = 0.1
"""A neuron is near its kink where |a| is at most this share of its bound."""
LAST_SECONDS = 1.0
"""Limit of the program that gives the last region's answer."""
ROOM = 1e-6
"""A ball is larger than the distance of its answer by this share, and by this much."""


def descend(
    program: RegionProgram, starts: Iterable[Floats], deadline: float, best: Corner | None = None
) -> Corner | None:
    """The best corner reached from `starts` (flat images that are answers) by single flips, until `deadline`.

    Args:
        program: of the question.
        starts: answers; others are passed over when their linear region holds none.
        deadline: `time.perf_counter()` value.
        best: an answer already known.
    """
    for start in starts:
        if time.perf_counter() > deadline:
            break
        walk = _Walk(program.question, start)
        end = walk.run(deadline)
        corner = None if end is None else program.solve(end, LAST_SECONDS)
        if corner is None:  # nothing that one solver fails at is to be lost
            corner = program.solve(walk.before, LAST_SECONDS)
        if corner is not None and (best is None or corner.distance < best.distance):
            best = corner
    return best


def relaxed(question: Question, x: Floats) -> Relaxation:
    """The relaxation of the least distance, over the ball that just holds an answer x, with the pixels that x moves."""
    distance = question.distance(x)
    region = question.region(distance * (1 + ROOM) + ROOM)
    bounds = [pre_activation_bounds(network, region, "crown", outputs=question.soft) for network in question.ensemble]
    relaxation = Relaxation(question, bounds)
    relaxation.maximise(None)
    relaxation.enter(x)
    return relaxation


class _Walk:
    """One descent.

    Attributes:
        phases: on (True) or off, for every open neuron of the relaxation.
        before: the phases of all neurons at the start.
        seen: those that have been tried.
        value: the negative distance of this region's answer.
        amounts: |a| of every open neuron there, as a share of its bound.
        forces: what the objective gains at first where a phase is given up.
    """

    def __init__(self, question: Question, start: Floats) -> None:
        self.relaxation = relaxed(question, start)
        self.before = phases_at(question, start)
        widths = [[layer.outputs for layer in network.layers[:-1]] for network in question.ensemble]
        self.places = [(k, sum(widths[k][:layer]) + neuron) for k, layer, neuron in self.relaxation.neurons]
        self.phases = np.array([self.before[k][place] for k, place in self.places], dtype=np.bool_)
        self.seen: set[bytes] = set()
        self.value = -np.inf
        self.amounts: Floats = np.zeros(len(self.places))
        self.forces: Floats = np.zeros(len(self.places))

    def run(self, deadline: float) -> Phases | None:
        """The phases of the last region, or None where the start's own holds no answer (or the time is over)."""
        basis = self.solved(self.phases, -np.inf, deadline)
        if basis is None:
            return None
        while basis is not None and time.perf_counter() < deadline:
            basis = self.improved(basis, deadline)
        phases = tuple(phase.copy() for phase in self.before)
        for (k, place), on in zip(self.places, self.phases.tolist(), strict=True):
            phases[k][place] = on
        return phases

    def improved(self, basis: Basis, deadline: float) -> Basis | None:
        """Flip one phase, or find that no flip helps."""
        least = self.value + GAIN
        for number in self.order().tolist():
            flipped = self.phases.copy()
            flipped[number] = ~flipped[number]
            if (key := flipped.tobytes()) in self.seen:
                continue
            self.seen.add(key)
            self.relaxation.start_from(basis)
            found = self.solved(flipped, least, deadline)
            if found is not None:
                return found
            if time.perf_counter() > deadline:
                break
        return None

    def solved(self, phases: NDArray[np.bool_], floor: float, deadline: float) -> Basis | None:
        """Take up these phases if their region has an answer whose negative distance is above `floor`."""
        relaxation = self.relaxation
        relaxation.hold(dict(enumerate(phases.tolist())))
        bound, amounts = relaxation.solve(floor, deadline - time.perf_counter())
        if amounts is None or not floor < bound < np.inf:  # without a bound there are no multipliers
            return None
        self.phases, self.value = phases, bound
        self.amounts = np.asarray(amounts.max(axis=0))
        gains = relaxation.reduced_costs()
        self.forces = np.where(phases, gains[1], gains[0])
        return relaxation.basis()

    def order(self) -> Indices:
        """The neurons to flip, the most promising first."""
        candidates = np.flatnonzero((self.forces > PRESSED) & (self.amounts <= NEAR))
        return candidates[np.lexsort((-self.forces[candidates], self.amounts[candidates] > OPEN))]
