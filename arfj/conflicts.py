"""Phases that no point which counts has together, and what they imply.

A conflict is a set of phases of one scenario; it is found by `arfj.probe`. A node that holds all of them is closed, and
where all but one are held, the other side of the last one is. This is unit propagation; unlike the proofs of
`arfj.bab.proofs`, conflicts come from searches to the end of one scenario alone, and say what linear programs of all
scenarios are too weak to see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from arfj.bounds import Bounds
from arfj.network import Floats, Network

KINK = 1e-9
"""A neuron whose pre-activation is nearer to 0 has both phases."""
Literal = tuple[int, int, bool]
"""Layer, neuron, and whether it is on; a neuron is on at a >= 0 and off at a <= 0."""
Conflict = tuple[Literal, ...]
"""Phases of one scenario."""
Phases = Mapping[int, bool]
"""Neurons whose phase is held, by their number in a relaxation: on or off."""
OfScenario = tuple[int, Conflict]
"""A scenario, and one of its conflicts."""
Across = tuple[tuple[int, Literal], ...]
"""Phases of several scenarios (`arfj.across`): each a scenario and a phase of it."""


class Conflicts:
    """Conflicts over the open neurons of a relaxation, by their numbers.

    Args:
        neurons: how many there are.
        sets: each a set of (neuron, on); the empty one says that no point counts.
    """

    def __init__(self, neurons: int, sets: Iterable[Sequence[tuple[int, bool]]] = ()) -> None:
        self.neurons = neurons
        self.sets: list[tuple[int, ...]] = []
        self.of: list[list[tuple[int, ...]]] = [[] for _ in range(2 * neurons)]
        self.others: list[NDArray[np.intp] | None] = [None] * (2 * neurons)
        self.units: list[int] = []
        self.empty = False
        for one in sets:
            self.add(one)

    def __len__(self) -> int:
        return len(self.sets)

    def add(self, one: Sequence[tuple[int, bool]]) -> None:
        """Keep another conflict."""
        literals = tuple(neuron + self.neurons * on for neuron, on in one)
        self.sets.append(literals)
        self.empty = self.empty or not literals
        if len(literals) == 1:
            self.units.append(self._opposite(literals[0]))
        for literal in literals:
            self.of[literal].append(tuple(other for other in literals if other != literal))
            self.others[literal] = None

    def implied(self, phases: Phases, closed: Phases | None = None) -> Phases | None:
        """These phases and all that they imply (the same object where that is nothing); None: no point has them.

        Args:
            phases: to be held.
            closed: some of them, of which all that they imply is among `phases` already.
        """
        if not self.sets:
            return phases
        if self.empty:
            return None
        count = self.neurons
        held = np.zeros(2 * count + 1, dtype=np.bool_)
        held[-1] = True  # what conflicts of fewer phases have in place of more
        held[[neuron + count * on for neuron, on in phases.items()]] = True
        fresh = [neuron + count * on for neuron, on in phases.items() if closed is None or neuron not in closed]
        found = []
        if closed is None:
            fresh += (found := [unit for unit in self.units if not held[unit]])
            held[found] = True
        while fresh:
            literal = fresh.pop()
            if held[self._opposite(literal)]:
                return None
            if (others := self._others(literal)) is None:
                continue
            have = held[others]
            missing = others.shape[1] - have.sum(axis=1)
            if not missing.all():
                return None
            rows = np.flatnonzero(missing == 1)
            for last in others[rows, have[rows].argmin(axis=1)].tolist():
                if not held[other := self._opposite(last)]:
                    held[other] = True
                    fresh.append(other)
                    found.append(other)
        if not found:
            return phases
        return {**phases, **{literal % count: literal >= count for literal in found}}

    def phases(self, literals: Sequence[int]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """The neurons of literals, and whether they are on."""
        at = np.array(literals, dtype=np.intp)
        return at % max(self.neurons, 1), at >= self.neurons

    def _opposite(self, literal: int) -> int:
        return literal - self.neurons if literal >= self.neurons else literal + self.neurons

    def _others(self, literal: int) -> NDArray[np.intp] | None:
        """The other phases of all conflicts with this one, a row each."""
        if not self.of[literal]:
            return None
        known = self.others[literal]
        if known is None:
            rows = self.of[literal]
            known = np.full((len(rows), max(map(len, rows))), 2 * self.neurons, dtype=np.intp)
            for row, one in zip(known, rows, strict=True):
                row[: len(one)] = one
            self.others[literal] = known
        return known


def numbered(
    neurons: Sequence[tuple[int, int, int]],
    bounds: Sequence[Bounds],
    found: Sequence[Sequence[Conflict]],
    across: Sequence[Across] = (),
) -> Conflicts:
    """The conflicts of all scenarios, for neurons that are numbered as those of a relaxation.

    Bounds may have decided some phases since: what they rule out is no conflict any more, what they imply is left out.

    Args:
        neurons: (scenario, layer, neuron).
        bounds: of every scenario.
        found: conflicts of every scenario.
        across: those of several scenarios.
    """
    numbers = {neuron: number for number, neuron in enumerate(neurons)}
    result = Conflicts(len(neurons))
    alone = [[(scenario, one) for one in conflict] for scenario, mine in enumerate(found) for conflict in mine]
    for conflict in (*alone, *across):
        open_: list[tuple[int, bool]] = []
        for scenario, (layer, neuron, on) in conflict:
            number = numbers.get((scenario, layer, neuron))
            if number is not None:
                open_.append((number, on))
            elif (bounds[scenario].lower[layer][neuron] >= 0) != on:
                break
        else:
            result.add(open_)
    return result


def within(conflict: Across, scenarios: Sequence[int]) -> Across | None:
    """A conflict as a part with these scenarios numbers them, or None where one of its own is not among them."""
    if not all(scenario in scenarios for scenario, _ in conflict):
        return None
    return tuple((scenarios.index(scenario), literal) for scenario, literal in conflict)


def hold(across: Iterable[Sequence[tuple[int, Literal]]], networks: Sequence[Network], x: Floats) -> bool:
    """Whether an answer nearer than R has no such conflict, as it has to be."""
    before = [[one[0] for one in network.preactivations(x[None])] for network in networks]

    def has(scenario: int, layer: int, neuron: int, on: bool) -> bool:
        return bool((before[scenario][layer][neuron] if on else -before[scenario][layer][neuron]) > KINK)

    return not any(all(has(scenario, *literal) for scenario, literal in conflict) for conflict in across)


def cliques(conflicts: Conflicts) -> list[tuple[int, ...]]:
    """Literals no two of which are possible together; every conflict of two is in one of them at least."""
    count = conflicts.neurons
    linked: list[set[int]] = [set() for _ in range(2 * count)]
    pairs = [one for one in conflicts.sets if len(one) == 2]
    for one, other in pairs:
        linked[one].add(other)
        linked[other].add(one)
    covered: set[tuple[int, int]] = set()
    found = []
    for pair in pairs:
        if pair in covered:
            continue
        clique = list(pair)
        common = linked[pair[0]] & linked[pair[1]]
        while common:
            best = max(common, key=lambda literal: (len(linked[literal] & common), -literal))
            clique.append(best)
            common &= linked[best]
        covered |= {(one, other) for one in clique for other in clique}
        found.append(tuple(clique))
    return found
