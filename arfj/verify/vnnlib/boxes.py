"""Bounds on inputs: intersected exactly, then rounded outwards to float64."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np

from arfj.network import Floats
from arfj.verify.property import Flags
from arfj.verify.vnnlib.exact import Number, Refused, above, below
from arfj.verify.vnnlib.terms import Bound

Ends = dict[int, tuple[Number, bool]]
"""Ends of a box by variable, made so that tuples compare as bounds do: the tightest lower end is the largest
(value, strict), the tightest upper end the smallest (value, closed)."""
Rounded = tuple[tuple[tuple[int, float, bool], ...], tuple[tuple[int, float, bool], ...]]
"""Lower and upper ends: variable, float64, strict."""


class Box:
    """Exact bounds on some variables; all others are the parent's.

    Attributes:
        lower, upper: the ends that are tighter than the parent's.
    """

    def __init__(self, bounds: Iterable[Bound], parent: Box | None = None) -> None:
        self.lower: Ends = {}
        self.upper: Ends = {}
        self._outer_lower: Ends = parent.lower if parent else {}
        self._outer_upper: Ends = parent.upper if parent else {}
        for index, upper, value, strict in bounds:
            if upper:
                known = self.upper.get(index) or self._outer_upper.get(index)
                if known is None or (value, not strict) < known:
                    self.upper[index] = (value, not strict)
            else:
                known = self.lower.get(index) or self._outer_lower.get(index)
                if known is None or (value, strict) > known:
                    self.lower[index] = (value, strict)

    def rounded(self) -> Rounded:
        """The ends in float64, rounded outwards, with whether they are strict; in a fixed order, to compare boxes.

        Raises:
            Refused: an end is beyond float64.
        """
        lower = tuple((i, below(value), strict) for i, (value, strict) in sorted(self.lower.items()))
        upper = tuple((i, above(value), not closed) for i, (value, closed) in sorted(self.upper.items()))
        return lower, upper

    def contradiction(self) -> int | None:
        """A variable whose ends leave no real number between them, or None. The parent alone is not looked at."""
        for index in chain(self.lower, self.upper):
            lower = self.lower.get(index) or self._outer_lower.get(index)
            upper = self.upper.get(index) or self._outer_upper.get(index)
            if lower and upper and (lower[0] > upper[0] or (lower[0] == upper[0] and (lower[1] or not upper[1]))):
                return index
        return None


@dataclass(frozen=True, eq=False)
class Sides:
    """A box in float64, rounded outwards; a missing end is NaN. The arrays are those of `Case`."""

    lower: Floats
    upper: Floats
    open_lower: Flags
    open_upper: Flags

    @classmethod
    def unbounded(cls, inputs: int) -> Sides:
        """No end at all."""
        nothing, closed = np.full(inputs, np.nan), np.zeros(inputs, dtype=np.bool_)
        return cls(nothing, nothing, closed, closed)

    def within(self, ends: Rounded) -> Sides:
        """These sides, with `ends` in the place of those here."""
        lower, upper = ends
        if not (lower or upper):
            return self
        sides = Sides(self.lower.copy(), self.upper.copy(), self.open_lower.copy(), self.open_upper.copy())
        for index, value, strict in lower:
            sides.lower[index], sides.open_lower[index] = value, strict
        for index, value, strict in upper:
            sides.upper[index], sides.open_upper[index] = value, strict
        return sides

    def check_complete(self) -> None:
        """Refuse a box with a missing end.

        Raises:
            Refused: naming the first variable that has none.
        """
        for ends, side, sign in ((self.lower, "lower", ">="), (self.upper, "upper", "<=")):
            missing = np.isnan(ends)
            if missing.any():
                name = f"X_{int(missing.argmax())}"
                raise Refused(f"{name} has no {side} bound; expected one, such as (assert ({sign} {name} 0.5))")
