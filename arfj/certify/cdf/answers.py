"""Answers to a question: bounds of the distribution function, of quantiles, and of the probability of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from arfj.certify.cdf.distribution import Bounds, Outside
from arfj.certify.cdf.evaluation import Evaluation, as_fractions
from arfj.certify.cdf.mesh import Array
from arfj.certify.cdf.question import Question
from arfj.certify.cdf.refine import Asked, Found, refined
from arfj.certify.cdf.regions import Budget, Pieces, described
from arfj.errors import ArfjError, UsageError
from arfj.graph import Activation, Affine, Graph, Node
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
    # A grid of one dimension: sums are running ones, whatever the number of points.
    found = grid_of(pieces, question, (column,), (levels,), budget, tolerance, outside)
    where = where.ravel()
    return replace(found, bounds=Bounds(found.bounds.lower[where], found.bounds.upper[where]))


def joint(
    pieces: Pieces, question: Question, y: Array, budget: Budget, tolerance: float, outside: Outside = "add"
) -> Found:
    """L and U of P(f_1 <= y_1, .., f_m <= y_m) at points y, shape (points, m)."""
    columns = range(y.shape[1])
    places = [np.unique(y[:, column], return_inverse=True) for column in columns]
    where = np.stack([place.ravel() for _, place in places], axis=1)
    asked = Asked(tuple(columns), tuple(level for level, _ in places), where, outside, tolerance)
    return sound(refined(pieces, question.density, asked, budget))


def grid(
    pieces: Pieces,
    question: Question,
    levels: Sequence[Array],
    budget: Budget,
    tolerance: float,
    outside: Outside = "add",
) -> Found:
    """L and U at all combinations of ascending levels, one array of them for each output: shape (L_1, .., L_m)."""
    return grid_of(pieces, question, tuple(range(len(levels))), tuple(levels), budget, tolerance, outside)


def grid_of(
    pieces: Pieces,
    question: Question,
    columns: tuple[int, ...],
    levels: tuple[Array, ...],
    budget: Budget,
    tolerance: float,
    outside: Outside = "add",
) -> Found:
    """As `grid`, of some of the outputs."""
    asked = Asked(columns, levels, None, outside, tolerance)
    return sound(refined(pieces, question.density, asked, budget))


def sound(found: Found) -> Found:
    """The same.

    Raises:
        ArfjError: NaN, or bounds that exclude each other: numbers beyond what can be computed with.
    """
    lower, upper = found.bounds.lower, found.bounds.upper
    if not np.asarray((lower >= 0) & (lower <= upper) & (upper <= 1), dtype=bool).all():
        raise ArfjError(
            "the bounds are no numbers, or exclude each other; scale network, box and density to usual sizes"
        )
    return found


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
    Where no mass is outside the box it is a value of the network there, whatever the budget.

    Raises:
        UsageError: q is not between 0 and 1.
    """
    if not 0 < q < 1:
        raise UsageError(f"the quantile {q} does not exist; expected a number between 0 and 1")
    # Outside these L and U say no more than that mass outside the box may be anywhere.
    least, greatest = output_range(pieces, column)
    both = (np.nextafter(float(least), -np.inf), np.nextafter(float(greatest), np.inf))
    narrow = 1e-9 * max(abs(both[0]), abs(both[1]), both[1] - both[0])
    whole = outside == "renormalise" or question.density.whole
    lower, upper = (float(least), float(greatest)) if whole else (-np.inf, np.inf)
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
) -> Array:
    """Bounds of the probability of each class, shape (classes, 2): the first of the largest outputs is the class.

    Class i has the probability of f_j - f_i <= 0 for j > i and f_j - f_i < 0 for j < i: joint distribution functions at
    0, and from below at the number just before 0 where a tie is not its own. Fractions, where the pieces are made of
    them, tell ties from other cells.
    """
    outputs, exact = pieces.polytopes.fields.shape[1], pieces.evaluation.exact
    result = np.ones((outputs, 2), dtype=object if exact else np.float64)
    for i in range(outputs):
        others = [j for j in range(outputs) if j != i]
        if not others:  # the only class
            continue
        rivals = rival_pieces(pieces, question.graph, i, others)
        first = np.array(others) < i
        y = np.zeros((2, len(others)), dtype=np.float64)
        y[1, first] = np.nextafter(0.0, -1.0)
        if exact:
            result[i] = _won_and_not_lost(
                joint(rivals, question, as_fractions(y[:1]), budget, tolerance, outside), first
            )
        else:
            found = joint(rivals, question, y, budget, tolerance, outside)
            result[i] = found.bounds.lower[1], found.bounds.upper[0]
    return result


