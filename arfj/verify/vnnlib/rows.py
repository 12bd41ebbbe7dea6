"""Rows of polyhedra: exact coefficients to float64, so that no unsafe set becomes smaller."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

import numpy as np

from arfj.verify.property import Polyhedron
from arfj.verify.vnnlib.exact import Refused, below, to_float
from arfj.verify.vnnlib.terms import Row

RoundedRow = tuple[tuple[tuple[int, float], ...], float, bool]
"""Pairs (output, coefficient), constant, strict: all float64, so that equal rows are equal keys."""


def rounded(row: Row) -> RoundedRow:
    """The row in float64, its coefficients exact where 53 bits suffice (else nearest), its constant rounded down.

    Raises:
        Refused: a number is beyond float64.
    """
    factor = _factor([coefficient for _, coefficient in row.coefficients])
    if factor == 1:
        coefficients = tuple((output, _coefficient(value)) for output, value in row.coefficients)
        return coefficients, below(row.constant), row.strict
    coefficients = tuple((output, _coefficient(value * factor)) for output, value in row.coefficients)
    return coefficients, below(Fraction(row.constant) * factor), row.strict


def polyhedron(rows: Sequence[RoundedRow], outputs: int) -> Polyhedron:
    """The polyhedron of these rows over all outputs."""
    matrix = np.zeros((len(rows), outputs))
    for i, (coefficients, _, _) in enumerate(rows):
        for output, value in coefficients:
            matrix[i, output] = value
    offset = np.array([constant for _, constant, _ in rows], dtype=np.float64)
    return Polyhedron(matrix, offset, np.array([strict for _, _, strict in rows], dtype=np.bool_))


def _factor(coefficients: Sequence[Fraction]) -> Fraction:
    """What to multiply a row with so that its coefficients are float64; 1 if there is no such number at hand."""
    if all(abs(coefficient) == 1 for coefficient in coefficients):
        return Fraction(1)
    if len(coefficients) == 1:
        return 1 / abs(coefficients[0])
    common = lcm(*(coefficient.denominator for coefficient in coefficients))
    # Over a power of two, which changes no digit, so that margins keep their scale.
    for factor in (Fraction(1), Fraction(common, 1 << (common.bit_length() - 1))):
        if all(_is_float(coefficient * factor) for coefficient in coefficients):
            return factor
    return Fraction(1)


def _is_float(value: Fraction) -> bool:
    return to_float(value) == value


def _coefficient(value: Fraction) -> float:
    nearest = to_float(value)
    if nearest == 0:
        raise Refused("a coefficient is beyond float64; multiply the comparison by a large number")
    return nearest
