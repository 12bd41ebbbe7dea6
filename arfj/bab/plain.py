"""The loops that every linear program waits for, in NumPy: what `arfj.bab.fast` is held against, and stands in for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from arfj.conflicts import Conflicts, Phases
from arfj.encoding.problem import Indices
from arfj.network import Floats
from arfj.solver.branching import LEAST_GAIN, OPEN, Costs, growth

DENSE = 40_000
"""Up to so many entries, zeros included, a product with the rows' columns is the faster one of a dense matrix."""

Sums = tuple[float, float, float, float, Floats, Floats, Floats]
"""What `Table.lagrangian` gives."""


class Table:
    """What the Lagrangian of a linear program is evaluated from; see `arfj.bab.relaxation`.

    Args:
        columns: (columns, rows), the transpose of the rows without their pixels.
        weights: (pixel rows, pixels), that of p; q has the negatives.
        pixel_rows: the rows that have pixels.
        caps: of p, then of q.
        finite: (2, rows), their sides, 0 where there is none.
        least, most: of multipliers.
        sizes: of rows, which rounding scales with.
        ball: the row of the ball, -1 for none.
    """

    def __init__(
        self,
        columns: sp.csr_matrix,
        weights: Floats,
        pixel_rows: Indices,
        caps: Floats,
        finite: Floats,
        least: Floats,
        most: Floats,
        sizes: Floats,
        ball: int,
    ) -> None:
        self.columns = columns.toarray() if np.prod(columns.shape) <= DENSE else columns
        self.weights, self.pixel_rows, self.caps = weights, pixel_rows, caps
        self.finite, self.least, self.most, self.sizes, self.ball = finite, least, most, sizes, ball

    def lagrangian(self, given: Sequence[float], column: int, cost: float) -> Sums:
        """Of the objective v_column (-1: none) - cost sum (p + q), at multipliers of the rows.

        Returns:
            sum_r lambda_r side_r, sum_r |lambda_r| size_r, cost and multiplier of the ball, the sum of the pixels'
            shares; lambda with the signs that are allowed (0 for what is no number), reduced costs, pixels' shares.
        """
        multipliers = np.array(given, dtype=np.float64)
        if not math.isfinite(np.dot(multipliers, multipliers)):
            multipliers = np.where(np.isfinite(multipliers), multipliers, 0.0)
        multipliers = np.minimum(np.maximum(multipliers, self.least), self.most)
        reduced = -(self.columns @ multipliers)
        if column >= 0:
            reduced[column] += 1.0
        sums = multipliers[self.pixel_rows] @ self.weights
        price = cost if self.ball < 0 else cost + float(multipliers[self.ball])
        shares = np.empty_like(self.caps)
        np.subtract(-price, sums, out=shares[: len(sums)])
        np.subtract(sums, price, out=shares[len(sums) :])
        np.maximum(shares, 0.0, out=shares)
        shares *= self.caps
        sides = np.where(multipliers > 0, self.finite[1], self.finite[0])
        size = float(np.abs(multipliers) @ self.sizes)
        return float(sides @ multipliers), size, price, float(shares.sum()), multipliers, reduced, shares


def best_columns(reduced: Floats, low: Floats, up: Floats) -> float:
    """sum_j max(r_j low_j, r_j up_j)."""
    return float(np.maximum(reduced * low, reduced * up).sum())


