r"""Backward linear bounds (CROWN, Zhang et al. 2018), and the same with optimised slopes (alpha-CROWN, Xu et al. 2021).

The float64 path in NumPy: what a root bound decides pays neither for compilation nor for loading it. Every row has
slopes of its own in all layers; a step costs one backward pass and one forward pass of the relaxed network.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from arfj.bounds.backward import (
    Pass,
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
from arfj.bounds.interval import Pair, monotone, propagate
from arfj.bounds.records import OUTWARD, Bounds, sound
from arfj.bounds.relaxation import Lines, relax
from arfj.graph import Activation, Affine, Graph
from arfj.network import Floats, Network
from arfj.region import Region

STEPS = 30
STEP_SIZE = 0.25
DECAY = 0.94
CHUNK = 256
"""Rows that are carried back together, for the sake of memory."""


@dataclass(eq=False)
class Relaxed:
    """A graph over a region, with the lines of those activations whose bounds are known so far.

    Attributes:
        graph, region: what is bounded.
        values: bounds of every value so far, v_0 first.
        lines: by the index of every activation so far.
    """

    graph: Graph
    region: Region
    values: list[Pair] = field(default_factory=list)
    lines: dict[int, Lines] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.steps: Structure = structure(self.graph)
        self.numbers: Weights = weights(self.graph)
        self.most: dict[int, Floats] = {}
        self._sizes: list[Floats] = []
        self._note(0, self.region.box)
        self.append(self.region.box)

    def append(self, bounds: Pair) -> None:
        """The bounds of the input or the next affine node; those of an activation follow from them."""
        self.values.append(bounds)
        self._sizes = []
        nodes = self.graph.nodes
        while len(self.values) <= len(nodes) and isinstance(node := nodes[len(self.values) - 1], Activation):
            index = len(self.values)
            low, up = self.values[node.source]
            self.lines[index] = relax(np, node.kind, low, up)
            self.values.append(monotone(node.kind, (low, up)))
            self._note(index, self.values[index])

    def _note(self, index: int, bounds: Pair) -> None:
        low, up = bounds
        self.most[index] = np.maximum(np.abs(low), np.abs(up))

    def sizes(self) -> list[Floats]:
        """What rounding is relative to, for every value so far."""
        if not self._sizes:
            done = Graph.__new__(Graph)  # a prefix of a sound graph needs no checks
            object.__setattr__(done, "nodes", self.graph.nodes[: len(self.values) - 1])
            self._sizes = sizes(done, self.most)
        return self._sizes

    def minimise(self, target: int, coefficients: Floats, steps: int = 0) -> Floats:
        """Lower bounds of C v_target over the region, rounding covered: (rows, n_target) -> (rows,).

        Args:
            target: the index of a value whose predecessors are bounded.
            coefficients: C.
            steps: ascent steps on the slopes; 0 is plain CROWN.
        """
        parts = [
            self._minimise(target, coefficients[at : at + CHUNK], steps) for at in range(0, len(coefficients), CHUNK)
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _minimise(self, target: int, rows: Floats, steps: int) -> Floats:
        slopes = {
            index: np.tile(line.low_slope, (len(rows), 1)) for index, line in self.lines.items() if index < target
        }
        momentum = {index: np.zeros_like(s) for index, s in slopes.items()}
        scale = {index: np.zeros_like(s) for index, s in slopes.items()}
        best = np.full(len(rows), -np.inf)
        for step in range(steps + 1):
            passed = self.linear(target, rows, slopes)
            support, x = self.region.attained(-passed.rows)
            best = np.maximum(best, self._proven(passed, support))
            if step == steps:
                break
            before = relaxed_forward(np, self.steps, self.numbers, target, x, passed.met, self.lines, slopes)
            for index, a in before.items():
                m, v, line = momentum[index], scale[index], self.lines[index]
                gradient = np.maximum(passed.met[index], 0.0) * a
                m += 0.2 * (gradient - m)
                v += 0.05 * (gradient * gradient - v)
                moved = slopes[index] + STEP_SIZE * DECAY**step * m / (np.sqrt(v) + 1e-12)
                slopes[index] = np.where(line.open, np.clip(moved, 0.0, 1.0), slopes[index])
        return best

    def linear(self, target: int, rows: Floats, slopes: dict[int, Floats]) -> Pass:
        """Linear lower bounds of C v_target in x, with the slopes below that are given for every row."""
        return backward(np, self.steps, self.numbers, target, rows, self.lines, slopes, None, self._known(target))

    def _known(self, target: int) -> list[Floats]:
        """Sizes up to the target; its own follow from its predecessors'."""
        known = self.sizes()
        if target < len(known):
            return known
        node = self.graph.nodes[target - 1]
        if not isinstance(node, Affine):
            raise TypeError(f"value {target} is an activation without bounds")
        terms = [known[j] @ absolute(m) for j, m in zip(node.sources, node.maps, strict=True)]
        self._sizes = [*known, np.asarray(sum(terms) + np.abs(node.bias))]
        return self._sizes

    def _proven(self, passed: Pass, support: Floats) -> Floats:
        """What a pass proves with the support of the region at -A."""
        value = passed.constant - support
        return sound(value - OUTWARD * (passed.magnitude + self.region.magnitude(passed.rows) + 1.0))


