"""A helper of a search, in a process of its own, and what it and `arfj.attack.crew` tell each other."""

from __future__ import annotations

import contextlib
import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
from threadpoolctl import threadpool_limits

from arfj.across import probe_pairs
from arfj.attack.closing import GAP, Closing
from arfj.attack.regions import Corner
from arfj.bab.tree import Lesson, Parcel
from arfj.bounds import Bounds
from arfj.conflicts import Across, Conflict
from arfj.network import Floats
from arfj.probe import Probed, probe
from arfj.question import Question
from arfj.solver.branching import Costs
from arfj.tighten import Narrowed, tighten_layer, tighten_scenario

LEAST_ROUND = 0.1
"""Seconds between two reports, at least."""
TAUGHT, NOTED = 100, 5000
"""Proofs and gains that are told at a time, at most: the latest ones."""


@dataclass(frozen=True, eq=False)
class Part:
    """What a helper is to search: the arguments of `Closing`, and what was learnt so far."""

    question: Question
    bounds: Sequence[Bounds]
    probed: Sequence[Probed] | None
    across: Sequence[Across]
    radius: float
    answer: Floats
    entered: Sequence[int]
    costs: Costs
    lesson: Lesson


@dataclass(frozen=True, eq=False)
class Tightening:
    """Scenarios whose bounds are to be tightened: the arguments of `arfj.tighten.tighten_scenario`."""

    scenarios: Sequence[tuple[Question, Bounds, Sequence[Conflict]]]
    radius: float
    seconds: float
    demanded: bool
    most: float
    first: int

    def done(self) -> list[Bounds]:
        """Their bounds then."""
        deadline = time.perf_counter() + self.seconds
        limits = self.radius, deadline, self.demanded, self.most
        return [
            tighten_scenario(question, bounds, *limits, conflicts, self.first)
            for question, bounds, conflicts in self.scenarios
        ]


@dataclass(frozen=True, eq=False)
class Together:
    """Neurons whose bounds are to be tightened: the arguments of `arfj.tighten.tighten_layer`."""

    question: Question
    bounds: Sequence[Bounds]
    answer: Floats
    radius: float
    layer: int
    seconds: float
    most: int
    part: tuple[int, int]

    def done(self) -> list[Narrowed]:
        """Their bounds then."""
        deadline = time.perf_counter() + self.seconds
        asked = self.question, self.bounds, self.answer, self.radius, self.layer
        return tighten_layer(*asked, deadline, self.most, self.part)


@dataclass(frozen=True, eq=False)
class Probing:
    """Scenarios whose conflicts are looked for: the arguments of `arfj.probe.probe`."""

    scenarios: Sequence[tuple[Question, Bounds]]
    answer: Floats
    radius: float
    seconds: float
    size: int
    most: float

    def done(self) -> list[Probed]:
        """What is known of them then."""
        deadline = time.perf_counter() + self.seconds
        ball = self.answer, self.radius
        return [probe(*one, *ball, deadline, self.size, self.most) for one in self.scenarios]


@dataclass(frozen=True, eq=False)
class Pairing:
    """Pairs of scenarios whose conflicts are looked for: the arguments of `arfj.across.probe_pairs`."""

    question: Question
    bounds: Sequence[Bounds]
    conflicts: Sequence[Sequence[Conflict]]
    across: Sequence[Across]
    answer: Floats
    radius: float
    seconds: float
    pairs: Sequence[tuple[int, int]]
    size: int
    likely: float

    def done(self) -> list[list[Across]]:
        """Those that were found, pair by pair."""
        deadline = time.perf_counter() + self.seconds
        known = self.question, self.bounds, self.conflicts, self.across
        return probe_pairs(*known, self.answer, self.radius, deadline, self.pairs, self.size, self.likely)


@dataclass(frozen=True, eq=False)
class Work:
    """What a helper is told in a search.

    Attributes:
        epoch: number of the search; with a new one all nodes are dropped.
        least: the least distance known.
        scale: of the gains.
        seconds: that are left.
        parcels: nodes to take over.
        lesson: what others have learnt.
        asked: how many nodes are wanted back, at once.
        round: seconds before the answer otherwise; it comes at once with a better answer, and where no node is left.
    """

    epoch: int
    least: float
    scale: float
    seconds: float
    parcels: Sequence[Parcel]
    lesson: Lesson
    asked: int
    round: float


