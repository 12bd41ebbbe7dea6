r"""Bounds of the distribution function from masses of cells.

    L(y) = sum of masses of cells that are certainly below y,   U(y) = 1 - sum of those that are certainly not,
below meaning f_o <= y_o for all outputs o that are asked for. Cells were cut where f_o takes the levels that occur
among the y_o. On a cell, f lies between g - d and g + d, g affine with values in [g_min, g_max] and d small. Of a cell
that ends at a level the part with g within d of it is uncertain; its share of the volume is at most n d / (g_max -
g_min) in n inputs: the density of an affine function on a simplex is a B-spline, which is at most n / (g_max - g_min)
(and a share is at most 1, which it is where f is constant: an atom at y counts in U and not in L, unless rounding could
not tell). Its mass is at most that share of the volume times the greatest density.

What cells cover more than once (`mesh`) is taken from L and added to U. Mass outside the box may be anywhere: it is in
U, which is one less what is certain, and not in L; or all is divided by the mass of the box.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from arfj.certify.cdf.densities import Density
from arfj.certify.cdf.evaluation import as_fractions
from arfj.certify.cdf.mesh import UNIT, Array, Cut, Ints, Mesh, keys_of
from arfj.certify.cdf.regions import Budget, Pieces, levels_cut

Outside = Literal["add", "renormalise"]
CELLS = 8_000_000
"""Parts that levels may make: beyond that they cut nothing."""
QUICK = 0.1
"""Seconds that cells weighed at a time in fractions may take before the clock is looked at."""
HALVINGS = 40
"""How often cells may be halved behind that; rounding is reckoned with it."""


@dataclass(frozen=True, eq=False)
class Weighed:
    """Cells with what is known of their masses.

    Attributes:
        mesh: its fields are the outputs that were asked for.
        least, most: bounds of the mass of each cell.
        below, above: f - g is in [-below, above] on the cell, shapes (cells, outputs).
        slab: the greatest density times the volume, from above, shape (cells,).
        twice: an upper bound of the mass that is covered more than once.
        owner: which polytope of the pieces each cell is a part of.
        whole: whether the density has no mass outside the box.
    """

    mesh: Mesh
    least: Array
    most: Array
    below: Array
    above: Array
    slab: Array
    twice: Any
    owner: Ints
    whole: bool

    @property
    def inside(self) -> tuple[Any, Any]:
        """Bounds of the mass of the box."""
        one = 1 if self.mesh.exact else 1.0
        if self.whole:
            return one, one
        low, high = _total(self.least), _total(self.most)
        return max(low[0] - self.twice, 0.0), min(high[1], one)


def weighed(
    pieces: Pieces,
    density: Density,
    levels: Sequence[Array],
    columns: Sequence[int],
    budget: Budget | None = None,
) -> Weighed:
    """Cut the pieces at the levels of outputs, as many as there is time for, and weigh the cells."""
    chosen = [np.zeros(0, pieces.polytopes.fields.dtype)] * pieces.polytopes.fields.shape[1]
    for column, level in zip(columns, levels, strict=True):
        chosen[column] = level
    mesh, owner = levels_cut(pieces, chosen, CELLS, budget)
    below, above = -pieces.low[owner][:, columns], pieces.high[owner][:, columns]
    rounds = HALVINGS + sum(len(level).bit_length() for level in levels)
    error = pieces.error(rounds)[list(columns)]
    below, above = below + error, above + error
    if mesh.exact:  # beside a float a fraction is one no more
        below, above = as_fractions(below), as_fractions(above)
    return weighed_mesh(
        mesh.with_fields(mesh.fields[:, columns]), owner, density, below, above, pieces.lower, pieces.upper, budget
    )


def weighed_mesh(
    mesh: Mesh,
    owner: Ints,
    density: Density,
    below: Array,
    above: Array,
    lower: Array,
    upper: Array,
    budget: Budget | None = None,
) -> Weighed:
    """Weigh the cells of a mesh that covers the box."""
    slab = _sizes(mesh) * density.greatest(mesh.points, mesh.cells)
    least, most = _masses(mesh, density, slab, budget)
    twice = _twice(mesh, density, lower, upper)
    return Weighed(mesh, least, most, below, above, slab, twice, owner, density.whole)


def reweighed(cells: Weighed, cut: Cut, density: Density, lower: Array, upper: Array) -> Weighed:
    """Weigh the cells of a finer mesh; those that are not new have their masses."""
    old, mesh = cut.parent, cut.mesh
    new = np.flatnonzero(np.bincount(old)[old] > 1)
    least, most, slab = cells.least[old], cells.most[old], cells.slab[old]
    least[new], most[new] = density.masses(mesh.points, mesh.cells[new])
    slab[new] = _sizes(mesh)[new] * density.greatest(mesh.points, mesh.cells[new])
    twice = _twice(mesh, density, lower, upper)
    return Weighed(mesh, least, most, cells.below[old], cells.above[old], slab, twice, cells.owner[old], cells.whole)


def _masses(mesh: Mesh, density: Density, slab: Array, budget: Budget | None) -> tuple[Array, Array]:
    """Bounds of all masses; in fractions, for as many cells as there is time for, and [0, volume times top] else."""
    if not mesh.exact or budget is None:
        return density.masses(mesh.points, mesh.cells)
    least, most = slab * 0, slab.copy()
    at, step = 0, 1
    while at < len(slab) and not budget.late:
        began, chosen = time.monotonic(), slice(at, at + step)
        least[chosen], most[chosen] = density.masses(mesh.points, mesh.cells[chosen])
        at += step
        step = 2 * step if time.monotonic() - began < QUICK else max(1, step // 2)
    return least, most


def _sizes(mesh: Mesh) -> Array:
    volume, error = mesh.volumes
    return np.asarray(abs(volume) + error)


def _twice(mesh: Mesh, density: Density, lower: Array, upper: Array) -> Any:  # noqa: ANN401 - a float or a fraction
    """The greatest density times what the volumes of the cells exceed that of the box by."""
    if mesh.exact:
        return 0
    box = float(np.prod(upper - lower))
    excess = _total(_sizes(mesh))[1] - box * (1 - 2 * len(lower) * UNIT)
    return max(0.0, min(excess * density.top * (1 + 1e-12), 1.0))


def _total(values: Array) -> tuple[float, float]:
    """Bounds of a sum of numbers >= 0: pairwise or not, n terms are summed with a relative error below n u."""
    total = values.sum()
    if values.dtype == object:
        return total, total
    room = 1.01 * len(values) * UNIT * float(total)
    return float(total) - room, float(total) + room


@dataclass(frozen=True, eq=False)
class Bins:
    """Where cells stand among the levels of their outputs; level number k of L_o is that of bin k, L_o means above all.

    Attributes:
        cut: the first level that g is at or below, shape (cells, outputs).
        high: the first that f is certainly at or below.
        low: the first that f may be at or below.
        unsure_below: an upper bound of the mass of the cell that is not below level `cut` of each output.
        unsure_above: the same of the part that is below some level before `cut`.
    """

    cut: Ints
    high: Ints
    low: Ints
    unsure_below: Array
    unsure_above: Array


def binned(cells: Weighed, levels: Sequence[Array]) -> Bins:
    """Place cells among levels, by the values of g at their points and what f may differ from it."""
    values = cells.mesh.fields[cells.mesh.cells]
    low, high = values.min(axis=1), values.max(axis=1)
    shape = low.shape
    cut, up, down = (np.zeros(shape, np.intp) for _ in range(3))
    not_below, not_above = (np.zeros(shape, cells.least.dtype) for _ in range(2))
    for o, level in enumerate(levels):
        d_low, d_high = cells.below[:, o], cells.above[:, o]
        room = 0 if cells.mesh.exact else 16 * UNIT * float(np.abs(cells.mesh.fields[:, o]).max(initial=0.0))
        cut[:, o] = np.searchsorted(level, high[:, o] - room)
        up[:, o] = np.searchsorted(level, high[:, o] + d_high)
        down[:, o] = np.searchsorted(level, low[:, o] - d_low)
        up[:, o] = np.maximum(up[:, o], cut[:, o])
        down[:, o] = np.minimum(down[:, o], cut[:, o])
        at, before = np.append(level, np.inf)[cut[:, o]], np.append(-np.inf, level)[cut[:, o]]
        spread = high[:, o] - low[:, o]
        unsure, early = up[:, o] > cut[:, o], down[:, o] < cut[:, o]
        not_below[unsure, o] = _share(cells, unsure, (high[:, o] + d_high - at)[unsure], spread)
        not_above[early, o] = _share(cells, early, (before - low[:, o] + d_low)[early], spread)
    return Bins(cut, up, down, not_below, not_above)


def _share(cells: Weighed, chosen: Array, height: Array, spread: Array) -> Array:
    """min(greatest density x volume x min(1, n height / spread), mass) of the chosen cells."""
    flat = np.asarray(spread[chosen] <= 0, dtype=bool)
    ratio = np.where(flat, 1, cells.mesh.inputs * height / np.where(flat, 1, spread[chosen]))
    if not cells.mesh.exact:
        ratio = ratio * (1 + 1e-9)
    return np.asarray(np.minimum(cells.slab[chosen] * np.minimum(ratio, 1), cells.most[chosen]))


@dataclass(frozen=True, eq=False)
class Bounds:
    """L and U, of the shape of what was asked for; `Fraction`s where the cells are exact."""

    lower: Array
    upper: Array


def at_points(cells: Weighed, levels: Sequence[Array], where: Ints, outside: Outside) -> Bounds:
    """L and U at points, given by the numbers of their levels, shape (points, outputs)."""
    bins = binned(cells, levels)
    sure, rest = cells.least, np.minimum(bins.unsure_below.sum(axis=1), cells.least)
    low = _counted(bins.cut, sure - rest, where) + _counted(bins.high, rest, where)
    # Of a cell that is not wholly below: what may be below some level before its own, in every output.
    early = np.minimum(bins.unsure_above.max(axis=1, initial=0), cells.least)
    early = np.where((bins.low < bins.cut).any(axis=1), early, 0)
    high = _counted(bins.cut, sure - early, where) + _counted(bins.low, early, where)
    return finished(low, high, cells, outside)


def on_grid(cells: Weighed, levels: Sequence[Array], outside: Outside) -> Bounds:
    """L and U at all combinations of levels, shape (L_1, .., L_m): cells are put in bins, and summed up along axes."""
    bins = binned(cells, levels)
    rest = np.minimum(bins.unsure_below.sum(axis=1), cells.least)
    early = np.minimum(bins.unsure_above.max(axis=1, initial=0), cells.least)
    early = np.where((bins.low < bins.cut).any(axis=1), early, 0)
    shape = tuple(len(level) + 1 for level in levels)
    low = _summed(bins.cut, cells.least - rest, shape) + _summed(bins.high, rest, shape)
    high = _summed(bins.cut, cells.least - early, shape) + _summed(bins.low, early, shape)
    inner = tuple(slice(0, -1) for _ in levels)
    return finished(low[inner], high[inner], cells, outside)


def _summed(bins: Ints, masses: Array, shape: tuple[int, ...]) -> Array:
    result = np.zeros(shape, masses.dtype)
    np.add.at(result, tuple(bins.T), masses)
    for axis in range(len(shape)):
        result = result.cumsum(axis=axis)
    return result


def _counted(bins: Ints, masses: Array, where: Ints) -> Array:
    """sum of the masses of cells whose bins are at most those of a point, in every output."""
    flat = keys_of(list(bins.T), (bins.max(axis=0, initial=0) + 1).tolist())
    if flat is None:
        keys, inverse = np.unique(bins, axis=0, return_inverse=True)
    else:
        _, first, inverse = np.unique(flat, return_index=True, return_inverse=True)
        keys = bins[first]
    total = np.zeros(len(keys), masses.dtype)
    np.add.at(total, inverse.ravel(), masses)
    result = np.zeros(len(where), masses.dtype)
    for index, point in enumerate(where):
        result[index] = total[(keys <= point).all(axis=1)].sum()
    return result


def finished(low: Array, high: Array, cells: Weighed, outside: Outside) -> Bounds:
    """L and U from sums over certain cells: rounding of the sums, what is covered twice, and mass outside the box.

    L' = low - twice. Certainly not below is sum least - high - twice, and U' = 1 less that. The sums have relative
    errors below (cells + bins) u. Renormalised, masses are divided by that of the box: L' / M and 1 - (certainly not) /
    M, M at most its upper bound.
    """
    if cells.mesh.exact:
        total = cells.least.sum()
        return Bounds(low, 1 - (total - high))
    room = 2 * (len(cells.least) + low.size) * UNIT
    sure, _ = _total(cells.least)
    below = np.maximum(low * (1 - room) - cells.twice, 0.0)
    not_below = np.maximum(sure - high * (1 + room) - room - cells.twice, 0.0)
    most = float(cells.inside[1])
    if outside == "renormalise" and most > 0:  # where it underflows nothing is certain
        below, not_below = below / most * (1 - 4 * UNIT), not_below / most * (1 - 4 * UNIT)
    return Bounds(np.clip(below, 0.0, 1.0), np.clip(1.0 - not_below + UNIT, 0.0, 1.0))
