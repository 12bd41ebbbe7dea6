"""Rules that integrate polynomials over simplices exactly: with positive weights for floats, rational for fractions."""

from __future__ import annotations

import functools
import itertools
from fractions import Fraction
from math import comb, factorial

import numpy as np
from scipy.special import roots_jacobi

from arfj.certify.cdf.mesh import Array
from arfj.network import Floats


@functools.cache
def conical(d: int, degree: int) -> tuple[Floats, Floats]:
    """Barycentric nodes, shape (q^d, d + 1), and weights of sum 1 that are all positive; exact up to the degree.

    With x_1 = 1 - s_1, x_2 = s_1 (1 - s_2), .. the simplex is a cube with the weight s_1^(d-1) s_2^(d-2) .., and
    q = floor(degree / 2) + 1 points of a Gauss-Jacobi rule serve in each direction.

    Source: A. H. Stroud, Approximate Calculation of Multiple Integrals, 1971, section 2.4.
    """
    q = degree // 2 + 1
    rules = []
    for k in range(d):
        nodes, weights = roots_jacobi(q, 0.0, float(d - 1 - k))
        rules.append((0.5 * (nodes + 1), weights / weights.sum()))
    points, sizes = [], []
    for chosen in itertools.product(range(q), repeat=d):
        left, weight, row = 1.0, 1.0, []
        for k, i in enumerate(chosen):
            s = float(rules[k][0][i])
            row.append(left * (1 - s))
            left, weight = left * s, weight * float(rules[k][1][i])
        points.append([*row, left])
        sizes.append(weight)
    return np.array(points).reshape(-1, d + 1), np.array(sizes)


@functools.cache
def rational(d: int, degree: int) -> tuple[Array, Array]:
    """Barycentric nodes and weights of sum 1 as fractions; exact up to the degree.

    Source: A. Grundmann and H. M. Möller, Invariant integration formulas for the n-simplex by combinatorial methods,
    SIAM J. Numer. Anal. 15, 1978, Theorem 4.
    """
    s = max(0, -(-(degree - 1) // 2))
    whole = 2 * s + 1
    points, weights = [], []
    for i in range(s + 1):
        base = whole + d - 2 * i
        weight = Fraction((-1) ** i * base**whole, 2 ** (2 * s) * factorial(i) * factorial(whole + d - i)) * factorial(
            d
        )
        for split in _compositions(s - i, d + 1):
            points.append([Fraction(2 * part + 1, base) for part in split])
            weights.append(weight)
    if len(points) != comb(d + s + 1, d + 1):
        raise AssertionError("a rule of Grundmann and Möller has the wrong number of nodes")
    return _objects(points), _objects(weights)


def _compositions(total: int, parts: int) -> list[tuple[int, ...]]:
    if parts == 1:
        return [(total,)]
    return [(first, *rest) for first in range(total + 1) for rest in _compositions(total - first, parts - 1)]


def _objects(values: list[list[Fraction]] | list[Fraction]) -> Array:
    result = np.empty(np.shape(np.array([[0] * len(v) if isinstance(v, list) else 0 for v in values])), dtype=object)
    result[...] = np.array(values, dtype=object)
    return result


def nodes(d: int, degree: int, exact: bool) -> tuple[Array, Array]:
    """The rule for floats or for fractions."""
    return rational(d, degree) if exact else conical(d, degree)
