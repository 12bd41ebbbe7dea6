r"""Phases that no answer has together, found by searches of one scenario alone.

For one scenario with its class conditions, and phases of two, three or more of its neurons held, our own branch and
bound asks whether an answer within distance R is left:

    min ||x - xbar||_1  <  R   subject to the class conditions, phases i, j, ... held

A bound of R proves that there is none: every answer of the whole question fools this scenario, too, so that none nearer
than R has these phases together. Points that a search comes across show that other sets of phases are possible, which
need no search then. The objective is the same in all of them, so that what closed nodes of one closes those of others.

Whatever stops a search, nothing is said without a certified bound. Under a soft demand no scenario's conditions are
known to hold, and nothing is asked.

Before the proof all pairs are asked for. In the course of it `Deduction` asks, at every node that is branched on, what
the phases held of one scenario imply; each answer is made a conflict of as few phases as it takes, so that it is of use
elsewhere, too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from arfj.bab import Relaxation, Search, kernels
from arfj.bounds import Bounds
from arfj.conflicts import KINK, Across, Conflict, Conflicts, OfScenario, Phases, hold, numbered
from arfj.network import Floats, Network
from arfj.question import Question

SECONDS, MOST = 1.0, 200
"""Limits of one search, in seconds and nodes."""
VAIN, EACH = 1000, 100
"""Nodes after which searches that found no conflict are given up, and so many more for every one found: in wide or deep
networks hardly any ends with a proof, and with several of these none tells of the others."""
RELIABLE, PROOFS, WINDOW = 1, 500, 50
"""Of these searches: see `arfj.attack.closing`."""
SHARE, LEAST = 0.3, 0.05
"""Share of a search's time that may go into conflicts, and seconds that are begun with."""


class Probed(NamedTuple):
    """What is known of one scenario.

    Attributes:
        conflicts: those that were found.
        signs: of all hidden pre-activations at points that fool the scenario, most of them within R, (points, neurons).
    """

    conflicts: tuple[Conflict, ...]
    signs: NDArray[np.int8]

    def hold(self, network: Network, x: Floats) -> bool:
        """Whether an answer nearer than R has no conflict, as it has to be."""
        return hold([[(0, literal) for literal in conflict] for conflict in self.conflicts], [network], x)


class _PossibleError(Exception):
    """Ends a search: there is a point."""


def probe(
    question: Question,
    bounds: Bounds,
    answer: Floats,
    radius: float,
    deadline: float,
    size: int = 2,
    most: float = np.inf,
) -> Probed:
    """Conflicts of at most `size` phases of a question's only scenario.

    Args:
        question: image, target, one scenario; the demand is no soft one.
        bounds: of the scenario, which hold at every answer x with ||x - xbar||_1 < radius.
        answer: an answer within the radius.
        radius: R.
        deadline: `time.perf_counter()` value after which nothing more is asked.
        size: of the largest conflicts.
        most: see `Asking`.

    Raises:
        ValueError: a soft demand, or several scenarios.
    """
    prober = Prober(question, bounds, answer, radius)
    prober.deadline, prober.most = deadline, most
    for length in range(1, size + 1):  # what is impossible by itself would seem to imply all else
        prober.ask(length)
    return prober.probed


class Asking:
    """Searches of some scenarios that ask which phases an answer to them within R may have.

    A literal is a neuron's number in the relaxation (off), or that and `count` more (on).

    Args:
        question: image, target, these scenarios.
        bounds: of each.
        answer: an answer within the radius.
        radius: R.
        conflicts: of each, if any are known.
        across: those of several of them.

    Attributes:
        neurons: of the relaxation.
        count: how many there are.
        points: by literal, whether a known point has it, a row each.
        deadline: `time.perf_counter()` value after which nothing more is asked.
        most: nodes after which nothing more is asked, where no conflict was found.
        nodes: of all searches.
    """

    def __init__(
        self,
        question: Question,
        bounds: Sequence[Bounds],
        answer: Floats,
        radius: float,
        conflicts: Sequence[Sequence[Conflict]],
        across: Sequence[Across] = (),
    ) -> None:
        self.question, self.radius, self.deadline = question, radius, np.inf
        self.relaxation = Relaxation(question, bounds)
        self.relaxation.maximise(None)
        self.relaxation.enter(answer)
        self.neurons = self.relaxation.neurons
        self.count = len(self.neurons)
        self.conflicts = numbered(self.neurons, bounds, conflicts, across)
        self.clauses = kernels.Clauses(self.conflicts)
        self.known = len(self.conflicts)
        self.most, self.nodes = np.inf, 0
        self.search = Search(self.relaxation, RELIABLE, PROOFS, WINDOW, self.conflicts)
        self.points = np.zeros((0, 2 * self.count), dtype=np.bool_)
        self.met = 0

    @property
    def over(self) -> bool:
        """Whether the time is, or searches are in vain."""
        vain = self.nodes > self.most + EACH * (len(self.conflicts) - self.known)
        return vain or time.perf_counter() >= self.deadline

    def implied(self, literals: Sequence[int]) -> Phases | None:
        """What these phases imply by the known conflicts."""
        return self.clauses.implied(self.phases(literals))

    def phases(self, literals: Sequence[int]) -> dict[int, bool]:
        """What these literals say."""
        return {literal % self.count: literal >= self.count for literal in literals}

    def excluded(self, phases: Phases, seconds: float, most: int) -> bool:
        """Whether it is proven that no answer within R has these phases."""
        until = min(self.deadline, time.perf_counter() + seconds)
        try:
            return self.search.excluded(phases, -self.radius, until, most, self.leaf)
        except _PossibleError:
            return False
        finally:
            self.nodes += self.search.nodes

    def leaf(self, x: Floats, objective: float) -> float:
        """A point that keeps all phases; it ends the search where it is near enough."""
        self.meet(np.clip(x, 0.0, 1.0))
        if -objective < self.radius:
            raise _PossibleError
        return -self.radius

    def meet(self, x: Floats) -> None:
        """A point: the phases that it has are possible together."""
        raise NotImplementedError


