"""What is known of every scenario within the ball of the best answer, bounds and conflicts, and how it is improved.

All of it holds at every answer of the question that is nearer than the best one: that answer comes nearer in the course
of a search, and parts of the question grow, so that nothing is ever forgotten. What contradicts an answer at hand is
not believed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from arfj.attack.crew import Crew
from arfj.attack.regions import Corner
from arfj.bounds import Bounds, Method, pre_activation_bounds
from arfj.conflicts import Conflict
from arfj.probe import Probed
from arfj.question import Question
from arfj.tighten import open_width

STEPS = 12
"""Of alpha-CROWN: on 784-8-8-8-10 so many come within 0.3 % of the widths that 30 lead to."""
RADIUS_ROOM = 1e-6
"""R exceeds the distance of the best answer by this share, and by this much at least."""
TIGHTEN_SHARE, TOGETHER_SHARE, PROBE_SHARE = 0.3, 0.1, 0.1
"""Of the time that is left: for tightening scenario by scenario, for all of them together, and for conflicts."""
WORTH = 0.08
"""Where all scenarios together make the open neurons narrower by this share, small searches of all together are worth
their time, too, once the proof lasts."""
MANY = 8
"""So many scenarios together say something of all layers; fewer of the first one, whose bounds are left to them."""
BRANCHINGS, MORE = 8, 40
"""Branchings of a small search, and of the only ones for other solvers than our own, which do not begin anew."""
PAIRS, TRIPLES = 2, 3
"""Phases of a conflict that is looked for; our own search finds larger ones in its course, which is why pairs do."""
TRIAL = 2.0
"""The proof is tried with what small searches have taught, so many times as long as these took, before larger ones."""


def cut_off_radius(distance: float) -> float:
    """R for an answer at this distance: a little above, so that rounding cannot cut the answer off."""
    return distance * (1.0 + RADIUS_ROOM) + RADIUS_ROOM


def left_to_all(active: Sequence[int]) -> int | None:
    """How many layers are left to programs of all these scenarios, which bound no others; None: these bound all."""
    return 1 if len(active) < MANY else None


class Known:
    """The record of the module's docstring.

    Args:
        question: image, target, scenarios.
        crew: other processes.
        method: where bounds begin.
        own: whether it is for our own branch and bound, which a proof can be begun anew with at little cost.

    Attributes:
        bounds: of every scenario met so far.
        radius: of the ball over which these were begun.
        tightened: how many branchings the programs had that tightened a scenario's bounds.
        probed: conflicts of every scenario that was asked for them.
        trial: seconds of proof after which it is time for more.
        worth: whether small searches of all scenarios together are worth their time.
    """

    def __init__(self, question: Question, crew: Crew, method: Method, own: bool) -> None:
        self.question, self.crew, self.method, self.own = question, crew, method, own
        self.bounds: dict[int, Bounds] = {}
        self.radius: dict[int, float] = {}
        self.tightened: dict[int, float] = {}
        self.probed: dict[int, Probed] = {}
        self.trial = np.inf
        self.worth = False

    def bounds_of(self, radius: float, indices: Sequence[int]) -> list[Bounds]:
        """Bounds over the ball; those of an earlier, larger ball hold as well and are intersected."""
        region, outputs = self.question.region(radius), self.question.soft
        for index in indices:
            if self.radius.get(index) != radius:
                network = self.question.ensemble.networks[index]
                bounds = pre_activation_bounds(network, region, self.method, STEPS, outputs)
                self.bounds[index] = self.bounds[index].intersect(bounds) if index in self.bounds else bounds
                self.radius[index] = radius
        return [self.bounds[index] for index in indices]

    def conflicts_of(self, indices: Sequence[int]) -> list[Sequence[Conflict]]:
        """Those that are known."""
        return [self.probed[index].conflicts if index in self.probed else () for index in indices]

    def probed_of(self, indices: Sequence[int]) -> list[Probed | None] | None:
        """What is known of conflicts, where there may be any."""
        return None if self.question.soft else [self.probed.get(index) for index in indices]

    def improve(
        self,
        best: Corner,
        active: Sequence[int],
        left: Callable[[], float],
        say: Callable[[str], None],
        to_the_end: bool = False,
    ) -> None:
        """Better bounds, by programs of each of these scenarios and then of all of them together, and conflicts.

        All of it as far as their shares of the time allow. For our own search programs are small ones at first; then
        `trial` says for how long the proof is tried before they are to be searched to the end.

        Args:
            best: the best answer.
            active: the scenarios.
            left: the seconds that are left.
            say: told of every phase.
            to_the_end: as above.
        """
        most = np.inf if to_the_end else float(BRANCHINGS if self.own else MORE)
        several = len(active) > 1 and not self.question.soft
        indices = [index for index in active if self.tightened.get(index, -1.0) < most]
        if to_the_end:
            self.trial = np.inf
        if not indices:
            return
        say("tightening")
        began = time.perf_counter()
        again = not self.tightened.keys().isdisjoint(indices)
        radius = cut_off_radius(best.distance)
        known = self.bounds_of(radius, indices)
        conflicts = self.conflicts_of(indices)
        part, deadline = self.question.restricted(indices), began + TIGHTEN_SHARE * left()
        first = (left_to_all(active) or 0) if several else 0
        self.narrow(best, indices, self.crew.tighten(part, known, radius, deadline, most, conflicts, first))
        self.tightened.update(dict.fromkeys(indices, most))
        if not self.question.soft:
            if several:
                say("tightening")
                self.worth = self.together(best, active, left) >= WORTH or self.worth
                if self.worth and again:
                    self.together(best, active, left, BRANCHINGS)
            say("probing")
            self.probe(best, active, left)
        if self.own and not to_the_end:
            self.trial = TRIAL * (time.perf_counter() - began)

    def together(self, best: Corner, active: Sequence[int], left: Callable[[], float], most: int = 0) -> float:
        """Better bounds by programs of all these scenarios; by which share the open neurons are narrower then."""
        radius = cut_off_radius(best.distance)
        known = self.bounds_of(radius, active)
        part, deadline = self.question.restricted(active), time.perf_counter() + TOGETHER_SHARE * left()
        layers = left_to_all(active)
        self.narrow(best, active, self.crew.tighten_together(part, known, best.x, radius, deadline, most, layers))
        before = open_width(known)
        return 1.0 - open_width([self.bounds[index] for index in active]) / max(before, 1e-9)

    def probe(self, best: Corner, active: Sequence[int], left: Callable[[], float]) -> None:
        """Look for conflicts of those scenarios that were not asked for them yet."""
        asked = [index for index in active if index not in self.probed]
        if not asked:
            return
        radius = cut_off_radius(best.distance)
        bounds = self.bounds_of(radius, asked)
        part, deadline = self.question.restricted(asked), time.perf_counter() + PROBE_SHARE * left()
        size = PAIRS if self.own else TRIPLES
        for index, found in zip(asked, self.crew.probe(part, bounds, best.x, radius, deadline, size), strict=True):
            if found is not None and found.hold(self.question.ensemble.networks[index], best.x):
                self.probed[index] = found

    def keep(self, best: Corner, indices: Sequence[int], found: Sequence[Probed]) -> None:
        """Take up what a search has found beyond that, unless an answer at hand has one of these conflicts."""
        for index, one in zip(indices, found, strict=True):
            if index in self.probed and one.hold(self.question.ensemble.networks[index], best.x):
                self.probed[index] = one

    def narrow(self, best: Corner, indices: Sequence[int], found: Sequence[Bounds]) -> None:
        """Keep such bounds, unless an answer at hand lies outside of them: that would mean a solver's error."""
        for index, bounds in zip(indices, found, strict=True):
            if bounds.hold(self.question.ensemble.networks[index].preactivations(best.x[None])):
                self.bounds[index] = bounds
