r"""Mean values of Gaussians over simplices by rules with a proven remainder: three inputs and more.

For y in a cell with centroid c, at most rho from it, and a Gaussian g(y) = exp(-|y - m|^2 / 2): along a line through c
the k-th derivative of g is He_k(s) exp(-s^2 / 2) exp(-h^2 / 2) up to its sign, s the place along the line and h its
distance from m. By Cramer's inequality |He_k(s)| exp(-s^2 / 4) <= 1.0865 sqrt(k!), so that the rest of the Taylor
polynomial of degree n at c is at most

    1.0865 |y - c|^(n+1) / sqrt((n+1)!) exp(-D^2 / 4),   D = max(|c - m| - rho, 0).

A rule with positive weights that is exact to degree n misses at most the mean of that over the cell, which a rule of
degree n + 1 has exactly for odd n, and its own mean of it. Each pair of a cell and a Gaussian takes the first rule of a
ladder whose remainder is small enough. Pairs that are far from each other get no rule: there 0 and the value at
distance D are near enough. Nodes y = sum_i t_i v_i cost a product of matrices: |y - m|^2 = sum_ij t_i t_j G_ij, G the
scalar products of v_i - m.

Source: M. Abramowitz and I. A. Stegun, Handbook of Mathematical Functions, 1964, 22.14.17 (Cramer's inequality).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import factorial, sqrt

import numpy as np

from arfj.certify.cdf.mesh import Ints
from arfj.certify.cdf.quadrature import conical
from arfj.network import Floats

FAR = 6.0
"""Whitened distance behind which a cell gets no rule: exp(-18) of the greatest value is left there."""
WIDE = 6.0
"""The radius from which on it gets none either: no polynomial is near to a Gaussian there."""
LADDER = (5, 9, 13, 17)
"""Degrees of the rules."""
NODES = 1000
"""Nodes that a rule may have; behind the first one in the ladder."""
ENOUGH = 1e-7
"""A remainder, relative to the greatest value of the Gaussian, at which no better rule is asked for."""
CRAMER = 1.0865
ROUNDING = 4e-12
"""Relative: of exponents (T + 6 roundings of terms of size (FAR + 2 WIDE)^2 / 2 at most), of exp, and of sums."""
CELLS = 2**16
"""Cells that are worked on at a time: their corners stay in the cache."""
BLOCK = 2**18
"""Values at nodes that are worked on at a time."""
Pair = tuple[Floats, Floats]


def balls(corners: Floats) -> Pair:
    """The centroid of each cell, shape (d, cells), and the radius around it that holds its corners."""
    centre = corners.sum(axis=0) / len(corners)
    squares = np.zeros(centre.shape[1])
    for corner in corners:
        np.maximum(squares, ((corner - centre) ** 2).sum(axis=0), out=squares)
    return centre, np.sqrt(squares) * (1 + 1e-12)


def greatest(corners: Floats, means: Floats, weights: Floats, slip: float) -> Floats:
    """An upper bound of sum_k w_k exp(-|y - m_k|^2 / 2) on each cell, shape (cells,).

    Args:
        corners: shape (cells, d + 1, d).
        means: m, shape (components, d).
        weights: w, shape (components,).
        slip: by how much distances may be off.
    """
    result = np.zeros(len(corners))
    for part in _parts(len(corners), len(means)):
        _, _, gap = _gaps(_cells_last(corners[part]), means, slip)
        result[part] = np.exp(-0.5 * gap**2) @ weights
    return result * (1 + 1e-9)


def mean_values(corners: Floats, means: Floats, weights: Floats, slip: float) -> Pair:
    """Bounds of the mean of sum_k w_k exp(-|y - m_k|^2 / 2) over each cell, shapes (cells,); arguments as above."""
    low, high = np.zeros(len(corners)), np.zeros(len(corners))
    for part in _parts(len(corners), len(means)):
        here = _cells_last(corners[part])
        centre, radius, gap = _gaps(here, means, slip)
        least, most = np.zeros(gap.shape), np.exp(-0.5 * gap**2) * (1 + 1e-12)
        cell, component = np.nonzero((gap < FAR) & (radius < WIDE)[:, None])
        if len(cell):
            least[cell, component], most[cell, component] = _near(
                here, centre, cell, means.T[:, component], gap[cell, component], most[cell, component], slip
            )
        low[part], high[part] = least @ weights * (1 - 1e-12), most @ weights * (1 + 1e-12)
    return low, high


def _cells_last(corners: Floats) -> Floats:
    """The same as (d + 1, d, cells): what is done for each coordinate is then done along memory."""
    return np.ascontiguousarray(np.moveaxis(corners, 0, 2))


def _parts(cells: int, components: int) -> list[slice]:
    step = max(1, min(CELLS, BLOCK // components))
    return [slice(at, min(at + step, cells)) for at in range(0, cells, step)]


def _gaps(corners: Floats, means: Floats, slip: float) -> tuple[Floats, Floats, Floats]:
    """Centroids, radii, and lower bounds of the distance from each mean to each cell, shape (cells, components)."""
    from scipy.spatial.distance import cdist

    centre, radius = balls(corners)
    far = cdist(centre.T, means) * (1 - 1e-12)
    return centre, radius, np.maximum(far - radius[:, None] - slip, 0.0)


def _near(corners: Floats, centre: Floats, cell: Ints, mean: Floats, gap: Floats, most: Floats, slip: float) -> Pair:
    """Bounds of the mean value for pairs of a cell and a mean, shape (d, pairs)."""
    least, most = np.zeros(len(cell)), most.copy()
    degree, rest = _chosen(corners - centre, cell, CRAMER * np.exp(-0.25 * gap**2) * (1 + 1e-9))
    for each in ladder(len(centre)):
        ready = np.flatnonzero((degree == each) & (rest < most))  # no other remainder says anything
        value = _values(np.take(corners, cell[ready], axis=2) - mean[:, ready], each)
        margin = rest[ready] + ROUNDING * value + slip + 1e-14
        least[ready] = np.maximum(value - margin, 0.0)
        most[ready] = np.minimum(most[ready], value + margin)
    return least, most


def _chosen(steps: Floats, cell: Ints, damped: Floats) -> tuple[Ints, Floats]:
    """The degree of each pair and its remainder: the first that is good enough, or the best of all."""
    degree, rest = np.zeros(len(cell), np.intp), np.full(len(cell), np.inf)
    open_ = np.arange(len(cell))
    for each in ladder(steps.shape[1]):
        wanted, place = np.unique(cell[open_], return_inverse=True)
        found = _remainders(np.take(steps, wanted, axis=2), each)[place] * damped[open_]
        better = found < rest[open_]
        degree[open_[better]], rest[open_[better]] = each, found[better]
        open_ = open_[found > ENOUGH]
        if not len(open_):
            break
    return degree, rest


@functools.cache
def ladder(d: int) -> tuple[int, ...]:
    """Degrees of the rules in d dimensions."""
    return tuple(n for n in LADDER if n == LADDER[0] or (n // 2 + 1) ** d <= NODES)


@functools.cache
def _forms(d: int, degree: int) -> tuple[Floats, Floats]:
    """(nodes, T) and weights: the first times upper triangles of scalar products are the |sum_i t_i a_i|^2 at nodes."""
    shares, weights = conical(d, degree)
    one, two = np.triu_indices(d + 1)
    return shares[:, one] * shares[:, two] * np.where(one == two, 1.0, 2.0), weights


def _products(steps: Floats) -> Floats:
    """The upper triangle of scalar products of the corners, shape (T, cells)."""
    one, two = np.triu_indices(len(steps))
    result = np.empty((len(one), steps.shape[2]))
    for row, i, j in zip(result, one, two, strict=True):
        np.einsum("kn,kn->n", steps[i], steps[j], out=row)
    return result


def _remainders(steps: Floats, degree: int) -> Floats:
    """(the mean of |y - c|^(n+1) over each cell + that over the nodes) / sqrt((n+1)!), from v_i - c."""
    total, products = np.zeros(steps.shape[2]), _products(steps)
    for rule in (degree, degree + 2):  # the second one is exact for degree n + 1
        form, weights = _forms(steps.shape[1], rule)
        total += _by_blocks(products, form, weights, functools.partial(_power, exponent=(degree + 1) // 2))
    return total / sqrt(factorial(degree + 1)) * (1 + 1e-9)


def _power(base: Floats, exponent: int) -> Floats:
    """By multiplications: a general power costs as much as many of them."""
    result = base
    for bit in bin(exponent)[3:]:
        result = result * result * base if bit == "1" else result * result
    return result


def _values(steps: Floats, degree: int) -> Floats:
    """The rule for exp(-|y - m|^2 / 2), from v_i - m."""
    form, weights = _forms(steps.shape[1], degree)
    return _by_blocks(_products(steps), -0.5 * form, weights, np.exp)


def _by_blocks(products: Floats, form: Floats, weights: Floats, function: Callable[[Floats], Floats]) -> Floats:
    """The rule of a function of quadratic forms."""
    result, step = np.zeros(products.shape[1]), max(1, BLOCK // len(weights))
    for at in range(0, len(result), step):
        result[at : at + step] = weights @ function(form @ products[:, at : at + step])
    return result
