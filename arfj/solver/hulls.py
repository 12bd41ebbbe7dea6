r"""Rows from the hull of each open neuron over the box of its inputs, for SCIP to separate.

For one neuron with inputs h in [l, u] and z = 1 where it is on, with m_i = min(w_i l_i, w_i u_i) and
M_i = max(w_i l_i, w_i u_i), every (h, y, z) of y = max(0, w'h + b) has

    y <= b z + sum_i min(w_i h_i - m_i (1 - z), M_i z):

for z = 1 no term is below w_i h_i, and for z = 0 none is negative. With y >= 0, y >= w'h + b and 0 <= z <= 1 these
rows, one for every choice of terms, are the convex hull of the neuron; the choice above, term by term, is the row that
is violated most (Anderson, Huchette, Ma, Tjandraatmadja & Vielma, Math. Program. 183, 2020). The row of the big-M
constants, y <= u z, does not know which inputs are where.

Neurons of the first hidden layer are left out: their inputs are hundreds of pixels, whose box is far larger than the
ball, so that what these rows would say of them is little for their length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyscipopt import Model, Sepa
from pyscipopt.scip import PY_SCIP_RESULT as SCIP_RESULT
from pyscipopt.scip import Solution

from arfj.encoding import Problem
from arfj.encoding.problem import Indices
from arfj.network import Floats

LEAST = 1e-3
"""A row is of use where it is violated by this share of its neuron's largest weight."""
ROUNDING = 1e-12
"""Rows are looser by this share of the sizes that went into them."""
TINY = 2e-9
"""SCIP takes coefficients of 1e-9 or less for 0, and bounds that are so near to each other for one. In rows,
inputs have larger ones, and z's can be no farther off than this."""
MOST_ROUNDS = 50
"""Rounds of rows at a node."""
NAME = "hulls"

Row = tuple[Indices, Floats, float]
"""sum of coefficients times columns <= upper: columns, coefficients, upper."""


@dataclass(frozen=True, eq=False)
class Hulls:
    """The neurons of a problem whose hulls are known; k inputs at most, absent ones have the weight 0.

    Attributes:
        y, z: columns, (neurons,).
        inputs: columns, (neurons, k).
        weights: w, (neurons, k).
        bias: b, (neurons,).
        least, most: m and M, (neurons, k).
    """

    y: Indices
    z: Indices
    inputs: Indices
    weights: Floats
    bias: Floats
    least: Floats
    most: Floats

    @property
    def columns(self) -> Indices:
        """All that have to be known."""
        return np.unique(np.concatenate([self.y, self.z, self.inputs.ravel()]))

    def violated(self, values: Floats) -> list[Row]:
        """The row of every neuron that these values of all columns violate most, if they do.

        Args:
            values: shape (columns of the problem,).
        """
        z = values[self.z]
        inner = self.weights * values[self.inputs] - self.least * (1.0 - z)[:, None]
        outer = self.most * z[:, None]
        chosen = inner <= outer
        most = self.bias * z + np.where(chosen, inner, outer).sum(axis=1)
        size = np.abs(self.weights).max(axis=1, initial=0.0)
        return [
            self.row(int(neuron), chosen[neuron]) for neuron in np.flatnonzero(values[self.y] - most > LEAST * size)
        ]

    def row(self, neuron: int, chosen: Floats) -> Row:
        """The row of a neuron with the first of both terms where `chosen`, a little looser.

        y - sum_chosen w_i h_i - (b + sum_chosen m_i + sum_others M_i) z <= - sum_chosen m_i
        """
        least, most = self.least[neuron], self.most[neuron]
        chosen = chosen & (np.abs(self.weights[neuron]) > TINY)  # every choice of terms is a row that holds
        ends = np.where(chosen, least, most)
        used = np.flatnonzero(chosen)
        columns = np.concatenate([[self.y[neuron], self.z[neuron]], self.inputs[neuron, used]]).astype(np.intp)
        coefficients = np.concatenate([[1.0, -self.bias[neuron] - ends.sum()], -self.weights[neuron, used]])
        size = abs(self.bias[neuron]) + np.maximum(np.abs(least), np.abs(most)).sum()
        return columns, coefficients, float(-least[chosen].sum() + ROUNDING * size + TINY)


