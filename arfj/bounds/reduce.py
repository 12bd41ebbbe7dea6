r"""The reduced network: the same function on a region, with as few activations as its bounds allow.

ReLUs that are off on the whole region give 0 and are dropped. Those that are on give their pre-activation, an affine
function of values before: they are merged into the maps of what reads them, or kept as affine values of their own where
that takes fewer multiplications. What is left is open ReLUs (and smooth activations), a few dozen out of hundreds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, eye_array

from arfj.bounds.backward import dense, sites, sizes
from arfj.bounds.interval import Pair, monotone
from arfj.bounds.records import Bounds
from arfj.graph import Activation, Affine, Graph, Matrix, Node
from arfj.network import Floats
from arfj.region import Region

Indices = NDArray[np.intp]

MOST_ENTRIES = 60_000_000
"""A reduced network with more entries than this is not made: it would not branch in any useful time."""


@dataclass(frozen=True, eq=False)
class Expression:
    """An affine function of kept values: sum_j w_j M_j + b, by the index of the kept value."""

    maps: dict[int, Matrix]
    bias: Floats

    def columns(self, chosen: Indices) -> Expression:
        """The entries `chosen`."""
        return Expression({j: m[:, chosen] for j, m in self.maps.items()}, self.bias[chosen])

    @property
    def reads(self) -> int:
        """How many kept entries it reads."""
        return sum(m.shape[0] for m in self.maps.values())


@dataclass(frozen=True, eq=False)
class Part:
    """Entries of a value that are given by one expression."""

    at: Indices
    given: Expression


@dataclass(frozen=True, eq=False)
class Reduced:
    """A reduced network.

    Attributes:
        graph: affine and activation nodes in turn; its input and outputs are the network's.
        bounds: of its pre-activations, taken from the network's.
        neurons: for every activation of it, (site, indices): the place of its pre-activations among the network's.
        whole: the network, and `given`, its bounds.
        origins: for every value of it, (index, indices): the network's value and the entries that it stands for.
    """

    graph: Graph
    bounds: Bounds
    neurons: tuple[tuple[int, Indices], ...]
    whole: Graph
    given: Bounds
    origins: tuple[tuple[int, Indices], ...]

    def sizes(self, region: Region) -> list[Floats]:
        """What rounding is relative to, value by value: the network's sizes.

        Where large terms cancel in a product of maps, the product is small, but it was rounded as they are.
        """
        low, up = region.box
        most = {0: np.maximum(np.abs(low), np.abs(up))}
        known = dict(zip(sites(self.whole), zip(self.given.lower, self.given.upper, strict=True), strict=True))
        for index, node in enumerate(self.whole.nodes, start=1):
            if isinstance(node, Activation):
                most[index] = np.maximum(*(np.abs(side) for side in monotone(node.kind, known[node.source])))
        handled = sizes(self.whole, most)
        return [handled[index][chosen] for index, chosen in self.origins]


def reduce(graph: Graph, bounds: Bounds) -> Reduced | None:
    """The network with stable ReLUs merged away, or None if it would be larger than `MOST_ENTRIES`.

    Args:
        graph: the network.
        bounds: sound bounds of its pre-activations on the region that is asked about.
    """
    return _Reduction(graph, bounds).run()


class _Reduction:
    """Walks the nodes in order; every value is a list of parts over the values kept so far."""

    def __init__(self, graph: Graph, bounds: Bounds) -> None:
        self.graph = graph
        self.place = {site: k for k, site in enumerate(sites(graph))}
        self.given = bounds
        self.nodes: list[Node] = []
        self.kept = {0: graph.inputs}
        self.pairs: list[Pair] = []
        self.neurons: list[tuple[int, Indices]] = []
        self.origins = [(0, np.arange(graph.inputs))]

    def run(self) -> Reduced | None:
        graph = self.graph
        values: list[list[Part]] = [[Part(np.arange(graph.inputs), _identity(0, graph.inputs))]]
        expressions: dict[int, Expression] = {}
        for index, node in enumerate(graph.nodes, start=1):
            if isinstance(node, Affine):
                expressions[index] = self._affine(node, values)
                if sum(m.size for m in expressions[index].maps.values()) > MOST_ENTRIES:
                    return None
                values.append([Part(np.arange(len(node.bias)), expressions[index])])
            else:
                source = expressions.get(node.source) or _whole(values[node.source], graph.sizes[node.source])
                values.append(self._activation(index, node, source))
        last = _whole(values[-1], graph.classes)
        if isinstance(graph.nodes[-1], Affine):
            place = self.place[len(graph.nodes)]
            self.pairs.append((self.given.lower[place], self.given.upper[place]))
        else:
            self.pairs.append(_loose(graph.classes))
        self._append(last, len(graph.nodes), np.arange(graph.classes))
        made = Graph(graph.inputs, tuple(self.nodes), graph.input_shape)
        bounds = Bounds(*map(tuple, zip(*self.pairs, strict=True)))
        return Reduced(made, bounds, tuple(self.neurons), graph, self.given, tuple(self.origins))

    def _affine(self, node: Affine, values: list[list[Part]]) -> Expression:
        maps: dict[int, Matrix] = {}
        bias = node.bias.copy()
        for source, matrix in zip(node.sources, node.maps, strict=True):
            for part in values[source]:
                rows = dense(matrix if len(part.at) == matrix.shape[0] else matrix[part.at])
                bias += part.given.bias @ rows
                for j, m in part.given.maps.items():
                    _accumulate(maps, j, np.asarray(m @ rows))
        return Expression(maps, bias)

    def _activation(self, index: int, node: Activation, source: Expression) -> list[Part]:
        place = self.place[node.source]
        low, up = self.given.lower[place], self.given.upper[place]
        open_ones = np.flatnonzero((low < 0) & (up > 0)) if node.kind == "relu" else np.arange(len(low))
        on = np.flatnonzero(low >= 0) if node.kind == "relu" else np.zeros(0, dtype=np.intp)
        parts: list[Part] = []
        if open_ones.size:
            self._append(source.columns(open_ones), node.source, open_ones)
            self.nodes.append(Activation(len(self.nodes), node.kind))
            self.origins.append((index, open_ones))
            self.pairs.append((low[open_ones], up[open_ones]))
            self.neurons.append((place, open_ones))
            parts.append(Part(open_ones, self._keep(len(open_ones))))
        if on.size:
            given = source.columns(on)
            behind = self._behind(index)
            if given.reads * behind > given.reads * len(on) + len(on) * behind:
                self._append(given, index, on)
                given = self._keep(len(on))
            parts.append(Part(on, given))
        return parts

    def _behind(self, index: int) -> int:
        """How many entries read this value: those that are not off in the nodes behind."""
        total = 0
        for later, node in enumerate(self.graph.nodes, start=1):
            if not isinstance(node, Affine) or index not in node.sources:
                continue
            place = self.place.get(later)
            hidden = place is not None and later < len(self.graph.nodes)
            total += int((self.given.upper[place] > 0).sum()) if hidden and place is not None else len(node.bias)
        return total

    def _append(self, given: Expression, index: int, chosen: Indices) -> None:
        """A node for the entries `chosen` of the network's value `index`."""
        self.origins.append((index, chosen))
        sources = tuple(sorted(given.maps))
        if not sources:  # a constant: an affine node reads something
            given = Expression({0: np.zeros((self.graph.inputs, len(given.bias)))}, given.bias)
            sources = (0,)
        self.nodes.append(Affine(sources, tuple(dense(given.maps[j]) for j in sources), given.bias))

    def _keep(self, size: int) -> Expression:
        index = len(self.nodes)
        self.kept[index] = size
        return _identity(index, size)


def _identity(index: int, size: int) -> Expression:
    return Expression({index: csr_array(eye_array(size))}, np.zeros(size))


def _accumulate(maps: dict[int, Matrix], index: int, matrix: Floats) -> None:
    if np.any(matrix):
        maps[index] = maps[index] + matrix if index in maps else matrix


def _whole(parts: list[Part], size: int) -> Expression:
    """One expression for all entries of a value."""
    if len(parts) == 1 and len(parts[0].at) == size:
        return parts[0].given
    maps: dict[int, Matrix] = {}
    bias = np.zeros(size)
    for part in parts:
        bias[part.at] += part.given.bias
        for j, m in part.given.maps.items():
            wide = np.zeros((m.shape[0], size))
            wide[:, part.at] = dense(m)
            _accumulate(maps, j, wide)
    return Expression(maps, bias)


def _loose(size: int) -> Pair:
    return np.full(size, -np.inf), np.full(size, np.inf)
