"""Numbers without rounding, and the float64 below or above them: no bound moves inwards.

A constant of the file stays a `Decimal`, which is made and compared many times faster than a `Fraction`; only
arithmetic turns it into one. The two compare with each other, and with floats, exactly.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction

Number = Decimal | Fraction

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LONGEST = 1200
"""The exact decimal expansion of any float64 is shorter."""
_FARTHEST = 2000
"""float64 ends at 1e309 and 5e-324, and its exact expansions at 1e-1074; beyond, a power of ten only costs memory."""


class Refused(Exception):  # noqa: N818 - a message on its way to the reader, which adds file and line
    """What a form of the file does wrong, without the place."""


def decimal(text: str) -> Decimal:
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
    return Decimal(text)  # exact, whatever the context: only arithmetic rounds


def shown(text: str) -> str:
    """A token of the file, quoted and short enough for one line."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def below(value: Number) -> float:
    """The largest float64 <= value.

    Raises:
        Refused: there is none that is finite.
    """
    nearest = to_float(value)
    return _finite(math.nextafter(nearest, -math.inf) if nearest > value else nearest)


def above(value: Number) -> float:
    """The smallest float64 >= value.

    Raises:
        Refused: there is none that is finite.
    """
    nearest = to_float(value)
    return _finite(math.nextafter(nearest, math.inf) if nearest < value else nearest)


def to_float(value: Number) -> float:
    """The float64 nearest to value (Python rounds both of these conversions correctly).

    Raises:
        Refused: it is not finite.
    """
    try:
        nearest = float(value)
    except OverflowError:  # of a Fraction; a Decimal gives infinity
        nearest = math.inf
    return _finite(nearest)


def _finite(value: float) -> float:
    if math.isinf(value):
        raise Refused("a bound or coefficient is beyond float64; write one between -1e308 and 1e308")
    return value
