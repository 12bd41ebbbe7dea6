r"""Projected gradient descent on the margins: many starts, all polyhedra of a case together.

Minimises max_i (A f(x) + d)_i over the box by signed steps, shrinking; half of the starts are uniform, the others
corners. What is found is a candidate: the caller replays it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arfj.bounds.interval import Pair
from arfj.graph import Activation, Graph
from arfj.network import Floats
from arfj.verify.margins import Margins
from arfj.verify.search import Clock

STEPS = 30
FIRST_STEP = 0.5
"""Share of the box' half width."""
POINTS, PARENTS, CHILDREN, GENERATIONS = 20_000, 32, 32, 30
"""Of a round of local search: a third of a second for ACAS Xu."""
FIRST_REACH = 0.05
"""Its first steps, as a share of the box' width."""
DEEPEN = 10
"""Steps that are still taken once a candidate is found: one that is barely one may not survive float32."""


def gradient(graph: Graph, values: Sequence[Floats], cotangent: Floats) -> Floats:
    """d (cotangent . outputs) / d x for a batch: `values` are the graph's, the result has shape (batch, inputs)."""
    waiting: dict[int, Floats] = {len(graph.nodes): cotangent}
    for index in range(len(graph.nodes), 0, -1):
        flow = waiting.pop(index, None)
        if flow is None:
            continue
        node = graph.nodes[index - 1]
        if isinstance(node, Activation):
            _add(waiting, node.source, flow * _slope(node.kind, values[node.source], values[index]))
            continue
        for source, matrix in zip(node.sources, node.maps, strict=True):
            _add(waiting, source, np.asarray(flow @ matrix.T))
    return waiting.get(0, np.zeros_like(values[0]))


def _slope(kind: str, before: Floats, after: Floats) -> Floats:
    if kind == "relu":
        return (before > 0).astype(np.float64)
    return 1.0 - after**2 if kind == "tanh" else after * (1.0 - after)


def _add(waiting: dict[int, Floats], index: int, flow: Floats) -> None:
    waiting[index] = waiting[index] + flow if index in waiting else flow


def descend(
    margins: Margins,
    box: Pair,
    restarts: int,
    rng: np.random.Generator,
    clock: Clock,
    steps: int = STEPS,
    starts: Floats | None = None,
    first_step: float = FIRST_STEP,
) -> Floats | None:
    """A candidate in the box (`Margins.candidate`), or None.

    Args:
        margins: of the open polyhedra.
        box: lower and upper corner.
        restarts: starts for every polyhedron.
        rng: where the starts come from.
        clock: when to stop.
        steps: descent steps.
        starts: points to begin from instead, shape (starts, inputs), each for every polyhedron.
        first_step: the first step, as a share of the box' half width.
    """
    low, up = box
    count = margins.polyhedra
    if starts is None:
        starts = _starts(low, up, restarts, rng)
    x = np.tile(starts, (count, 1))
    own = np.repeat(np.arange(count), len(starts))
    best_x, best = x.copy(), np.full(len(x), np.inf)
    found_at: int | None = None
    for step in range(steps + 1):
        values = margins.graph.values(x)
        rows = margins.compared(values[-1])
        mine = np.where(margins.owner[None, :] == own[:, None], rows, -np.inf)
        value = mine.max(axis=1)
        better = value < best
        best_x[better], best[better] = x[better], value[better]
        if found_at is None and best.min() <= 0:
            found_at = step
        if step == steps or clock.over or (found_at is not None and step >= found_at + DEEPEN):
            break
        cotangent = np.zeros_like(rows)
        cotangent[np.arange(len(x)), mine.argmax(axis=1)] = 1.0
        slope = gradient(margins.graph, values, cotangent)
        length = first_step * 0.5 * (up - low) * 0.9**step
        x = np.clip(x - length * np.sign(slope), low, up)
    return margins.candidate(best_x[best <= 0]) if best.min() <= 0 else None


def _starts(low: Floats, up: Floats, restarts: int, rng: np.random.Generator) -> Floats:
    share = rng.random((restarts, len(low)))
    uniform = (1.0 - share) * low + share * up  # whose difference may be infinite
    corners = np.where(rng.random((restarts, len(low))) < 0.5, low, up)
    starts = np.where((np.arange(restarts) % 2 == 0)[:, None], uniform, corners)
    starts[:1] = 0.5 * (low + up)
    return np.clip(starts, low, up)


def wander(margins: Margins, box: Pair, rng: np.random.Generator, clock: Clock) -> Floats | None:
    """Random local search, one round: a candidate in the box (`Margins.candidate`), or None.

    For few inputs and polyhedra of several rows, on whose edges gradients of the largest row go back and forth: the
    best of many uniform points move by normal steps, which grow while they help and shrink where they do not.
    """
    low, up = box
    points = rng.uniform(low, up, size=(POINTS, len(low)))
    margin = margins.least(margins.compared(margins.graph(points)))
    for polyhedron in range(margins.polyhedra):
        chosen = np.argpartition(margin[:, polyhedron], PARENTS)[:PARENTS]
        x, value, reach = points[chosen], margin[chosen, polyhedron], np.full(PARENTS, FIRST_REACH)
        for _ in range(GENERATIONS):
            if value.min() <= 0:
                found = margins.candidate(x[value <= 0])
                if found is not None:
                    return found
                break
            if clock.over:
                return None
            steps = reach[:, None, None] * (up - low) * rng.normal(size=(PARENTS, CHILDREN, len(low)))
            tried = np.clip(x[:, None] + steps, low, up)
            rows = margins.compared(margins.graph(tried.reshape(-1, len(low))))
            after = margins.least(rows)[:, polyhedron].reshape(PARENTS, CHILDREN)
            best = after.argmin(axis=1)
            better = after.min(axis=1) < value
            x = np.where(better[:, None], tried[np.arange(PARENTS), best], x)
            value = np.minimum(value, after.min(axis=1))
            reach = reach * np.where(better, 1.1, 0.6)
    return None
