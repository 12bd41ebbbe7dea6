"""What networks say of answers, summed up: the columns of Tables 4 and 5."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from experiments.sheets import Cell, Column
from experiments.studies import Row


@dataclass(frozen=True)
class Shares:
    """Means over networks, and over answers where these are several.

    Attributes:
        target, true, other: shares of the networks that give the target, the true and another class.
        p_target, p_true, p_other: mean probabilities; p_other is that of all other classes in sum.
        weak: mean of p_target - p_true.
        margin: mean of p_target - max_{j != target} p_j, which fits the printed column.
    """

    target: float
    true: float
    other: float
    p_target: float
    p_true: float
    p_other: float
    weak: float
    margin: float

    @property
    def cells(self) -> tuple[Cell, ...]:
        """For a sheet with `COLUMNS`."""
        return astuple(self)


COLUMNS = (
    *(Column(f"rate {name}", 1, percent=True) for name in ("target", "true", "other")),
    *(Column(f"p {name}", 4) for name in ("target", "true", "other")),
    Column("p target - p true", 4),
    Column("p target - largest other", 4),
)


def shares(row: Row, asked: str) -> Shares:
    """Of one answer: what the networks of `asked` said."""
    said: dict[str, Any] = row["seen"][asked]
    given = np.array(said["class"])
    target, true, rival = (np.array(said[name]) for name in ("target", "true", "rival"))
    hit, kept = given == row["target"], given == row["true"]
    parts = (hit, kept, ~(hit | kept), target, true, 1.0 - target - true, target - true, target - rival)
    return Shares(*(float(part.mean()) for part in parts))


def mean(several: Iterable[Shares]) -> Shares:
    """The means of several, at least one."""
    return Shares(*(float(value) for value in np.mean([astuple(one) for one in several], axis=0)))