def implied(
    gains: Floats, slack: Floats, largest: Floats, used: Floats, stamp: float, given: Sequence[int]
) -> list[int] | None:
    """Literals that proofs imply beyond those given; None where one of them is closed. See `arfj.bab.proofs`.

    Args:
        gains: (2 neurons, at least as many as proofs), of every literal.
        slack: what every proof needs; overwritten.
        largest: the largest gain of every proof.
        used: `stamp` is written where a proof was of use.
        stamp: what is written.
        given: literals that are held.
    """
    neurons, count = len(gains) // 2, len(slack)
    slack = slack - gains[list(given), :count].sum(axis=0)
    found: list[int] = []
    open_: NDArray[np.bool_] | None = None
    while True:
        if slack.min() <= 0:
            used[:count][slack <= 0] = stamp
            return None
        near = (slack <= largest[:count]).nonzero()[0]
        if not near.size:
            return found
        if open_ is None:
            open_ = np.ones((2, neurons), dtype=np.bool_)
            open_[:, [literal % neurons for literal in given]] = False
        impossible = gains.take(near, axis=1) >= slack[near]
        impossible &= open_.reshape(-1, 1)
        if not impossible.any():
            return found
        used[near[impossible.any(axis=0)]] = stamp
        # Both sides of a neuron: the proof that one of them contradicts closes the node.
        more = [
            literal + neurons if literal < neurons else literal - neurons
            for literal in np.flatnonzero(impossible.any(axis=1)).tolist()
        ]
        open_[:, [literal % neurons for literal in more]] = False
        found += more
        slack = slack - gains[more, :count].sum(axis=0)


def rates(amounts: NDArray[np.float32], candidates: Indices, costs: Costs) -> Floats:
    """The growth rates of candidates by what branchings have cost so far; see `arfj.solver.branching`.

    Args:
        amounts: (2, neurons).
        candidates: neurons.
        costs: of all neurons.
    """
    gains = costs.of(candidates) * np.maximum(amounts[:, candidates].astype(np.float64), OPEN)
    return growth(*np.maximum(gains, LEAST_GAIN))


def open_neurons(amounts: NDArray[np.float32], held: Phases) -> Indices:
    """Neurons whose phase the point does not keep, those that are held left out."""
    least = np.minimum(amounts[0], amounts[1])
    if held:
        least[list(held)] = 0.0
    return np.flatnonzero(least > OPEN)


def changes(held: Phases, phases: Phases) -> tuple[list[int], list[int]]:
    """Neurons that are held otherwise than `phases` has them, and neurons that it has otherwise than they are held."""
    gone = [neuron for neuron, on in held.items() if phases.get(neuron) is not on]
    return gone, [neuron for neuron, on in phases.items() if held.get(neuron) is not on]


def amounts(values: Sequence[float], columns: NDArray[np.intp], widths: Floats) -> Floats:
    """max(0, v / w) of two columns of every neuron, (2, neurons)."""
    return np.maximum(np.array(values)[columns] / widths, 0.0)


def by_phase(
    reduced: Floats, low: Floats, full: Floats, multipliers: Floats, columns: NDArray[np.intp], triangles: Indices
) -> tuple[float, float, Floats]:
    """A Lagrangian by the phases of neurons, without its constant, pixels and rounding; see `arfj.bab.proofs`.

    Args:
        reduced: costs of columns.
        low: their lower bounds.
        full: their upper ones.
        multipliers: of rows.
        columns: y and s of every neuron, (2, neurons).
        triangles: the row of both.

    Returns:
        What the other columns and the rows without these give; sum max(e_off, e_on); D, (2, neurons), off and on.
    """
    rest = np.maximum(reduced * low, reduced * full)
    rest[columns] = 0.0
    triangle = multipliers[triangles]
    shares = np.maximum((reduced * full)[columns[::-1]] + triangle, 0.0)
    largest = shares.max(axis=0)
    return float(rest.sum() - triangle.sum()), float(largest.sum()), largest - shares


class Clauses:
    """What conflicts imply, those among them that come in the course of a search.

    Args:
        conflicts: see `arfj.conflicts`.
    """

    def __init__(self, conflicts: Conflicts) -> None:
        self.conflicts = conflicts

    def implied(self, phases: Phases, closed: Phases | None = None) -> Phases | None:
        """See `arfj.conflicts.Conflicts.implied`."""
        return self.conflicts.implied(phases, closed)
