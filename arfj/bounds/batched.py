r"""Many subproblems in one call: beta-CROWN, in NumPy where there are few, compiled by JAX where there are thousands.

A subproblem is a mixture w >= 0 of the outputs, and signs of some ReLUs (+1: a >= 0 is assumed, -1: a <= 0). Its bound
on w' v_last is

    max over slopes in [0, 1] and beta >= 0 of  min over x in the box of  A x + const

with A, const of `arfj.bounds.backward`: `arfj.bounds.ascent` takes some steps on slopes and beta, all subproblems
together. What is returned is evaluated once more in float64 at the best ones found, less the margin for rounding:
whatever the search did, in whatever precision, the bound holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from arfj.bounds.ascent import compiled, improve, joined
from arfj.bounds.backward import dense, sites, sizes, structure, weights
from arfj.bounds.compiled import Engine, in_float64, keep_programs
from arfj.bounds.records import Bounds, sound
from arfj.graph import Activation, Affine, Graph, Node
from arfj.network import Floats
from arfj.region import Region

WIDTH = 16
"""Neurons of a layer are padded to a multiple of this, so that few programs are compiled."""
BATCHES = (16, 64, 256, 1024, 4096)
"""Batches are padded to one of these before they go to a compiled program."""

Precision = Literal["float32", "float64"]
Signs = NDArray[np.int8]
Singles = NDArray[np.float32]
Array = Any


@dataclass(frozen=True, eq=False)
class Answer:
    """What one call gives, row by row.

    Attributes:
        bound: proven lower bounds, float64.
        slopes, betas: the best found, shape (batch, neurons).
        score: what each open ReLU's relaxation loses at the minimiser, shape (batch, neurons); 0 for all others.
        x: the minimiser of the relaxation, shape (batch, inputs).
    """

    bound: Floats
    slopes: Singles
    betas: Singles
    score: Singles
    x: Floats


@dataclass(frozen=True, eq=False)
class Numbers:
    """All numbers of a network over a box in one array module and precision.

    Attributes:
        weights: node by node.
        lower, upper: of what every activation reads.
        box: of the input.
        sizes: of every value, what rounding is relative to.
    """

    weights: Any
    lower: tuple[Array, ...]
    upper: tuple[Array, ...]
    box: tuple[Array, Array]
    sizes: tuple[Array, ...]

    def tree(self) -> tuple[Any, ...]:
        """As nested tuples, which JAX takes as arguments."""
        return self.weights, self.lower, self.upper, self.box, self.sizes


class PhaseProgram:
    """A (reduced) network over a box, ready for batches of subproblems.

    Args:
        graph: the network; its outputs are the rows to be bounded.
        bounds: sound bounds of its pre-activations over the box.
        region: a box.
        steps: ascent steps of each call.
        engine: "numpy", or "jax" (compiled on its first call for a shape).
        precision: of the search; proofs are float64.
        least: sizes of all values that rounding is relative to, where the network's own may be too small
            (`Reduced.sizes`).
        batches: what a compiled program's batches are padded to, rising; each of them is compiled for.
    """

    def __init__(
        self,
        graph: Graph,
        bounds: Bounds,
        region: Region,
        steps: int = 20,
        engine: Engine = "numpy",
        precision: Precision = "float64",
        least: Sequence[Floats] | None = None,
        batches: Sequence[int] = BATCHES,
    ) -> None:
        self.batches = batches
        self.engine, self.steps, self.precision = engine, steps, precision
        self.widths = tuple(graph.sizes[i] for i in activations(graph))
        self.neurons = sum(self.widths)
        padded, lower, upper = _padded(graph, bounds, WIDTH if engine == "jax" else 1)
        self.structure = structure(padded)
        self.room = tuple(padded.sizes[i] for i in activations(padded))
        self.rows = padded.classes
        exact = _numbers(padded, lower, upper, region, least)
        with in_float64(engine):
            self.proof = _converted(exact, engine, "float64")
            self.search = self.proof if precision == "float64" else _converted(exact, engine, precision)

    def __call__(
        self, mixtures: Floats, signs: Signs, slopes: Singles | None = None, betas: Singles | None = None
    ) -> Answer:
        """Bound subproblems: w (batch, outputs), signs (batch, neurons), slopes and betas to start from or None."""
        count = len(mixtures)
        size = count if self.engine == "numpy" else next((b for b in self.batches if count <= b), count)
        wide = [self._spread(array, size) for array in (signs, slopes, betas)]
        chosen = np.zeros((size, self.rows))
        chosen[:count, : mixtures.shape[1]] = np.maximum(mixtures, 0.0)
        run = compiled() if self.engine == "jax" else improve
        with in_float64(self.engine):
            warm = np.asarray(slopes is not None)
            found = run(self.structure, self.steps, warm, self.search, self.proof, chosen, *wide)
            bound, best_slopes, best_betas, score, x = (np.asarray(part)[:count] for part in found)
        if bound.dtype != np.float64:
            raise TypeError(f"bounds came back as {bound.dtype}; a proof is float64")
        bound = sound(bound)
        return Answer(bound, self._gather(best_slopes), self._gather(best_betas), self._gather(score), x)

    def _spread(self, array: NDArray[Any] | None, size: int) -> Singles:
        """(batch, neurons) with gaps for the padding of layers and batch."""
        result = np.zeros((size, sum(self.room)), dtype=np.float32)
        if array is not None:
            at = start = 0
            for width, room in zip(self.widths, self.room, strict=True):
                result[: len(array), start : start + width] = array[:, at : at + width]
                at, start = at + width, start + room
        return result

    def _gather(self, array: NDArray[Any]) -> Singles:
        starts = np.concatenate([[0], np.cumsum(self.room)]).astype(int).tolist()
        parts = [array[:, start : start + width] for start, width in zip(starts, self.widths, strict=False)]
        return np.asarray(joined(np, parts, len(array)), dtype=np.float32)


def activations(graph: Graph) -> list[int]:
    """The indices of the values that activations give."""
    return [index for index, node in enumerate(graph.nodes, start=1) if isinstance(node, Activation)]


def _padded(graph: Graph, bounds: Bounds, width: int) -> tuple[Graph, list[Floats], list[Floats]]:
    """Zero columns for neurons that do not exist; they are off everywhere (l = u = 0)."""
    sizes = [graph.inputs, *(-(-size // width) * width for size in graph.sizes[1:])]
    nodes: list[Node] = []
    lower, upper = [], []
    place = {site: k for k, site in enumerate(sites(graph))}
    for index, node in enumerate(graph.nodes, start=1):
        if isinstance(node, Activation):
            nodes.append(node)
            low, up = (side[place[node.source]] for side in (bounds.lower, bounds.upper))
            lower.append(np.pad(low, (0, sizes[index] - len(low))))
            upper.append(np.pad(up, (0, sizes[index] - len(up))))
            continue
        maps = tuple(
            np.pad(dense(m), ((0, sizes[j] - m.shape[0]), (0, sizes[index] - m.shape[1])))
            for j, m in zip(node.sources, node.maps, strict=True)
        )
        nodes.append(Affine(node.sources, maps, np.pad(node.bias, (0, sizes[index] - len(node.bias)))))
    return Graph(graph.inputs, tuple(nodes)), lower, upper


def _numbers(
    graph: Graph, lower: list[Floats], upper: list[Floats], region: Region, least: Sequence[Floats] | None
) -> Numbers:
    most = {0: np.maximum(np.abs(region.lower), np.abs(region.upper))}
    for index, up in zip(activations(graph), upper, strict=True):
        node = graph.nodes[index - 1]
        relu = isinstance(node, Activation) and node.kind == "relu"
        most[index] = np.maximum(up, 0.0) if relu else np.ones_like(up)
    handled = sizes(graph, most)
    if least is not None:
        wide = (np.pad(size, (0, len(own) - len(size))) for own, size in zip(handled, least, strict=True))
        handled = [np.maximum(own, size) for own, size in zip(handled, wide, strict=True)]
    return Numbers(tuple(weights(graph)), tuple(lower), tuple(upper), (region.lower, region.upper), tuple(handled))


def _converted(numbers: Numbers, engine: Engine, precision: Precision) -> Any:
    if engine == "numpy":
        return _mapped(lambda leaf: np.asarray(leaf, dtype=precision), numbers.tree())
    keep_programs()
    import jax.numpy as jnp

    def converted(leaf: Floats) -> Any:
        array = jnp.asarray(leaf, dtype=precision)
        if array.dtype != precision:
            raise TypeError(f"JAX made {array.dtype} of {precision}; a proof is float64")
        return array

    return _mapped(converted, numbers.tree())


def _mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    if isinstance(tree, tuple | list):
        return tuple(_mapped(function, part) for part in tree)
    return None if tree is None else function(tree)
