r"""CROWN on many small boxes at once: what splitting the input needs where there are few inputs.

Every box has bounds and lines of its own. A box starts from the bounds of the box that it was cut from; these, and
interval arithmetic on the layer before, sort out the neurons that are stable anyhow. Only the open ones, box by box,
are carried back to the input: a ragged batch of (box, neuron) pairs, flattened into one matrix.

The linear lower bounds A x + c of the unsafe rows (all <= 0 at a counterexample) also clip the box (Zhou et al. 2024,
Clip-and-Verify): where A_i > 0, x_i <= l_i - min(A x + c) / A_i, where A_i < 0, x_i >= u_i + min(A x + c) / |A_i|.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arfj.bounds.backward import (
    Structure,
    Weights,
    absolute,
    backward,
    relaxed_forward,
    sites,
    sizes,
    structure,
    weights,
)
from arfj.bounds.interval import Pair, monotone
from arfj.bounds.records import OUTWARD, Bounds, outward, sound
from arfj.bounds.relaxation import Lines, relax
from arfj.graph import Activation, Affine, Graph
from arfj.network import Floats

Indices = NDArray[np.intp]

CHUNK = 512
"""Neurons that are carried back together: their coefficients stay in the cache."""
STEP_SIZE = 0.3
DECAY = 0.8
MARGIN = 1e-9
"""Clipped boxes are widened by this share of the move and of the box: far above what rounding can amount to."""


@dataclass(frozen=True, eq=False)
class Planes:
    """Linear lower bounds of the outputs on every box.

    Attributes:
        lower: proven minima over the boxes of two planes for every output, the plain one and the best one found,
            shape (2, boxes, outputs).
        rows: A of both, shape (2, boxes, outputs, inputs).
        known: bounds of all hidden pre-activations on every box, rounded outwards, shape (2, boxes, neurons).
    """

    lower: Floats
    rows: Floats
    known: NDArray[np.float32]


class BoxProgram:
    """A network, ready for batches of boxes.

    Args:
        graph: the network; its outputs are what is bounded from below.
        bounds: sound bounds of its pre-activations on a box that holds all others.
        lower, upper: that box.
    """

    def __init__(self, graph: Graph, bounds: Bounds, lower: Floats, upper: Floats, steps: int = 0) -> None:
        self.graph, self.steps = graph, steps
        self.structure: Structure = structure(graph)
        self.weights: Weights = weights(graph)
        self.known = dict(zip(sites(graph), zip(bounds.lower, bounds.upper, strict=True), strict=True))
        most = {0: np.maximum(np.abs(lower), np.abs(upper))}
        for index, node in enumerate(graph.nodes, start=1):
            if isinstance(node, Activation):
                most[index] = np.maximum(*(np.abs(side) for side in monotone(node.kind, self.known[node.source])))
        self.sizes = sizes(graph, most)
        self.hidden = [site for site in self.known if site < len(graph.nodes)]
        self.ends = np.cumsum([graph.sizes[site] for site in self.hidden]).tolist()

    def root(self) -> NDArray[np.float32]:
        """What is known of the box that holds all others, shape (2, 1, neurons)."""
        return self._packed([self.known[site] for site in self.hidden], 1)

    def _packed(self, bounds: list[Pair], count: int) -> NDArray[np.float32]:
        if not bounds:
            return np.zeros((2, count, 0), dtype=np.float32)
        low, up = (np.concatenate([np.atleast_2d(pair[side]) for pair in bounds], axis=1) for side in (0, 1))
        outward = [
            np.nextafter(low.astype(np.float32), np.float32(-np.inf)),
            np.nextafter(up.astype(np.float32), np.float32(np.inf)),
        ]
        return np.stack(outward)

    def __call__(self, lower: Floats, upper: Floats, known: NDArray[np.float32]) -> Planes:
        """Lower bounds of the outputs on boxes (boxes, inputs), from what is `known` of larger ones."""
        given = dict(zip(self.hidden, np.split(known.astype(np.float64), self.ends[:-1], axis=2), strict=False))
        values: list[Pair] = [(lower, upper)]
        lines: dict[int, Lines] = {}
        last = len(self.graph.nodes)
        for index, node in enumerate(self.graph.nodes, start=1):
            if isinstance(node, Activation):
                lines[index] = relax(np, node.kind, *values[node.source])
                values.append(monotone(node.kind, values[node.source]))
            elif index < last:
                values.append(self._hidden(index, node, values, lines, given.get(index)))
        count, outputs = len(lower), self.graph.classes
        target = np.tile(np.eye(outputs), (count, 1))
        box = np.repeat(np.arange(count), outputs)
        proven, rows = self._optimised(last, target, box, (lower, upper), lines)
        packed = self._packed([values[site] for site in self.hidden], count)
        return Planes(proven.reshape(2, count, outputs), rows.reshape(2, count, outputs, -1), packed)

    def _optimised(
        self, target: int, rows: Floats, box: Indices, region: Pair, lines: dict[int, Lines]
    ) -> tuple[Floats, Floats]:
        """As `_minimise`, and once more with some steps of ascent on the slopes of every row, stacked."""
        chosen = {index: _taken(line, box) for index, line in lines.items()}
        opened = {index: line.open[box] for index, line in lines.items()}
        slopes = {index: line.low_slope for index, line in chosen.items()}
        low, up = region[0][box], region[1][box]
        best, best_rows = np.full(len(rows), -np.inf), np.zeros((len(rows), low.shape[1]))
        scale = {index: np.zeros_like(slope) for index, slope in slopes.items()}
        for step in range(self.steps + 1):
            passed = backward(np, self.structure, self.weights, target, rows, chosen, slopes, None, self.sizes)
            x = np.where(passed.rows > 0, low, up)
            value = passed.constant + (x * passed.rows).sum(axis=1)
            value = sound(value - OUTWARD * (passed.magnitude + np.abs(passed.rows) @ self.sizes[0] + 1.0))
            if step == 0:
                first, first_rows = value, passed.rows
            better = value > best
            best[better], best_rows[better] = value[better], passed.rows[better]
            if step == self.steps:
                break
            before = relaxed_forward(np, self.structure, self.weights, target, x, passed.met, chosen, slopes)
            for index, a in before.items():
                uphill = np.maximum(passed.met[index], 0.0) * a
                scale[index] += 0.3 * (uphill * uphill - scale[index])
                moved = slopes[index] + STEP_SIZE * DECAY**step * uphill / (np.sqrt(scale[index]) + 1e-12)
                slopes[index] = np.where(opened[index], np.clip(moved, 0.0, 1.0), slopes[index])
        return np.stack([first, best]), np.stack([first_rows, best_rows])

    def _hidden(
        self, index: int, node: Affine, values: list[Pair], lines: dict[int, Lines], known: Floats | None
    ) -> Pair:
        low, up = self._interval(index, node, values)
        if known is not None:
            low, up = np.maximum(low, known[0]), np.minimum(up, known[1])
        if node.sources == (0,) or known is None:
            return low, up
        box, neuron = np.nonzero((low < 0) & (up > 0))
        if box.size:
            for at in range(0, len(box), CHUNK):
                self._tighten(index, (low, up), box[at : at + CHUNK], neuron[at : at + CHUNK], values[0], lines)
        return low, up

    def _tighten(
        self, index: int, bounds: Pair, box: Indices, neuron: Indices, region: Pair, lines: dict[int, Lines]
    ) -> None:
        """Both sides of the neurons (box, neuron), in place."""
        low, up = bounds
        rows = np.zeros((2, len(box), low.shape[1]))
        rows[0, np.arange(len(box)), neuron] = 1.0
        rows[1, np.arange(len(box)), neuron] = -1.0
        proven, _ = self._minimise(index, rows, box, region, lines)
        low[box, neuron] = np.maximum(low[box, neuron], proven[0])
        up[box, neuron] = np.minimum(up[box, neuron], -proven[1])

    def _interval(self, index: int, node: Affine, values: list[Pair]) -> Pair:
        middle, reach = node.bias, np.zeros_like(node.bias)
        for source, matrix in zip(node.sources, node.maps, strict=True):
            low, up = values[source]
            middle = middle + (0.5 * (low + up)) @ matrix
            reach = reach + (0.5 * (up - low)) @ absolute(matrix)
        return outward(middle - reach, middle + reach, self.sizes[index])

    def _minimise(
        self, target: int, rows: Floats, box: Indices, region: Pair, lines: dict[int, Lines]
    ) -> tuple[Floats, Floats]:
        """Proven minima of rows (..., boxes, n_target) over their boxes, and the coefficients on the input."""
        chosen = {index: _taken(line, box) for index, line in lines.items() if index < target}
        passed = backward(np, self.structure, self.weights, target, rows, chosen, {}, None, self.sizes)
        low, up = region[0][box], region[1][box]
        value = passed.constant + (np.where(passed.rows > 0, low, up) * passed.rows).sum(axis=-1)
        handled = passed.magnitude + np.abs(passed.rows) @ self.sizes[0]
        return sound(value - OUTWARD * (handled + 1.0)), np.asarray(passed.rows)


def _taken(line: Lines, box: Indices) -> Lines:
    shift = None if line.low_shift is None else line.low_shift[box]
    return Lines(line.low_slope[box], shift, line.up_slope[box], line.up_shift[box], line.open)


def clip(lower: Floats, upper: Floats, proven: Floats, rows: Floats) -> Pair:
    """The part of each box where all rows A x + c can be <= 0, as a box (empty: lower > upper).

    Args:
        lower: of the boxes, shape (boxes, inputs).
        upper: likewise.
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
