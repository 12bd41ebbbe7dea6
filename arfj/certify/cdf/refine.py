"""Finer cells where bounds are apart, until they are as near as asked for or a budget ends: they only get tighter."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arfj.certify.cdf import distribution
from arfj.certify.cdf.densities import Density
from arfj.certify.cdf.distribution import HALVINGS, Bounds, Outside, Weighed, binned, reweighed, weighed
from arfj.certify.cdf.mesh import Array, Ints, halved
from arfj.certify.cdf.polytopes import of_mesh
from arfj.certify.cdf.regions import Budget, Pieces, described

SHARE = 0.7
"""Cells are marked, the worst first, until they make up so much of the whole gap."""


@dataclass(frozen=True, eq=False)
class Asked:
    """What of the distribution function is wanted.

    Attributes:
        columns: the outputs o.
        levels: for each of them the values that occur, ascending, without repetition.
        where: for each point the number of its level in each output; None for all combinations.
        outside: what mass outside the box does.
        tolerance: U - L that is near enough.
    """

    columns: tuple[int, ...]
    levels: tuple[Array, ...]
    where: Ints | None
    outside: Outside = "add"
    tolerance: float = 1e-3

    def bounds(self, cells: Weighed) -> Bounds:
        """L and U of weighed cells, as asked."""
        if self.where is None:
            return distribution.on_grid(cells, self.levels, self.outside)
        return distribution.at_points(cells, self.levels, self.where, self.outside)


@dataclass(frozen=True, eq=False)
class Found:
    """An answer: bounds, and what they were found with.

    Attributes:
        bounds: L and U.
        pieces, cells: the last ones.
        reached: whether U - L <= tolerance everywhere, mass outside the box aside.
    """

    bounds: Bounds
    pieces: Pieces
    cells: Weighed
    reached: bool


def refined(pieces: Pieces, density: Density, asked: Asked, budget: Budget) -> Found:
    """Bounds of what is asked for, tightened until they are near enough or the budget ends.

    Masses are bounded on finer and finer parts of the cells, and where f is not known to be affine the pieces are
    halved. The greatest L and the least U of all rounds count.
    """
    best: Bounds | None = None
    pieces = prepared(pieces, density, 2 * asked.tolerance, budget)
    while True:
        began = time.monotonic()
        cells = weighed(pieces, density, asked.levels, asked.columns, budget)
        cells = with_masses(cells, density, asked.tolerance / 4, budget, pieces)
        bounds = asked.bounds(cells)
        if best is not None:
            bounds = Bounds(np.maximum(best.lower, bounds.lower), np.minimum(best.upper, bounds.upper))
        _, most = cells.inside  # what lies outside for certain is there at any tolerance
        apart = float((bounds.upper - bounds.lower).max(initial=0)) - (1 - float(most) if asked.outside == "add" else 0)
        best, found = bounds, Found(bounds, pieces, cells, apart <= asked.tolerance)
        next_end = 2 * time.monotonic() - began  # a round of finer pieces takes as long at least
        if found.reached or pieces.affine or budget.spent(len(cells.least)) or next_end > budget.until:
            return found
        unsure = _unsure(cells, asked.levels, pieces)
        if unsure.sum() < apart / 20:
            return found
        pieces = finer(pieces, unsure, density)


def prepared(pieces: Pieces, density: Density, tolerance: float, budget: Budget) -> Pieces:
    """The pieces halved until masses are known well enough: levels, which come next, leave thin parts behind."""
    before = np.inf
    while not density.sharp:
        mesh, owner = pieces.mesh
        least, most = density.masses(mesh.points, mesh.cells)
        gaps = most - least
        if gaps.sum() <= tolerance or budget.spent(10 * len(gaps)) or gaps.sum() > 0.98 * before:
            break  # the last: what is left is rounding
        before = gaps.sum()
        pieces = finer(pieces, np.bincount(owner, gaps, pieces.polytopes.count), density)
    return pieces


def _unsure(cells: Weighed, levels: Sequence[Array], pieces: Pieces) -> Array:
    """The mass in each polytope that is on neither side of a level for certain."""
    bins = binned(cells, levels)
    mass = np.minimum(bins.unsure_below.sum(axis=1) + bins.unsure_above.sum(axis=1), cells.most).astype(np.float64)
    return np.bincount(cells.owner, mass, pieces.polytopes.count)


def finer(pieces: Pieces, gaps: Array, density: Density) -> Pieces:
    """The pieces as simplices, the worst of them halved."""
    mesh, owner = pieces.mesh
    whole = np.bincount(owner, minlength=pieces.polytopes.count)
    cut = halved(mesh.with_fields(mesh.fields[:, :0]), worst(gaps[owner] / whole[owner]), density.metric)
    return described(pieces.evaluation, pieces.lower, pieces.upper, of_mesh(cut.mesh), pieces.complete)


def worst(gaps: Array) -> NDArray[np.bool_]:
    """The greatest of the gaps that together make up `SHARE` of all."""
    order = np.argsort(-gaps, kind="stable")
    total = np.cumsum(gaps[order])
    marked = np.zeros(len(gaps), dtype=bool)
    marked[order[: int(np.searchsorted(total, SHARE * total[-1])) + 1]] = True
    return marked & (gaps > 0)


def with_masses(cells: Weighed, density: Density, tolerance: float, budget: Budget, pieces: Pieces) -> Weighed:
    """The same cells halved until their masses are known to the tolerance, all together, or the budget ends."""
    for _ in range(HALVINGS):
        gaps = np.asarray(cells.most - cells.least, dtype=np.float64)
        most = 2 * budget.cells
        if gaps.sum() <= tolerance or budget.spent(len(gaps)) or cells.mesh.exact or len(gaps) > most:
            return cells
        before = gaps.sum()
        cut = halved(cells.mesh, worst(gaps), density.metric)
        finer_cells = reweighed(cells, cut, density, pieces.lower, pieces.upper)
        if float((finer_cells.most - finer_cells.least).sum()) > 0.98 * before and before < 1e-6:
            return cells  # what is left is rounding, and finer cells have more of it
        cells = finer_cells
    return cells
