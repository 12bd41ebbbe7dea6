"""The answer found first: gradient attack, descent over linear regions, large neighbourhoods, until it stops paying.

Its distance is the radius R in which all big-M constants are computed, and it is handed to the solver as a start, so
the nearer it is to the optimum, the smaller the model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from arfj.attack.descent import descend
from arfj.attack.few import search_few, worth_while
from arfj.attack.gradient import gradient_answers
from arfj.attack.neighbourhood import FREE, MOST_FREE, search_neighbourhoods
from arfj.attack.regions import Corner, Phases, RegionProgram, Regions, better_of, phases_at
from arfj.network import Floats
from arfj.question import Question

ROUNDS = 12
SHORT = 24, 150
"""Samples and steps of the gradient attack that the first descent, and the first try at the proof, begin with."""
STARTS, REPEATS = 24, 6
"""So many descents a round at most; it has enough of them once so many in turn have ended where others did."""
DESCENTS = 0.5
"""They may take this share of the time that is left."""
EXPLORED = 2
"""Neighbourhoods of so many ends are searched in turn without a gain."""
SURE, SMALL = 3, 32
"""Where so many descents have the nearest end of all, no other round is begun, and so many neurons are free at most."""
GAINED = 1e-4
"""What is nearer by less than this share is no gain."""
SAME = 1e-6
"""Ends whose distances differ by less than this share are one."""
FAR = 1.3
"""No descent begins at an answer that is farther than the round's nearest one by this factor."""


def warm_start(
    question: Question,
    seed: int,
    deadline: float,
    told: Callable[[Corner], None] | None = None,
    tried: Callable[[Corner], Corner | None] | None = None,
) -> Corner | None:
    """A good answer to the question, or None where the gradient attack finds none.

    With `tried`, first a short gradient attack, a descent from its nearest answer, and a try at the proof: many a
    question needs no more. Then rounds of longer attacks from other random starts. Descents begin at their nearest
    answers whose regions are new, and the neighbourhoods of their nearest ends are searched. No descent begins where
    another one ended: what it finds from its own start may be nearer than all that was found elsewhere. It ends after
    a round that gains nothing over all before it, or whose nearest end is that of several descents. Then neighbourhoods
    of a few scenarios are searched, where there are many (`arfj.attack.few`). Where a share of the scenarios is asked
    for, the first round also begins at an answer that fools all of them.

    Args:
        question: image, target, scenarios.
        seed: of the random starts.
        deadline: `time.perf_counter()` value at which to stop.
        told: called with every end and with what is better near it, so that an interrupt loses none.
        tried: called once at most, with the first answer that descents end at, before its neighbourhoods are searched:
            gives the answer to go on from, or None to end here.
    """
    search = _Starts(Regions(question), deadline, told, tried)
    half = 0.5 * (deadline + time.perf_counter())
    ends: list[Corner] = []
    if search.regions.shared and (easier := dropped(search.regions, seed, half)) is not None:
        search.keep(easier)
        ends.append(easier)
    if tried is not None:
        ends += search.descents(gradient_answers(question, seed * ROUNDS, deadline, *SHORT)[:1])
    for attempt in range(ROUNDS):
        if search.over:
            break
        before = search.best
        ends += search.descents(gradient_answers(question, seed * ROUNDS + attempt, deadline))
        search.explore(sorted(ends, key=lambda corner: corner.distance))
        ends = []
        if search.over or search.sure or not search.gained(before):
            break
    if search.best is not None and not search.over and worth_while(search.regions):
        search.keep(search_few(search.regions, search.best, deadline))
    return search.best


