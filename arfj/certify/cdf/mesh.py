r"""Simplices that fill a box, and how they are cut: the one data structure of this package.

A cell is a simplex, d + 1 indices into the points. Cells are cut along a function that is given by its values at the
points: every edge between a positive and a negative end gets a new point, and cells are bisected there, edge after edge
in one order for all (stellar subdivisions). Any signs at the points of a simplex are those of some affine function, so
degenerate positions, and signs that rounding has turned, cut a simplex like any others. No face is forgotten, and no
two cells disagree about one: a complex stays a complex.

The points of a cut are rounded, and a cell is the hull of its rounded points. New points of a face of the box lie on it
exactly (u + t (v - u) = u where u = v). The map that moves each point of the complex in exact arithmetic to its rounded
place is piecewise linear and keeps every face of the box, so it has degree one: almost every x of the box lies in an
odd number of cells. Hence
    the cells cover the box, and
    what they cover more than once has at most the volume by which the sum of theirs exceeds that of the box.

The same code runs on arrays of `fractions.Fraction`: then nothing is rounded.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""Of float64, or of objects that are `Fraction`."""
Ints = NDArray[np.intp]
UNIT = 2.0**-53
"""The unit roundoff u of float64."""
BLOCK = 4096
"""Cells whose volumes are computed together."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """A simplicial complex that fills a box.

    Attributes:
        points: shape (points, d).
        cells: the points of each simplex, shape (cells, d + 1), all of one orientation before rounding.
        fields: values at the points that are interpolated where a cut makes new ones, shape (points, fields).
    """

    points: Array
    cells: Ints
    fields: Array

    @property
    def inputs(self) -> int:
        """The dimension d."""
        return int(self.points.shape[1])

    @property
    def exact(self) -> bool:
        """Whether it is made of fractions."""
        return self.points.dtype == object

    @cached_property
    def volumes(self) -> tuple[Array, Array]:
        """`volumes` of all cells."""
        return volumes(self.points, self.cells)

    def with_fields(self, fields: Array) -> Mesh:
        """The same complex with other values at its points."""
        return replace(self, fields=fields)


@dataclass(frozen=True, eq=False)
class Cut:
    """A mesh that was cut.

    Attributes:
        mesh: the new one.
        parent: the cell of the old mesh that each of its cells is a part of, shape (cells,).
        sides: the sign of the function at the points of each cell, shape (cells, d + 1): never both 1 and -1.
    """

    mesh: Mesh
    parent: Ints
    sides: NDArray[np.int8]


def box_mesh(lower: Array, upper: Array) -> Mesh:
    """The box as d! simplices around its diagonal (Kuhn): one for each order in which the coordinates may rise.

    A box without inputs (d = 0) is one point.
    """
    d = len(lower)
    bits = np.array(list(itertools.product((0, 1), repeat=d)), dtype=np.intp).reshape(2**d, d)
    points = np.where(bits == 1, upper, lower) if d else np.zeros((1, 0))
    weights = 2 ** np.arange(d - 1, -1, -1)
    cells = []
    for order in itertools.permutations(range(d)):
        path = np.concatenate([[0], np.cumsum(weights[list(order)])]).astype(np.intp)
        if _odd(order):
            path[[0, 1]] = path[[1, 0]]
        cells.append(path)
    return Mesh(points, np.array(cells, dtype=np.intp).reshape(-1, d + 1), np.zeros((len(points), 0), points.dtype))


def _odd(order: tuple[int, ...]) -> bool:
    return sum(a > b for a, b in itertools.combinations(order, 2)) % 2 == 1


def signs(values: Array, tolerance: Array | float) -> NDArray[np.int8]:
    """1, 0 or -1: values within the tolerance of 0 are 0."""
    return np.asarray(values > tolerance, dtype=np.int8) - np.asarray(values < -tolerance, dtype=np.int8)


def split(mesh: Mesh, heights: Array, sides: NDArray[np.int8], column: int = -1, level: Array | None = None) -> Cut:
    """Cut every cell that has points of both signs where its function is 0.

    Args:
        mesh: what is cut.
        heights: the values of a function at the points of each cell, shape (cells, d + 1). Cells that share an edge
            whose ends have opposite signs must have the same values there.
        sides: their signs, shape (cells, d + 1).
        column: the field whose value at a new point is the level of the cell, or -1.
        level: the level of each cell, shape (cells,).
    """
    mixed = (sides.max(axis=1) > 0) & (sides.min(axis=1) < 0)
    if not mixed.any():
        return Cut(mesh, np.arange(len(mesh.cells)), sides)
    work, rest = np.flatnonzero(mixed), np.flatnonzero(~mixed)
    pairs = np.array(list(itertools.combinations(range(mesh.inputs + 1), 2)), dtype=np.intp)
    count = len(mesh.points)
    keys = _keys(mesh.cells[work], sides[work], pairs, count)
    flat = np.flatnonzero(keys.ravel() >= 0)
    edges, first = np.unique(keys.ravel()[flat], return_index=True)
    at, pair = np.divmod(flat[first], len(pairs))
    grown = _with_points(mesh, edges, work[at], heights, pairs[pair], column, level)
    cells, parent, found = _bisected(mesh.cells[work], sides[work], work, keys, edges, pairs, count)
    return Cut(
        replace(grown, cells=np.concatenate([mesh.cells[rest], cells])),
        np.concatenate([rest, parent]),
        np.concatenate([sides[rest], found]),
    )


def _keys(cells: Ints, sides: NDArray[np.int8], pairs: Ints, count: int) -> NDArray[np.int64]:
    """A number for each edge whose ends have opposite signs, the same in all cells; -1 for other edges."""
    one, two = cells[:, pairs[:, 0]], cells[:, pairs[:, 1]]
    crossing = sides[:, pairs[:, 0]] * sides[:, pairs[:, 1]] < 0
    return np.where(crossing, np.minimum(one, two).astype(np.int64) * count + np.maximum(one, two), -1)


def _with_points(
    mesh: Mesh,
    edges: NDArray[np.int64],
    cell: Ints,
    heights: Array,
    pair: Ints,
    column: int,
    level: Array | None,
) -> Mesh:
    """The mesh with a new point on each edge: u + t (v - u) with t = h_u / (h_u - h_v), u the end of smaller index."""
    low, high = np.divmod(edges, len(mesh.points))
    swapped = mesh.cells[cell, pair[:, 0]] != low
    h_low = heights[cell, np.where(swapped, pair[:, 1], pair[:, 0])]
    h_high = heights[cell, np.where(swapped, pair[:, 0], pair[:, 1])]
    share = (h_low / (h_low - h_high))[:, None]
    points = mesh.points[low] + share * (mesh.points[high] - mesh.points[low])
    fields = mesh.fields[low] + share * (mesh.fields[high] - mesh.fields[low])
    if level is not None and column >= 0:
        fields[:, column] = level[cell]
    return replace(
        mesh,
        points=np.concatenate([mesh.points, points]),
        fields=np.concatenate([mesh.fields, fields]),
    )


def _bisected(
    cells: Ints,
    sides: NDArray[np.int8],
    parent: Ints,
    keys: NDArray[np.int64],
    edges: NDArray[np.int64],
    pairs: Ints,
    count: int,
) -> tuple[Ints, Ints, NDArray[np.int8]]:
    """Cells, bisected at the edges in the order of their keys until none has points of both signs."""
    done: list[tuple[Ints, Ints, NDArray[np.int8]]] = []
    while len(cells):
        rows = np.arange(len(cells))
        chosen = np.where(keys >= 0, keys, np.iinfo(np.int64).max).argmin(axis=1)
        new = count + np.searchsorted(edges, keys[rows, chosen])
        halves, found = np.concatenate([cells, cells]), np.concatenate([sides, sides])
        place = np.concatenate([pairs[chosen, 0], pairs[chosen, 1]])
        every = np.arange(len(halves))
        halves[every, place], found[every, place] = np.concatenate([new, new]), 0
        parent = np.concatenate([parent, parent])
        keys = _keys(halves, found, pairs, count)
        open_ = (keys >= 0).any(axis=1)
        done.append((halves[~open_], parent[~open_], found[~open_]))
        cells, sides, parent, keys = halves[open_], found[open_], parent[open_], keys[open_]
    return tuple(np.concatenate(part) for part in zip(*done, strict=True))  # type: ignore[return-value]


def halved(mesh: Mesh, marked: NDArray[np.bool_], metric: Array | None = None) -> Cut:
    """The mesh with the longest edge of each marked cell cut in the middle, in all cells that share it.

    Args:
        mesh: what is cut.
        marked: shape (cells,).
        metric: a matrix A, shape (d, d): lengths are those of x A.
    """
    pairs = np.array(list(itertools.combinations(range(mesh.inputs + 1), 2)), dtype=np.intp)
    cells, count = mesh.cells, len(mesh.points)
    one, two = cells[:, pairs[:, 0]], cells[:, pairs[:, 1]]
    keys = np.minimum(one, two).astype(np.int64) * count + np.maximum(one, two)
    corners = (mesh.points if metric is None else mesh.points @ metric)[cells[marked]]
    lengths = ((corners[:, pairs[:, 0]] - corners[:, pairs[:, 1]]) ** 2).sum(axis=2)
    edges = np.unique(keys[marked][np.arange(len(corners)), lengths.argmax(axis=1)])
    low, high = np.divmod(edges, count)
    grown = replace(
        mesh,
        points=np.concatenate([mesh.points, mesh.points[low] + (mesh.points[high] - mesh.points[low]) / 2]),
        fields=np.concatenate([mesh.fields, mesh.fields[low] + (mesh.fields[high] - mesh.fields[low]) / 2]),
    )
    parts, parent = [], []
    at = np.arange(len(cells))
    while len(cells):
        one, two = cells[:, pairs[:, 0]], cells[:, pairs[:, 1]]
        keys = np.minimum(one, two).astype(np.int64) * count + np.maximum(one, two)
        # Edges that end in a new point are none of the old ones, whatever their number.
        keys = np.where(np.isin(keys, edges) & (np.maximum(one, two) < count), keys, np.iinfo(np.int64).max)
        chosen = keys.argmin(axis=1)
        key = keys[np.arange(len(cells)), chosen]
        whole = key == np.iinfo(np.int64).max
        parts.append(cells[whole])
        parent.append(at[whole])
        cells, chosen, key, at = cells[~whole], chosen[~whole], key[~whole], at[~whole]
        new, every = count + np.searchsorted(edges, key), np.arange(2 * len(cells))
        cells = np.concatenate([cells, cells])
        cells[every, np.concatenate([pairs[chosen, 0], pairs[chosen, 1]])] = np.concatenate([new, new])
        at = np.concatenate([at, at])
    sides = np.zeros((sum(map(len, parts)), mesh.inputs + 1), np.int8)
    return Cut(replace(grown, cells=np.concatenate(parts)), np.concatenate(parent), sides)


def sliced(mesh: Mesh, column: int, levels: Array, tolerance: float, ended: Callable[[int], bool]) -> Cut:
    """Cut the mesh where a field takes one of many levels, in as many rounds as the levels have binary digits.

    In a round a cell is cut by the middle one of the levels that are left to it. Cells that share an edge which crosses
    a level have the same levels left: what separates theirs was cut before, and the edge would end there. Once `ended`
    says that so many cells are enough, levels stay uncut.
    """
    parent = np.arange(len(mesh.cells))
    start, stop = np.zeros(len(parent), np.intp), np.full(len(parent), len(levels), np.intp)
    sides = np.zeros((len(parent), mesh.inputs + 1), np.int8)
    while len(levels) and (start < stop).any() and not ended(len(mesh.cells)):
        middle = (start + stop) // 2
        level = levels[np.minimum(middle, len(levels) - 1)]
        heights = mesh.fields[mesh.cells, column] - level[:, None]
        sides = signs(heights, tolerance)
        sides[start >= stop] = 0
        cut = split(mesh, heights, sides, column, level)
        start, stop, middle = start[cut.parent], stop[cut.parent], middle[cut.parent]
        above, left = cut.sides.max(axis=1) > 0, start < stop
        start, stop = np.where(left & above, middle + 1, start), np.where(left & ~above, middle, stop)
        mesh, parent, sides = cut.mesh, parent[cut.parent], cut.sides
    return Cut(mesh, parent, sides)


def keys_of(columns: Sequence[Ints], most: Sequence[int]) -> NDArray[np.int64] | None:
    """One number for each row of columns of numbers in [0, `most`), in lexicographic order; None if too large."""
    size = 1
    for count in most:
        size *= max(int(count), 1)
    if size >= 2**63:
        return None
    total = np.zeros(len(columns[0]), np.int64)
    for column, count in zip(columns, most, strict=True):
        total = total * max(int(count), 1) + column
    return total


def volumes(points: Array, cells: Ints) -> tuple[Array, Array]:
    """Signed volumes det(v_1 - v_0, ..) / d!, and what rounding may have done to each, shapes (cells,).

    |error| <= 4 d^2 u prod_i |v_i - v_0|_1 / d!: differences of coordinates are off by u each, the determinant is
    expanded in d (d - 1) / 2 + d roundings of products, and the sum of their sizes is at most the product of the
    1-norms of the rows.
    """
    d = points.shape[1]
    rows = points[cells[:, 1:]] - points[cells[:, :1]]
    blocks = range(0, max(len(rows), 1), BLOCK)  # minors of all cells at once would leave the caches
    value = np.concatenate([_determinant(rows[i : i + BLOCK]) for i in blocks]) / factorial(d)
    if points.dtype == object:
        return value, np.zeros(len(cells), object) + 0
    sizes = np.abs(rows).sum(axis=2).prod(axis=1) / factorial(d)
    return value, 4 * (d + 1) ** 2 * UNIT * sizes


def _determinant(rows: Array) -> Array:
    """By expansion along the first row: no pivots, so that fractions and signs of rounding are served alike.

    A minor of the last rows is computed once for each set of columns: d 2^(d - 1) products, not some e d!.
    """
    d = rows.shape[1]
    if d == 0:
        return np.ones(len(rows), rows.dtype)
    minors: dict[tuple[int, ...], Array] = {(k,): rows[:, -1, k] for k in range(d)}
    for i in reversed(range(d - 1)):
        minors = {kept: _expanded(rows[:, i], kept, minors) for kept in itertools.combinations(range(d), d - i)}
    return minors[tuple(range(d))]


def _expanded(row: Array, kept: tuple[int, ...], minors: Mapping[tuple[int, ...], Array]) -> Array:
    """The minor of the columns `kept` with one row more."""
    total: Array | int = 0
    for k, column in enumerate(kept):
        term = row[:, column] * minors[kept[:k] + kept[k + 1 :]]
        total = total - term if k % 2 else total + term
    return np.asarray(total)