class Prober(Asking):
    """Searches of one scenario.

    Args:
        question, bounds, answer, radius: see `probe`.
        before: what is known already.

    Raises:
        ValueError: see `probe`.

    Attributes:
        found: conflicts.
    """

    def __init__(
        self, question: Question, bounds: Bounds, answer: Floats, radius: float, before: Probed | None = None
    ) -> None:
        if question.soft or len(question.ensemble) != 1:
            raise ValueError("one scenario whose class conditions have to hold was expected")
        self.found: list[Conflict] = [] if before is None else list(before.conflicts)
        super().__init__(question, [bounds], answer, radius, [self.found])
        self.network: Network = question.ensemble.networks[0]
        self.places = [(layer, neuron) for _, layer, neuron in self.neurons]
        starts = np.cumsum([0, *(layer.outputs for layer in self.network.layers[:-1])])
        self.columns = [int(starts[layer]) + neuron for layer, neuron in self.places]
        self.signs: list[NDArray[np.int8]] = [] if before is None else list(before.signs)
        self.meet(answer)

    @property
    def probed(self) -> Probed:
        """What is known by now."""
        return Probed(tuple(self.found), np.array(self.signs, dtype=np.int8))

    def meet(self, x: Floats) -> None:
        """A point: the phases that it has are possible together."""
        before = np.concatenate([np.zeros(0), *(one[0] for one in self.network.preactivations(x[None])[:-1])])
        self.signs.append(np.where(np.abs(before) <= KINK, 0, np.sign(before)).astype(np.int8))

    def seen(self, literals: Sequence[int]) -> NDArray[np.bool_]:
        """By literal, whether a point that has these phases has that one, too."""
        if self.met < len(self.signs):
            signs = np.array(self.signs[self.met :], dtype=np.int8)[:, self.columns]
            self.met = len(self.signs)
            self.points = np.concatenate([self.points, np.hstack([signs <= 0, signs >= 0])])
        return np.asarray(self.points[self.points[:, literals].all(axis=1)].any(axis=0))

    def ask(self, size: int) -> None:
        """Look for conflicts among all sets of so many phases that no point has and nothing known decides."""
        for chosen in self._sets(size - 1, ()) if self.count else ():
            if self.over:
                return
            self.extend(chosen, chosen[-1] % self.count + 1 if chosen else 0)

    def deduce(self, phases: Phases) -> list[Conflict]:
        """New conflicts that say what these phases, held together, imply.

        Args:
            phases: of open neurons of the scenario, by their places; the known conflicts imply no others.
        """
        count = len(self.found)
        chosen = tuple(place + self.count * on for place, on in phases.items())
        if chosen and not self.seen(chosen).any() and not self.possible(chosen):
            self.keep(self.shrunk(chosen))
        else:
            self.extend(chosen, 0, shrink=True)
        return self.found[count:]

    def extend(self, chosen: tuple[int, ...], first: int, shrink: bool = False) -> None:
        """Look for phases of neurons from a place on that are impossible with these."""
        if self.over:
            return
        places = np.arange(2 * self.count) % self.count
        seen = self.seen(chosen)
        implied = self.implied(chosen)
        for literal in np.flatnonzero(~seen & (places >= first)).tolist():
            if implied is None or self.over:
                return
            if literal % self.count in implied:
                continue
            if self.met < len(self.signs):
                seen = self.seen(chosen)
            if not seen[literal] and not self.possible((*chosen, literal)):
                self.keep(self.shrunk((*chosen, literal)) if shrink else (*chosen, literal))
                implied = self.implied(chosen)

    def shrunk(self, literals: tuple[int, ...]) -> tuple[int, ...]:
        """A conflict without those of its phases that it needs not."""
        for literal in literals:
            rest = tuple(other for other in literals if other != literal)
            if rest and not self.seen(rest).any() and not self.possible(rest):
                literals = rest
        return literals

    def keep(self, literals: Sequence[int]) -> None:
        """Keep a conflict."""
        found = [(literal % self.count, literal >= self.count) for literal in literals]
        self.conflicts.add(found)
        self.found.append(tuple((*self.places[place], on) for place, on in found))

    def learn(self, conflict: Conflict) -> None:
        """Keep a conflict that another search has found."""
        self.conflicts.add([(self.places.index((layer, neuron)), on) for layer, neuron, on in conflict])
        self.found.append(conflict)

    def possible(self, literals: Sequence[int]) -> bool:
        """Whether an answer within R may have these phases; only a proof says no."""
        return not self.excluded(self.phases(literals), SECONDS, MOST)

    def _sets(self, size: int, chosen: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Phases of so many neurons, in the order of their places, that are not known to be impossible together."""
        if len(chosen) == size:
            yield chosen
            return
        if self.over:
            return
        implied = self.implied(chosen)
        for place in range(chosen[-1] % self.count + 1 if chosen else 0, self.count):
            for literal in (place, self.count + place):
                if implied is not None and literal % self.count not in implied:
                    yield from self._sets(size, (*chosen, literal))


class Deduction:
    """Conflicts that are found at the nodes of a search (`arfj.bab.tree.Deduction`).

    Args:
        question: image, target, scenarios.
        bounds: of every scenario.
        answer: an image.
        radius: R.
        probed: what is known of every scenario, if anything.
        neurons: those of the search's relaxation, by their numbers.
        conflicts: the search's, which those of `probed` are among already.

    Raises:
        ValueError: a soft demand.
    """

    def __init__(
        self,
        question: Question,
        bounds: Sequence[Bounds],
        answer: Floats,
        radius: float,
        probed: Sequence[Probed | None],
        neurons: Sequence[tuple[int, int, int]],
        conflicts: Conflicts,
    ) -> None:
        if question.soft:
            raise ValueError("under a soft demand no scenario's conditions are known to hold")
        self.probers = [
            Prober(question.fooling([index]), one, answer, radius, known)
            for index, (one, known) in enumerate(zip(bounds, probed, strict=True))
        ]
        self.numbers = {neuron: number for number, neuron in enumerate(neurons)}
        places = [{place: number for number, place in enumerate(prober.places)} for prober in self.probers]
        self.where = [(scenario, places[scenario][layer, neuron]) for scenario, layer, neuron in neurons]
        self.conflicts = conflicts
        self.asked: set[int] = set()
        self.new: list[OfScenario] = []
        self.began, self.spent = time.perf_counter(), 0.0

    @property
    def probed(self) -> list[Probed]:
        """What is known of every scenario by now."""
        return [prober.probed for prober in self.probers]

    def found(self, phases: Phases, deadline: float) -> bool:
        """See `arfj.bab.tree.Deduction`."""
        held: list[dict[int, bool]] = [{} for _ in self.probers]
        for number, on in phases.items():
            scenario, place = self.where[number]
            held[scenario][place] = on
        before = len(self.new)
        now = time.perf_counter()
        until = min(deadline, now + LEAST + SHARE * (now - self.began) - self.spent)
        for scenario, (prober, mine) in enumerate(zip(self.probers, held, strict=True)):
            if time.perf_counter() >= until:
                break
            # as numbers, for there are many; of two that are the same by chance one is not asked
            if mine and (key := hash((scenario, frozenset(mine.items())))) not in self.asked:
                self.asked.add(key)
                prober.deadline = until
                self.new += [(scenario, conflict) for conflict in prober.deduce(mine)]
        self.spent += time.perf_counter() - now
        self._add(self.new[before:])
        return len(self.new) > before

    def learnt(self) -> tuple[OfScenario, ...]:
        """See `arfj.bab.tree.Deduction`."""
        new, self.new = self.new, []
        return tuple(new)

    def learn(self, conflicts: Sequence[OfScenario]) -> None:
        """See `arfj.bab.tree.Deduction`."""
        for scenario, conflict in conflicts:
            self.probers[scenario].learn(conflict)
        self._add(conflicts)

    def _add(self, conflicts: Sequence[OfScenario]) -> None:
        for scenario, conflict in conflicts:
            self.conflicts.add([(self.numbers[scenario, layer, neuron], on) for layer, neuron, on in conflict])