class _Starts:
    """One search from many starts; the arguments are those of `warm_start`.

    Attributes:
        best: the nearest answer so far.
        begun: the regions in which descents have begun.
        ends: distances at which they have ended, and how many did.
        known: the nearest answer whose neighbourhoods have been searched.
        ended: whether there is nothing left to search for.
    """

    def __init__(
        self,
        regions: Regions,
        deadline: float,
        told: Callable[[Corner], None] | None,
        tried: Callable[[Corner], Corner | None] | None,
    ) -> None:
        self.regions = regions
        self.deadline = deadline
        self.told, self.tried = told, tried
        self.best: Corner | None = None
        self.begun: set[bytes] = set()
        self.ends: dict[float, int] = {}
        self.known: Corner | None = None
        self.ended = False

    @property
    def over(self) -> bool:
        """Whether the search has come to its end."""
        return self.ended or time.perf_counter() > self.deadline

    @property
    def sure(self) -> bool:
        """Whether the nearest end is one of many descents."""
        return bool(self.ends) and self.ends[min(self.ends)] >= SURE

    def gained(self, before: Corner | None) -> bool:
        """Whether the best answer is nearer than this one."""
        return self.best is not None and (before is None or self.best.distance < before.distance * (1 - GAINED))

    def descents(self, starts: Sequence[Floats]) -> list[Corner]:
        """New ends of descents that begin at answers, nearest first, in regions where none has begun before."""
        question = self.regions.question
        found: list[Corner] = []
        until = time.perf_counter() + DESCENTS * (self.deadline - time.perf_counter())
        descents = repeats = 0
        for start in starts:
            if self.over or descents == STARTS or repeats == REPEATS or (found and time.perf_counter() > until):
                break
            if question.distance(start) > FAR * question.distance(starts[0]):
                break
            program = self.regions.program(start)
            key = key_of(question.counted(start), phases_at(program.question, start))
            if key in self.begun:
                continue
            self.begun.add(key)
            corner = descend(program, [start], self.deadline)
            known = better_of(question, start, corner)
            if known is not None and known is not corner:
                self.keep(known)
            if corner is None:
                continue
            descents += 1
            repeats = 0 if (new := self.new(corner)) else repeats + 1
            if new:
                found.append(self.take(corner))
        return found

    def new(self, corner: Corner) -> bool:
        """Count an end; whether it is the first one at its distance."""
        for end in self.ends:
            if abs(corner.distance - end) <= SAME * end:
                self.ends[end] += 1
                return False
        self.ends[corner.distance] = 1
        return True

    def take(self, corner: Corner) -> Corner:
        """Keep a new end, and try the proof from the first one: where to go on from."""
        self.keep(corner)
        if self.tried is not None:
            tried, self.tried = self.tried, None
            found = tried(corner)
            if found is None:
                self.ended = True
            else:
                self.keep(found)
                return found
        return corner

    def keep(self, corner: Corner) -> None:
        """Keep an answer if it is the nearest one, and tell of it."""
        if self.best is None or corner.distance < self.best.distance:
            self.best = corner
            if self.told is not None:
                self.told(corner)

    def explore(self, ends: Sequence[Corner]) -> None:
        """Search the neighbourhoods of ends, and where they lead to, until that does not pay."""
        idle = 0
        for corner in ends:
            if self.over or idle == EXPLORED:
                return
            before = self.best
            # Where all phases would be free at once, the proof begins with that very program.
            program = self.regions.program(corner.x)
            most = SMALL if self.sure else MOST_FREE
            found = search_neighbourhoods(program, corner, self.deadline, self.told, FREE + 1, self.known, most)
            if self.known is None or found.distance < self.known.distance:
                self.known = found
            self.keep(found)
            idle = 0 if self.gained(before) else idle + 1


def key_of(counted: Sequence[int], phases: Phases) -> bytes:
    """A region's name: the scenarios that count, and their phases."""
    return repr(counted).encode() + b"".join(phase.tobytes() for phase in phases)


def dropped(regions: Regions, seed: int, deadline: float) -> Corner | None:
    """From an answer that fools all scenarios, one after the other left out as long as the share allows.

    Each time the one goes without which a descent ends nearest.
    """
    question = regions.question
    kept = list(range(len(question.ensemble)))
    whole = question.fooling(kept)
    best = descend(RegionProgram(whole), gradient_answers(whole, seed, deadline)[:1], deadline)
    while best is not None and len(kept) > question.demand.fooled(len(question.ensemble)):
        ends = []
        # Without one that does not bind, nothing is nearer at once.
        for index in [kept[place] for place in best.binding] or kept:
            rest = [other for other in kept if other != index]
            found = descend(RegionProgram(question.fooling(rest)), [best.x], deadline)
            if found is not None:
                ends.append((found.distance, index, found))
        if not ends:
            break
        _, index, best = min(ends, key=lambda end: end[:2])
        kept.remove(index)
    return best
