r"""The reduced network as a mixed-integer program: exact, and quick where some hundred ReLUs are open.

    min t   s.t.  rows <= t <= delta,   y - s = a,   0 <= y <= u z,   0 <= s <= -l (1 - z),   z binary,   x in the box

A solution is a candidate for the replay. `infeasible` means that no x brings the rows below delta > 0, where delta
covers what the solver's tolerances could amount to: every y and s may be off by its tolerance, times the largest gain
that it can have on a row. Where delta would be large, or the terms of a row (`arfj.encoding.eased.LARGEST`), nothing is
claimed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from arfj.bounds import Bounds
from arfj.bounds.backward import dense
from arfj.bounds.batched import activations
from arfj.bounds.records import OUTWARD
from arfj.bounds.reduce import Reduced
from arfj.encoding.eased import LARGEST
from arfj.encoding.problem import Builder, Problem
from arfj.graph import Activation, Affine, Graph
from arfj.network import Floats
from arfj.region import Region
from arfj.solver import Limits, Step, solve
from arfj.verify.falsify import descend
from arfj.verify.margins import Margins
from arfj.verify.search import Clock, Finding

MOST_OPEN = 250
"""Open ReLUs beyond which a program is not tried."""
TOLERANCE = 2e-9
"""What a solver may miss a row or an integer by: twice the feasibility tolerance that is asked of it."""
LEAST = 1e-8
"""SCIP takes coefficients below 1e-9 for 0."""
MOST_DELTA = 1e-3
"""The largest delta at which `infeasible` is believed."""
HOPELESS = 1e9
"""A delta from which on no program is made: its coefficients may be what a solver takes for infinite."""

Indices = NDArray[np.intp]


def solve_by_program(margins: Margins, reduced: Reduced, region: Region, clock: Clock) -> Finding:
    """One program a polyhedron, hardest first.

    Args:
        margins: of the open polyhedra, over the whole network.
        reduced: the same outputs over the reduced network.
        region: a box.
        clock: when to stop.
    """
    if any(isinstance(node, Activation) and node.kind != "relu" for node in reduced.graph.nodes):
        return Finding("open", "smooth activations have no mixed-integer program")
    order = np.argsort(margins.least(reduced.bounds.lower[-1][None])[0])
    nodes, open_ = 0, list[Finding]()
    for position, polyhedron in enumerate(order):
        share = clock.left / (len(order) - position)
        found = _solve_one(margins, reduced, region, int(polyhedron), clock.within(share))
        nodes += found.branches
        if found.status == "found":
            return Finding("found", found.reason, found.x, None, nodes)
        if found.status != "proven":  # the others may hold a counterexample all the same
            open_.append(found)
            if clock.over:
                break
    if open_:
        return Finding("open", open_[0].reason, branches=nodes)
    return Finding("proven", "mixed-integer programs hold no counterexample", branches=nodes)


def _solve_one(margins: Margins, reduced: Reduced, region: Region, polyhedron: int, clock: Clock) -> Finding:
    rows = np.flatnonzero(margins.owner == polyhedron)
    with np.errstate(over="ignore", invalid="ignore"):  # a thread does not take over its starter's
        delta = tolerated(reduced, rows, region)
        largest = largest_term(reduced, region)
    if not delta < HOPELESS:
        return Finding("open", "the numbers are too large for a mixed-integer program")
    problem, pixels = program(reduced, region, rows, delta)

    def watch(_: Step) -> None:
        if clock.over:
            raise KeyboardInterrupt  # stops the solver, no more

    answer = solve("scip", problem, Limits(max(clock.left, 0.01), solutions=1), progress=watch)
    if answer.values is not None:
        x = np.clip(answer.values[pixels], region.lower, region.upper)
        box = margins.inside[0] if margins.inside else (region.lower, region.upper)
        better = descend(margins, box, 1, np.random.default_rng(0), clock.within(5), 60, x[None], 0.02)
        found = margins.candidate(x[None]) if better is None else better
        if found is None:
            return Finding(
                "open", "a mixed-integer program's solution is unsafe within its tolerances", None, None, answer.nodes
            )
        return Finding("found", "a mixed-integer program's solution", found, None, answer.nodes)
    if answer.status == "infeasible" and delta <= MOST_DELTA and largest <= LARGEST:
        return Finding("proven", "", branches=answer.nodes)
    reason = "the program's tolerances are too coarse for a proof" if answer.status == "infeasible" else answer.reason
    return Finding("open", reason, branches=answer.nodes)


def tolerated(reduced: Reduced, rows: Indices, region: Region | None = None) -> float:
    """What errors of `TOLERANCE` in every row, relative to its terms, and in every ReLU can amount to in a row.

    And what rounding in the products of maps that were merged has come to, where large values have cancelled.

    Args:
        reduced: the network of the program.
        rows: of its outputs.
        region: where x lies; by default no |x_i| is above 1.
    """
    graph, bounds = reduced.graph, reduced.bounds
    terms = _terms(reduced, region)
    merged = reduced.sizes(Region.between(np.zeros(graph.inputs), np.ones(graph.inputs)) if region is None else region)
    gain: dict[int, Floats] = {len(graph.nodes): np.eye(graph.classes)[:, rows]}
    total = np.zeros(len(rows))
    place = len(activations(graph))
    for index in range(len(graph.nodes), 0, -1):
        here = gain.pop(index, None)
        node = graph.nodes[index - 1]
        place -= isinstance(node, Activation)
        if here is None:
            continue
        if isinstance(node, Activation):
            width = bounds.upper[place] - bounds.lower[place] + 1.0
            total += TOLERANCE * (width @ here)
            gain[node.source] = gain.get(node.source, 0.0) + here
            continue
        total += (TOLERANCE * (1.0 + terms[index]) + OUTWARD * merged[index]) @ here
        for source, matrix in zip(node.sources, node.maps, strict=True):
            size = abs(dense(matrix))
            total += terms[source] @ np.where(size < LEAST, size, 0.0) @ here
            gain[source] = gain.get(source, 0.0) + size @ here
    total += TOLERANCE * (terms[0] @ gain[0]) if 0 in gain else 0.0
    return float(np.nan_to_num(total, nan=np.inf).max())


def largest_term(reduced: Reduced, region: Region | None = None) -> float:
    """The most that the terms of a row of the program can add up to; the arguments are those of `tolerated`."""
    ends = [np.abs(side) for sides in (reduced.bounds.lower[:-1], reduced.bounds.upper[:-1]) for side in sides]
    sizes = [float(one.max(initial=0.0)) for one in (*_terms(reduced, region), *ends)]
    return float(np.nan_to_num(max(sizes), nan=np.inf))


def _terms(reduced: Reduced, region: Region | None) -> list[Floats]:
    """The largest value of every ReLU and input, and the largest sum of |terms| of every affine node."""
    graph = reduced.graph
    most = np.ones(graph.inputs) if region is None else np.maximum(*(np.abs(side) for side in region.box))
    result = [most]
    tops = iter(reduced.bounds.upper)
    for node in graph.nodes:
        if isinstance(node, Activation):
            result.append(next(tops))
            continue
        parts = [result[j] @ abs(dense(m)) for j, m in zip(node.sources, node.maps, strict=True)]
        result.append(np.asarray(sum(parts) + np.abs(node.bias)))
    return result


def program(reduced: Reduced, region: Region, rows: Indices, delta: float) -> tuple[Problem, Indices]:
    """The module's program for the rows of one polyhedron, and the columns of x."""
    builder = Builder()
    pixels = builder.add_columns(reduced.graph.inputs, region.lower, region.upper)
    columns = {0: pixels}
    place = 0
    graph = reduced.graph
    for index, node in enumerate(graph.nodes, start=1):
        last = index == len(graph.nodes)
        if isinstance(node, Activation):
            columns[index] = _relu(builder, graph, columns, node, reduced.bounds, place)
            place += 1
        elif not last and not _feeds_relu(graph, index):
            values = builder.add_columns(len(node.bias), -np.inf, np.inf)
            parts = _parts(columns, node)
            builder.add_rows([*parts, (values, -np.eye(len(values)))], -node.bias, -node.bias)
            columns[index] = values
    last_node = graph.nodes[-1]
    if not isinstance(last_node, Affine):
        raise TypeError("margins end in an affine node")
    t = builder.add_columns(1, -np.inf, delta, cost=1.0)
    parts = [(at, block[rows]) for at, block in _parts(columns, last_node)]
    builder.add_rows([*parts, (t, -np.ones((len(rows), 1)))], upper=-last_node.bias[rows])
    return builder.build(), pixels


def _feeds_relu(graph: Graph, index: int) -> bool:
    return any(isinstance(node, Activation) and node.source == index for node in graph.nodes)


def _parts(columns: dict[int, Indices], node: Affine) -> list[tuple[Indices, Floats]]:
    return [(columns[j], dense(m).T) for j, m in zip(node.sources, node.maps, strict=True)]


def _relu(
    builder: Builder, graph: Graph, columns: dict[int, Indices], node: Activation, bounds: Bounds, place: int
) -> Indices:
    before = graph.nodes[node.source - 1]
    if not isinstance(before, Affine):
        raise TypeError("a reduced network's activations read affine nodes")
    low, up = bounds.lower[place], bounds.upper[place]
    count = len(low)
    eye = np.eye(count)
    y = builder.add_columns(count, 0.0, up)
    s = builder.add_columns(count, 0.0, -low)
    z = builder.add_columns(count, 0.0, 1.0, integer=True)
    builder.add_rows([*_parts(columns, before), (y, -eye), (s, eye)], -before.bias, -before.bias)
    builder.add_rows([(y, eye), (z, -np.diag(up))], upper=0.0)
    builder.add_rows([(s, eye), (z, -np.diag(low))], upper=-low)
    return y