def hulls_of(problem: Problem) -> Hulls | None:
    """The hulls of a problem's open neurons beyond the first layer; None where there are none.

    The row W'h - y + s = -b of a neuron is the equation that has both its y and its s; pixels are columns that cost.
    """
    matrix = problem.matrix
    by_column = matrix.tocsc()
    rows_of = [by_column.indices[begin:end] for begin, end in zip(by_column.indptr, by_column.indptr[1:], strict=False)]
    found: list[tuple[int, int, Indices, Floats, float]] = []
    for y, s, z in problem.phases:
        common = np.intersect1d(rows_of[y], rows_of[s])
        equations = common[problem.row_lower[common] == problem.row_upper[common]]
        if y == z or len(equations) != 1:  # a scenario that counts or not
            continue
        row = int(equations[0])
        at = slice(matrix.indptr[row], matrix.indptr[row + 1])
        columns, values = matrix.indices[at].astype(np.intp), matrix.data[at]
        rest = (columns != y) & (columns != s)
        unit = -float(values[columns == y][0])
        if unit != float(values[columns == s][0]) or unit <= 0:
            continue
        columns, weights = columns[rest], values[rest] / unit
        if columns.size and not problem.objective[columns].any() and np.isfinite(problem.upper[columns]).all():
            found.append((y, z, columns, weights, -float(problem.row_lower[row]) / unit))
    if not found:
        return None
    most = max(len(columns) for _, _, columns, _, _ in found)
    inputs, weights = np.zeros((len(found), most), dtype=np.intp), np.zeros((len(found), most))
    for k, (_, _, columns, own, _) in enumerate(found):
        inputs[k, : len(columns)], weights[k, : len(columns)] = columns, own
    ends = weights * problem.lower[inputs], weights * problem.upper[inputs]
    phases = np.array([one[:2] for one in found], dtype=np.intp)
    bias = np.array([one[4] for one in found])
    return Hulls(phases[:, 0], phases[:, 1], inputs, weights, bias, np.minimum(*ends), np.maximum(*ends))


class HullRows(Sepa):
    """SCIP's separator of these rows.

    Args:
        hulls: of the model's problem.
        columns: the model's variables, in the problem's order.

    Attributes:
        failure: what went wrong in here, where anything did.
        made: rows handed over so far.
    """

    def __init__(self, hulls: Hulls, columns: Sequence[Any]) -> None:
        self.hulls = hulls
        self.given = columns
        self.failure = ""
        self.made = 0
        self.values = np.zeros(len(columns))
        self.node, self.rounds = -1, 0

    def include(self, model: Model) -> None:
        """Let the model have them, at the depths 0, 1, 4, 16, ...: at all nodes they take more time than they save."""
        model.includeSepa(self, NAME, "hulls of neurons over boxes", freq=1)
        model.setParam(f"separating/{NAME}/expbackoff", 4)

    def sepainitsol(self) -> None:
        """Before the search: the columns as SCIP's search knows them."""
        self.own = {index: self.model.getTransformedVar(self.given[index]) for index in self.hulls.columns.tolist()}

    def sepaexeclp(self) -> dict[str, Any]:
        """Hand over the rows that the node's linear program violates."""
        try:
            return {"result": SCIP_RESULT.SEPARATED if self.separated() else SCIP_RESULT.DIDNOTFIND}
        except Exception as error:  # none can pass through SCIP, which does without these rows
            self.failure = repr(error)
            return {"result": SCIP_RESULT.DIDNOTRUN}

    def sepaexecsol(self, solution: Solution) -> dict[str, Any]:
        """Of points that are no linear program's: none."""
        return {"result": SCIP_RESULT.DIDNOTRUN}

    def separated(self) -> bool:
        """Whether there were any."""
        node = self.model.getCurrentNode().getNumber()
        self.node, self.rounds = node, self.rounds + 1 if node == self.node else 0
        if self.rounds >= MOST_ROUNDS:
            return False
        for index, variable in self.own.items():
            self.values[index] = variable.getLPSol()
        rows = self.hulls.violated(self.values)
        for columns, coefficients, upper in rows:
            row = self.model.createEmptyRowSepa(self, NAME, lhs=None, rhs=upper, local=False)
            self.model.cacheRowExtensions(row)
            for index, value in zip(columns.tolist(), coefficients.tolist(), strict=True):
                self.model.addVarToRow(row, self.own[index], value)
            self.model.flushRowExtensions(row)
            self.model.addCut(row)
            self.model.releaseRow(row)
        self.made += len(rows)
        return bool(rows)
