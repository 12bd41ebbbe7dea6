r"""A case as a network of its own: its outputs are the rows A f(x) + d of all polyhedra that are still open.

A polyhedron is out of reach of f on a set if some mixture of its rows, w' (A f(x) + d) with w >= 0, is above 0 there.

Proofs are of the closed sets. A candidate for a counterexample is one of the sets as they are asked about: where bounds
are open it is moved inside, where rows are strict none may be 0, and it has to be confirmed. One that is not says
nothing of any other, so a search goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from arfj.bounds import Bounds
from arfj.bounds.interval import Pair
from arfj.graph import Affine, Graph
from arfj.network import Floats
from arfj.region import Region
from arfj.verify.property import Case, Flags

Indices = NDArray[np.intp]
Confirm = Callable[[Floats], bool]
"""Whether an input is a counterexample."""
TRIED = 4
"""Candidates at a time that are asked to be confirmed."""
CLEAR = 2.0**-20
"""Candidates keep so far from open bounds, as a share of the box' width; if they are safe there, as near as they can:
programs that take tiny numbers for 0 would find them outside."""
ABOVE = float(np.finfo(np.float64).tiny)


def _any(_: Floats) -> bool:
    return True


@dataclass(frozen=True, eq=False)
class Margins:
    """The rows of some polyhedra over a network.

    Attributes:
        graph: x -> rows A f(x) + d.
        owner: which polyhedron a row belongs to, 0, 1, ..., shape (rows,), rising.
        strict: which rows have to be below 0, shape (rows,); none of them where it is empty.
        inside: corners of the boxes that candidates are moved into, the first one before the others; none: any will do.
        confirmed: whether one is a counterexample; by default all are.
    """

    graph: Graph
    owner: Indices
    strict: Flags = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    inside: tuple[Pair, ...] = ()
    confirmed: Confirm = _any

    @property
    def polyhedra(self) -> int:
        """How many polyhedra are open."""
        return int(self.owner[-1]) + 1 if len(self.owner) else 0

    def least(self, rows: Floats) -> Floats:
        """max over each polyhedron's rows: (batch, rows) -> (batch, polyhedra); at most 0 is unsafe."""
        starts = np.flatnonzero(np.diff(self.owner, prepend=-1))
        return np.asarray(np.maximum.reduceat(rows, starts, axis=1))

    def compared(self, rows: Floats) -> Floats:
        """(batch, rows) as a search compares them with 0: what is strict and 0 is above."""
        return np.where(self.strict & (rows == 0), ABOVE, rows) if self.strict.any() else rows

    def candidate(self, points: Floats) -> Floats | None:
        """One of these points (batch, inputs), moved inside, that is unsafe and confirmed, or None; the worst first."""
        for moved in [np.clip(points, *box) for box in self.inside] or [points]:
            least = self.least(self.compared(self.graph(moved))).min(axis=1)
            for index in np.argsort(least, kind="stable")[:TRIED]:
                if least[index] <= 0 and self.confirmed(moved[index]):
                    return np.asarray(moved[index])
        return None

    def restricted(self, kept: Indices) -> Margins:
        """With the polyhedra `kept` alone, renumbered; there may be none of them."""
        rows = np.flatnonzero(np.isin(self.owner, kept))
        renumbered = np.searchsorted(np.sort(kept), self.owner[rows])
        strict = self.strict[rows] if len(self.strict) else self.strict
        return replace(self, graph=_chosen(self.graph, rows), owner=renumbered, strict=strict)

    def rows_of(self, kept: Indices) -> Indices:
        """The rows that belong to the polyhedra `kept`."""
        return np.flatnonzero(np.isin(self.owner, kept))


def margins_of(network: Graph, case: Case, confirmed: Confirm = _any) -> Margins:
    """All rows of a case. A polyhedron without rows is unsafe everywhere: it gets one row that is -1.

    Args:
        network: f.
        case: the box and the polyhedra.
        confirmed: see `Margins`.
    """
    matrices, offsets, owner = [], [], []
    strict: list[bool] = []
    for index, polyhedron in enumerate(case.unsafe):
        matrix, offset = polyhedron.matrix, polyhedron.offset
        if not len(offset):
            matrix, offset = np.zeros((1, network.classes)), np.array([-1.0])
        strict += polyhedron.strict.tolist() or [False]
        matrices.append(matrix)
        offsets.append(offset)
        owner += [index] * len(offset)
    matrix, offset = np.concatenate(matrices), np.concatenate(offsets)
    # A node of its own, also behind an affine one: where large outputs cancel in A, the product of both maps hides what
    # the outputs round, and the margins of the bounds would not cover it.
    nodes = (*network.nodes, Affine((len(network.nodes),), (matrix.T,), offset))
    graph = Graph(network.inputs, nodes, network.input_shape)
    return Margins(graph, np.array(owner, dtype=np.intp), np.array(strict, dtype=np.bool_), _inside(case), confirmed)


def _inside(case: Case) -> tuple[Pair, ...]:
    """The box clear of its open bounds, and the floats inside of it; one box where no bound is open."""
    nearest = case.clip(case.lower), case.clip(case.upper)
    if not (case.open_lower.any() or case.open_upper.any()):
        return (nearest,)
    room = CLEAR * (case.upper - case.lower)
    clear = case.lower + room * case.open_lower, case.upper - room * case.open_upper
    return (case.clip(clear[0]), case.clip(clear[1])), nearest


def _chosen(graph: Graph, rows: Indices) -> Graph:
    last = graph.nodes[-1]
    if not isinstance(last, Affine):
        raise TypeError("margins end in an affine node")
    node = Affine(last.sources, tuple(m[:, rows] for m in last.maps), last.bias[rows])
    return Graph(graph.inputs, (*graph.nodes[:-1], node), graph.input_shape)


def chosen_bounds(bounds: Bounds, rows: Indices) -> Bounds:
    """Bounds whose outputs are the rows alone."""
    return Bounds((*bounds.lower[:-1], bounds.lower[-1][rows]), (*bounds.upper[:-1], bounds.upper[-1][rows]))


def region_of(case: Case) -> Region:
    """The closed box of a case."""
    return Region.between(case.lower, case.upper)
