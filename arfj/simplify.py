r"""Fewer nodes for the same network: affine maps of affine maps composed, nodes that nobody reads left out.

    v_j = sum_k v_k M_kj + b_j,   v_i = v_j M_ji + ...   ->   v_i = sum_k v_k (M_kj M_ji) + (b_j M_ji + b_i) + ...

is done for all readers i of v_j at once, and only if all of them are affine and the products have few entries: two
sparse maps (a convolution after a convolution) may have a dense product, which would cost more than both. Nor is it
done where large terms cancel (`arfj.graph.composed_map`): bounds cover the rounding of what a node computes, not that
of how it came about.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from arfj.graph import Activation, Affine, Graph, Matrix, Node, composed_bias, composed_map

_DENSE = 0.25
"""A map with a larger share of entries other than 0 is held dense."""
_GROWTH = 2
"""Composed maps may have this many times the entries of the maps they replace,"""
_SMALL = 2**16
"""or this many entries in all."""


def simplified(graph: Graph) -> Graph:
    """The same network with affine nodes composed where that pays, and every map dense or sparse by its density."""
    output = len(graph.nodes)
    nodes = _needed(dict(enumerate(graph.nodes, start=1)), output)
    for index in list(nodes)[:-1]:
        readers = {reader: node for reader, node in nodes.items() if index in node.sources}
        nodes |= _composed(index, nodes[index], readers)
    return _renumbered(graph, _needed(nodes, output))


def _composed(index: int, node: Node, readers: dict[int, Node]) -> dict[int, Node]:
    """The readers of `node` after composition; nothing if it is to stay."""
    affine = {reader: other for reader, other in readers.items() if isinstance(other, Affine)}
    if not isinstance(node, Affine) or len(affine) < len(readers):
        return {}
    pairs = [(one, _map(other, index)) for other in affine.values() for one in node.maps]
    before = sum(map(entries, node.maps)) + sum(entries(_map(other, index)) for other in affine.values())
    limit = max(_GROWTH * before, _SMALL)
    # The bound costs no product; zeros that fall together make it too large, by little.
    if sum(_product_bound(one, two) for one, two in pairs) > limit:
        return {}
    found = {reader: _substituted(other, index, node) for reader, other in affine.items()}
    return {reader: other for reader, other in found.items() if other is not None} if all(found.values()) else {}


def _map(node: Affine, source: int) -> Matrix:
    return node.maps[node.sources.index(source)]


def entries(matrix: Matrix) -> int:
    """How many entries differ from 0."""
    return int(np.count_nonzero(matrix.data if isinstance(matrix, csr_array) else matrix))


def _product_bound(one: Matrix, two: Matrix) -> int:
    """At least the entries of the product: sum over the middle of (entries in that column) (entries in that row)."""
    size = one.shape[0] * two.shape[1]
    left, right = (np.asarray(_pattern(matrix).sum(axis=axis)).ravel() for axis, matrix in enumerate((one, two)))
    return int(min(left @ right, size))


def _pattern(matrix: Matrix) -> Matrix:
    """1 where the matrix is not 0."""
    if isinstance(matrix, csr_array):
        return csr_array(((matrix.data != 0).astype(np.float64), matrix.indices, matrix.indptr), shape=matrix.shape)
    return np.asarray(matrix != 0, dtype=np.float64)


def _substituted(reader: Affine, index: int, node: Affine) -> Affine | None:
    """`reader` with the value `index` replaced by what `node` computes; None where digits would be lost."""
    last = _map(reader, index)
    maps = {source: matrix for source, matrix in zip(reader.sources, reader.maps, strict=True) if source != index}
    for source, matrix in zip(node.sources, node.maps, strict=True):
        product = composed_map(matrix, last, maps.get(source))
        if product is None:
            return None
        maps[source] = compact(product)
    sources, bias = tuple(sorted(maps)), composed_bias(node.bias, last, reader.bias)
    return None if bias is None else Affine(sources, tuple(maps[source] for source in sources), bias)


def compact(matrix: Matrix) -> Matrix:
    """The same matrix, dense where at least a quarter of it differs from 0 and else sparse."""
    dense = entries(matrix) >= _DENSE * matrix.shape[0] * matrix.shape[1]
    if isinstance(matrix, csr_array):
        return np.asarray(matrix.toarray()) if dense else matrix
    return np.asarray(matrix) if dense else csr_array(matrix)


def _needed(nodes: dict[int, Node], output: int) -> dict[int, Node]:
    """The nodes that the output depends on, in order."""
    needed = {output}
    for index in sorted(nodes, reverse=True):
        if index in needed:
            needed.update(nodes[index].sources)
    return {index: nodes[index] for index in sorted(needed - {0})}


def _renumbered(graph: Graph, nodes: dict[int, Node]) -> Graph:
    place = {0: 0} | {index: new for new, index in enumerate(nodes, start=1)}
    moved: list[Node] = []
    for node in nodes.values():
        sources = tuple(place[source] for source in node.sources)
        if isinstance(node, Affine):
            moved.append(Affine(sources, tuple(map(compact, node.maps)), node.bias))
        else:
            moved.append(Activation(sources[0], node.kind))
    return Graph(graph.inputs, tuple(moved), graph.input_shape)