@dataclass(frozen=True, eq=False)
class Report:
    """What a helper has come to.

    Attributes:
        epoch: of the search.
        bound: of its open nodes, -inf where there are none.
        open: their number.
        stuck: bound of nodes that cannot be branched on.
        nodes: branchings since the last report.
        least: the least distance that it knows.
        best: an answer that it has found, or None.
        lesson: what it has learnt since.
        parcels: nodes that it gives back.
    """

    epoch: int
    bound: float
    open: int
    stuck: float
    nodes: int
    least: float
    best: Corner | None
    lesson: Lesson
    parcels: Sequence[Parcel]


def together(lessons: Sequence[Lesson]) -> Lesson:
    """The latest of them."""
    notes = [note for lesson in lessons for note in lesson.notes]
    proofs = [kept for lesson in lessons for kept in lesson.proofs]
    conflicts = [found for lesson in lessons for found in lesson.conflicts]
    return Lesson(tuple(notes[-NOTED:]), tuple(proofs[-TAUGHT:]), tuple(conflicts))


def serve(pipe: Connection) -> None:
    """A helper's life: it ends when the process that it helps closes the pipe, or is gone."""
    with threadpool_limits(1), contextlib.suppress(EOFError, OSError):
        pipe.send(None)
        helper: Helper | None = None
        while True:
            message = pipe.recv() if helper is None or helper.waits or pipe.poll() else None
            if isinstance(message, Tightening | Together | Probing | Pairing):
                pipe.send(message.done())
            elif isinstance(message, Part):
                helper = Helper(message)
                pipe.send(None)
            elif isinstance(message, Work) and helper is not None:
                helper.absorb(message)
            elif helper is not None:
                helper.branch()
            if helper is not None and (report := helper.report()) is not None:
                pipe.send(report)


class Helper:
    """A search for another process.

    Attributes:
        waits: whether there is nothing to do before the next message.
    """

    def __init__(self, part: Part) -> None:
        self.closing = Closing(
            part.question, part.bounds, part.answer, probed=part.probed, across=part.across, radius=part.radius
        )
        self.closing.relaxation.enter_pixels(part.entered)
        self.search = self.closing.search
        self.search.costs = part.costs
        self.search.learn(part.lesson)
        self.search.teach()
        self.told = self.closing.best
        self.epoch = 0
        self.asked: int | None = None
        self.round = LEAST_ROUND
        self.since = time.perf_counter()
        self.counted = 0

    @property
    def over(self) -> bool:
        """Whether there is nothing to branch on, or no time."""
        return self.search.idle or time.perf_counter() > self.search.deadline

    @property
    def waits(self) -> bool:
        """Whether there is nothing to do before the next message."""
        return self.over and self.asked is None

    def absorb(self, work: Work) -> None:
        """Take up what the other process says."""
        search = self.search
        self.closing.least = min(self.closing.least, work.least)
        deadline = time.perf_counter() + work.seconds
        if work.epoch != self.epoch:
            search.begin(-self.closing.least, deadline, GAP, self.closing.leaf)
            self.epoch, self.counted = work.epoch, 0
        search.value, search.deadline, search.scale = -self.closing.least, deadline, work.scale
        search.learn(work.lesson)
        search.receive(work.parcels)
        self.asked, self.round = work.asked, work.round

    def branch(self) -> None:
        """Branch on the best node."""
        if not self.over:
            self.search.branch(heapq.heappop(self.search.heap)[2])

    def report(self) -> Report | None:
        """What there is to say, if it was asked for and is enough."""
        search = self.search
        now = time.perf_counter()
        if self.asked is None:
            return None
        if not (self.asked or self.over or self.closing.best is not self.told or now - self.since >= self.round):
            return None
        self.since = now
        if search.idle:
            search.heap.clear()
        given = search.handed(self.asked) if self.asked else []
        best = None if self.closing.best is self.told else self.closing.best
        nodes, self.counted = search.nodes - self.counted, search.nodes
        self.told, self.asked = self.closing.best, None
        bound = -search.heap[0][0] if search.heap else -np.inf
        stuck, least, lesson = search.stuck, self.closing.least, together([search.learnt()])
        return Report(self.epoch, bound, len(search.heap), stuck, nodes, least, best, lesson, given)
