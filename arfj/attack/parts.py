r"""Parts that grow from one scenario, where all that hold the answer back are out of reach together.

With fewer scenarios linear programs are smaller, the ball of the best answer to them is, too, and branching is not
spread over the neurons of all networks: where six deep networks have proven next to nothing after minutes, the one
that is hardest to fool alone may be closed within one. What is proven of a part S holds for all, since fewer conditions
are a relaxation:

    min { ||x - xbar||_1 : x fools S }  <=  min { ||x - xbar||_1 : x fools all }.

Once the optimum of a part is proven, one of the scenarios that it fools least joins it, and so on, until an optimum
fools all, or the time is over.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from arfj.attack.climb import HOPELESS, Climber
from arfj.attack.closing import Milestone
from arfj.attack.descent import descend
from arfj.attack.gradient import gradient_answers
from arfj.attack.judge import Proof, badly_scaled, exceeds
from arfj.attack.regions import Corner, RegionProgram
from arfj.attack.warm import SHORT
from arfj.network import Floats
from arfj.question import Question
from arfj.solver import Solution, Step

SECONDS, ALL = 1.0, 5.0
"""For a part's own answer and for those of several parts together, at most, before one of them is chosen."""
LOOKED = 5
"""So many scenarios at most are looked at before one of them joins a part."""
MANY = 4
"""Fewer scenarios that hold the answer back get the time that tightening takes before parts are begun."""
SHARE, LEAST = 0.2, 5.0
"""Then the proof is tried for this share of the time that it would have else, and so many seconds at least."""


