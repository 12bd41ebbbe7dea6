r"""Values of a polynomial of one coordinate at the nodes of a rule, in many simplices at once.

Along a coordinate x of a simplex with corners v_i a polynomial of degree n is one of the barycentric coordinates s:
sum over |a| = n of n! / a! s^a b_a, with b_a the blossom of the polynomial, at x(v_i) as often as a_i says. Blossoms
come from the Bernstein coefficients c_0 .. c_n by n steps c_j <- (1 - t_i) c_j + t_i c_(j+1), one for each argument,
and so are convex combinations of them where all t_i are in [0, 1]. The rest is one product of matrices for all cells,
of numbers >= 0 that do not cancel.

Source: L. Ramshaw, Blossoms are polar forms, Computer Aided Geometric Design 6, 1989.
"""

from __future__ import annotations

import functools
import itertools
from math import factorial, prod

import numpy as np

from arfj.certify.cdf.mesh import Ints
from arfj.certify.cdf.quadrature import conical
from arfj.network import Floats


def values(coefficients: Floats, t: Floats, degree: int) -> Floats:
    """The polynomial of each cell at the nodes of the conical rule of a degree, shape (cells, nodes).

    Args:
        coefficients: c_0 .. c_n of each cell, shape (n + 1, cells).
        t: where the coordinate has its corners, 0 at the beginning of the piece and 1 at its end, shape (d + 1, cells).
        degree: of the rule.
    """
    n, corners = len(coefficients) - 1, len(t)
    found = coefficients[None]  # (multisets of so many corners, coefficients left, cells)
    for size in range(1, n + 1):
        before, last = _steps(corners, size)
        at, share = found[before], t[last][:, None]
        found = at[:, :-1] + share * (at[:, 1:] - at[:, :-1])
    return found[:, 0].T @ _form(corners - 1, n, degree)


def terms(d: int, n: int) -> int:
    """How many terms a polynomial of degree n has in barycentric coordinates."""
    return len(_multisets(d + 1, n))


@functools.cache
def _multisets(corners: int, size: int) -> list[tuple[int, ...]]:
    return list(itertools.combinations_with_replacement(range(corners), size))


@functools.cache
def _steps(corners: int, size: int) -> tuple[Ints, Ints]:
    """For each multiset: the place of the one without its last element among those of one less, and that element."""
    order = {chosen: place for place, chosen in enumerate(_multisets(corners, size - 1))}
    every = _multisets(corners, size)
    return np.array([order[chosen[:-1]] for chosen in every]), np.array([chosen[-1] for chosen in every])


@functools.cache
def _form(d: int, n: int, degree: int) -> Floats:
    """n! / a! s^a at the nodes s, shape (terms, nodes)."""
    shares, _ = conical(d, degree)
    rows = []
    for chosen in _multisets(d + 1, n):
        powers = np.bincount(np.array(chosen, dtype=np.intp), minlength=d + 1)
        rows.append(factorial(n) // prod(map(factorial, powers.tolist())) * (shares**powers).prod(axis=1))
    return np.array(rows)
