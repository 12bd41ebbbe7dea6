"""A part of the question by our own branch and bound: the least distance of an answer to it, and the proof."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from arfj.attack.neighbourhood import search_neighbourhoods
from arfj.attack.regions import Corner, Regions, phases_at
from arfj.bab import Found, Others, Relaxation, Search
from arfj.bounds import Bounds
from arfj.conflicts import Across, numbered
from arfj.network import Floats
from arfj.probe import Deduction, Probed
from arfj.question import Question
from arfj.solver import Progress, Solution, Step

RELIABLE = 4
"""A neuron is looked at beforehand until it was seen so often in both directions."""
BRIEF = 2, 4
"""So often in a first try at the proof, and so many candidates in turn (`arfj.bab.tree.LOOK_AHEAD`): small trees are
closed sooner, and the try at a larger one is given up anyway."""
GAP = 1e-7
"""A node is closed where its bound is this near to the best answer's distance."""
CLOSED = 5e-7
"""The proof is complete when bound and distance differ by less than this share."""
PROOFS = 500
"""Proofs of closed nodes that are kept."""
WINDOW = 50
"""Gains of a neuron that count in full: they change with the depth of the search."""
FIRST, GROWTH, LAST = 150, 3.0, 1000
"""Nodes of the first search, and by how much those that begin again with what it has learnt are longer, up to the last
one, which has no limit."""
POOR, RISE = 0.5, 1.2
"""As long as the bound has not come to this share of the distance, none is the last one, and as long as each comes so
much farther than all before, the next one is no longer: in deep networks what was learnt makes all the difference."""
NODE_BYTES, NEURON_BYTES = 1000, 110
"""What an open node takes up to, beside its basis: by itself, and for every open neuron (its phase and its amounts)."""
LOOK, LOOK_SHARE = 3.0, 0.3
"""Seconds before the first search of `LAST` nodes or more, and share of the time before it, in which an answer is
looked for that shows the part to be too small; beforehand, where it is so probably, the seconds alone."""
EVERY = 0.2
"""Seconds between two reports."""
Milestone = tuple[float, float]
"""After so many seconds the bound has come to this share of the answer's distance, or the search is given up."""


class OutgrownError(Exception):
    """Ends a search: the part cannot prove what is asked of it."""


class HopelessError(Exception):
    """Ends a search: it would not be over in time."""


class Helpers(Others, Protocol):
    """Processes that take part in the longer searches (`arfj.attack.crew`).

    Attributes:
        lost: whether one has ended that held nodes.
    """

    lost: bool

    def prepare(self, closing: Closing) -> None:
        """From now on search this part."""

    def rest(self, search: Search) -> None:
        """The search is over; what they have come to is taken up."""


