r"""Branch and bound over ReLU phases on `Relaxation`: certified bounds, branching by promised tree size, restarts.

A node holds phases; its bound is certified, and children never have a worse one than their parent. Neurons are compared
as in `arfj.solver.branching`: with the gain per unit of what a phase takes away, in the mean of what was seen so far,

    g_off = cost_off y / u,  g_on = cost_on s / (-l),   exp(-c g_off) + exp(-c g_on) = 1,  least c first;

children of neurons that were seen less than `reliable` times are solved for all of them that may be the best. Where
proofs are kept, neurons that matter in them are preferred.

What branchings gain high up says little about what they gain below, where most nodes are, but what was learnt there
makes better trees: a search that lasts begins again from its root, with what it has learnt. A search that is given room
for them keeps the proofs of closed nodes, too (`arfj.bab.proofs`): they close others and imply phases, of new nodes and
of open ones whenever they are branched on. So do conflicts (`arfj.conflicts`), known beforehand or found on the way.

Other processes may take part (`Others`): each has a relaxation and a search of its own on the same question and bounds,
works on the open nodes that it was handed, and tells of what it has learnt.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from arfj.bab import kernels
from arfj.bab.proofs import Kept, Proofs
from arfj.bab.relaxation import Basis, Moved, Relaxation
from arfj.conflicts import Conflicts, OfScenario, Phases
from arfj.network import Floats
from arfj.solver.branching import LEAST_GAIN, Costs, growth

LOOK_AHEAD = 8
"""By default so many candidates in turn that do not beat the best one end the look-ahead."""
LEAST_SIZE = 1e-6

BEYOND = 0.05
"""Where proofs are kept, linear programs go on until they are by this share of the target better than it."""

LEAST_IMPORTANCE, POWER = 0.05, 0.3
"""Growth rates are divided by this power of what neurons matter in the proofs kept, and by so much at least."""

MEETING = 25
"""Branchings between two looks at what other processes have come to."""

Note = tuple[int, int, float, float]
"""A branching's gain: off or on, neuron, gain, amount; see `arfj.solver.branching.Costs.note`."""

Leaf = Callable[[Floats, float], float]
"""Told of the image and the objective of a point that keeps all phases; gives the best value known then."""


@dataclass(frozen=True, eq=False)
class Node:
    """An open part of the search.

    Attributes:
        bound: certified upper bound of the objective below.
        phases: those held, by branching or because they are implied.
        amounts: (2, neurons) at the optimum of its linear program.
        basis: of that program.
    """

    bound: float
    phases: Phases
    amounts: NDArray[np.float32]
    basis: Basis


@dataclass(frozen=True, eq=False)
class Parcel:
    """An open node on its way to another process.

    Attributes:
        bound, phases, amounts: as those of `Node`.
        basis: see `arfj.bab.relaxation.Relaxation.moved`.
    """

    bound: float
    phases: Phases
    amounts: NDArray[np.float32]
    basis: Moved


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a search has learnt that others may use.

    Attributes:
        notes: gains of branchings.
        proofs: of closed nodes.
        conflicts: new ones.
    """

    notes: tuple[Note, ...] = ()
    proofs: tuple[Kept, ...] = ()
    conflicts: tuple[OfScenario, ...] = ()


class Deduction(Protocol):
    """Looks for conflicts beyond those that are known (`arfj.probe`)."""

    def found(self, phases: Phases, deadline: float) -> bool:
        """Whether there are new ones that say more of these phases; the search's conflicts have them then."""

    def learnt(self) -> tuple[OfScenario, ...]:
        """Those that were found since this was asked last."""

    def learn(self, conflicts: Sequence[OfScenario]) -> None:
        """Take up what others have found."""


