r"""CROWN on many small boxes at once: what splitting the input needs where there are few inputs.

Every box has bounds and lines of its own. Layer by layer, interval arithmetic on the layer before sorts out the neurons
that are stable anyhow; only the open ones, box by box, are carried back to the input: a ragged batch of (box, neuron)
pairs, flattened into one matrix.

The linear lower bounds A x + c of the unsafe rows (all <= 0 at a counterexample) also clip the box (Zhou et al. 2024,
Clip-and-Verify): where A_i > 0, x_i <= l_i - min(A x + c) / A_i, where A_i < 0, x_i >= u_i + min(A x + c) / |A_i|.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arfj.bounds.backward import Structure, Weights, backward, sites, sizes, structure, weights
from arfj.bounds.interval import Pair, monotone
from arfj.bounds.records import OUTWARD, Bounds
from arfj.bounds.relaxation import Lines, relax
from arfj.graph import Activation, Affine, Graph
from arfj.network import Floats

Indices = NDArray[np.intp]

MARGIN = 1e-9
"""Clipped boxes are widened by this share of the move and of the box: far above what rounding can amount to."""


@dataclass(frozen=True, eq=False)
class Planes:
    """Linear lower bounds of the outputs on every box.

    Attributes:
        lower: proven minima over the boxes, shape (boxes, outputs).
        rows: A, shape (boxes, outputs, inputs).
    """

    lower: Floats
    rows: Floats


class BoxProgram:
    """A network, ready for batches of boxes.

    Args:
        graph: the network; its outputs are what is bounded from below.
        bounds: sound bounds of its pre-activations on a box that holds all others.
        lower, upper: that box.
    """

    def __init__(self, graph: Graph, bounds: Bounds, lower: Floats, upper: Floats) -> None:
        self.graph = graph
        self.structure: Structure = structure(graph)
        self.weights: Weights = weights(graph)
        self.known = dict(zip(sites(graph), zip(bounds.lower, bounds.upper, strict=True), strict=True))
        most = {0: np.maximum(np.abs(lower), np.abs(upper))}
        for index, node in enumerate(graph.nodes, start=1):
            if isinstance(node, Activation):
                most[index] = np.maximum(*(np.abs(side) for side in monotone(node.kind, self.known[node.source])))
        self.sizes = sizes(graph, most)

    def __call__(self, lower: Floats, upper: Floats) -> Planes:
        """Lower bounds of the outputs on boxes (boxes, inputs)."""
        values: list[Pair] = [(lower, upper)]
        lines: dict[int, Lines] = {}
        last = len(self.graph.nodes)
        for index, node in enumerate(self.graph.nodes, start=1):
            if isinstance(node, Activation):
                lines[index] = relax(np, node.kind, *values[node.source])
                values.append(monotone(node.kind, values[node.source]))
            elif index < last:
                values.append(self._hidden(index, node, values, lines))
        count, outputs = len(lower), self.graph.classes
        target = np.tile(np.eye(outputs), (count, 1))
        box = np.repeat(np.arange(count), outputs)
        proven, rows = self._minimise(last, target, box, (lower, upper), lines)
        return Planes(proven.reshape(count, outputs), rows.reshape(count, outputs, -1))

    def _hidden(self, index: int, node: Affine, values: list[Pair], lines: dict[int, Lines]) -> Pair:
        low, up = self._interval(index, node, values)
        if index in self.known:
            low, up = np.maximum(low, self.known[index][0]), np.minimum(up, self.known[index][1])
        if node.sources == (0,) or index not in self.known:
            return low, up
        box, neuron = np.nonzero((low < 0) & (up > 0))
        if box.size:
            target = np.zeros((len(box), low.shape[1]))
            target[np.arange(len(box)), neuron] = 1.0
            both = np.concatenate([target, -target])
            proven, _ = self._minimise(index, both, np.concatenate([box, box]), values[0], lines)
            low[box, neuron] = np.maximum(low[box, neuron], proven[: len(box)])
            up[box, neuron] = np.minimum(up[box, neuron], -proven[len(box) :])
        return low, up

    def _interval(self, index: int, node: Affine, values: list[Pair]) -> Pair:
        middle, reach = node.bias, np.zeros_like(node.bias)
        for source, matrix in zip(node.sources, node.maps, strict=True):
            low, up = values[source]
            middle = middle + (0.5 * (low + up)) @ matrix
            reach = reach + (0.5 * (up - low)) @ abs(matrix)
        margin = OUTWARD * (self.sizes[index] + 1.0)
        return np.asarray(middle - reach - margin), np.asarray(middle + reach + margin)

    def _minimise(
        self, target: int, rows: Floats, box: Indices, region: Pair, lines: dict[int, Lines]
    ) -> tuple[Floats, Floats]:
        """Proven minima of the rows over their boxes, and the coefficients on the input."""
        chosen = {index: _taken(line, box) for index, line in lines.items() if index < target}
        passed = backward(np, self.structure, self.weights, target, rows, chosen, {}, None, self.sizes)
        low, up = region[0][box], region[1][box]
        value = passed.constant + (np.where(passed.rows > 0, low, up) * passed.rows).sum(axis=1)
        handled = passed.magnitude + np.abs(passed.rows) @ self.sizes[0]
        return np.asarray(value - OUTWARD * (handled + 1.0)), np.asarray(passed.rows)


def _taken(line: Lines, box: Indices) -> Lines:
    shift = None if line.low_shift is None else line.low_shift[box]
    return Lines(line.low_slope[box], shift, line.up_slope[box], line.up_shift[box], line.open)


def clip(lower: Floats, upper: Floats, proven: Floats, rows: Floats) -> Pair:
    """The part of each box where all rows A x + c can be <= 0, as a box (empty: lower > upper).

    Args:
        lower, upper: shape (boxes, inputs).
        proven: min of A x + c over the box, shape (boxes, rows).
        rows: A, shape (boxes, rows, inputs).
    """
    width = upper - lower
    size = np.abs(rows)
    # Below a millionth of the box' gain nothing is cut off, and the quotient would be all rounding.
    useful = size * width[:, None, :] > 1e-6 * (np.abs(proven)[:, :, None] + 1e-12)
    reach = np.where(useful, -proven[:, :, None] / np.where(useful, size, 1.0), np.inf)
    reach = reach + MARGIN * (np.abs(np.where(useful, reach, 0.0)) + width[:, None, :])
    up = np.where(rows > 0, lower[:, None, :] + reach, np.inf).min(axis=1, initial=np.inf)
    low = np.where(rows < 0, upper[:, None, :] - reach, -np.inf).max(axis=1, initial=-np.inf)
    return np.maximum(lower, low), np.minimum(upper, up)
