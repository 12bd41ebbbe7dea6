r"""What is asked: whether some input of a set drives the outputs into an unsafe set.

    falsified  <=>  there are a case (box, rows) and x with lower <= x <= upper and A f(x) + d <= 0 for some (A, d) of rows

A VNN-LIB file in disjunctive form is a tuple of cases: each has a box and a disjunction of polyhedra of outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

from arfj.network import Floats


@dataclass(frozen=True, eq=False)
class Polyhedron:
    """{y : A y + d <= 0}, an unsafe set of outputs (one conjunction).

    Attributes:
        matrix: A, shape (rows, outputs); no row means all outputs.
        offset: d, shape (rows,).
    """

    matrix: Floats
    offset: Floats


@dataclass(frozen=True, eq=False)
class Case:
    """A box of inputs and the polyhedra that are unsafe there (a disjunction; none: nothing is unsafe).

    Attributes:
        lower, upper: shape (inputs,), float64.
        unsafe: the polyhedra.
    """

    lower: Floats
    upper: Floats
    unsafe: tuple[Polyhedron, ...]


@dataclass(frozen=True, eq=False)
class Property:
    """A disjunction of cases: `falsified` if any of them has a counterexample, `robust` if none has.

    Attributes:
        cases: those with an empty box are left out by the reader.
        inputs, outputs: how many variables the file declares.
    """

    cases: tuple[Case, ...]
    inputs: int
    outputs: int