class Others(Protocol):
    """Other processes that work on open nodes of a search.

    Nothing is lost: what they hold counts until they say that it is done.
    """

    @property
    def bound(self) -> float:
        """Certified upper bound of the objective below all nodes that they hold, -inf where they hold none."""

    @property
    def open(self) -> int:
        """How many they hold."""

    def begin(self, search: Search) -> None:
        """Drop all nodes, and work for this search."""

    def meet(self, search: Search) -> None:
        """Take up what they have come to, and deal nodes anew; wait for some where the search has none itself."""


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        bound: certified upper bound of the objective.
        value: the best value known.
        closed: whether the bound is within the gap of it.
        nodes: branchings.
        open: nodes that are left.
    """

    bound: float
    value: float
    closed: bool
    nodes: int
    open: int = 0


class Search:
    """Searches on one relaxation, which share what they learn.

    Args:
        relaxation: the linear program.
        reliable: a neuron seen so often in both directions is trusted.
        proofs: how many proofs of closed nodes are kept; none of them may be used with another objective.
        window: gains of a neuron that count in full when it is compared with others; older ones less and less.
        conflicts: of the relaxation's neurons, or None.

    Attributes:
        bound: of the search under way, valid whenever it is stopped.
        nodes: branchings of it.
        look_ahead: so many candidates in turn that do not beat the best one end the look-ahead.
        deduction: asked before a node is branched on, or None.
    """

    def __init__(
        self,
        relaxation: Relaxation,
        reliable: int = 0,
        proofs: int = 0,
        window: float = np.inf,
        conflicts: Conflicts | None = None,
    ) -> None:
        self.relaxation = relaxation
        self.heed(conflicts)
        self.proofs = Proofs(relaxation, proofs) if proofs else None
        self.costs = Costs(len(relaxation.neurons), window)
        self.reliable, self.look_ahead = reliable, LOOK_AHEAD
        self.bound = np.inf
        self.nodes = 0
        self.heap: list[tuple[float, int, Node]] = []
        self.notes: list[Note] | None = None
        self.deduction: Deduction | None = None

    def heed(self, conflicts: Conflicts | None) -> None:
        """From now on use these conflicts, and those that are added to them."""
        self.clauses = None if conflicts is None else kernels.Clauses(conflicts)

    def take(self, other: Search, places: NDArray[np.intp], phases: NDArray[np.bool_], gains: bool = True) -> None:
        """Begin with what a search on another relaxation has learnt; see `arfj.bab.proofs.Proofs.take`.

        With other bounds its gains mislead: `gains` says whether they are taken, too.
        """
        open_ = np.flatnonzero(places >= 0)
        if gains:
            self.costs.total[:, places[open_]] = other.costs.total[:, open_]
            self.costs.seen[:, places[open_]] = other.costs.seen[:, open_]
        if self.proofs is not None and other.proofs is not None:
            self.proofs.take(other.proofs, places, phases)

    def run(
        self,
        held: Phases,
        value: float,
        deadline: float,
        gap: float = 0.0,
        enough: float = 0.0,
        most: float = np.inf,
        room: float = np.inf,
        leaf: Leaf | None = None,
        told: Callable[[], None] | None = None,
        others: Others | None = None,
    ) -> Found:
        """Bound the objective that the relaxation has at present.

        Args:
            held: phases that are held everywhere.
            value: a value known to be reached, or -inf.
            deadline: `time.perf_counter()` value at which to stop.
            gap: a node is closed where its bound exceeds the best value by this share of it at most.
            enough: the search is over once the bound exceeds the best value by this share of it at most.
            most: nodes at which to stop.
            room: open nodes at which to stop.
            leaf: told of points that keep all phases; without it they are believed (which is no matter of the bound).
            told: called at every node.
            others: processes that take part.
        """
        enough = max(gap, enough)
        self.begin(value, deadline, gap, leaf)
        root = self.solved(dict(held), np.inf)
        if isinstance(root, Node):
            self.scale = max(root.bound - self.value if np.isfinite(self.value) else abs(root.bound), 1e-9)
            self.push(root)
        elif root is not None:
            self.stuck = root
        if others is not None:
            others.begin(self)
        met = 0
        while True:
            if others is not None and (self.idle or self.nodes >= met + MEETING):
                others.meet(self)
                met = self.nodes
            mine = -self.heap[0][0] if self.heap else -np.inf
            top = max(mine, -np.inf if others is None else others.bound)
            self.bound = min(self.bound, max(top, self.stuck, self.target))
            if told is not None:
                told()
            if max(top, self.stuck) <= above(self.value, enough):
                return Found(self.bound, self.value, True, self.nodes)
            if self.stuck > top or self.stopped(most, room, others):
                open_ = len(self.heap) + (0 if others is None else others.open)
                return Found(self.bound, self.value, False, self.nodes, open_)
            if not self.idle:
                self.branch(heapq.heappop(self.heap)[2])

    def excluded(self, held: Phases, value: float, deadline: float, most: float, leaf: Leaf) -> bool:
        """Whether it is proven that no point with these phases is better than `value`.

        Depth first, towards the better bound: a point, of which `leaf` is told, is as good an end as a proof, and it
        may raise then. The arguments are those of `run`.
        """
        self.begin(value, deadline, 0.0, leaf)
        root = self.solved(dict(held), np.inf)
        if not isinstance(root, Node):
            return root is None
        self.scale = max(root.bound - value, 1e-9)
        left = [root]
        while left:
            if self.nodes >= most or time.perf_counter() > deadline:
                return False
            self.branch(left.pop())
            if self.stuck > self.target:
                return False
            left += [entry[2] for entry in sorted(self.heap, reverse=True)]
            self.heap = []
        return True

    def begin(self, value: float, deadline: float, gap: float, leaf: Leaf | None) -> None:
        """Drop all nodes; the arguments are those of `run`."""
        self.value, self.gap, self.deadline, self.leaf = value, gap, deadline, leaf
        self.bound, self.nodes, self.stuck = np.inf, 0, -np.inf
        self.heap = []
        self.count = itertools.count()
        self.scale = 1.0

    def stopped(self, most: float, room: float, others: Others | None) -> bool:
        """Whether nodes, memory or time are used up."""
        open_ = len(self.heap) + (0 if others is None else others.open)
        return self.nodes >= most or open_ > room or time.perf_counter() > self.deadline

    @property
    def idle(self) -> bool:
        """Whether no node is left that has to be branched on."""
        return not self.heap or -self.heap[0][0] <= self.target

    @property
    def target(self) -> float:
        """A bound at or below this one closes a node."""
        return above(self.value, self.gap)

    def push(self, node: Node) -> None:
        """Keep an open node."""
        heapq.heappush(self.heap, (-node.bound, next(self.count), node))

    def solved(self, phases: Phases, most: float, parent: Node | None = None) -> Node | float | None:
        """The node with these phases; None where it is closed, its bound where it cannot be branched on.

        Args:
            phases: to hold.
            most: a bound that is known already.
            parent: the solver starts from its basis; where there is no optimum, branching goes by its amounts.
        """
        relaxation, target, floor = self.relaxation, self.target, self.target
        implied = self.implied(phases, None if parent is None else parent.phases)
        if implied is None:
            return None
        phases = implied
        if self.proofs is not None:
            floor = target - BEYOND * abs(target)
        if parent is not None:
            relaxation.start_from(parent.basis)
        relaxation.hold(phases)
        bound, amounts = relaxation.solve(floor, self.deadline - time.perf_counter(), target)
        bound = min(bound, most)
        if bound <= target:
            if self.proofs is not None:
                self.proofs.keep(phases, target)
            return None
        if amounts is None:
            return bound if parent is None else Node(bound, phases, parent.amounts, parent.basis)
        small = amounts.astype(np.float32)
        if not kernels.open_neurons(small, phases).size:
            point = relaxation.program.getObjVal()
            self.value = max(self.value, point if self.leaf is None else self.leaf(relaxation.image(), point))
            if bound <= self.target:
                return None
            if not relaxation.undecided(phases).size:
                return bound
        return Node(bound, phases, small, relaxation.basis())

    def implied(self, phases: Phases, closed: Phases | None) -> Phases | None:
        """These phases and all that conflicts and proofs imply; `closed`: see `Conflicts.implied`."""
        while True:
            known = phases if self.clauses is None else self.clauses.implied(phases, closed)
            if known is None or self.proofs is None:
                return known
            closed = known
            found = self.proofs.implied(known, self.target)
            if found is None or found is known or self.clauses is None:
                return found
            phases = found

    def branch(self, node: Node) -> None:
        """Replace a node by its children."""
        self.nodes += 1
        while True:
            known = self.implied(node.phases, None)  # there may be new conflicts
            if known is not None and self.deduction is not None and self.deduction.found(known, self.deadline):
                known = self.implied(known, None)
            if known is None:
                return
            if known is not node.phases:
                again = self.solved(known, node.bound, node)
                if not isinstance(again, Node):
                    self.stuck = max(self.stuck, -np.inf if again is None else again)
                    return
                node = again
            found = self.chosen(node)
            if found is None:
                self.stuck = max(self.stuck, node.bound)
                return
            children = [child for child in found if child is not None]
            if len(children) == 1 and isinstance(children[0], Node) and self.reliable:
                node = children[0]  # the other side is closed: go on at once, as long as that is better than to wait
                if time.perf_counter() < self.deadline and not (self.heap and node.bound < -self.heap[0][0]):
                    continue
            for child in children:
                if isinstance(child, Node):
                    self.push(child)
                else:
                    self.stuck = max(self.stuck, child)
            return

    def chosen(self, node: Node) -> list[Node | float | None] | None:
        """The children on the neuron of the least growth rate; None where there is none to branch on."""
        candidates = kernels.open_neurons(node.amounts, node.phases)
        if not candidates.size:  # a point that keeps all phases but for rounding, and whose value does not close
            candidates = self.relaxation.undecided(node.phases)
        if not candidates.size:
            return None
        weights = self.weights(candidates)
        rates = weights * kernels.rates(node.amounts, candidates, self.costs)
        order = np.argsort(rates, kind="stable")
        doubtful = self.costs.seen[:, candidates].min(axis=0) < self.reliable
        best, least, idle = None, np.inf, 0
        for place in order.tolist():
            neuron = int(candidates[place])
            if doubtful[place]:
                if idle >= self.look_ahead:
                    continue
                children = self.children(node, neuron)
                rate = self.rate(node, children) * weights[place]
                if None in children:
                    return children
            else:
                children, rate = None, rates[place]
            if rate < least:
                best, least, idle = (neuron, children), rate, 0
            else:
                idle += 1
                if idle >= self.look_ahead:
                    break
        if best is None:
            return None
        return best[1] or self.children(node, best[0])

    def weights(self, candidates: NDArray[np.intp]) -> Floats:
        """By what their growth rates are multiplied: neurons that matter in proofs come first."""
        importance = None if self.proofs is None else self.proofs.importance(self.target)
        if importance is None:
            return np.ones(len(candidates))
        return np.asarray((LEAST_IMPORTANCE + importance[candidates]) ** -POWER)

    def children(self, node: Node, neuron: int) -> list[Node | float | None]:
        """Both children, off and on; what was gained is noted."""
        found: list[Node | float | None] = []
        for side in (0, 1):
            child = self.solved({**node.phases, neuron: bool(side)}, node.bound, node)
            note = side, neuron, self.gain(node, child) / self.scale, float(node.amounts[side, neuron])
            self.costs.note(*note)
            if self.notes is not None:
                self.notes.append(note)
            found.append(child)
        return found

    def teach(self) -> None:
        """From now on keep a record of what is learnt, for others."""
        self.notes = []
        if self.proofs is not None:
            self.proofs.new = []
        if self.deduction is not None:
            self.deduction.learnt()

    def learnt(self) -> Lesson:
        """What was learnt since this was asked last."""
        notes, self.notes = self.notes, []
        proofs: list[Kept] = []
        if self.proofs is not None:
            proofs, self.proofs.new = self.proofs.new or [], []
        conflicts = () if self.deduction is None else self.deduction.learnt()
        return Lesson(tuple(notes or ()), tuple(proofs), conflicts)

    def learn(self, lesson: Lesson) -> None:
        """What others have learnt: theirs is the same relaxation and objective."""
        for note in lesson.notes:
            self.costs.note(*note)
        if self.proofs is not None:
            for kept in lesson.proofs:
                self.proofs.add(kept)
        if self.deduction is not None:
            self.deduction.learn(lesson.conflicts)

    def handed(self, most: int) -> list[Parcel]:
        """Every other open node, the best ones first, for others to work on; at least one is left."""
        looked = [heapq.heappop(self.heap) for _ in range(min(2 * most, len(self.heap)))]
        for entry in looked[::2]:
            heapq.heappush(self.heap, entry)
        nodes = [entry[2] for entry in looked[1::2]]
        return [Parcel(one.bound, one.phases, one.amounts, self.relaxation.moved(one.basis)) for one in nodes]

    def receive(self, parcels: Sequence[Parcel]) -> None:
        """Take over nodes of others."""
        for one in parcels:
            self.push(Node(one.bound, one.phases, one.amounts, self.relaxation.arrived(one.basis)))

    def gain(self, node: Node, child: Node | float | None) -> float:
        """By how much a child's bound is better than its parent's, the target at best."""
        after = self.target if child is None else child.bound if isinstance(child, Node) else child
        return max(node.bound - max(after, -1e15), 0.0)

    def rate(self, node: Node, children: list[Node | float | None]) -> float:
        """The growth rate of a branching that has been looked at."""
        gains = np.maximum([self.gain(node, child) / self.scale for child in children], LEAST_GAIN)
        return float(growth(gains[:1], gains[1:])[0])


def above(value: float, share: float) -> float:
    """The value, and this share of it more (of `LEAST_SIZE`, if the value is smaller)."""
    return value + share * max(abs(value), LEAST_SIZE) if math.isfinite(value) else value
