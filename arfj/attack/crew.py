"""Processes that help one search: they take over open nodes, find answers, learn and teach, and tighten bounds.

Every helper has a relaxation and a search of its own, built from the same question and bounds, so that what it says of
a node, and what it learns, is what this process would say and learn. It works on the nodes that it was handed. Where it
has none, it gets every other one of this process, up to a limit; where this process has none, it asks for some back.
No bound is lost on the way: nodes count as a helper's until its report without them is read, and keep that search open
where a helper is gone; the next one does without it.

A helper answers one message at a time, and none is sent before its answer is read, so that no two processes wait for
each other. It branches on meanwhile. When which node is branched on depends on the clock: with helpers the number of
nodes differs from run to run, and so does the bound of a search that is cut short; optima do not.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol, TypeVar, cast

import numpy as np
from joblib.externals.loky.backend.context import get_context

from arfj.attack.closing import Closing
from arfj.attack.helper import LEAST_ROUND, Pairing, Part, Probing, Report, Tightening, Together, Work, serve, together
from arfj.attack.orphan import Asker, end_with, this_process
from arfj.bab.tree import Lesson, Search
from arfj.bounds import Bounds
from arfj.conflicts import Across, Conflict
from arfj.network import Floats
from arfj.probe import Probed
from arfj.question import Question
from arfj.tighten import Narrowed, tighten_together

CONTEXT = get_context("loky")
"""Processes that begin anew and, other than those of "spawn", do not run the caller's script again."""

ROUND = 0.02
"""Seconds of a helper between two reports, for every helper that there is; `LEAST_ROUND` at least."""
HANDED = 500
"""Nodes that change hands at a time, at most."""
LEAST = 4
"""With fewer open nodes than this none is handed over."""
WAIT = 0.1
"""Seconds that are waited for a report at a time."""
SETTLED = 0.5
"""Seconds that are waited for what a helper still has to say."""
GRACE = 30.0
"""Seconds beyond its deadline after which a helper that tightens is given up."""
SPREAD = 16
"""Processes that a layer's neurons are spread over, at most."""
ENDING = 5.0
"""Seconds that a helper has to end by itself."""


T_co = TypeVar("T_co", covariant=True)


class Task(Protocol[T_co]):
    """Work that any process can do."""

    def done(self) -> Sequence[T_co]:
        """What comes of it."""