def _won_and_not_lost(found: Found, first: NDArray[np.bool_]) -> tuple[Fraction, Fraction]:
    """The mass of cells where no rival is above 0, and none of the `first` ones is 0 everywhere; and one less that of
    those that are lost for certain. They are the same where there was time to cut all cells at 0 and to weigh them.
    """
    cells = found.cells
    values = cells.mesh.fields[cells.mesh.cells]
    low, high = values.min(axis=1), values.max(axis=1)
    won = np.asarray((high <= 0) & ((low < 0) | ~first), dtype=bool).all(axis=1)
    lost = np.asarray((low >= 0) & ((high > 0) | first), dtype=bool).any(axis=1)
    return Fraction(cells.least[won].sum()), 1 - Fraction(cells.least[lost].sum())


def margin_question(question: Question, true: int) -> Question:
    """The same question about one output, the margin m = f_c - max_(j != c) f_j of a class c.

    P(m < 0) is the probability of another class, and a quantile of m says by how much the class wins. The least of the
    differences f_c - f_j is found by halves: min(v, w) = v - ReLU(v - w).

    Raises:
        UsageError: there is no such class, or no other.
    """
    graph = question.graph
    if not 0 <= true < graph.classes or graph.classes < 2:
        raise UsageError(f"there is no margin of class {true} among {graph.classes}; expected a class, and two of them")
    matrix = np.delete(-np.eye(graph.classes), true, axis=1)
    matrix[true] += 1.0
    nodes: list[Node] = [*graph.nodes, Affine((len(graph.nodes),), (matrix,), np.zeros(graph.classes - 1))]
    count = graph.classes - 1
    while count > 1:
        half, eye = count // 2, np.eye(count)
        kept = np.delete(eye, range(half, 2 * half), axis=1)  # v, and the odd one out
        source, least = len(nodes), -np.eye(half, count - half)
        nodes.append(Affine((source,), (eye[:, :half] - eye[:, half : 2 * half],), np.zeros(half)))
        nodes.append(Activation(source + 1, "relu"))
        nodes.append(Affine((source, source + 2), (kept, least), np.zeros(count - half)))
        count -= half
    return replace(question, graph=replace(graph, nodes=tuple(nodes), softmax=False))


def rival_pieces(pieces: Pieces, graph: Graph, one: int, others: Sequence[int]) -> Pieces:
    """The same regions with the outputs f_j - f_i for all others j."""
    matrix = np.zeros((graph.classes, len(others)))
    matrix[others, range(len(others))] = 1.0
    matrix[one] -= 1.0
    return mapped_pieces(pieces, graph, matrix)


def mapped_pieces(pieces: Pieces, graph: Graph, matrix: Floats) -> Pieces:
    """The same regions with the outputs f A, A of shape (outputs, new outputs)."""
    wider = replace(graph, nodes=(*graph.nodes, Affine((len(graph.nodes),), (matrix,), np.zeros(matrix.shape[1]))))
    return described(
        Evaluation(wider, pieces.evaluation.exact), pieces.lower, pieces.upper, pieces.polytopes, pieces.complete
    )
