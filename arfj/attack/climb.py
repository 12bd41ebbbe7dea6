"""A search that is given up for bounds from smaller balls (`arfj.attack.ladder`) where it comes nowhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import numpy as np

from arfj.attack.closing import Milestone
from arfj.attack.judge import badly_scaled
from arfj.attack.known import STEPS, cut_off_radius
from arfj.attack.ladder import CLIMB, TIME, Ladder, Rung, search_ball
from arfj.attack.prove import Prover
from arfj.attack.regions import Corner
from arfj.bounds import pre_activation_bounds
from arfj.solver import Solution

DOUBT_SHARE, DOUBT_LEAST, HOPELESS = 0.5, 5.0, 0.5
"""After this share of the time that is left, and so many seconds at least, a search is given up for smaller balls while
its bound is farther from the answer than the last share of its distance."""


class Climber(Prover):
    """The arguments are those of `Prover`.

    Attributes:
        climbed: whether bounds from smaller balls were asked for.
    """

    climbed = False

    def following(self, solution: Solution, active: list[int]) -> list[int] | None:
        """See `Prover.following`: after a part that was given up, those that smaller balls have come to need."""
        if self.last is not None and self.last[0].hopeless:
            return self.climb(active)
        return super().following(solution, active)

    @property
    def doubts(self) -> Sequence[Milestone]:
        """Where a hard part is given up for smaller balls, once, if these can say more."""
        near = self.best is not None and self.bound >= (1.0 - HOPELESS) * self.best.distance
        more = np.isfinite(self.known.trial)  # bounds and conflicts can still be better
        if not self.hard or more or self.climbed or near or badly_scaled(self.question) is not None:
            return ()
        return ((max(DOUBT_LEAST, DOUBT_SHARE * self.left), 1.0 - HOPELESS),)

    def climb(self, active: list[int]) -> list[int]:
        """Bounds from smaller balls, as long as there are any (`arfj.attack.ladder`); the scenarios that took part."""
        self.climbed = True
        ladder = Ladder(self.best.distance if self.best is not None else 0.0, self.bound)
        least = (1.0 - CLIMB) * self.left
        while self.best is not None and not (self.closed or self.interrupted or ladder.over) and self.left > least:
            found = self.rung(self.best, active, ladder.radius)
            self.nodes += found.nodes
            self.interrupted = self.interrupted or found.interrupted
            self.bound = max(self.bound, found.bound)  # above an answer it is not believed: `final`
            outgrown = found.closing is not None and found.closing.outgrown
            if found.closing is not None and outgrown:
                self.optimum = found.closing.best.x
                active = self.extended(active)
            elif found.closing is not None and found.closing.best.distance < self.best.distance:
                self.offer(found.closing.best.x, walk=False)
            if outgrown:
                ladder.distance = self.best.distance
            else:
                ladder.risen(self.bound, self.best.distance)
        return active

    def rung(self, best: Corner, active: list[int], radius: float) -> Rung:
        """One of them: bounds over it, and those over the whole ball."""
        self.say("smaller balls")
        part, region = self.question.restricted(active), self.question.region(radius)
        known = self.known.bounds_of(cut_off_radius(best.distance), active)
        bounds = [
            one.intersect(pre_activation_bounds(network, region, self.options.start, STEPS, part.soft))
            for one, network in zip(known, part.ensemble, strict=True)
        ]
        closing_of = partial(self.closing, part, active, best.x, radius)
        until = time.perf_counter() + TIME * self.left
        return search_ball(part, bounds, radius, until, closing_of, self.crew.tighten)