class Member:
    """One helper, as this process sees it.

    Attributes:
        ready: whether it has answered the last message, and so may be sent another.
        closing: whose part it searches.
        epoch: of the work that it was sent last.
        bound: upper bound of the nodes that it holds.
        open: how many it holds.
        lesson: what it is to be taught next.
    """

    def __init__(self) -> None:
        self.pipe, theirs = CONTEXT.Pipe()
        self.process = begun(theirs)
        theirs.close()
        self.ready = False
        self.closing: Closing | None = None
        self.epoch = 0
        self.bound = -np.inf
        self.open = 0
        self.lesson = Lesson()

    def send(self, message: object) -> None:
        """Tell it something, which it will answer."""
        self.pipe.send(message)
        self.ready = False

    def answer(self) -> object:
        """Its answer, waited for."""
        answer = self.pipe.recv()
        self.ready = True
        return answer

    def end(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.terminate()
        self.process.join(ENDING)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class Crew:
    """The helpers of one question (`arfj.bab.tree.Others`).

    Args:
        cores: how many cores this question may use at present, this process's own included.

    Attributes:
        lost: whether a helper has ended that held nodes.
    """

    def __init__(self, cores: Callable[[], int]) -> None:
        self.cores = cores
        self.members: list[Member] = []
        self.closing: Closing | None = None
        self.epoch = 0
        self.lost = False

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            with contextlib.suppress(OSError):
                member.end()
        self.members = []

    @property
    def bound(self) -> float:
        """Upper bound of the objective below all nodes that they hold."""
        return max((member.bound for member in self.members), default=-np.inf)

    @property
    def open(self) -> int:
        """How many nodes they hold."""
        return sum(member.open for member in self.members)

    def gather(self) -> None:
        """Begin as many processes as there are cores to spare; a daemonic process may have none."""
        if multiprocessing.current_process().daemon:
            return
        try:
            while len(self.members) < self.cores() - 1:
                self.members.append(Member())
        except OSError:  # no room for another process
            return

    def tighten(
        self,
        question: Question,
        bounds: Sequence[Bounds],
        radius: float,
        deadline: float,
        most: float = np.inf,
        conflicts: Sequence[Sequence[Conflict]] | None = None,
        first: int = 0,
    ) -> list[Bounds]:
        """`arfj.tighten.tighten`, the scenarios spread over this process and the helpers, with their conflicts.

        Layers before the `first` one are left as they are.
        """

        def part(share: Sequence[int]) -> Tightening:
            scenarios = [
                (question.fooling([index]), bounds[index], () if conflicts is None else conflicts[index])
                for index in share
            ]
            return Tightening(scenarios, radius, deadline - time.perf_counter(), not question.soft, most, first)

        found = self._shared(part, len(bounds), deadline)
        return [found.get(index, one) for index, one in enumerate(bounds)]

    def probe(
        self,
        question: Question,
        bounds: Sequence[Bounds],
        answer: Floats,
        radius: float,
        deadline: float,
        size: int,
        most: float = np.inf,
    ) -> list[Probed | None]:
        """`arfj.probe.probe`, the scenarios spread over this process and the helpers; the demand is no soft one."""

        def part(share: Sequence[int]) -> Probing:
            scenarios = [(question.fooling([index]), bounds[index]) for index in share]
            return Probing(scenarios, answer, radius, deadline - time.perf_counter(), size, most)

        found = self._shared(part, len(bounds), deadline)
        return [found.get(index) for index in range(len(bounds))]

    def probe_pairs(self, asked: Pairing) -> dict[tuple[int, int], list[Across]]:
        """`arfj.across.probe_pairs`, the pairs spread over this process and the helpers, by pair."""
        deadline = time.perf_counter() + asked.seconds

        def part(share: Sequence[int]) -> Pairing:
            mine = [asked.pairs[index] for index in share]
            return replace(asked, pairs=mine, seconds=deadline - time.perf_counter())

        return {asked.pairs[index]: found for index, found in self._shared(part, len(asked.pairs), deadline).items()}

    def tighten_together(
        self,
        question: Question,
        bounds: Sequence[Bounds],
        answer: Floats,
        radius: float,
        deadline: float,
        most: int = 0,
        layers: int | None = None,
    ) -> list[Bounds]:
        """`arfj.tighten.tighten_together`, each layer's neurons spread over this process and the helpers."""

        def of_layer(known: Sequence[Bounds], layer: int) -> list[Narrowed]:
            free = self._free(SPREAD)
            parts = [(first, len(free) + 1) for first in range(len(free) + 1)]
            seconds = deadline - time.perf_counter()
            asked = [Together(question, known, answer, radius, layer, seconds, most, part) for part in parts]
            return [one for answer in self._spread(asked, free, deadline) for one in answer]

        return tighten_together(question, bounds, answer, radius, deadline, most, layers, of_layer)

    def _shared(self, part: Callable[[Sequence[int]], Task[T_co]], scenarios: int, deadline: float) -> dict[int, T_co]:
        """What comes of every scenario's part; nothing of those whose helper is gone."""
        free = self._free(scenarios)
        shares = [range(first, scenarios, len(free) + 1) for first in range(len(free) + 1)]
        answers = self._spread([part(share) for share in shares], free, deadline)
        return {
            index: one
            for share, answer in zip(shares, answers, strict=True)
            for index, one in zip(share, answer, strict=False)
        }

    def _free(self, shares: int) -> list[Member]:
        """The members that can be given work, where there are so many shares of it and one stays here."""
        self.gather()
        return self._settled(None)[: shares - 1]

    def _spread(self, tasks: Sequence[Task[T_co]], free: Sequence[Member], deadline: float) -> list[Sequence[T_co]]:
        """What comes of the tasks: the first is done here, the others by these members; nothing where one is gone."""
        asked = [self._told(member, task) for member, task in zip(free, tasks[1:], strict=True)]
        found = [tasks[0].done()]
        for member, told in zip(free, asked, strict=True):
            try:
                heard = told and member.pipe.poll(max(0.0, deadline - time.perf_counter()) + GRACE)
                answer = member.answer() if heard else None
            except (EOFError, OSError):
                answer = None
            if answer is None:
                self._lose(member, None)
            found.append(cast(Sequence[T_co], answer) if isinstance(answer, list) else [])
        return found

    def prepare(self, closing: Closing) -> None:
        """From now on search this part."""
        self.closing = closing
        closing.search.teach()
        self.gather()

    def rest(self, search: Search) -> None:
        """The search is over: take up what is on its way, and have the helpers drop all nodes."""
        free = self._settled(search)
        self.epoch += 1
        nothing = Work(self.epoch, -search.value, 1.0, 0.0, (), Lesson(), 0, LEAST_ROUND)
        for member in free:
            if member.closing is self.closing:
                self._told(member, nothing)
        for member in self.members:
            member.bound, member.open = -np.inf, 0
        self.closing = None

    def begin(self, search: Search) -> None:
        """Drop all nodes; those on the way are of an older epoch."""
        self.epoch += 1
        self.lost = False
        for member in self.members:
            member.bound, member.open = -np.inf, 0

    def meet(self, search: Search) -> None:
        """Read what is there, hand nodes over or ask for some, and tell all that may be told."""
        self.gather()
        lesson = search.learnt()
        for member in self.members:
            self._teach(member, lesson)
        if search.idle:
            search.heap.clear()
        for member in self._heard(WAIT if search.idle and self.open else 0.0):
            self._read(member, search)
        hungry = search.idle or any(member.ready and not member.open for member in self.members)
        for member in sorted(self.members, key=lambda one: one.open):
            if member.ready:
                self._tell(member, search, hungry)

    def _teach(self, member: Member, lesson: Lesson) -> None:
        """Keep for a member what it is to learn next."""
        if member.closing is self.closing:
            member.lesson = together([member.lesson, lesson])

    def _tell(self, member: Member, search: Search, hungry: bool) -> None:
        """Send a member what it is to know, and nodes if it has none."""
        if member.closing is not self.closing:
            member.closing, member.lesson = self.closing, Lesson()
            if self.closing is not None and not self._told(member, _part(self.closing)):
                self._lose(member, search)
            return
        parcels = [] if member.open or len(search.heap) < LEAST else search.handed(HANDED)
        if not member.open and not parcels and member.epoch == self.epoch:
            return  # it waits, and there is nothing to tell
        wanted = HANDED if hungry and member.open > 1 and len(search.heap) < LEAST else 0
        lesson, member.lesson = member.lesson, Lesson()
        seconds = search.deadline - time.perf_counter()
        round_ = max(LEAST_ROUND, ROUND * len(self.members))
        work = Work(self.epoch, -search.value, search.scale, seconds, parcels, lesson, wanted, round_)
        member.bound = max([member.bound, *(one.bound for one in parcels)])
        member.open += len(parcels)
        member.epoch = self.epoch
        if not self._told(member, work):
            self._lose(member, search)

    def _read(self, member: Member, search: Search | None) -> None:
        """Take up a member's report."""
        try:
            report = member.answer()
        except (EOFError, OSError):
            self._lose(member, search)
            return
        if search is None or not isinstance(report, Report) or member.closing is not self.closing:
            return
        search.learn(report.lesson)
        for other in self.members:
            if other is not member:
                self._teach(other, report.lesson)
        if report.epoch == self.epoch:
            member.bound, member.open = report.bound, report.open
            search.stuck = max(search.stuck, report.stuck)
            search.nodes += report.nodes
            search.receive(report.parcels)
        if self.closing is not None:
            self.closing.heard(report.best, report.least)
            search.value = max(search.value, -self.closing.least)

    def _heard(self, seconds: float) -> Iterator[Member]:
        """The members that have answered."""
        waiting = {member.pipe: member for member in self.members if not member.ready}
        if waiting:
            yield from [waiting[pipe] for pipe in wait(list(waiting), seconds) if pipe in waiting]

    def _settled(self, search: Search | None) -> list[Member]:
        """The members that can be told something at once, or soon; what they had to say is taken up."""
        until = time.perf_counter() + SETTLED
        for member in list(self.members):
            try:
                heard = member.ready or member.pipe.poll(max(0.0, until - time.perf_counter()))
            except (EOFError, OSError):
                self._lose(member, search)
                continue
            if heard and not member.ready:
                self._read(member, search)
        return [member for member in self.members if member.ready]

    def _told(self, member: Member, message: object) -> bool:
        try:
            member.send(message)
        except OSError:
            return False
        return True

    def _lose(self, member: Member, search: Search | None) -> None:
        """A helper is gone: what it held stays open in this search."""
        self.members.remove(member)
        self.cores = lambda: 1  # it may have been the memory: no others
        if search is not None and member.open:
            search.stuck = max(search.stuck, member.bound)
            self.lost = True
        with contextlib.suppress(OSError):
            member.end()


def _part(closing: Closing) -> Part:
    """What is known and learnt at present."""
    search, question = closing.search, closing.question
    proofs = () if search.proofs is None else tuple(search.proofs.kept())
    entered = closing.relaxation.order
    probed = None if closing.deduction is None else closing.deduction.probed  # within a smaller ball, too: for it alone
    known = probed, closing.across, closing.radius
    return Part(question, closing.bounds, *known, closing.best.x, entered, search.costs, Lesson((), proofs))


def begun(pipe: Connection) -> BaseProcess:
    """A process that serves."""
    process: BaseProcess = CONTEXT.Process(target=_deaf_serve, args=(pipe, this_process()), daemon=True)
    with _deaf():
        process.start()
    return process


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Processes that begin in here do not hear Ctrl-C: it is the asking process's to end them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


def _deaf_serve(pipe: Connection, asker: Asker) -> None:
    end_with(asker)  # it may be gone while bounds are tightened, which does not look at the pipe
    with _deaf():
        serve(pipe)