class Divided(Climber):
    """A search that falls back on parts which grow from one scenario; the arguments are those of `Prover`.

    It does so at once where many scenarios hold the answer back and a first try has ended far from it, for all of them
    and for the hardest alone, and later where tightened bounds do not bring the proof half of the way. It is for our
    own branch and bound; and under a soft demand fewer scenarios are no relaxation.

    Attributes:
        single: the hardest scenario and its search, once it was begun.
        lent: the best bound that parts have proven. Each has all scenarios of those before it, so that no answer to a
            part is nearer.
        over: whether parts have come to their end with time left.
    """

    single: tuple[list[int], Climber] | None = None
    lent = 0.0
    over = False

    def divided(self, active: list[int], tried: bool) -> Proof | None:
        """See `Prover.divided`."""
        best = self.best
        if best is None or self.over or not self.divisible(active):
            return None
        if self.reached >= (1.0 - HOPELESS) * best.distance or not (tried or len(active) >= MANY):
            return None
        if self.single is None:
            first = self.chosen([[index] for index in active], best)
            self.single = first, self.begun_with(first)
        first, part = self.single
        if self.done:
            return self.ended
        if part.closed and not tried:  # networks of this size are no trouble
            return None
        return self.grown(first, part, best)

    @property
    def doubts(self) -> Sequence[Milestone]:
        """See `Climber.doubts`; before, where a part with tightened bounds is given up for one of its scenarios."""
        first = self.hard and np.isfinite(self.known.trial) and self.single is None
        if not first or self.over or not self.divisible(self.last[1] if self.last is not None else []):
            return super().doubts
        return ((max(LEAST, SHARE * self.known.trial), 1.0 - HOPELESS),)

    def following(self, solution: Solution, active: list[int]) -> list[int] | None:
        """See `Prover.following`: what was given up like this is the same part, and `divided` has smaller ones."""
        if self.last is not None and self.last[0].hopeless and np.isfinite(self.known.trial):
            return active
        return super().following(solution, active)

    def divisible(self, active: list[int]) -> bool:
        """Whether these are several scenarios, and each is a question of its own."""
        several = len(active) > 1 and not self.question.soft and self.options.engine == "bab"
        return several and badly_scaled(self.question) is None

    def begun_with(self, active: list[int]) -> Climber:
        """The search of a part with these scenarios: that for an answer, with a first try at the proof in it."""

        def told(phase: str, step: Step) -> None:
            distance = None if self.best is None else self.best.distance
            bound = max(self.bound, step.bound or 0.0)
            self.told(phase, Step(distance, bound or None, self.nodes + step.nodes, self.elapsed))

        options = replace(self.options, time_limit=self.left)
        part = Climber(self.question.restricted(active), options, told, crew=self.crew)
        part.many = self.many
        try:
            part.warm_up()
        finally:
            self.settle(part)
        return part

    def chosen(self, parts: list[list[int]], best: Corner) -> list[int]:
        """The hardest of these parts."""
        self.say("search")
        deadline = time.perf_counter() + min(ALL, self.left)
        return hardest(self.question, parts, best.x, self.options.seed, deadline)

    def grown(self, active: list[int], part: Climber, best: Corner) -> Proof | None:
        """The proof, as far as there is time for larger and larger parts; None where one has ended before."""
        while True:
            # What cannot raise the bound, one of an earlier run, is not proven again.
            useful = part.best is None or part.best.distance > self.bound
            if useful:
                try:
                    part.proven_lazily()
                finally:
                    self.settle(part)
            if self.done:
                return self.ended
            if part.best is None or (useful and not part.closed) or len(active) == len(self.question.ensemble):
                self.over = True
                return None
            best = self.best or best
            active = self.chosen(larger(self.question, active, part.best.x), best)
            part = self.begun_with(active)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do, or no time to do it."""
        return self.closed or self.interrupted or self.left <= 0

    @property
    def ended(self) -> Proof:
        """What is proven then."""
        reason = "interrupted" if self.interrupted else "" if self.closed else "time limit reached"
        return Proof(self.bound, False, reason)

    def settle(self, part: Climber) -> None:
        """Take up what the search of a part has come to.

        An answer to it that is nearer than what parts have proven is a solver's error, and none of that is believed.
        """
        self.nodes += part.nodes
        part.nodes = 0
        if part.active:
            self.size, self.active = part.size, part.active
        self.interrupted = self.interrupted or part.interrupted
        if part.best is None:
            return
        self.lent = max(self.lent, part.bound)
        if exceeds(self.lent, part.best.distance):
            self.lent, self.bound = 0.0, self.reached
        self.bound = max(self.bound, self.lent)
        if part.closed or self.question.slack(part.best.x) >= 0:
            self.offer(part.best.x, walk=False)


def hardest(question: Question, parts: Sequence[list[int]], answer: Floats, seed: int, deadline: float) -> list[int]:
    """The part whose own answer, as a short search finds it, is the farthest.

    Args:
        question: image, target, scenarios.
        parts: some sets of scenarios.
        answer: it fools them all.
        seed: of the random starts.
        deadline: `time.perf_counter()` value at which to stop; parts that were not looked at by then are not chosen.
    """
    best, most = parts[0], -np.inf
    for part in parts if len(parts) > 1 else ():
        if (now := time.perf_counter()) > deadline:
            break
        asked, until = question.restricted(part), min(now + SECONDS, deadline)
        found = descend(RegionProgram(asked), [*gradient_answers(asked, seed, until, *SHORT)[:1], answer], until)
        distance = question.distance(answer) if found is None else found.distance
        if distance > most:
            best, most = part, distance
    return best


def larger(question: Question, active: Sequence[int], x: Floats) -> list[list[int]]:
    """These scenarios and one more: one of the few that x fools least, or the one with the least room if it fools all.

    Raises:
        ValueError: there is no other scenario.
    """
    if len(active) == len(question.ensemble):
        raise ValueError("all scenarios are active")
    slacks = np.array([question.restricted([index]).slack(x) for index in range(len(question.ensemble))])
    slacks[list(active)] = np.inf
    order = np.argsort(slacks)
    missed = order[slacks[order] < 0][:LOOKED]
    return [[*active, int(index)] for index in (missed if missed.size else order[:1])]
