r"""How far a network is from the values that its points give a convex polytope.

For weights t_i >= 0 of sum 1 write x = sum_i t_i v_i and I h = sum_i t_i h(v_i) over the points v_i of the polytope.
Node by node an interval [a, b] is found with h(x) - I h in [a, b] for all such weights (on a simplex I h is the affine
function through the values at its points):

    affine      z = h W + b is affine in h: [a, b] is carried through W by interval arithmetic.
    activation  act(z) - I act(z) = (act(I z + e) - act(I z)) + (act(I z) - I act(z)),   e in [a, b],
                and I z lies between the least and the greatest z(v_i). The first part is bounded by slopes in [0, 1];
                ReLU passes e through where its argument cannot be negative and nothing where it cannot be positive.
                The second is in [-g, 0] for a ReLU, g = l u / (l + u) for values in [-l, u] (its greatest distance from
                the chord), and in [-max(act'', 0) w^2 / 8, max(-act'', 0) w^2 / 8] for values in an interval of width
                w: act + M z^2 / 2 is convex for M >= -act'', and sum_i t_i z_i^2 - (sum_i t_i z_i)^2 <= w^2 / 4.

On a linear region of a ReLU network both vanish, up to rounding; elsewhere they fall with the square of the size of C.
Sides of ReLUs that rounding has mistaken, and regions that were not enumerated, are covered alike: they widen [a, b].
"""

from __future__ import annotations

import numpy as np

from arfj.bounds.backward import absolute
from arfj.certify.cdf.evaluation import LIBRARY, Evaluation
from arfj.certify.cdf.mesh import Array, Ints
from arfj.certify.cdf.polytopes import Polytopes, grouped
from arfj.errors import ArfjError
from arfj.graph import Activation, Affine, Kind
from arfj.network import Floats

Pair = tuple[Floats, Floats]
WIDER = 1e-12
"""Relative widening of intervals for the roundings of a node, far above what a few operations on them can do."""
CHUNK = 2**22
"""Numbers of an array that are worked on at a time."""


