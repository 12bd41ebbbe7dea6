"""Decimal texts as exact rationals, and rationals as the float64 below or above: no bound moves inwards."""

from __future__ import annotations

import math
import re
from fractions import Fraction

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_LONGEST = 1200
"""The exact decimal expansion of any float64 is shorter."""
_FARTHEST = 2000
"""float64 ends at 1e309 and 5e-324, and its exact expansions at 1e-1074; beyond, a power of ten only costs memory."""


class Refused(Exception):  # noqa: N818 - a message on its way to the reader, which adds file and line
    """What a form of the file does wrong, without the place."""


def rational(text: str) -> Fraction:
    """The exact value of a decimal constant.

    Raises:
        Refused: `text` is no decimal constant, or is absurdly long or large.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise Refused(f"{shown(text)} is neither a declared variable nor a decimal number such as -0.5 or 1e-3")
    exponent = match.group(2)
    if len(text) > _LONGEST or (exponent is not None and abs(int(exponent[1:])) > _FARTHEST):
        raise Refused(f"the number {shown(text)} is beyond float64; write one between -1e308 and 1e308")
    return Fraction(text)


def shown(text: str) -> str:
    """A token of the file, quoted and short enough for one line."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def below(value: Fraction) -> float:
    """The largest float64 <= value.

    Raises:
        Refused: there is none that is finite.
    """
    nearest = to_float(value)
    return _finite(math.nextafter(nearest, -math.inf) if nearest > value else nearest)


def above(value: Fraction) -> float:
    """The smallest float64 >= value.

    Raises:
        Refused: there is none that is finite.
    """
    nearest = to_float(value)
    return _finite(math.nextafter(nearest, math.inf) if nearest < value else nearest)


def to_float(value: Fraction) -> float:
    """The float64 nearest to value (division of integers is correctly rounded).

    Raises:
        Refused: it is not finite.
    """
    try:
        return value.numerator / value.denominator
    except OverflowError:
        raise Refused("a bound or coefficient is beyond float64; write one between -1e308 and 1e308") from None


def _finite(value: float) -> float:
    if math.isinf(value):
        raise Refused("a bound is beyond float64; write one between -1e308 and 1e308")
    return value
