r"""A case as a network of its own: its outputs are the rows A f(x) + d of all polyhedra that are still open.

A polyhedron is out of reach of f on a set if some mixture of its rows, w' (A f(x) + d) with w >= 0, is above 0 there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arfj.bounds import Bounds
from arfj.graph import Affine, Graph
from arfj.network import Floats
from arfj.region import Region
from arfj.verify.property import Case

Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Margins:
    """The rows of some polyhedra over a network.

    Attributes:
        graph: x -> rows A f(x) + d.
        owner: which polyhedron a row belongs to, 0, 1, ..., shape (rows,), rising.
    """

    graph: Graph
    owner: Indices

    @property
    def polyhedra(self) -> int:
        """How many polyhedra are open."""
        return int(self.owner[-1]) + 1 if len(self.owner) else 0

    def least(self, rows: Floats) -> Floats:
        """max over each polyhedron's rows: (batch, rows) -> (batch, polyhedra); at most 0 is unsafe."""
        starts = np.flatnonzero(np.diff(self.owner, prepend=-1))
        return np.asarray(np.maximum.reduceat(rows, starts, axis=1))

    def restricted(self, kept: Indices) -> Margins:
        """With the polyhedra `kept` alone, renumbered."""
        rows = np.flatnonzero(np.isin(self.owner, kept))
        renumbered = np.searchsorted(np.sort(kept), self.owner[rows])
        return Margins(_chosen(self.graph, rows), renumbered)

    def rows_of(self, kept: Indices) -> Indices:
        """The rows that belong to the polyhedra `kept`."""
        return np.flatnonzero(np.isin(self.owner, kept))


def margins_of(network: Graph, case: Case) -> Margins:
    """All rows of a case. A polyhedron without rows is unsafe everywhere: it gets one row that is -1."""
    matrices, offsets, owner = [], [], []
    for index, polyhedron in enumerate(case.unsafe):
        matrix, offset = polyhedron.matrix, polyhedron.offset
        if not len(offset):
            matrix, offset = np.zeros((1, network.classes)), np.array([-1.0])
        matrices.append(matrix)
        offsets.append(offset)
        owner += [index] * len(offset)
    matrix, offset = np.concatenate(matrices), np.concatenate(offsets)
    # A node of its own, also behind an affine one: where large outputs cancel in A, the product of both maps hides what
    # the outputs round, and the margins of the bounds would not cover it.
    nodes = (*network.nodes, Affine((len(network.nodes),), (matrix.T,), offset))
    return Margins(Graph(network.inputs, nodes, network.input_shape), np.array(owner, dtype=np.intp))


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
