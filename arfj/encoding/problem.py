"""A mixed-integer linear problem as neutral data: sparse arrays that every solver file turns into its own model.

min c'v   s.t.  row_lower <= A v <= row_upper,  lower <= v <= upper,  v_i integer for i in `integer`,
                v_b = 1  ->  a'v <= rhs          for every indicator
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from arfj.network import Floats, Network

Indices = NDArray[np.intp]
OUTWARD = 1.0 + 1e-9
"""What is left out counts by so much more, which covers the rounding of its sum."""
Parts = list[tuple[Indices, Floats]]
"""Of some rows: columns (c,) and their coefficients (rows, c)."""


@dataclass(frozen=True, eq=False)
class Indicator:
    """binary = 1 -> sum_i values_i v_(columns_i) <= rhs."""

    binary: int
    columns: tuple[int, ...]
    values: tuple[float, ...]
    rhs: float


@dataclass(frozen=True, eq=False)
class Problem:
    """The record of the module's docstring.

    Attributes:
        objective, lower, upper: shape (columns,).
        integer: bool (columns,).
        matrix: A, csr (rows, columns).
        row_lower, row_upper: shape (rows,); infinite where a side is free.
        indicators: implications.
        phases: columns (y, s, z) of every neuron whose phase is open: y > 0 only where z = 1, s > 0 only where z = 0.
    """

    objective: Floats
    lower: Floats
    upper: Floats
    integer: NDArray[np.bool_]
    matrix: sp.csr_matrix
    row_lower: Floats
    row_upper: Floats
    indicators: tuple[Indicator, ...] = ()
    phases: tuple[tuple[int, int, int], ...] = ()

    @property
    def variables(self) -> int:
        """Columns, and the slack that a solver adds for every indicator."""
        return len(self.objective) + len(self.indicators)

    @property
    def binaries(self) -> int:
        """Integer columns (all of ours are binary)."""
        return int(self.integer.sum())

    @property
    def constraints(self) -> int:
        """Rows, and two for every indicator: its linear row and the implication."""
        return len(self.row_lower) + 2 * len(self.indicators)

    def without_tiny(self, least: float) -> Problem:
        """A relaxation that holds nothing a solver takes for 0: the problem itself where there is no such thing.

        A row's term a v with |a| <= least is left out, and the row's sides are moved outward by |a| max |v|; where the
        column has no bounds the term stays. A continuous column whose bounds differ, by `least` at most, would be
        taken for fixed: its upper one is raised.

        Args:
            least: 0 to the solver, in coefficients and between bounds; at least what it says itself.
        """
        narrow = ~self.integer & (self.upper > self.lower) & (self.upper - self.lower <= least)
        upper = np.where(narrow, self.lower + 2.0 * least, self.upper)
        sizes = np.maximum(np.abs(self.lower), np.abs(upper))
        tiny = (np.abs(self.matrix.data) <= least) & np.isfinite(sizes[self.matrix.indices])
        if not (narrow.any() or tiny.any()):
            return self
        gone, kept = self.matrix.copy(), self.matrix.copy()
        gone.data, kept.data = np.where(tiny, np.abs(gone.data), 0.0), np.where(tiny, 0.0, kept.data)
        kept.eliminate_zeros()
        room = OUTWARD * (gone @ np.where(np.isfinite(sizes), sizes, 0.0))
        low, up = self.row_lower - room, self.row_upper + room
        return replace(self, upper=upper, matrix=kept, row_lower=low, row_upper=up)

    def violation(self, values: Floats) -> float:
        """The largest amount by which `values` misses a bound, a row, an implication or integrality."""
        activity = self.matrix @ values
        misses = [
            self.lower - values,
            values - self.upper,
            self.row_lower - activity,
            activity - self.row_upper,
            np.abs(values - np.round(values))[self.integer],
        ]
        for one in self.indicators:
            if values[one.binary] > 0.5:
                reached = float(np.dot(one.values, values[list(one.columns)]))
                misses.append(np.array([reached - one.rhs]))
        return float(max((miss.max() for miss in misses if miss.size), default=0.0))


@dataclass
class Builder:
    """Collects columns and rows; `build` freezes them into a `Problem`."""

    objective: list[Floats] = field(default_factory=list)
    lower: list[Floats] = field(default_factory=list)
    upper: list[Floats] = field(default_factory=list)
    integer: list[NDArray[np.bool_]] = field(default_factory=list)
    blocks: list[tuple[Indices, Indices, Floats]] = field(default_factory=list)
    row_lower: list[Floats] = field(default_factory=list)
    row_upper: list[Floats] = field(default_factory=list)
    indicators: list[Indicator] = field(default_factory=list)
    phases: list[tuple[int, int, int]] = field(default_factory=list)
    least: dict[int, float] = field(default_factory=dict)
    columns: int = 0
    rows: int = 0

    def add_columns(
        self,
        count: int,
        lower: float | Floats = 0.0,
        upper: float | Floats = np.inf,
        cost: float = 0.0,
        integer: bool = False,
    ) -> Indices:
        """Append `count` columns; returns their indices."""
        self.objective.append(np.full(count, cost))
        self.lower.append(np.broadcast_to(np.asarray(lower, dtype=np.float64), (count,)))
        self.upper.append(np.broadcast_to(np.asarray(upper, dtype=np.float64), (count,)))
        self.integer.append(np.full(count, integer))
        self.columns += count
        return np.arange(self.columns - count, self.columns)

    def add_rows(self, parts: Parts, lower: float | Floats = -np.inf, upper: float | Floats = np.inf) -> None:
        """Append rows: each part is (columns (c,), coefficients (rows, c)); zero coefficients are left out."""
        count = len(parts[0][1])
        for columns, block in parts:
            row, column = np.nonzero(block)
            self.blocks.append((row + self.rows, columns[column], block[row, column]))
        self.row_lower.append(np.broadcast_to(np.asarray(lower, dtype=np.float64), (count,)))
        self.row_upper.append(np.broadcast_to(np.asarray(upper, dtype=np.float64), (count,)))
        self.rows += count

    def raise_lower(self, column: int, least: float) -> None:
        """Demand column >= least."""
        self.least[column] = least

    def build(self) -> Problem:
        """The finished record."""
        lower = np.concatenate(self.lower)
        for at, least in self.least.items():
            lower[at] = max(lower[at], least)
        row, column, value = (np.concatenate(part) for part in zip(*self.blocks, strict=True))
        matrix = sp.csr_matrix((value, (row, column)), shape=(self.rows, self.columns))
        return Problem(
            np.concatenate(self.objective),
            lower,
            np.concatenate(self.upper),
            np.concatenate(self.integer),
            matrix,
            np.concatenate(self.row_lower),
            np.concatenate(self.row_upper),
            tuple(self.indicators),
            tuple(self.phases),
        )


@dataclass(frozen=True, eq=False)
class Neurons:
    """Columns of one layer of one network, -1 where a neuron has none.

    Attributes:
        y, s, z: post-activation, its negative part, and the phase, each (n_k,). z = 1 is "on" in the tight
            formulation and "off" (y <= 0) in the printed one.
        on: the value of z for a neuron that is on, 1 or 0.
        second: columns of 1 - z, where the formulation has them.
        linear: whether y is the pre-activation itself.
    """

    y: Indices
    s: Indices
    z: Indices
    on: int = 1
    second: Indices | None = None
    linear: bool = False

    def place(self, before: Floats, values: Floats) -> None:
        """Write the column values that belong to the pre-activations `before` (n_k,) into `values`."""
        phase = np.where(before > 0, self.on, 1 - self.on)
        entries = [
            (self.y, before if self.linear else np.maximum(before, 0.0)),
            (self.s, np.maximum(-before, 0.0)),
            (self.z, phase),
        ]
        if self.second is not None:
            entries.append((self.second, 1 - phase))
        for columns, amounts in entries:
            held = columns >= 0
            values[columns[held]] = amounts[held]


@dataclass(frozen=True, eq=False)
class Encoding:
    """A problem and how its columns stand for x and the neurons.

    Attributes:
        problem: the data for the solver.
        pixels: csr (n, columns) with x = offset + pixels v.
        offset: shape (n,).
        lift: the values of the pixel columns, ((columns, values), ...), of an image x (n,).
        neurons: for every scenario, for every encoded layer.
        largest: what the terms of a row can add up to at most (`arfj.encoding.eased.largest_term`).
    """

    problem: Problem
    pixels: sp.csr_matrix
    offset: Floats
    lift: Callable[[Floats], tuple[tuple[Indices, Floats], ...]]
    neurons: tuple[tuple[Neurons, ...], ...]
    largest: float = 0.0

    def decode(self, values: Floats) -> Floats:
        """x of a solver's column values, clipped into [0, 1]."""
        return np.asarray(np.clip(self.offset + self.pixels @ values, 0.0, 1.0))

    def complete(self, x: Floats, networks: Iterable[Network]) -> Floats:
        """The column values of the image x: pixels, then every scenario's forward pass (a start for the solver)."""
        values = np.zeros(len(self.problem.objective))
        for columns, entries in self.lift(x.ravel()):
            values[columns] = entries
        for network, layers in zip(networks, self.neurons, strict=True):
            for neurons, before in zip(layers, network.preactivations(x.reshape(1, -1)), strict=False):
                neurons.place(before[0], values)
        return values