def deviations(evaluation: Evaluation, polytopes: Polytopes) -> Pair:
    """[a, b] of every polytope and output, shapes (polytopes, outputs); the values at points are the true ones."""
    values = evaluation.values(polytopes.points)
    start, sizes = grouped(polytopes.owner, polytopes.count)
    if evaluation.exact:
        return _exact(evaluation, polytopes, values, start)
    rounding = evaluation.rounding(values)
    step = max(1, CHUNK // (max(evaluation.graph.sizes) * int(sizes.max())))
    parts = []
    for at in range(0, polytopes.count, step):
        chosen = slice(start[at], start[at] + int(sizes[at : at + step].sum()))
        parts.append(
            _of_part(evaluation, polytopes.vertex[chosen], start[at : at + step] - start[at], values, rounding)
        )
    low, high = (np.concatenate(part) for part in zip(*parts, strict=True))
    return low, high


def _of_part(evaluation: Evaluation, vertex: Ints, start: Ints, values: list[Array], rounding: list[Floats]) -> Pair:
    found: list[Pair] = [(np.zeros((len(start), values[0].shape[1])),) * 2]
    for node in evaluation.graph.nodes:
        if isinstance(node, Affine):
            found.append(_affine(node, found))
            continue
        low, high = _extremes(values[node.source], vertex, start)
        error = rounding[node.source]
        found.append(_activation(node.kind, low - error, high + error, found[node.source]))
    return found[-1]


def _extremes(values: Array, vertex: Ints, start: Ints) -> Pair:
    """The least and the greatest value over the points of each polytope; faster than `reduceat`, which goes by rows."""
    sizes = np.diff(np.append(start, len(vertex)))
    order = np.argsort(-sizes, kind="stable")
    first, sizes = start[order], sizes[order]
    low = values[vertex[first]]
    high = low.copy()
    for k in range(1, int(sizes[0])):
        count = int(np.searchsorted(-sizes, -k))  # of the polytopes that have more than k points
        rows = values[vertex[first[:count] + k]]
        np.minimum(low[:count], rows, out=low[:count])
        np.maximum(high[:count], rows, out=high[:count])
    back = np.argsort(order)
    return low[back], high[back]


def _affine(node: Affine, found: list[Pair]) -> Pair:
    low: Floats | float = 0.0
    high: Floats | float = 0.0
    for source, matrix in zip(node.sources, node.maps, strict=True):
        a, b = found[source]
        sizes = absolute(matrix)
        middle, reach = (0.5 * (a + b)) @ matrix, (0.5 * (b - a)) @ sizes
        size = (np.abs(a) + np.abs(b)) @ sizes
        low = low + (middle - reach - WIDER * size)
        high = high + (middle + reach + WIDER * size)
    return np.asarray(low), np.asarray(high)


def _activation(kind: Kind, low: Floats, high: Floats, error: Pair) -> Pair:
    """[a, b] behind an activation whose argument is within [low, high] at the points of a cell."""
    a, b = error
    if kind == "relu":
        never, always = high + b <= 0, low + a >= 0
        down, up = np.minimum(a, 0.0), np.maximum(b, 0.0)
        down, up = np.where(always, a, np.where(never, 0.0, down)), np.where(always, b, np.where(never, 0.0, up))
        width = np.where(high > low, high - low, 1.0)
        gap = np.where((low < 0) & (high > 0), -low / width * high, 0.0)
        return down - gap * (1 + WIDER), up
    least, most = curvature(kind, low, high)
    square = (1 + WIDER) * (high - low) ** 2 / 8
    reach = (1 + WIDER) * (value(kind, high) - value(kind, low)) + 2 * LIBRARY
    steep = slope(kind, low + a, high + b)
    down = np.minimum(a, 0.0) * steep - np.minimum(np.maximum(most, 0.0) * square, reach)
    return down, np.maximum(b, 0.0) * steep + np.minimum(np.maximum(-least, 0.0) * square, reach)


def value(kind: Kind, z: Floats) -> Floats:
    """tanh(z), or sigmoid(z) = (1 + tanh(z / 2)) / 2."""
    return np.tanh(z) if kind == "tanh" else 0.5 + 0.5 * np.tanh(0.5 * z)


def slope(kind: Kind, low: Floats, high: Floats) -> Floats:
    """An upper bound of act' on [low, high]: 1 - tanh^2 at the point of least size."""
    factor, scale = (1.0, 1.0) if kind == "tanh" else (0.5, 0.25)
    nearest = np.where((low <= 0) & (high >= 0), 0.0, np.minimum(np.abs(low), np.abs(high)))
    return np.asarray(scale * np.minimum(1.0, 1.0 - np.tanh(factor * nearest) ** 2 + 8 * LIBRARY))


def curvature(kind: Kind, low: Floats, high: Floats) -> Pair:
    """Bounds of act'' on [low, high]: -2 t (1 - t^2) with t = tanh, which has its extremes at t = -+ 1/sqrt(3)."""
    factor, scale = (1.0, 1.0) if kind == "tanh" else (0.5, 0.125)
    one, two = np.tanh(factor * low), np.tanh(factor * high)
    ends = [-2 * t * (1 - t * t) for t in (one, two)]
    peak, top = 1 / np.sqrt(3.0), 4 / (3 * np.sqrt(3.0))
    least = np.where((one <= peak) & (two >= peak), -top, np.minimum(*ends))
    most = np.where((one <= -peak) & (two >= -peak), top, np.maximum(*ends))
    return scale * (least - 1e-14), scale * (most + 1e-14)


def _exact(evaluation: Evaluation, polytopes: Polytopes, values: list[Array], start: Ints) -> Pair:
    """Zeros: in fractions every ReLU has one side on every polytope, or these are not the regions of the network."""
    for node in evaluation.graph.nodes:
        if isinstance(node, Activation):
            at = values[node.source][polytopes.vertex]
            low, high = np.minimum.reduceat(at, start), np.maximum.reduceat(at, start)
            if node.kind != "relu" or ((low < 0) & (high > 0)).any():
                raise ArfjError("a region was left uncut in the exact mode; allow more cells, or leave out --exact")
    zeros = np.zeros((polytopes.count, evaluation.graph.classes))
    return zeros, zeros
