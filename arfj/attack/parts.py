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

from arfj.attack.descent import descend
from arfj.attack.gradient import gradient_answers
from arfj.attack.judge import Proof, badly_scaled, exceeds
from arfj.attack.options import Earlier
from arfj.attack.prove import HOPELESS, Prover
from arfj.attack.regions import Corner, RegionProgram
from arfj.attack.warm import SHORT
from arfj.network import Floats
from arfj.question import Question
from arfj.solver import Step

SECONDS = 1.0
"""For a part's own answer, at most, before one of several parts is chosen."""
LOOKED = 5
"""So many scenarios at most are looked at before one of them joins a part."""


class Divided(Prover):
    """A search that falls back on parts which grow from one scenario; the arguments are those of `Prover`.

    It does so at once where a first try has failed at all scenarios that hold the answer back, and fails at the hardest
    of them alone, and later where tightened bounds do not bring the proof half of the way. Under a soft demand fewer
    scenarios are no relaxation.

    Attributes:
        single: the hardest scenario and its search, once it was begun.
    """

    single: tuple[list[int], Prover] | None = None

    def divided(self, active: list[int], tried: bool) -> Proof | None:
        """See `Prover.divided`."""
        best = self.best
        if best is None or not self.divisible(active) or not (tried or np.isfinite(self.failed)):
            return None
        if self.reached >= (1.0 - HOPELESS) * best.distance:
            return None
        if self.single is None:
            first = hardest(self.question, [[index] for index in active], best.x, self.options.seed)
            self.single = first, self.begun_with(first, 0.0, best)
        first, part = self.single
        self.settle(part)
        if self.interrupted or (part.closed and not tried):  # networks of this size are no trouble
            return None
        return self.grown(first, part, best)

    def divisible(self, active: list[int]) -> bool:
        """Whether these are several scenarios, and each is a question of its own."""
        several = len(active) > 1 and not self.question.soft and self.options.engine == "bab"
        return several and badly_scaled(self.question) is None

    def begun_with(self, active: list[int], floor: float, best: Corner) -> Prover:
        """The search of a part, up to its first try at the proof.

        Args:
            active: its scenarios.
            floor: a lower bound that was proven of some of them.
            best: an answer to all.
        """

        def told(phase: str, step: Step) -> None:
            distance = None if self.best is None else self.best.distance
            bound = max(self.bound, step.bound or 0.0)
            self.told(phase, Step(distance, bound or None, self.nodes + step.nodes, self.elapsed))

        options = replace(self.options, time_limit=self.left)
        part = Prover(self.question.restricted(active), options, told, Earlier(best.x, floor), crew=self.crew)
        part.many = self.many
        try:
            part.warm_up()
        finally:
            self.settle(part)
        return part

    def grown(self, active: list[int], part: Prover, best: Corner) -> Proof:
        """The proof of the last part that there is time for."""
        while True:
            try:
                proof = part.proven_lazily()
            finally:
                self.settle(part)
            over = self.closed or self.interrupted or self.left <= 0 or not part.closed
            if over or part.best is None or len(active) == len(self.question.ensemble):
                return proof
            best = self.best or best
            active = hardest(self.question, larger(self.question, active, part.best.x), best.x, self.options.seed)
            part = self.begun_with(active, part.bound, best)

    def settle(self, part: Prover) -> None:
        """Take up what the search of a part has come to; an answer to it that is nearer than its bound is a doubt."""
        self.nodes += part.nodes
        part.nodes = 0
        self.size, self.active = part.size, part.active
        self.interrupted = self.interrupted or part.interrupted
        if part.best is None or exceeds(part.bound, part.best.distance):
            return
        self.bound = max(self.bound, part.bound)
        if part.closed:
            self.offer(part.best.x, walk=False)


def hardest(question: Question, parts: Sequence[Sequence[int]], answer: Floats, seed: int) -> list[int]:
    """The part whose own answer, as a short search finds it, is the farthest.

    Args:
        question: image, target, scenarios.
        parts: some sets of scenarios.
        answer: it fools them all.
        seed: of the random starts.
    """
    distances = []
    for part in parts:
        asked, until = question.restricted(part), time.perf_counter() + SECONDS
        found = descend(RegionProgram(asked), [*gradient_answers(asked, seed, until, *SHORT)[:1], answer], until)
        distances.append(question.distance(answer) if found is None else found.distance)
    return list(parts[int(np.argmax(distances))])


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
