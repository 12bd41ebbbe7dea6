r"""Phases of two networks that no answer has together, found by searches of both.

What `arfj.probe` asks of one scenario is asked here of two, (a, b): is an answer to both within distance R left that
has phase i of a, or phase i of a and phase j of b?

    min ||x - xbar||_1  <  R   subject to the class conditions of a and b, phases i (and j) held

A bound of R proves that there is none. Every answer of the whole question fools a and b, so that none nearer than R has
these phases together: a conflict, which is a neuron's sign where it is of one phase alone. Two networks leave far fewer
phases than either of them does by itself, and searches of two are still small.

Not every set of phases is worth a search, for most are possible, and to find the point that shows it takes as long as
to prove that there is none. A linear program with these phases held bounds the distance first: where that is far below
R, nothing is asked.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from arfj.bounds import Bounds
from arfj.conflicts import KINK, Across, Conflict, within
from arfj.network import Floats
from arfj.probe import VAIN, Asking
from arfj.question import Question, condition_slack

SECONDS, MOST = 0.5, 60
"""Limits of one search, in seconds and nodes."""
MET = 1e-7
"""A point of a linear program misses its class conditions by no more than this."""


def pairs_of(scenarios: Sequence[int]) -> list[tuple[int, int]]:
    """All pairs of scenarios."""
    return list(itertools.combinations(sorted(scenarios), 2))


def probe_pairs(
    question: Question,
    bounds: Sequence[Bounds],
    conflicts: Sequence[Sequence[Conflict]],
    across: Sequence[Across],
    answer: Floats,
    radius: float,
    deadline: float,
    pairs: Sequence[tuple[int, int]],
    size: int,
    likely: float,
) -> list[list[Across]]:
    """New conflicts of these pairs of scenarios; what is found for one of them is known to the next.

    Args:
        question: image, target, scenarios; the demand is no soft one.
        bounds: of every scenario, which hold at every answer x with ||x - xbar||_1 < radius.
        conflicts: of every scenario alone.
        across: those of several scenarios that are known.
        answer: an answer within the radius.
        radius: R.
        deadline: `time.perf_counter()` value after which nothing more is asked.
        pairs: of scenarios; each has an equal share of the time that is left when its turn comes.
        size: 1 for signs alone, 2 for a phase of each.
        likely: phases are asked for where a linear program bounds the distance by this share of R at least.

    Raises:
        ValueError: a soft demand.
    """
    if question.soft:
        raise ValueError("under a soft demand no scenario's conditions are known to hold")
    known, result = list(across), []
    points = [answer]
    for place, pair in enumerate(pairs):
        now = time.perf_counter()
        until = now + (deadline - now) / (len(pairs) - place)
        found: list[Across] = []
        if now < deadline:
            prober = _Pair(question, bounds, conflicts, known, points, radius, likely, until, pair)
            found = prober.ask(size)
        known += found
        result.append(found)
    return result


def decided(bounds: Sequence[Bounds], across: Sequence[Across]) -> list[Bounds]:
    """The bounds with the signs that conflicts of one phase decide."""
    result = list(bounds)
    for conflict in across:
        if len(conflict) == 1:
            ((scenario, (layer, neuron, on)),) = conflict
            lower, upper = result[scenario].lower[layer].copy(), result[scenario].upper[layer].copy()
            if on:
                upper[neuron] = min(upper[neuron], 0.0)
            else:
                lower[neuron] = max(lower[neuron], 0.0)
            result[scenario] = result[scenario].replaced(layer, lower, upper)
    return result


class _Pair(Asking):
    """Searches of two scenarios; the arguments are those of `probe_pairs`, `points` a list that grows."""

    def __init__(
        self,
        question: Question,
        bounds: Sequence[Bounds],
        conflicts: Sequence[Sequence[Conflict]],
        across: Sequence[Across],
        points: list[Floats],
        radius: float,
        likely: float,
        deadline: float,
        pair: tuple[int, int],
    ) -> None:
        both = [renumbered for one in across if (renumbered := within(one, pair)) is not None]
        mine, alone = [bounds[index] for index in pair], [conflicts[index] for index in pair]
        super().__init__(question.fooling(pair), mine, points[0], radius, alone, both)
        self.pair, self.likely, self.deadline, self.pool = pair, likely, deadline, points
        self.most = VAIN
        self.search.begin(-radius, deadline, 0.0, None)
        self.found: list[Across] = []

    def ask(self, size: int) -> list[Across]:
        """Look for conflicts of one phase, and of a phase of either scenario."""
        scenario = np.array([one[0] for one in self.neurons], dtype=np.intp)
        literals = np.arange(2 * self.count)
        self.extend((), literals)
        if size > 1:
            of = scenario[literals % max(self.count, 1)]
            for first in np.flatnonzero(of == 0).tolist():
                self.extend((first,), np.flatnonzero(of == 1))
        return self.found

    def extend(self, chosen: tuple[int, ...], literals: NDArray[np.intp]) -> None:
        """Look for those of these phases that are impossible with the chosen one."""
        implied = self.implied(chosen)
        for literal in literals.tolist():
            if implied is None or self.over:
                return
            if literal % self.count in implied or self.seen((*chosen, literal)):
                continue
            if not self.possible((*chosen, literal)):
                self.keep((*chosen, literal))
                implied = self.implied(chosen)

    def keep(self, literals: Sequence[int]) -> None:
        """Keep a conflict."""
        found = [(literal % self.count, literal >= self.count) for literal in literals]
        self.conflicts.add(found)
        places = [(self.neurons[number], on) for number, on in found]
        self.found.append(tuple((self.pair[mine], (layer, neuron, on)) for (mine, layer, neuron), on in places))

    def seen(self, literals: Sequence[int]) -> bool:
        """Whether a point is known that has these phases."""
        if self.met < len(self.pool):
            self.points = np.concatenate([self.points, self._phases_of(np.array(self.pool[self.met :]))])
            self.met = len(self.pool)
        return bool(self.points[:, literals].all(axis=1).any())

    def _phases_of(self, points: Floats) -> NDArray[np.bool_]:
        """Of those that fool both scenarios, and within R, the phases, a row each."""
        near = np.abs(points - self.question.flat).sum(axis=1) < self.radius
        target, gamma = self.question.target, self.question.gamma
        slacks = np.array([condition_slack(network(points), target, gamma) for network in self.question.ensemble])
        points = points[near & (slacks.min(axis=0) >= -MET)]
        before = [network.preactivations(points) for network in self.question.ensemble]
        values = [before[mine][layer][:, neuron] for mine, layer, neuron in self.neurons]
        signs = np.array(values).reshape(self.count, len(points)).T
        return np.hstack([signs <= KINK, signs >= -KINK])

    def possible(self, literals: Sequence[int]) -> bool:
        """Whether an answer to both within R may have these phases; only a proof says no."""
        phases = self.search.implied(self.phases(literals), None)
        if phases is None:
            return False
        floor = -self.likely * self.radius
        self.relaxation.hold(phases)
        bound, _ = self.relaxation.solve(floor, min(SECONDS, self.deadline - time.perf_counter()))
        return bound > floor or not self.excluded(phases, SECONDS, MOST)

    def meet(self, x: Floats) -> None:
        """A point, for all pairs; which of them it says something of is seen when it is looked at."""
        self.pool.append(x)
