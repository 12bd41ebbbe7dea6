r"""The linear program of a subproblem whose relaxation is exact: all phases that matter are fixed.

    min t + K sum s   s.t.  rows(x) <= t,   sign_i a_i(x) + s_i >= 0,   s >= 0,   x in the box

With the phases fixed all pre-activations a_i and rows are affine in x. The multipliers of its constraints are the
mixture and the betas at which beta-CROWN is exact; they are handed back to be proven, and nothing here is believed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arfj.bounds.batched import Signs, Singles
from arfj.bounds.reduce import Reduced
from arfj.graph import Affine
from arfj.network import Floats
from arfj.region import Region

PENALTY = 1e4
"""K, above every multiplier that is of use."""


@dataclass(frozen=True, eq=False)
class Leaf:
    """The minimiser, and the multipliers of rows and phases; None where the program failed."""

    x: Floats | None
    mixture: Floats | None
    betas: Singles | None


def leaf_multipliers(reduced: Reduced, region: Region, signs: Signs, mine: NDArray[np.bool_]) -> Leaf:
    """Solve the linear program of the phases `signs` for the rows `mine`; open ReLUs count as off."""
    from scipy.optimize import linprog

    before, bias, rows, offset = _affine(reduced, signs)
    rows, offset = rows[:, mine], offset[mine]
    split = np.flatnonzero(signs)
    inputs, count, r = len(before), len(split), rows.shape[1]
    sign = signs[split].astype(np.float64)
    # columns: x, t, s
    top = np.hstack([rows.T, -np.ones((r, 1)), np.zeros((r, count))])
    low = np.hstack([-(before[:, split] * sign).T, np.zeros((count, 1)), -np.eye(count)])
    right = np.concatenate([-offset, sign * bias[split]])
    cost = np.concatenate([np.zeros(inputs), [1.0], np.full(count, PENALTY)])
    limits = [*zip(region.lower, region.upper, strict=True), (None, None), *[(0, None)] * count]
    matrix = np.vstack([top, low])
    if not (np.isfinite(matrix).all() and np.isfinite(right).all()):
        return Leaf(None, None, None)
    answer = linprog(cost, A_ub=matrix, b_ub=right, bounds=limits, method="highs")
    if answer.x is None or answer.status != 0:
        return Leaf(None, None, None)
    multipliers = -np.asarray(answer.ineqlin.marginals)
    mixture = np.zeros(len(mine))
    mixture[mine] = np.maximum(multipliers[:r], 0.0)
    betas = np.zeros(len(signs), dtype=np.float32)
    betas[split] = np.maximum(multipliers[r:], 0.0)
    return Leaf(np.clip(answer.x[:inputs], region.lower, region.upper), mixture, betas)


def _affine(reduced: Reduced, signs: Signs) -> tuple[Floats, Floats, Floats, Floats]:
    """(J, b) with all pre-activations J' x + b, and the same of the outputs, under the phases."""
    graph = reduced.graph
    maps: list[tuple[Floats, Floats]] = [(np.eye(graph.inputs), np.zeros(graph.inputs))]
    found: list[tuple[Floats, Floats]] = []
    at = 0
    for node in graph.nodes:
        if isinstance(node, Affine):
            jacobian = np.zeros((graph.inputs, len(node.bias)))
            bias = node.bias.copy()
            for source, matrix in zip(node.sources, node.maps, strict=True):
                jacobian += maps[source][0] @ matrix
                bias += maps[source][1] @ matrix
            maps.append((jacobian, bias))
            continue
        jacobian, bias = maps[node.source]
        found.append((jacobian, bias))
        on = (signs[at : at + len(bias)] > 0).astype(np.float64)
        at += len(bias)
        maps.append((jacobian * on, bias * on))
    outputs = maps[-1]
    return (
        np.hstack([np.zeros((graph.inputs, 0)), *(jacobian for jacobian, _ in found)]),
        np.concatenate([np.zeros(0), *(bias for _, bias in found)]),
        *outputs,
    )
