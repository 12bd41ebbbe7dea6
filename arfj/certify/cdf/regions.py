"""The linear regions of a ReLU network over a box: neuron by neuron, layer by layer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arfj.certify.cdf import mesh as simplices
from arfj.certify.cdf.evaluation import Evaluation, as_fractions
from arfj.certify.cdf.interpolation import deviations
from arfj.certify.cdf.mesh import UNIT, Array, Ints, Mesh, signs
from arfj.certify.cdf.polytopes import (
    Polytopes,
    box_polytope,
    covers,
    cut,
    grouped,
    of_mesh,
    simplices_expected,
    sliced,
    triangulated,
)
from arfj.graph import Activation
from arfj.network import Floats

SNAP = 4.0
"""Pre-activations within so many times their rounding are 0: what meets in a point is not torn apart there."""


SECONDS = 5e-7
"""What a simplex costs, about, times d^2: by this alone is decided when to end, never what holds."""


@dataclass(frozen=True)
class Budget:
    """When cutting ends; bounds are valid then as well, and looser.

    Attributes:
        cells: how many there may be.
        seconds: how long it may take, from when the budget was made.
        until: when that is over, on the monotonic clock.
    """

    cells: int = 1_000_000
    seconds: float = float("inf")
    until: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "until", time.monotonic() + self.seconds)

    def short(self, cells: float, inputs: int) -> bool:
        """Whether there is no time left to make and weigh so many simplices of d inputs."""
        return time.monotonic() + cells * inputs**2 * SECONDS > self.until

    def spent(self, cells: int) -> bool:
        """Whether so many cells are too many, or the time is over."""
        return cells > self.cells or self.late

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.until


@dataclass(frozen=True, eq=False)
class Pieces:
    """A box in convex polytopes on which a network is affine, or nearly so.

    Attributes:
        evaluation: the network.
        lower, upper: the box.
        polytopes: their fields are the outputs at the points.
        low, high: [a, b] of `interpolation.deviations` for each polytope, shapes (polytopes, outputs).
        complete: whether the regions are those of the network: every ReLU has one side on each.
    """

    evaluation: Evaluation
    lower: Array
    upper: Array
    polytopes: Polytopes
    low: Floats
    high: Floats
    complete: bool

    @cached_property
    def mesh(self) -> tuple[Mesh, Ints]:
        """The polytopes as simplices, and which polytope each is a part of."""
        return triangulated(self.polytopes)

    @property
    def affine(self) -> bool:
        """Whether f is affine on each polytope as far as rounding can tell: then finer ones are of no use."""
        return bool((np.maximum(-self.low, self.high) <= 1e-9 * (1 + np.abs(self.polytopes.fields).max(axis=0))).all())

    @cached_property
    def regions(self) -> int:
        """How many patterns of active ReLUs polytopes of positive volume have; each is one linear region."""
        return _patterns(self)

    def error(self, rounds: int) -> Floats:
        """What [a, b] does not cover of f - g on parts of a polytope that `rounds` rounds of cuts leave, per output.

        g is given by the values that cuts interpolate; in exact arithmetic these are sum_i t_i f(v_i) for the point
        sum_i t_i v_i. A new point u + t (v - u) has three roundings, each of at most 2 u max|x|: a round moves points
        by 6 u max|x| in each coordinate at most, and f there by that times its steepness. Values move by at most 16 u
        max|f|: they are set to the level, which t meets up to the roundings of g_u - y, g_v - y, their difference and
        the quotient. Values at the points of the polytopes are off by their own rounding.
        """
        if self.evaluation.exact:
            return np.zeros(self.polytopes.fields.shape[1])
        values = self.evaluation.values(self.polytopes.points)
        reach = 6 * UNIT * rounds * float(np.abs(self.polytopes.points).max(initial=0.0))
        drift = 16 * UNIT * rounds * np.abs(values[-1]).max(axis=0)
        return np.asarray(reach * self.evaluation.steepness() + self.evaluation.rounding(values)[-1] + drift)


def pieces(
    evaluation: Evaluation,
    lower: Array,
    upper: Array,
    budget: Budget | None = None,
    breaks: Sequence[Sequence[float]] = (),
) -> Pieces:
    """Cut the box by every ReLU in turn.

    A neuron is affine on the regions of all those before it, so that each of them is cut by one hyperplane at most.

    Args:
        evaluation: the network.
        lower: the lower corner of the box, floats or fractions as the evaluation.
        upper: the other one.
        budget: when to stop.
        breaks: for each input, where the box is cut beforehand: the pieces of a density.
    """
    budget = budget or Budget()
    polytopes, complete = _cut_by_breaks(box_polytope(lower, upper), breaks), True
    for index, node in enumerate(evaluation.graph.nodes, start=1):
        if complete and isinstance(node, Activation) and node.kind == "relu":
            polytopes, complete = _cut_by_layer(evaluation, polytopes, index, node.source, budget)
    found = described(evaluation, lower, upper, polytopes, complete)
    if not covers(found.mesh[0], lower, upper):  # rounding has made up faces that fit no polytope
        return _pieces_of_simplices(evaluation, lower, upper, budget, breaks)
    return found


def _cut_by_breaks(polytopes: Polytopes, breaks: Sequence[Sequence[float]]) -> Polytopes:
    """Cut where a coordinate takes one of the values. New points have exactly that value: it is their field."""
    for column, values in enumerate(breaks):
        for value in values:
            x = polytopes.points[:, column]
            heights = x - (as_fractions(np.array(value)).item() if x.dtype == object else value)
            count = len(x)
            polytopes = cut(polytopes, heights[polytopes.vertex], signs(heights, 0)[polytopes.vertex]).polytopes
            polytopes.points[count:, column] = (
                x.dtype.type(value) if x.dtype != object else as_fractions(np.array(value)).item()
            )
    return polytopes


def described(evaluation: Evaluation, lower: Array, upper: Array, polytopes: Polytopes, complete: bool) -> Pieces:
    """The pieces that polytopes are."""
    low, high = deviations(evaluation, polytopes)
    outputs = evaluation.values(polytopes.points)[-1]
    return Pieces(evaluation, lower, upper, replace(polytopes, fields=outputs), low, high, complete)


def _cut_by_layer(
    evaluation: Evaluation, polytopes: Polytopes, index: int, source: int, budget: Budget
) -> tuple[Polytopes, bool]:
    values = evaluation.values(polytopes.points, index - 1)
    tolerance = SNAP * evaluation.rounding(values)[source]
    polytopes = replace(polytopes, fields=values[source])
    for unit in range(polytopes.fields.shape[1]):
        heights = polytopes.fields[:, unit]
        sides = signs(heights, _zero(evaluation, tolerance[unit]))
        if not sides.max() > 0 > sides.min():
            continue
        if budget.spent(polytopes.count) or _short(polytopes, budget):
            return polytopes, False
        count = len(polytopes.points)
        vertex = polytopes.vertex
        polytopes = cut(polytopes, heights[vertex], sides[vertex]).polytopes
        if len(polytopes.points) > count:
            _renew(evaluation, polytopes.fields, polytopes.points, count, index - 1, source)
    return polytopes, True


def _short(polytopes: Polytopes, budget: Budget) -> bool:
    """Whether there is no time left for the simplices of these polytopes."""
    return bool(np.isfinite(budget.until)) and budget.short(simplices_expected(polytopes), polytopes.inputs)


def _zero(evaluation: Evaluation, tolerance: float) -> float:
    return 0 if evaluation.exact else tolerance


def _renew(evaluation: Evaluation, fields: Array, points: Array, count: int, until: int, source: int) -> None:
    """At new points: not the interpolated values, but those of the network where rounding has led to."""
    fields[count:] = evaluation.values(points[count:], until)[source]


def _pieces_of_simplices(
    evaluation: Evaluation, lower: Array, upper: Array, budget: Budget, breaks: Sequence[Sequence[float]] = ()
) -> Pieces:
    """The same by `mesh.split`, whose cells are always a complex: far more of them."""
    found, complete = triangulated(_cut_by_breaks(box_polytope(lower, upper), breaks))[0], True
    for index, node in enumerate(evaluation.graph.nodes, start=1):
        if not (complete and isinstance(node, Activation) and node.kind == "relu"):
            continue
        values = evaluation.values(found.points, index - 1)
        tolerance = SNAP * evaluation.rounding(values)[node.source]
        found = found.with_fields(values[node.source])
        for unit in range(found.fields.shape[1]):
            if budget.spent(len(found.cells)):
                complete = False
                break
            heights, count = found.fields[:, unit], len(found.points)
            sides = signs(heights, _zero(evaluation, tolerance[unit]))
            found = simplices.split(found, heights[found.cells], sides[found.cells]).mesh
            _renew(evaluation, found.fields, found.points, count, index - 1, node.source)
    return described(evaluation, lower, upper, of_mesh(found), complete)


def levels_cut(found: Pieces, levels: list[Array], most: int, budget: Budget | None = None) -> tuple[Mesh, Ints]:
    """The simplices of the polytopes, cut where output j takes one of levels[j], and the polytope of each.

    Where there are more than `most` parts, or the time is over, the levels that are left cut nothing any more.
    """
    each = len(found.mesh[0].cells) / found.polytopes.count

    def ended(count: int) -> bool:
        return count > most or (budget is not None and budget.short(count * each, found.polytopes.inputs))

    tolerances = [_zero(found.evaluation, 8 * UNIT * float(np.abs(f).max())) for f in found.polytopes.fields.T]
    polytopes, parent = found.polytopes, np.arange(found.polytopes.count)
    for column, level in enumerate(levels):
        parts = sliced(polytopes, column, level, tolerances[column], ended)
        polytopes, parent = parts.polytopes, parent[parts.parent]
    mesh, owner = triangulated(polytopes)
    if covers(mesh, found.lower, found.upper):
        return mesh, parent[owner]
    mesh, parent = found.mesh
    for column, level in enumerate(levels):
        done = simplices.sliced(mesh, column, level, tolerances[column], ended)
        mesh, parent = done.mesh, parent[done.parent]
    return mesh, parent


def _patterns(found: Pieces) -> int:
    mesh, owner = found.mesh
    volume, error = mesh.volumes
    solid = np.bincount(owner, np.asarray(np.abs(volume) > error, dtype=bool), found.polytopes.count) > 0
    start, _ = grouped(found.polytopes.owner, found.polytopes.count)
    values = found.evaluation.values(found.polytopes.points)
    rounding = found.evaluation.rounding(values)
    bits: list[NDArray[Any]] = [np.zeros((int(solid.sum()), 1), np.uint8)]
    for node in found.evaluation.graph.nodes:
        if isinstance(node, Activation) and node.kind == "relu":
            side = signs(values[node.source], 0 if found.evaluation.exact else 2 * SNAP * rounding[node.source])
            active = np.maximum.reduceat(side[found.polytopes.vertex], start) > 0
            bits.append(np.packbits(active[solid], axis=1))
    rows = np.ascontiguousarray(np.concatenate(bits, axis=1))
    return len(np.unique(rows.view(np.dtype((np.void, rows.shape[1])))))
