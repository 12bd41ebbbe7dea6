"""Phases that no point which counts has together, and what they imply.

A conflict is a set of phases of one scenario; it is found by `arfj.probe`. A node that holds all of them is closed, and
where all but one are held, the other side of the last one is. This is unit propagation; unlike the proofs of
`arfj.bab.proofs`, conflicts come from searches to the end of one scenario alone, and say what linear programs of all
scenarios are too weak to see. The bounds that these searches begin with may rest on all scenarios of a part: what is
said is said of answers to that part, and to larger ones.
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

    Attributes:
        sets: of literals: a neuron's own number for off, that plus `neurons` for on.
        bits: of every literal, in the integers that stand for sets of them.
        pairs: of every literal, what it implies by conflicts of two.
        rests: of every literal, the others of its larger conflicts.
        units: what conflicts of one imply.
        empty: whether no point counts.
    """

    def __init__(self, neurons: int, sets: Iterable[Sequence[tuple[int, bool]]] = ()) -> None:
        self.neurons = neurons
        self.sets: list[tuple[int, ...]] = []
        self.bits = [1 << literal for literal in range(2 * neurons)]
        self.pairs = [0] * (2 * neurons)
        self.rests: list[list[int]] = [[] for _ in range(2 * neurons)]
        self.units: list[int] = []
        self.empty = False
        for one in sets:
            self.add(one)

    def __len__(self) -> int:
        return len(self.sets)

    def add(self, one: Sequence[tuple[int, bool]]) -> None:
        """Keep another conflict."""
        literals = tuple(dict.fromkeys(neuron + self.neurons * on for neuron, on in one))
        self.sets.append(literals)
        self.empty = self.empty or not literals
        if len(literals) == 1:
            self.units.append(self._opposite(literals[0]))
        for literal in literals:
            others = [other for other in literals if other != literal]
            if len(others) == 1:
                self.pairs[literal] |= self.bits[self._opposite(others[0])]
            elif others:
                self.rests[literal].append(sum(self.bits[other] for other in others))

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
        literals = [neuron + count * on for neuron, on in phases.items()]
        if closed is None:
            fresh = literals + self.units
        else:
            fresh = [neuron + count * on for neuron, on in phases.items() if neuron not in closed]
        found = self._propagated(literals, fresh)
        if not found:
            return None if found is None else phases
        return {**phases, **{literal % count: literal >= count for literal in found}}

    def _propagated(self, literals: Sequence[int], fresh: Sequence[int]) -> list[int] | None:
        """What is implied beyond `literals` once `fresh` is held as well; None where all of a conflict would be."""
        bits, held = self.bits, 0
        for literal in literals:
            held |= bits[literal]
        found = [literal for literal in fresh if not held & bits[literal]]
        for literal in found:
            held |= bits[literal]
        left = list(fresh)
        while left:
            literal = left.pop()
            if held & bits[self._opposite(literal)]:
                return None
            new = self.pairs[literal] & ~held
            for others in self.rests[literal]:
                missing = others & ~held
                if not missing:
                    return None
                if not missing & (missing - 1):  # the last one: its other side is implied
                    new |= bits[self._opposite(missing.bit_length() - 1)] & ~held
            held |= new
            while new:
                other = new.bit_length() - 1
                new ^= bits[other]
                left.append(other)
                found.append(other)
        return found

    def phases(self, literals: Sequence[int]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """The neurons of literals, and whether they are on."""
        at = np.array(literals, dtype=np.intp)
        return at % max(self.neurons, 1), at >= self.neurons

    def _opposite(self, literal: int) -> int:
        return literal - self.neurons if literal >= self.neurons else literal + self.neurons


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
