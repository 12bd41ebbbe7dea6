r"""Convex polytopes by vertices and facets, all cut at once: what linear regions are before they become simplices.

A polytope is a set of points, each with the facets that it lies on (64 bits). Two of its points are the ends of an edge
when no third one lies on all the facets that they share. Where a function changes its sign, edges between positive and
negative points get a new point, on the facets of the edge and on a new one; points at 0 belong to both parts. Several
facets through one point, and several functions that are 0 there, need no special care.

Simplices come at the end: from the point of least number in a polytope, over all faces that do not hold it, face by
face (pulling). Two polytopes that share a face cut it alike, since the numbers are the same. Rounding could, in
principle, make up faces that fit no polytope; `covers` finds that out, and then `mesh.split` is used, which cannot
fail.

The idea to cut edges and to keep vertices: A. Berzins, Polyhedral complex extraction from ReLU networks using edge
subdivision, ICML 2023. The test of edges: K. Fukuda and A. Prodon, Double description method revisited, 1996.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from arfj.certify.cdf.mesh import Array, Ints, Mesh, keys_of, signs

BITS = 63
"""Facets of one polytope; those that are none any more are forgotten when they are needed."""
TRIED = 50
"""Polytopes whose simplices are counted beforehand."""
ROWS = 2**18
"""Of bits that are unpacked at a time."""
Masks = NDArray[np.uint64]
Signs = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Polytopes:
    """Polytopes that fill a box, or a part of it.

    Attributes:
        points: shape (points, d).
        fields: values there that are interpolated, shape (points, fields).
        owner: which polytope each membership is of, ascending, shape (memberships,).
        vertex: the point of it, shape (memberships,).
        facets: the facets of the polytope that the point lies on, shape (memberships,).
        used: how many numbers of facets were given away, shape (polytopes,).
    """

    points: Array
    fields: Array
    owner: Ints
    vertex: Ints
    facets: Masks
    used: Ints

    @property
    def inputs(self) -> int:
        """The dimension d."""
        return int(self.points.shape[1])

    @property
    def count(self) -> int:
        """How many polytopes there are."""
        return len(self.used)


@dataclass(frozen=True, eq=False)
class Parts:
    """Polytopes that were cut: the new ones, which old one each is a part of, and its side (1, -1 or 0)."""

    polytopes: Polytopes
    parent: Ints
    side: Signs


def box_polytope(lower: Array, upper: Array) -> Polytopes:
    """The box itself: 2^d points, each on d of 2d facets."""
    d = len(lower)
    bits = np.array(list(itertools.product((0, 1), repeat=d)), dtype=np.intp).reshape(2**d, d)
    points = np.where(bits == 1, upper, lower) if d else np.zeros((1, 0))
    masks = (np.uint64(1) << (2 * np.arange(d) + bits).astype(np.uint64)).sum(axis=1, dtype=np.uint64)
    zeros = np.zeros(len(points), np.intp)
    return Polytopes(points, np.zeros((len(points), 0)), zeros, np.arange(len(points)), masks, np.array([2 * d]))


def of_mesh(mesh: Mesh) -> Polytopes:
    """Every cell of a mesh as a polytope of d + 1 facets."""
    cells, size = mesh.cells.shape
    every = np.uint64(2**size - 1)
    masks = every - (np.uint64(1) << np.arange(size, dtype=np.uint64))  # facet i is opposite to corner i
    owner = np.repeat(np.arange(cells), size)
    return Polytopes(
        mesh.points, mesh.fields, owner, mesh.cells.ravel(), np.tile(masks, cells), np.full(cells, size, np.intp)
    )


def bit_count(masks: Masks) -> Ints:
    """How many bits are set (numpy.bitwise_count came with numpy 2)."""
    bits = np.unpackbits(np.ascontiguousarray(masks).view(np.uint8).reshape(-1, 8), axis=1)
    return np.asarray(bits.sum(axis=1, dtype=np.intp))


def grouped(owner: Ints, count: int) -> tuple[Ints, Ints]:
    """Where the memberships of each polytope start, and how many there are."""
    sizes = np.bincount(owner, minlength=count)
    return np.cumsum(sizes) - sizes, sizes


def ranges(starts: Ints, sizes: Ints) -> tuple[Ints, Ints]:
    """For ragged loops: the numbers start .. start + size - 1 of every range, and which range each is of."""
    which = np.repeat(np.arange(len(sizes)), sizes)
    ends = np.cumsum(sizes)
    return np.arange(int(sizes.sum())) - np.repeat(ends - sizes, sizes) + np.repeat(starts, sizes), which


def cut(polytopes: Polytopes, heights: Array, sides: Signs, column: int = -1, level: Array | None = None) -> Parts:
    """Cut every polytope that has points of both signs where its function is 0.

    Args:
        polytopes: what is cut.
        heights: values of the function at each membership; the same for all polytopes that share an edge to be cut.
        sides: their signs.
        column: the field whose value at a new point is the level of the polytope, or -1.
        level: the level of each polytope.
    """
    count = polytopes.count
    above = np.bincount(polytopes.owner, sides > 0, count) > 0
    below = np.bincount(polytopes.owner, sides < 0, count) > 0
    side = above.astype(np.int8) - below.astype(np.int8)
    mixed = above & below
    if not mixed.any():
        return Parts(polytopes, np.arange(count), side)
    polytopes = _with_room(polytopes, mixed)
    one, two, common = _edges(polytopes, sides, mixed)
    grown, new = _with_points(polytopes, one, two, heights, column, level)
    second = np.full(count, -1, np.intp)
    second[mixed] = count + np.arange(int(mixed.sum()))
    owner, vertex, facets = polytopes.owner, polytopes.vertex, polytopes.facets
    bit = np.uint64(1) << polytopes.used.astype(np.uint64)
    inside, zero, minus = mixed[owner], sides == 0, sides < 0
    facets = np.where(inside & zero, facets | bit[owner], facets)
    keep, move, both = ~(inside & minus), inside & minus, inside & zero
    of_edge = owner[one]
    parts = [
        (owner[keep], vertex[keep], facets[keep]),
        (second[owner[move]], vertex[move], facets[move]),
        (second[owner[both]], vertex[both], facets[both]),
        (of_edge, new, common | bit[of_edge]),
        (second[of_edge], new, common | bit[of_edge]),
    ]
    owner, vertex, facets = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(owner, kind="stable")
    used = polytopes.used + mixed
    result = replace(
        grown,
        owner=owner[order],
        vertex=vertex[order],
        facets=facets[order],
        used=np.concatenate([used, used[mixed]]),
    )
    side[mixed] = 1
    parent = np.concatenate([np.arange(count), np.flatnonzero(mixed)])
    return Parts(result, parent, np.concatenate([side, np.full(int(mixed.sum()), -1, np.int8)]))


def _edges(polytopes: Polytopes, sides: Signs, mixed: NDArray[np.bool_]) -> tuple[Ints, Ints, Masks]:
    """Memberships of the two ends of each edge from a positive to a negative point, and the facets of the edge."""
    owner, facets = polytopes.owner, polytopes.facets
    plus = np.flatnonzero(mixed[owner] & (sides > 0))
    minus = np.flatnonzero(mixed[owner] & (sides < 0))
    start, size = grouped(owner[minus], polytopes.count)
    at, which = ranges(start[owner[plus]], size[owner[plus]])
    one, two = plus[which], minus[at]
    common = facets[one] & facets[two]
    likely = bit_count(common) >= polytopes.inputs - 1
    one, two, common = one[likely], two[likely], common[likely]
    start, size = grouped(owner, polytopes.count)
    at, which = ranges(start[owner[one]], size[owner[one]])
    holds = facets[at] & common[which] == common[which]
    edge = np.bincount(which[holds], minlength=len(one)) == 2
    return one[edge], two[edge], common[edge]


def _with_points(
    polytopes: Polytopes, one: Ints, two: Ints, heights: Array, column: int, level: Array | None
) -> tuple[Polytopes, Ints]:
    """A new point on each edge, one for all polytopes that share it, and its number for each of the edges given."""
    vertex, count = polytopes.vertex, len(polytopes.points)
    swap = vertex[one] > vertex[two]
    low, high = np.where(swap, two, one), np.where(swap, one, two)
    _, first, new = np.unique(
        vertex[low].astype(np.int64) * count + vertex[high], return_index=True, return_inverse=True
    )
    low, high = low[first], high[first]
    share = (heights[low] / (heights[low] - heights[high]))[:, None]
    u, v = vertex[low], vertex[high]
    points = polytopes.points[u] + share * (polytopes.points[v] - polytopes.points[u])
    fields = polytopes.fields[u] + share * (polytopes.fields[v] - polytopes.fields[u])
    if level is not None and column >= 0:
        fields[:, column] = level[polytopes.owner[low]]
    grown = replace(
        polytopes,
        points=np.concatenate([polytopes.points, points]),
        fields=np.concatenate([polytopes.fields, fields]),
    )
    return grown, count + new.ravel()


def _with_room(polytopes: Polytopes, mixed: NDArray[np.bool_]) -> Polytopes:
    """Facets that hold fewer than d points of their polytope are none; their numbers are given away again."""
    full = np.flatnonzero(mixed & (polytopes.used >= BITS))
    if not len(full):
        return polytopes
    facets, used = polytopes.facets.copy(), polytopes.used.copy()
    start, size = grouped(polytopes.owner, polytopes.count)
    for which in full:
        mine = slice(start[which], start[which] + size[which])
        bits = (facets[mine, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
        kept = np.flatnonzero(bits.sum(axis=0) >= polytopes.inputs)[:BITS]
        numbers = np.uint64(1) << np.arange(len(kept), dtype=np.uint64)
        facets[mine], used[which] = (bits[:, kept] * numbers).sum(axis=1, dtype=np.uint64), len(kept)
    # One with more facets than bits loses some; `covers` sees it where that matters.
    return replace(polytopes, facets=facets, used=np.minimum(used, BITS))


def sliced(polytopes: Polytopes, column: int, levels: Array, tolerance: float, ended: Callable[[int], bool]) -> Parts:
    """Cut where a field takes one of many levels: `mesh.sliced` of polytopes.

    Args:
        polytopes: what is cut.
        column: of the field.
        levels: ascending.
        tolerance: values so near to a level are there.
        ended: whether so many polytopes are enough; then levels stay uncut.
    """
    parent = np.arange(polytopes.count)
    start, stop = np.zeros(len(parent), np.intp), np.full(len(parent), len(levels), np.intp)
    side = np.zeros(len(parent), np.int8)
    while len(levels) and (start < stop).any() and not ended(polytopes.count):
        middle = (start + stop) // 2
        level = levels[np.minimum(middle, len(levels) - 1)]
        heights = polytopes.fields[polytopes.vertex, column] - level[polytopes.owner]
        sides = np.where((start < stop)[polytopes.owner], signs(heights, tolerance), np.int8(0))
        parts = cut(polytopes, heights, sides, column, level)
        start, stop, middle = start[parts.parent], stop[parts.parent], middle[parts.parent]
        above, left = parts.side > 0, start < stop
        start, stop = np.where(left & above, middle + 1, start), np.where(left & ~above, middle, stop)
        polytopes, parent, side = parts.polytopes, parent[parts.parent], parts.side
    return Parts(polytopes, parent, side)


def simplices_expected(polytopes: Polytopes) -> float:
    """About how many simplices `triangulated` makes: a few polytopes are tried, for it is quick to grow with d."""
    which = np.unique(np.linspace(0, polytopes.count - 1, TRIED).astype(np.intp))
    start, size = grouped(polytopes.owner, polytopes.count)
    at, owner = ranges(start[which], size[which])
    some = replace(
        polytopes,
        owner=owner,
        vertex=polytopes.vertex[at],
        facets=polytopes.facets[at],
        used=polytopes.used[which],
    )
    return len(triangulated(some)[1]) * polytopes.count / len(which)


def triangulated(polytopes: Polytopes) -> tuple[Mesh, Ints]:
    """Simplices of all polytopes by pulling, and the polytope that each is of."""
    d = polytopes.inputs
    face, vertex, facets = polytopes.owner, polytopes.vertex, polytopes.facets
    owner, chain = np.arange(polytopes.count), np.zeros((polytopes.count, 0), np.intp)
    for dimension in range(d, 0, -1):
        apex, at_apex = _apexes(face, vertex, facets, len(owner))
        chain = np.hstack([chain, apex[:, None]])
        if dimension > 1:
            faces = _faces(face, vertex, facets, at_apex, dimension)
        else:  # an edge: its other end
            rest = vertex != apex[face]
            faces = np.flatnonzero(rest), np.arange(int(rest.sum())), face[rest]
        members, face, above = faces
        vertex, facets = vertex[members], facets[members]
        owner, chain = owner[above], chain[above]
    cells = np.hstack([chain, vertex[:, None]]) if d else vertex[:, None]
    return Mesh(polytopes.points, cells, polytopes.fields), owner


def _apexes(face: Ints, vertex: Ints, facets: Masks, count: int) -> tuple[Ints, Masks]:
    """The point of least number of each face, and its facets; faces are ascending and none is empty."""
    start, _ = grouped(face, count)
    apex = np.minimum.reduceat(vertex, start)
    at_apex = np.flatnonzero(vertex == apex[face])  # one in each face
    return apex, facets[at_apex]


def _faces(face: Ints, vertex: Ints, facets: Masks, at_apex: Masks, dimension: int) -> tuple[Ints, Ints, Ints]:
    """The faces of one dimension less that do not hold the apex.

    Returns:
        the memberships of all of them, which new face each is of, ascending, and the old face of each new one.
    """
    members, numbers = _facet_numbers(facets & ~at_apex[face])
    old = face[members]
    sorted_ = keys_of((old, numbers, vertex[members]), (len(at_apex), 64, int(vertex.max(initial=0)) + 1))
    order = np.lexsort((vertex[members], numbers, old)) if sorted_ is None else np.argsort(sorted_)
    members, keys = members[order], (old * 64 + numbers)[order]
    sizes = np.diff(np.append(np.flatnonzero(np.diff(keys, prepend=-1)), len(keys)))
    whole = np.repeat(sizes >= dimension, sizes)
    members, keys = members[whole], keys[whole]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    sizes = np.diff(np.append(starts, len(keys)))
    new = np.repeat(np.arange(len(starts)), sizes)
    above = keys[starts] // 64
    return _once(members, new, above, vertex) if dimension == 2 else (members, new, above)


def _facet_numbers(masks: Masks) -> tuple[Ints, Ints]:
    """All pairs of a row and a bit that is set there, row by row."""
    rows, numbers = [], []
    for at in range(0, len(masks), ROWS):
        part = np.ascontiguousarray(masks[at : at + ROWS], dtype="<u8").view(np.uint8).reshape(-1, 8)
        row, number = np.divmod(np.flatnonzero(np.unpackbits(part, axis=1, bitorder="little")), 64)
        rows.append(row + at)
        numbers.append(number)
    return np.concatenate([np.zeros(0, np.intp), *rows]), np.concatenate([np.zeros(0, np.intp), *numbers])


def _once(members: Ints, new: Ints, above: Ints, vertex: Ints) -> tuple[Ints, Ints, Ints]:
    """Edges that several facets name are taken once: pairs of ascending points."""
    start, size = grouped(new, len(above))
    pairs = size == 2  # others are no edges; `covers` sees that something is wrong
    start, above = start[pairs], above[pairs]
    one, two = members[start], members[start + 1]
    _, first = np.unique(np.stack([above, vertex[one], vertex[two]]), axis=1, return_index=True)
    first = np.sort(first)
    both = np.stack([one[first], two[first]], axis=1).ravel()
    return both, np.repeat(np.arange(len(first)), 2), above[first]


def covers(mesh: Mesh, lower: Array, upper: Array) -> bool:
    """Whether the cells cover the box, as a complex does that was made of it by cutting.

    Asked is that every face of d points is one of two cells, or of one cell and on a face of the box; that no cell lies
    in a face of the box; and that an odd number of cells has a face on x_1 = l_1, one of that on x_2 = l_2 and so on.
    Modulo 2 the boundary of the sum of the cells then lies on that of the box, so that the number of cells which hold x
    has the same parity for almost all x of the box, and this parity is that of the parts on x_1 = l_1, of their parts
    on x_2 = l_2, and so on: odd. Hence the cells cover the box, and the volume that they cover more than once is at
    most the sum of their volumes less that of the box. The places of the points may be rounded: only faces of the box
    must be met exactly, and they are (u + t (v - u) = u where u = v).
    """
    d = mesh.inputs
    if d == 0:
        return len(mesh.cells) == 1
    cells = np.sort(mesh.cells, axis=1)
    if not len(cells) or (np.diff(cells, axis=1) == 0).any():
        return False
    alone, most = _lonely(cells, len(mesh.points))
    low, high = mesh.points == lower, mesh.points == upper
    at_border = (low[alone].all(axis=1) | high[alone].all(axis=1)).any(axis=1)
    flat = low[cells].all(axis=1).any() or high[cells].all(axis=1).any()
    nested = np.logical_and.accumulate(low, axis=1)[cells].sum(axis=1)  # points on the first k faces, k = 1..d
    flags = int((nested == np.arange(d, 0, -1)).all(axis=1).sum())
    return bool(most <= 2 and at_border.all() and not flat and flags % 2 == 1)


def _lonely(cells: Ints, points: int) -> tuple[Ints, int]:
    """The faces that one cell alone has, and how many cells a face has at most; points of cells are ascending."""
    d = cells.shape[1] - 1
    columns = [np.concatenate([cells[:, j + (j >= k)] for k in range(d + 1)]) for j in range(d)]
    keys = keys_of(columns, [points] * d)
    if keys is not None:  # to sort numbers is far quicker than to sort rows
        keys, sizes = _counted(np.sort(keys))
        faces = np.stack([keys // points ** (d - 1 - j) % points for j in range(d)], axis=1)
        return faces[sizes == 1], int(sizes.max())
    faces = np.stack(columns, axis=1)
    faces = faces[np.lexsort(faces.T)]
    starts = np.flatnonzero(np.append(True, (np.diff(faces, axis=0) != 0).any(axis=1)))
    sizes = np.diff(np.append(starts, len(faces)))
    return faces[starts[sizes == 1]], int(sizes.max())


def _counted(ascending: NDArray[np.int64]) -> tuple[NDArray[np.int64], Ints]:
    """Each number once, and how often it is there."""
    starts = np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1]))
    return ascending[starts], np.diff(np.append(starts, len(ascending)))
