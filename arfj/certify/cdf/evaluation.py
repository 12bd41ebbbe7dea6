r"""A network at many points: its values in float64 with bounds on their rounding, or in fractions with none.

The inputs are the free ones; all others are held. This is one more affine node before the network, of ones and zeros,
so that nothing is rounded there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from arfj.bounds.backward import absolute
from arfj.certify.cdf.mesh import UNIT, Array
from arfj.errors import UsageError
from arfj.graph import Activation, Affine, Graph, Matrix, Node
from arfj.network import Floats, Network

LARGEST = 1e100
"""Of the values in a network: sums and products of them do not overflow."""
LIBRARY = 4 * UNIT
"""What numpy's tanh and exp may be off by, relative to values in [-1, 1]: 4 ulp, twice what is measured of them."""


def restricted(network: Network | Graph, fixed: Floats, free: tuple[int, ...]) -> Graph:
    """The network as a function of the inputs `free`, the others held at their values in `fixed`.

    Raises:
        UsageError: inputs that are none, or twice the same.
    """
    graph = network.graph()
    flat = np.asarray(fixed, dtype=np.float64).ravel()
    if flat.size != graph.inputs:
        raise UsageError(f"the input has {flat.size} values; the network takes {graph.inputs}")
    if not np.isfinite(flat).all():
        raise UsageError("the input holds NaN or infinity; expected finite numbers")
    if len(set(free)) != len(free) or any(not 0 <= index < graph.inputs for index in free):
        raise UsageError(f"free inputs {list(free)} are not distinct indices of the {graph.inputs} inputs from 0 on")
    first = held(flat, free)
    return Graph(first.maps[0].shape[0], (first, *(moved(node) for node in graph.nodes)))


def held(fixed: Floats, free: Sequence[int]) -> Affine:
    """The node that puts free inputs between those that are held; without any, one input that nothing reads."""
    rest = fixed.copy()
    rest[list(free)] = 0.0
    shape = (max(1, len(free)), len(fixed))
    return Affine((0,), (csr_array((np.ones(len(free)), (np.arange(len(free)), list(free))), shape=shape),), rest)


def moved(node: Any) -> Any:  # noqa: ANN401 - a node, or a layer that no graph holds
    """The same layer, one place later."""
    if isinstance(node, Affine):
        return replace(node, sources=tuple(source + 1 for source in node.sources))
    return replace(node, source=node.source + 1)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A graph, evaluated.

    Attributes:
        graph: the network as a function of the free inputs.
        exact: whether in fractions; then it must have no activation but ReLU.
    """

    graph: Graph
    exact: bool = False

    def values(self, points: Array, until: int | None = None) -> list[Array]:
        """v_0 .. v_until at points of shape (points, d)."""
        values: list[Array] = [points]
        for index, node in enumerate(self.graph.nodes[:until], start=1):
            values.append(self._node(index, node, values))
        return values

    def _node(self, index: int, node: Node, values: list[Array]) -> Array:
        if not self.exact:
            return np.asarray(node(values))
        if isinstance(node, Activation):
            value = values[node.source]
            return np.where(value > 0, value, 0 * value)
        maps = self._fractions[index - 1]
        total: Array | int = 0
        for source, matrix in zip(node.sources, maps[0], strict=True):
            total = total + values[source] @ matrix
        return np.asarray(total + maps[1])

    @cached_property
    def _fractions(self) -> list[tuple[list[Array], Array]]:
        return [
            ([as_fractions(dense(matrix)) for matrix in node.maps], as_fractions(node.bias))
            if isinstance(node, Affine)
            else ([], np.zeros(0))
            for node in self.graph.nodes
        ]

    def rounding(self, values: list[Array]) -> list[Floats]:
        """By how much each value may be off at any of the points, from their values: shapes (size,).

        |fl(h W + b) - (h W + b)| <= gamma_(n+1) (|h| |W| + |b|), gamma_k = k u / (1 - k u), plus what h is off by,
        times |W|; activations have slopes in [0, 1]. The sizes of h are those found, widened by what they may be off
        by.

        Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section 3.5.
        """
        if self.exact:
            return [np.zeros(value.shape[1]) for value in values]
        found: list[Floats] = [np.zeros(values[0].shape[1])]
        for node, value in zip(self.graph.nodes, values[1:], strict=False):
            if isinstance(node, Activation):
                found.append(found[node.source] + (0.0 if node.kind == "relu" else LIBRARY))
                continue
            length = 2 + sum(matrix.shape[0] for matrix in node.maps)
            gamma = 1.01 * length * UNIT
            total = gamma * np.abs(node.bias) + 2 * UNIT * np.abs(value).max(axis=0, initial=0.0)
            for source, matrix in zip(node.sources, node.maps, strict=True):
                size = np.abs(values[source]).max(axis=0, initial=0.0) + found[source]
                total = total + (gamma * size + 1.01 * found[source]) @ absolute(matrix)
            found.append(np.asarray(total))
        return found

    def check(self, lower: Floats, upper: Floats) -> None:
        """Nothing, if all values on this box are of sizes that float64 can bear.

        Raises:
            UsageError: a value may be larger than `LARGEST`.
        """
        sizes = [np.maximum(np.abs(lower), np.abs(upper))]
        with np.errstate(over="ignore", invalid="ignore"):
            for node in self.graph.nodes:
                if isinstance(node, Activation):
                    sizes.append(np.maximum(sizes[node.source], 1.0))
                    continue
                pairs = zip(node.sources, node.maps, strict=True)
                total = sum((sizes[source] @ absolute(matrix) for source, matrix in pairs), np.abs(node.bias))
                sizes.append(np.asarray(total))
                if not (total <= LARGEST).all():
                    raise UsageError(f"values of the network may be larger than {LARGEST:g}; scale its weights down")

    def steepness(self) -> Floats:
        """By how much each output may change where every input changes by at most 1, shape (outputs,)."""
        found: list[Floats] = [np.ones(self.graph.inputs)]
        for node in self.graph.nodes:
            if isinstance(node, Activation):
                found.append(found[node.source])
                continue
            pairs = zip(node.sources, node.maps, strict=True)
            total = np.zeros(node.maps[0].shape[1])
            for source, matrix in pairs:
                total = total + 1.01 * (found[source] @ absolute(matrix))
            found.append(total)
        return found[-1]


def dense(matrix: Matrix) -> Floats:
    """A map as a dense array."""
    return np.asarray(matrix if isinstance(matrix, np.ndarray) else matrix.toarray(), dtype=np.float64)


def as_fractions(values: Array) -> Array:
    """The same numbers as fractions, exactly."""
    flat = [Fraction(float(value)) for value in np.asarray(values).ravel()]
    result = np.empty(len(flat), dtype=object)
    result[:] = flat
    return result.reshape(np.shape(values))
