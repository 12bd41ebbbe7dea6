"""What Rambau & Richter (JANO 7, 2025) print, as data, and how it is shown beside what is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.sheets import Column, Sheet

DIFFERS = (
    "Images, seeds and learning rates are not published: orderings and magnitudes have to agree with the paper's, "
    "digits cannot."
)


@dataclass(frozen=True)
class Published:
    """A range that is printed in the paper.

    Attributes:
        quantity: what it is.
        where: the table that it belongs to.
        low, high: the range; `low` is None for "at most".
        digits: decimals.
        unit: behind the numbers, " %" say; shares are in per cent.
    """

    quantity: str
    where: str
    low: float | None
    high: float
    digits: int = 0
    unit: str = ""

    @property
    def told(self) -> str:
        """The range as text."""
        high = f"{self._number(self.high)}{self.unit}"
        if self.low is None or self.low == self.high:
            return high if self.low is not None else f"at most {high}"
        return f"{self._number(self.low)} to {high}"

    def here(self, values: Sequence[float]) -> str:
        """The range of `values`, in the same digits."""
        if not values:
            return "-"
        low, high = self._number(min(values)), self._number(max(values))
        return f"{high}{self.unit}" if low == high else f"{low} to {high}{self.unit}"

    def holds(self, value: float) -> bool:
        """Whether a value, as it is printed, lies in the range."""
        shown = round(value, self.digits)
        return shown <= self.high and (self.low is None or shown >= self.low)

    def _number(self, value: float) -> str:
        # No "-0.00": a change that rounds to nothing has no sign.
        return f"{round(value, self.digits) + 0.0:,.{self.digits}f}"


REFIT_D_IN = Published("d_in", "Table 1", 0.009, 0.095, 3)
REFIT_D_OSD = Published("d_osd", "Table 1", 0.0007, 0.008, 4)
REFIT_ACCURACY = Published("change of the accuracy, points, either way", "Table 1", None, 0.1, 2)
OUTER_D_OSD = Published("d_osd", "Table 2", 0.11, 0.15, 2)
OUTER_D_IN = Published("d_in", "Table 2", 890, 970)
IRAE_OVER = Published("distance of IRAE above that of FJAE", "Table 3", None, 0.02, 3, " %")
ORAE_OVER = Published("distance of ORAE above that of FJAE", "Table 3", 19, 135, 0, " %")
ORAE_SECONDS = Published("seconds of an ORAE (CPU seconds there, wall clock here)", "Table 3", 312, 30_949)
ORAE_TOTAL = Published("seconds of ten ORAEs", "Table 3", 87_469, 87_469)

SIZES: Mapping[int, tuple[int, int, int]] = {1: (1772, 68, 2565), 6: (6712, 408, 8334)}
"""Variables, binaries among them, and constraints of the printed model, by its number of networks."""

INNER_RATE = "100 % for all three kinds"
OUTER_RATE: Mapping[str, str] = {
    "FJAE": "mostly fails",
    "IRAE": "mostly fails",
    "ORAE": "tens of points above the others",
}
"""Shares of fresh networks that give the target (Tables 4 and 5), in words: single cells are not repeated here."""

Compared = tuple[Published, Sequence[float]]


def beside(name: str, title: str, pairs: Sequence[Compared], notes: Sequence[str] = ()) -> Sheet:
    """Ranges measured here beside the published ones."""
    columns = [Column(text) for text in ("quantity", "where", "here", "published", "here inside")]
    rows = [
        (one.quantity, one.where, one.here(values), one.told, f"{sum(map(one.holds, values))} of {len(values)}")
        for one, values in pairs
        if values
    ]
    return Sheet(name, title, columns, rows, [*notes, DIFFERS])