@np.errstate(over="ignore", invalid="ignore")  # slopes that are no numbers prove nothing
def crown_bounds(
    network: Network | Graph,
    region: Region,
    steps: int = 0,
    known: Bounds | None = None,
    every: bool = True,
    deadline: float = np.inf,
    outputs: bool = True,
) -> Bounds:
    """CROWN bounds (steps = 0) or alpha-CROWN bounds of every pre-activation, each intersected with intervals'.

    Args:
        network: the network.
        region: where x lies.
        steps: ascent steps on the slopes.
        known: sound bounds that are intersected with.
        every: all neurons, or only those whose ReLU intervals (and `known`) leave open.
        deadline: `time.perf_counter()` after which neurons are left with intervals and `known`.
        outputs: whether the last layer gets more than intervals and `known`, too.
    """
    relaxed = Relaxed(network.graph(), region)
    graph = relaxed.graph
    found: list[Pair] = []
    bounded = sites(graph)
    for site in bounded:
        while len(relaxed.values) < site:  # affine nodes that nothing but affine nodes read
            relaxed.append(_affine(relaxed))
        if len(relaxed.values) > site:  # an activation of what was bounded already
            found.append(relaxed.values[site])
            continue
        low, up = _affine(relaxed)
        if known is not None:
            low, up = _met(low, up, known.lower[len(found)], known.upper[len(found)])
        if (relaxed.lines or graph.nodes[site - 1].sources != (0,)) and (outputs or site < bounded[-1]):
            open_ones = (low < 0) & (up > 0) if not every and site < len(graph.nodes) else np.ones(len(low), dtype=bool)
            low, up = _tightened(relaxed, site, (low, up), np.flatnonzero(open_ones), steps, deadline)
        found.append((low, up))
        relaxed.append((low, up))
    return Bounds(tuple(low for low, _ in found), tuple(up for _, up in found))


def _affine(relaxed: Relaxed) -> Pair:
    node = relaxed.graph.nodes[len(relaxed.values) - 1]
    if not isinstance(node, Affine):
        raise TypeError("an affine node was expected")
    return propagate(node, relaxed.values, relaxed.region)


def _tightened(
    relaxed: Relaxed, site: int, bounds: Pair, neurons: NDArray[np.intp], steps: int, deadline: float
) -> Pair:
    low, up = bounds[0].copy(), bounds[1].copy()
    for at in range(0, len(neurons), CHUNK):
        if time.perf_counter() > deadline:
            break
        chosen = neurons[at : at + CHUNK]
        rows = np.zeros((len(chosen), len(low)))
        rows[np.arange(len(chosen)), chosen] = 1.0
        below, above = np.split(relaxed.minimise(site, np.concatenate([rows, -rows]), steps), 2)
        low[chosen] = np.maximum(low[chosen], below)
        up[chosen] = np.minimum(up[chosen], -above)
    return low, up


def _met(low: Floats, up: Floats, other_low: Floats, other_up: Floats) -> Pair:
    return np.maximum(low, other_low), np.minimum(up, other_up)
