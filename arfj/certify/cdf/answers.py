"""Answers to a question: bounds of the distribution function, of quantiles, and of the probability of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from arfj.certify.cdf.distribution import Outside
from arfj.certify.cdf.evaluation import Evaluation
from arfj.certify.cdf.mesh import Array
from arfj.certify.cdf.question import Question
from arfj.certify.cdf.refine import Asked, Found, refined
from arfj.certify.cdf.regions import Budget, Pieces, described
from arfj.errors import UsageError
from arfj.graph import Affine, Graph
from arfj.network import Floats

LEVELS = 32
"""Points between which an end of a quantile is looked for at a time."""
ROUNDS = 8
"""How often; each makes both brackets 30 times as narrow."""


@dataclass(frozen=True)
class Quantile:
    """The least y with F(y) >= q lies in [lower, upper]; an end is infinite where mass outside the box decides."""

    q: float
    lower: float
    upper: float


def output_range(pieces: Pieces, column: int) -> tuple[Array, Array]:
    """Values that an output does not leave in the box."""
    values, error = pieces.polytopes.fields[pieces.polytopes.vertex, column], pieces.error(0)[column]
    low = values + pieces.low[pieces.polytopes.owner, column] - error
    high = values + pieces.high[pieces.polytopes.owner, column] + error
    return low.min(), high.max()


def one_output(
    pieces: Pieces,
    question: Question,
    column: int,
    y: Array,
    budget: Budget,
    tolerance: float,
    outside: Outside = "add",
) -> Found:
    """L and U of P(f_o <= y) at values y, shape (points,), in any order."""
    levels, where = np.unique(y, return_inverse=True)
    asked = Asked((column,), (levels,), where.reshape(-1, 1), outside, tolerance)
    return refined(pieces, question.density, asked, budget)


def joint(
    pieces: Pieces, question: Question, y: Array, budget: Budget, tolerance: float, outside: Outside = "add"
) -> Found:
    """L and U of P(f_1 <= y_1, .., f_m <= y_m) at points y, shape (points, m)."""
    columns = range(y.shape[1])
    places = [np.unique(y[:, column], return_inverse=True) for column in columns]
    where = np.stack([place.ravel() for _, place in places], axis=1)
    asked = Asked(tuple(columns), tuple(level for level, _ in places), where, outside, tolerance)
    return refined(pieces, question.density, asked, budget)


def grid(
    pieces: Pieces,
    question: Question,
    levels: Sequence[Array],
    budget: Budget,
    tolerance: float,
    outside: Outside = "add",
) -> Found:
    """L and U at all combinations of ascending levels, one array of them for each output: shape (L_1, .., L_m)."""
    asked = Asked(tuple(range(len(levels))), tuple(levels), None, outside, tolerance)
    return refined(pieces, question.density, asked, budget)


def quantile(
    pieces: Pieces,
    question: Question,
    column: int,
    q: float,
    budget: Budget,
    outside: Outside = "add",
    tolerance: float = 1e-6,
) -> Quantile:
    """Bounds of the least y with P(f_o <= y) >= q: where U(y) < q it is greater than y, where L(y) >= q it is not.

    Both ends are looked for at the same time, each between points of its own: with mass outside the box they are apart.

    Raises:
        UsageError: q is not between 0 and 1.
    """
    if not 0 < q < 1:
        raise UsageError(f"the quantile {q} does not exist; expected a number between 0 and 1")
    # Outside these L and U say no more than that mass outside the box may be anywhere.
    least, greatest = output_range(pieces, column)
    both = (np.nextafter(float(least), -np.inf), np.nextafter(float(greatest), np.inf))
    narrow = 1e-9 * max(abs(both[0]), abs(both[1]), both[1] - both[0])
    lower, upper = -np.inf, np.inf
    rising, reaching = both, both  # U reaches q in the one, and L in the other
    for _ in range(ROUNDS):
        y = np.unique(np.concatenate([np.linspace(*rising, LEVELS), np.linspace(*reaching, LEVELS)]))
        found = one_output(pieces, question, column, y, budget, tolerance, outside)
        pieces = found.pieces  # perhaps refined
        under, over = found.bounds.upper < q, found.bounds.lower >= q
        lower, upper = max([lower, *y[under].tolist()]), min([upper, *y[over].tolist()])
        rising = (max(lower, both[0]), min([both[1], *y[~under & (y > lower)].tolist()]))
        reaching = (max([both[0], *y[~over & (y < upper)].tolist()]), min(upper, both[1]))
        if max(rising[1] - rising[0], reaching[1] - reaching[0]) <= narrow or budget.spent(0):
            break
        steps = [
            np.ptp(np.interp(ends, y, bound))
            for ends, bound in ((rising, found.bounds.upper), (reaching, found.bounds.lower))
        ]
        if not (question.density.sharp and pieces.affine) and max(steps) <= tolerance / 100:
            break  # finer points are cheap where bounds are exact, and of little use where they are not
    return Quantile(q, float(lower), float(upper))


def class_probabilities(
    pieces: Pieces, question: Question, budget: Budget, tolerance: float = 1e-6, outside: Outside = "add"
) -> Floats:
    """Bounds of the probability of each class, shape (classes, 2): the first of the largest outputs is the class.

    Class i has the probability of f_j - f_i <= 0 for j > i and f_j - f_i < 0 for j < i: joint distribution functions at
    0, and from below at the number just before 0 where a tie is not its own.
    """
    outputs = pieces.polytopes.fields.shape[1]
    result = np.zeros((outputs, 2))
    for i in range(outputs):
        others = [j for j in range(outputs) if j != i]
        rivals = rival_pieces(pieces, question.graph, i, others)
        before = np.nextafter(0.0, -1.0)
        y = np.zeros((2, len(others)), dtype=np.float64)
        y[1, [k for k, j in enumerate(others) if j < i]] = before
        found = joint(rivals, question, y, budget, tolerance, outside) if others else None
        result[i] = (1.0, 1.0) if found is None else (found.bounds.lower[1], found.bounds.upper[0])
    return result


def rival_pieces(pieces: Pieces, graph: Graph, one: int, others: Sequence[int]) -> Pieces:
    """The same regions with the outputs f_j - f_i for all others j."""
    matrix = np.zeros((graph.classes, len(others)))
    matrix[others, range(len(others))] = 1.0
    matrix[one] -= 1.0
    wider = replace(graph, nodes=(*graph.nodes, Affine((len(graph.nodes),), (matrix,), np.zeros(len(others)))))
    return described(Evaluation(wider), pieces.lower, pieces.upper, pieces.polytopes, pieces.complete)