class Closing:
    """Branch and bound on one part, from a known answer.

    Args:
        question: the part.
        bounds: of its scenarios, over the ball of a radius that is not below the answer's distance.
        answer: an image that meets the demand on the part: by default, that fools all of its scenarios.
        progress: told of answer, bound and nodes.
        memory: for open nodes, in MiB, or None.
        whole: whether an answer to the part answers the whole question. One that is nearer than the known one and does
            not ends the search: the part's optimum is not that of the whole then.
        helpers: processes that take part after the first search.
        within: radius of the ball over which the bounds hold, if it is smaller than the answer's distance. The bound
            that is proven then is at most that, and so for all answers, those outside of the ball included.
        probed: conflicts of every scenario (`arfj.probe`), if any are known, of all answers that are nearer than the
            given one and within the ball. With them more are looked for in the course of the search; None: without.
        across: conflicts of several scenarios (`arfj.across`), of the same kind; they are of use with `probed` alone.
        radius: more conflicts are looked for of all answers nearer than this; None: nearer than the given one, and
            within the ball. What they say outlasts the search, so it must not hang on an answer that is only met in it.

    Attributes:
        best: the nearest answer to the part that is known, a little clear of its conditions.
        least: the least distance known, not clear of them: what linear programs reach.
        radius: see the argument.
        bound: proven lower bound on the distance of every answer within the ball.
        nodes: branchings so far.
        outgrown: whether a nearer answer to the part ended the search that does not answer the whole question.
        hopeless: whether the search was given up.
        size: columns (all pixels counted), open neurons and rows of the relaxation.
    """

    def __init__(
        self,
        question: Question,
        bounds: Sequence[Bounds],
        answer: Floats,
        progress: Progress | None = None,
        memory: float | None = None,
        whole: Callable[[Floats], bool] | None = None,
        helpers: Helpers | None = None,
        within: float = np.inf,
        probed: Sequence[Probed | None] | None = None,
        across: Sequence[Across] = (),
        radius: float | None = None,
    ) -> None:
        self.question = question
        self.bounds, self.across = bounds, across
        self.whole = whole
        self.helpers = helpers
        self.regions, self.edges = Regions(question), Regions(question, 0.0)
        self.best = Corner(answer, question.distance(answer), phases_at(question, answer))
        self.within = within
        self.least: float = min(self.best.distance, within)
        self.radius = self.least if radius is None else radius
        self.progress = progress
        self.relaxation = Relaxation(question, bounds)
        self.relaxation.maximise(None)
        self.relaxation.enter(answer)
        self.search = Search(self.relaxation, RELIABLE, PROOFS, WINDOW)
        self.deduction: Deduction | None = None
        if probed is not None:
            places = self.relaxation.neurons
            conflicts = numbered(places, bounds, [() if one is None else one.conflicts for one in probed], across)
            self.deduction = Deduction(question, bounds, answer, self.radius, probed, places, conflicts)
            self.search.heed(conflicts)
            self.search.deduction = self.deduction
        self.size = self.relaxation.size
        columns, neurons, rows = self.size
        bytes_of_node = NODE_BYTES + NEURON_BYTES * neurons + columns + rows
        self.room = np.inf if memory is None else memory * 2**20 / bytes_of_node
        self.bound = 0.0
        self.nodes = 0
        self.outgrown = self.hopeless = False
        self.milestones: Sequence[Milestone] = ()
        self.began = self.reported = time.perf_counter()

    def learn_from(self, other: Closing) -> None:
        """Begin with what was learnt from another part, of which this one has all scenarios in the same order.

        It may have more of them; bounds and answer have to be no worse than they were there. Where they are better,
        what branchings gained there is forgotten.
        """
        mine = {neuron: number for number, neuron in enumerate(self.relaxation.neurons)}
        theirs = other.relaxation.neurons
        places = np.array([mine.get(neuron, -1) for neuron in theirs], dtype=np.intp)
        on = np.array([self.bounds[scenario].lower[k][neuron] >= 0 for scenario, k, neuron in theirs], dtype=np.bool_)
        gains = all(one is before for one, before in zip(self.bounds, other.bounds, strict=False))
        self.search.take(other.search, places, on, gains)

    def go_on_from(self, before: Closing) -> None:
        """Take over all of a search on the same part and ball, whose bounds were no better."""
        self.learn_from(before)
        self.bound, self.nodes = before.bound, before.nodes
        self.met(before.best)

    def run(
        self, seconds: float, look: bool = False, milestones: Sequence[Milestone] = (), brief: bool = False
    ) -> Solution:
        """Search until it is closed, the time is over, the part is outgrown, or the user stops it.

        Args:
            seconds: limit.
            look: whether the part is probably too small: an answer that shows it is looked for before the first search,
                not only before the first long one.
            milestones: where it is given up.
            brief: whether it is a first try: see `BRIEF`.
        """
        self.milestones = milestones
        if brief:
            self.search.reliable, self.search.look_ahead = BRIEF
        deadline = self.began + seconds
        most = float(FIRST)
        looked = self.whole is None
        reason = ""
        others: Helpers | None = None
        try:
            while not self.closed and not reason:
                limit = most if most < LAST or self.bound < POOR * self.least else np.inf
                before = self.bound
                if not looked and (most >= LAST or look):
                    now = time.perf_counter()
                    until = min(deadline, now + (LOOK if look else min(LOOK, LOOK_SHARE * (now - self.began))))
                    self.met(search_neighbourhoods(self.regions.program(self.best.x), self.best, until))
                    look, looked = False, most >= LAST
                found = self.search.run(
                    {},
                    -self.least,
                    deadline,
                    GAP,
                    most=limit,
                    room=self.room,
                    leaf=self.leaf,
                    told=self.report,
                    others=others,
                )
                self.settle()
                reason = self.ended(found, limit, deadline, others)
                if self.bound >= POOR * self.least or self.bound <= RISE * before:
                    most *= GROWTH
                if others is None and self.helpers is not None and not self.closed and not reason:
                    others = self.helpers
                    others.prepare(self)
        except OutgrownError:
            self.outgrown = True
            self.settle()
        except HopelessError:
            self.hopeless = True
            reason = "time limit reached"
            self.settle()
        except KeyboardInterrupt:
            reason = "interrupted"
            self.settle()
        if others is not None and reason != "interrupted":  # which may have come in the middle of a message
            try:
                self.settle_others(others)
            except KeyboardInterrupt:
                reason = "interrupted"
        self.search.heap = []
        interrupted = reason == "interrupted"
        spent = time.perf_counter() - self.began
        distance = self.best.distance
        bound = min(self.bound, distance)
        if self.closed and not self.outgrown and self.least < self.within:
            return Solution("optimal", "", None, distance, bound, self.nodes, spent, interrupted)
        return Solution("feasible", reason, None, distance, bound, self.nodes, spent, interrupted)

    def ended(self, found: Found, limit: float, deadline: float, others: Helpers | None) -> str:
        """Why no other search begins; empty where one does."""
        if found.open > self.room:
            return "memory limit reached"
        if time.perf_counter() >= deadline:
            return "time limit reached"
        if found.nodes < limit and not (others is not None and others.lost):  # which the next search does without
            return "linear programs come no nearer to the answer: numerical trouble"
        return ""

    @property
    def closed(self) -> bool:
        """Whether the bound meets the best answer."""
        return self.least - self.bound <= CLOSED * max(self.least, 1e-9)

    def settle(self) -> None:
        """Count what a search has come to, whether it ended or not."""
        self.bound = max(self.bound, -self.search.bound)
        self.nodes += self.search.nodes
        self.search.nodes = 0

    def settle_others(self, others: Helpers) -> None:
        """Answers that are on their way count; bounds and nodes of what is over do not."""
        before = self.nodes
        try:
            others.rest(self.search)
        except OutgrownError:
            self.outgrown = True
        self.nodes = before + self.search.nodes
        self.search.nodes = 0

    def leaf(self, x: Floats, _objective: float) -> float:
        """A point that keeps all phases: the optimum of its linear region, if it is an answer, may be the best one."""
        x = np.clip(x, 0.0, 1.0)
        found = self.regions.at(x)
        if found is not None:
            self.met(found)
            self.least = min(self.least, self.best.distance, found.distance - self.regions.margin * found.slope)
        elif (edge := self.edges.at(x)) is not None:  # a region without an interior: an answer up to tolerances
            self.met(edge)
            self.least = min(self.least, edge.distance)
        return -self.least

    def met(self, found: Corner) -> None:
        """Keep an answer to the part that is nearer than the best one known."""
        if found.distance >= self.best.distance:
            return
        whole = self.whole is None or self.whole(found.x)
        if whole or found.distance < self.best.distance * (1 - CLOSED):
            self.best = found
            self.least = min(self.least, found.distance)
        if not whole and self.best is found:
            raise OutgrownError

    def heard(self, best: Corner | None, least: float) -> None:
        """What another process has found, and the least distance that it knows."""
        if best is not None:
            self.met(best)
        self.least = min(self.least, self.best.distance, least)

    def report(self) -> None:
        """Tell of the progress, not too often; give up what is not worth the time."""
        now = time.perf_counter()
        if now - self.reported <= EVERY:
            return
        self.reported = now
        bound = max(self.bound, -self.search.bound)
        if self.progress is not None:
            self.progress(Step(self.best.distance, bound, self.nodes + self.search.nodes, now - self.began))
        if any(now - self.began > seconds and bound < share * self.least for seconds, share in self.milestones):
            raise HopelessError
