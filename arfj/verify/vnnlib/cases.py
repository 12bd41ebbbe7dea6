"""Formulas to cases: exact intersection of bounds, one box a case, polyhedra in float64.

Bounds on inputs are rounded outwards, the constant of a row downwards (which enlarges {A y + d <= 0}): the sets that
a proof covers hold all real points of the file's sets, and reach beyond them by less than one unit in the last place of
each constant. A counterexample is held to these same float64 sets, without any tolerance. A strict bound is exact: with
b rounded up, the float64 x < b are those below the b of the file.

Coefficients are kept exactly: where a decimal is no float64, the row is multiplied by the common denominator. Where
that takes more than 53 bits, each coefficient is the nearest float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, product
from math import prod

from arfj.verify.property import Case, Declaration, Polyhedron, Property
from arfj.verify.vnnlib.boxes import Box, Rounded, Sides
from arfj.verify.vnnlib.exact import Refused
from arfj.verify.vnnlib.rows import RoundedRow, polyhedron, rounded
from arfj.verify.vnnlib.terms import Atom, Bound, Formula, Row, check_size

_MOST_NUMBERS = 50_000_000
"""Numbers in all boxes, and in all polyhedra: 400 MB each."""


def assemble(
    inputs: int, outputs: int, assertions: Sequence[Formula], declaration: Declaration | None = None
) -> Property:
    """The property of a conjunction of formulas.

    Raises:
        Refused: an input without bounds in some disjunct, or a form that is too large.
    """
    check_size(prod(map(len, assertions)))
    cases = _Cases(inputs, outputs, list(chain.from_iterable(form[0] for form in assertions if len(form) == 1)))
    for choice in product(*(form for form in assertions if len(form) != 1)):
        cases.add(list(chain.from_iterable(choice)))
    return cases.finish(declaration)


class _Cases:
    """Collects disjuncts: equal boxes share a case, equal polyhedra are one object. `common` holds in each of them."""

    def __init__(self, inputs: int, outputs: int, common: Sequence[Atom]) -> None:
        self._inputs, self._outputs = inputs, outputs
        bounds, rows = _split(common)
        self._rows = tuple(map(rounded, rows))
        self._box = Box(bounds)
        self._contradiction = self._box.contradiction()
        self._empty = self._contradiction is not None
        self._sides = Sides.unbounded(inputs).within(self._box.rounded())
        self._found: dict[Rounded, tuple[Sides, dict[Polyhedron, None]]] = {}
        self._polyhedra: dict[tuple[RoundedRow, ...], Polyhedron] = {}

    def add(self, disjunct: Sequence[Atom]) -> None:
        """One more conjunction; one whose box is empty adds nothing."""
        bounds, rows = _split(disjunct)
        box = Box(bounds, self._box)
        index = box.contradiction()
        if index is not None:
            self._contradiction = index
        if index is None and not self._empty:
            ends = box.rounded()
            if ends not in self._found:
                self._found[ends] = (self._new_sides(ends), {})
            self._found[ends][1][self._polyhedron((*self._rows, *map(rounded, rows)))] = None

    def _new_sides(self, ends: Rounded) -> Sides:
        _check_memory(len(self._found) * self._inputs, "boxes")
        sides = self._sides.within(ends)
        sides.check_complete()
        return sides

    def _polyhedron(self, rows: tuple[RoundedRow, ...]) -> Polyhedron:
        if rows not in self._polyhedra:
            _check_memory(len(self._polyhedra) * len(rows) * self._outputs, "polyhedra")
            self._polyhedra[rows] = polyhedron(rows, self._outputs)
        return self._polyhedra[rows]

    def finish(self, declaration: Declaration | None) -> Property:
        cases = tuple(
            Case(sides.lower, sides.upper, tuple(unsafe), sides.open_lower, sides.open_upper)
            for sides, unsafe in self._found.values()
        )
        return Property(cases, self._inputs, self._outputs, "" if cases else self._reason(), declaration)

    def _reason(self) -> str:
        if self._contradiction is None:
            return "the assertions cannot all hold, whatever the inputs and outputs"
        return f"the input set is empty: the bounds of X_{self._contradiction} contradict each other"


def _check_memory(numbers: int, what: str) -> None:
    if numbers > _MOST_NUMBERS:
        raise Refused(f"the {what} hold over {_MOST_NUMBERS} numbers; split the property into several files")


def _split(atoms: Sequence[Atom]) -> tuple[list[Bound], list[Row]]:
    return [atom for atom in atoms if type(atom) is Bound], [atom for atom in atoms if type(atom) is Row]
