"""Terms and formulas, reduced as soon as they are read: linear expressions, and disjunctions of conjunctions of atoms.

A variable is an integer: X_i is i, Y_j is -1 - j. All arithmetic is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import chain, product
from math import prod
from typing import NamedTuple

from arfj.verify.vnnlib.exact import Number, Refused, decimal, shown

MOST_DISJUNCTS = 100_000
"""A file that asks for more is refused: its disjunctive form would fill the memory."""
_ONE = Fraction(1)


class Linear(NamedTuple):
    """sum of terms[v] v + constant, with no zero among the coefficients."""

    terms: Mapping[int, Fraction]
    constant: Fraction


class Bound(NamedTuple):
    """X_variable <= value (upper) or X_variable >= value; without equality if strict."""

    variable: int
    upper: bool
    value: Number
    strict: bool


class Row(NamedTuple):
    """sum of coefficients[j] Y_j + constant <= 0; < 0 if strict."""

    coefficients: tuple[tuple[int, Fraction], ...]
    constant: Number
    strict: bool


Atom = Bound | Row
Conjunction = tuple[Atom, ...]
Formula = list[Conjunction]
"""A disjunction: [] is false, [()] is true."""
Item = str | Linear | Formula | None
"""What stands in a form: a token, a reduced term, a reduced formula; None is the form ()."""


class Terms:
    """Reduces forms over the declared variables.

    Attributes:
        variables: name -> variable (see the module).
    """

    def __init__(self) -> None:
        self.variables: dict[str, int] = {}
        self._numbers: dict[str, Decimal] = {}

    def reduce(self, form: Sequence[Item]) -> Linear | Formula:
        """The value of (operator argument ...), whose arguments are tokens or reduced already.

        Raises:
            Refused: an unknown operator, wrong arguments, or something that is not linear.
        """
        operator, arguments = form[0], form[1:]
        if not isinstance(operator, str):
            raise Refused("a form starts with a parenthesis; expected an operator such as <=, and, or, +")
        if operator in _COMPARISONS:
            return self._comparison(operator, arguments)
        if operator in _CONNECTIVES:
            return _CONNECTIVES[operator](_formulas(operator, arguments))
        if operator in _ARITHMETIC:
            if not arguments:
                raise Refused(f"({operator}) has no argument; expected numbers or variables")
            return _ARITHMETIC[operator]([self.linear(argument) for argument in arguments])
        raise Refused(f"{shown(operator)} is not supported here; expected <=, >=, <, >, =, and, or, +, -, * or /")

    def linear(self, item: Item) -> Linear:
        """A token or reduced term as a linear expression.

        Raises:
            Refused: an unknown symbol, or a formula where a term is expected.
        """
        if isinstance(item, str):
            variable = self.variables.get(item)
            return (
                Linear({}, Fraction(self._number(item))) if variable is None else Linear({variable: _ONE}, Fraction(0))
            )
        if isinstance(item, Linear):
            return item
        raise Refused("a formula stands where a number or a variable is expected")

    def _number(self, text: str) -> Decimal:
        value = self._numbers.get(text)
        if value is None:
            if text[:2] in ("X_", "Y_"):
                raise Refused(
                    f"the variable {shown(text)} is not declared; declare it first: (declare-const {text} Real)"
                )
            value = self._numbers[text] = decimal(text)
        return value

    def _comparison(self, operator: str, arguments: Sequence[Item]) -> Formula:
        if len(arguments) != 2:
            raise Refused(f"{operator} has {len(arguments)} arguments; expected 2")
        left, right = arguments
        if type(left) is str and type(right) is str and operator != "=":
            variable = self.variables.get(left)
            # Nearly all atoms of a large file compare a variable with a number, and this is five times as fast.
            if variable is not None and right not in self.variables:
                return [(_single(variable, operator, self._number(right)),)]
        return _atoms(operator, self.linear(left), self.linear(right))


def _single(variable: int, operator: str, value: Decimal) -> Atom:
    upper, strict = operator[0] == "<", len(operator) == 1
    if variable >= 0:
        return Bound(variable, upper, value, strict)
    sign, constant = (_ONE, value.copy_negate()) if upper else (-_ONE, value)
    return Row(((-1 - variable, sign),), constant, strict)


def _atoms(operator: str, left: Linear, right: Linear) -> Formula:
    if operator == "=":
        return conjunction([_at_most(left, right, False), _at_most(right, left, False)])
    if operator[0] == ">":
        left, right = right, left
    return _at_most(left, right, len(operator) == 1)


def _at_most(left: Linear, right: Linear, strict: bool) -> Formula:
    terms, constant = _sum([left, _scaled(right, Fraction(-1))])
    if not terms:
        return [()] if constant < 0 or (constant == 0 and not strict) else []
    inputs = [variable for variable in terms if variable >= 0]
    if not inputs:
        return [
            (
                Row(
                    tuple((-1 - variable, terms[variable]) for variable in sorted(terms, reverse=True)),
                    constant,
                    strict,
                ),
            )
        ]
    if len(inputs) < len(terms):
        raise Refused("inputs X and outputs Y are compared with each other; expected atoms over X or over Y only")
    if len(inputs) > 1:
        raise Refused(f"X_{inputs[0]} and X_{inputs[1]} are compared with each other; expected bounds on single inputs")
    (variable, coefficient), *_ = terms.items()
    return [(Bound(variable, coefficient > 0, -constant / coefficient, strict),)]


def _formulas(operator: str, arguments: Sequence[Item]) -> list[Formula]:
    if not arguments:
        raise Refused(f"({operator}) is empty; expected at least one formula")
    formulas = [argument for argument in arguments if isinstance(argument, list)]
    if len(formulas) < len(arguments):
        raise Refused(f"an argument of {operator} is a number or a variable; expected formulas such as (<= Y_0 Y_1)")
    return formulas


def conjunction(formulas: list[Formula]) -> Formula:
    """The disjunctive form of a conjunction of formulas.

    Raises:
        Refused: it has more than MOST_DISJUNCTS disjuncts.
    """
    check_size(prod(map(len, formulas)))
    return [tuple(chain.from_iterable(choice)) for choice in product(*formulas)]


def check_size(disjuncts: int) -> None:
    """Refuse a disjunctive form that is too large.

    Raises:
        Refused: more than MOST_DISJUNCTS.
    """
    if disjuncts > MOST_DISJUNCTS:
        raise Refused(
            f"the disjunctive form has over {MOST_DISJUNCTS} disjuncts; split the property into several files"
        )


def _disjunction(formulas: list[Formula]) -> Formula:
    check_size(sum(map(len, formulas)))
    return list(chain.from_iterable(formulas))


def _sum(parts: Sequence[Linear]) -> Linear:
    terms: dict[int, Fraction] = {}
    for part in parts:
        for variable, coefficient in part.terms.items():
            terms[variable] = terms.get(variable, Fraction(0)) + coefficient
    nonzero = {variable: coefficient for variable, coefficient in terms.items() if coefficient}
    return Linear(nonzero, sum((part.constant for part in parts), Fraction(0)))


def _scaled(part: Linear, factor: Fraction) -> Linear:
    terms = {variable: coefficient * factor for variable, coefficient in part.terms.items()} if factor else {}
    return Linear(terms, part.constant * factor)


def _difference(parts: list[Linear]) -> Linear:
    if len(parts) == 1:
        return _scaled(parts[0], Fraction(-1))
    return _sum([parts[0], *(_scaled(part, Fraction(-1)) for part in parts[1:])])


def _product(parts: list[Linear]) -> Linear:
    result = parts[0]
    for part in parts[1:]:
        if result.terms and part.terms:
            raise Refused("two variables are multiplied; expected linear terms")
        result = _scaled(result, part.constant) if not part.terms else _scaled(part, result.constant)
    return result


def _quotient(parts: list[Linear]) -> Linear:
    divisor = _product(parts[1:]) if len(parts) > 1 else None
    if divisor is None or divisor.terms or not divisor.constant:
        raise Refused("/ divides by nothing, by zero or by a variable; expected a number other than 0")
    return _scaled(parts[0], 1 / divisor.constant)


_COMPARISONS = frozenset(("<=", ">=", "<", ">", "="))
_CONNECTIVES: dict[str, Callable[[list[Formula]], Formula]] = {"and": conjunction, "or": _disjunction}
_ARITHMETIC: dict[str, Callable[[list[Linear]], Linear]] = {
    "+": _sum,
    "-": _difference,
    "*": _product,
    "/": _quotient,
}
