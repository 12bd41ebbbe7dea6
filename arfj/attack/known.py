"""What is known of every scenario within the ball of the best answer, bounds and conflicts, and how it is improved.

All of it holds at every answer of the question that is nearer than the best one: that answer comes nearer in the course
of a search, and parts of the question grow, so that nothing is ever forgotten. What contradicts an answer at hand is
not believed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from arfj.across import decided, pairs_of
from arfj.attack.crew import Crew
from arfj.attack.helper import Pairing
from arfj.attack.regions import Corner
from arfj.bounds import Bounds, Method, pre_activation_bounds
from arfj.conflicts import Across, Conflict, hold, within
from arfj.probe import VAIN, Probed
from arfj.question import Question
from arfj.tighten import open_width

STEPS = 12
"""Of alpha-CROWN: on 784-8-8-8-10 so many come within 0.3 % of the widths that 30 lead to."""
RADIUS_ROOM = 1e-6
"""R exceeds the distance of the best answer by this share, and by this much at least."""
TIGHTEN_SHARE, TOGETHER_SHARE, PROBE_SHARE, PAIR_SHARE = 0.3, 0.1, 0.1, 0.15
"""Of the time that is left: for tightening scenario by scenario, for all of them together, for conflicts, and for those
of two scenarios."""
WORTH = 0.08
"""Where all scenarios together make the open neurons narrower by this share, small searches of all together are worth
their time, too, once the proof lasts."""
MANY = 8
"""So many scenarios together say something of all layers; fewer of the first one, whose bounds are left to them."""
BRANCHINGS, MORE = 8, 40
"""Branchings of a small search, and of longer ones for other solvers than our own."""
LAST, LAST_OF_OTHERS = 2, 1
"""The last stage of `Known.improve`, for our own search and for other solvers."""
ASKED = (1, 0.5), (2, 0.6)
"""What pairs of scenarios are asked for, stage by stage from the second one on: phases, and how likely they are to be
impossible (`arfj.across.probe_pairs`)."""
SIGNS = 0.05
"""Pairs say something where they decide the signs of this share of the open neurons."""
PAIRS, TRIPLES = 2, 3
"""Phases of a conflict that is looked for; our own search finds larger ones in its course, which is why pairs do."""
TRIAL = 1.5
"""The proof is tried so many times as long as all stages have taken, before the next one; a scenario alone has none:
there it is worth less than a proof that goes on."""


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
        across: conflicts of several scenarios.
        paired: the pairs of scenarios that were asked for them, and up to which stage.
        stage: see `improve`.
        spent: seconds that all of it took.
        trial: seconds of proof after which it is time for more.
        worth: whether small searches of all scenarios together are worth their time.
    """

    def __init__(self, question: Question, crew: Crew, method: Method, own: bool) -> None:
        self.question, self.crew, self.method, self.own = question, crew, method, own
        self.bounds: dict[int, Bounds] = {}
        self.radius: dict[int, float] = {}
        self.tightened: dict[int, float] = {}
        self.probed: dict[int, Probed] = {}
        self.across: list[Across] = []
        self.paired: dict[tuple[int, int], int] = {}
        self.stage, self.spent = 0, 0.0
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

    def across_of(self, indices: Sequence[int]) -> list[Across]:
        """The conflicts of several of these scenarios, as a part with these numbers them."""
        return [one for known in self.across if (one := within(known, indices)) is not None]

    def improve(
        self,
        best: Corner,
        active: Sequence[int],
        left: Callable[[], float],
        say: Callable[[str], None],
        further: bool = False,
    ) -> None:
        """Better bounds and more conflicts of these scenarios, as far as their shares of the time allow.

        In stages, each only where the proof has lasted after the one before: small programs of each scenario, linear
        programs of all of them, and conflicts of each; signs that pairs of scenarios decide (many scenarios begin with
        these, too); programs to the end, and conflicts of pairs. For other solvers than our own, whose proofs begin
        anew, the second stage is the last one: longer programs. One that says little is followed by the next one at
        once. `trial` says for how long the proof is tried then.

        Args:
            best: the best answer.
            active: the scenarios; what is known of those that are new is brought to the stage of the others.
            left: the seconds that are left.
            say: told of every phase.
            further: whether the next stage begins.
        """
        began = time.perf_counter()
        if self.own and len(active) >= MANY:
            self.stage = max(self.stage, 1)
        self.stage += further
        said = [self.taken(stage, best, active, left, say) for stage in range(self.stage + 1)]
        last = LAST if self.own else LAST_OF_OTHERS
        while further and not said[-1] and self.stage < last:
            self.stage += 1
            said.append(self.taken(self.stage, best, active, left, say))
        if further or any(said):
            self.spent += time.perf_counter() - began
            more = self.stage < last and len(active) > 1
            self.trial = TRIAL * self.spent if more else np.inf

    def taken(
        self, stage: int, best: Corner, active: Sequence[int], left: Callable[[], float], say: Callable[[str], None]
    ) -> bool:
        """Make up for what scenarios have missed of a stage; whether it said something."""
        several = len(active) > 1 and not self.question.soft
        if self.own:
            said = stage != 1 and self.tighten(best, active, left, say, np.inf if stage else BRANCHINGS)
        else:
            said = self.tighten(best, active, left, say, MORE if stage or len(active) == 1 else BRANCHINGS)
        if said and several:
            self.worth = self.together(best, active, left) >= WORTH or self.worth
            if self.worth and stage and self.own:
                self.together(best, active, left, BRANCHINGS)
        if said and not stage and not self.question.soft:
            say("probing")
            self.probe(best, active, left)
        return (self.own and stage > 0 and several and self.probe_pairs(best, active, left, say, stage)) or said

    def tighten(
        self, best: Corner, active: Sequence[int], left: Callable[[], float], say: Callable[[str], None], most: float
    ) -> bool:
        """Better bounds by programs of each scenario that had no programs of so many branchings; if there is any."""
        indices = [index for index in active if self.tightened.get(index, -1.0) < most]
        if not indices:
            return False
        say("tightening")
        radius = cut_off_radius(best.distance)
        known, conflicts = self.bounds_of(radius, indices), self.conflicts_of(indices)
        part, deadline = self.question.restricted(indices), time.perf_counter() + TIGHTEN_SHARE * left()
        several = len(active) > 1 and not self.question.soft
        first = (left_to_all(indices) or 0) if several else 0
        self.narrow(best, indices, self.crew.tighten(part, known, radius, deadline, most, conflicts, first))
        self.tightened.update(dict.fromkeys(indices, most))
        return True

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
        most = VAIN if len(active) > 1 else np.inf  # of one alone they end the proof, or nearly
        answers = self.crew.probe(part, bounds, best.x, radius, deadline, size, most)
        for index, found in zip(asked, answers, strict=True):
            if found is not None and found.hold(self.question.ensemble.networks[index], best.x):
                self.probed[index] = found

    def probe_pairs(
        self, best: Corner, active: Sequence[int], left: Callable[[], float], say: Callable[[str], None], stage: int
    ) -> bool:
        """Look for conflicts of those pairs of scenarios that were not asked for them yet; whether they say something.

        Where they decide many signs, small programs of each scenario are worth their time again.
        """
        pairs = [pair for pair in pairs_of(active) if self.paired.get(pair, 0) < stage]
        if not pairs:
            return False
        say("probing pairs")
        self.paired.update(dict.fromkeys(pairs, stage))
        radius = cut_off_radius(best.distance)
        place = {scenario: number for number, scenario in enumerate(active)}
        asked = [(place[one], place[other]) for one, other in pairs]
        bounds, conflicts, known = self.bounds_of(radius, active), self.conflicts_of(active), self.across_of(active)
        part, ball = self.question.restricted(active), (best.x, radius)
        asking = Pairing(part, bounds, conflicts, known, *ball, PAIR_SHARE * left(), asked, *ASKED[stage - 1])
        answers = self.crew.probe_pairs(asking)
        found = [tuple((active[k], one) for k, one in conflict) for mine in answers.values() for conflict in mine]
        if not found or not hold(found, self.question.ensemble.networks, best.x):
            return False
        self.across += found
        self.narrow(best, active, decided(bounds, self.across_of(active)))
        before, bounds = sum(one.unstable for one in bounds), self.bounds_of(radius, active)
        many = sum(one.unstable for one in bounds) <= (1.0 - SIGNS) * before
        if many:
            say("tightening")
            deadline = time.perf_counter() + TIGHTEN_SHARE * left()
            self.narrow(best, active, self.crew.tighten(part, bounds, radius, deadline, BRANCHINGS, conflicts))
            self.together(best, active, left)
        return many or stage > 1

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
