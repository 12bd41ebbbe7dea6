r"""Distributions from networks below and above: F of the upper one is below F, that of the lower one above.

f_lower <= f <= f_upper on the box gives P(f_upper <= y) <= P(f <= y) <= P(f_lower <= y), and so for several outputs
together. Both networks have ReLUs alone and are cut into regions at once, as one network with twice the outputs. With
twice the segments they are nested; the greatest L and the least U of all rounds count.

Source: A. Kofnov et al., Exact upper and lower bounds for the output distribution of neural networks with random
inputs, ICML 2025.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from arfj.certify.cdf import answers
from arfj.certify.cdf.activations import bounding_network
from arfj.certify.cdf.answers import Quantile
from arfj.certify.cdf.densities import Density
from arfj.certify.cdf.distribution import Bounds, Outside
from arfj.certify.cdf.layers import Layers, layers_of, restricted_layers
from arfj.certify.cdf.mesh import Array
from arfj.certify.cdf.question import Question, placed
from arfj.certify.cdf.refine import Found
from arfj.certify.cdf.regions import Budget, Pieces
from arfj.errors import UsageError
from arfj.graph import Graph
from arfj.network import Floats, Network

FIRST = 2
"""Segments of the first round."""
COSTS_MORE = 5.0
"""How many times as long as all before the next round may take: it is not begun where so much time is not left."""


@dataclass(frozen=True, eq=False)
class Enclosed:
    """A network with random inputs, to be bounded by networks of ReLUs.

    Attributes:
        network: as a function of the free inputs.
        lower, upper: their box, shape (d,).
        density: theirs.
        inputs, free: as of `Question`.
        logits: the question about the outputs before a softmax, where that can be asked: it has the same classes.
    """

    network: Layers
    lower: Floats
    upper: Floats
    density: Density
    inputs: Floats
    free: tuple[int, ...]
    logits: Question | None = None

    @property
    def outputs(self) -> int:
        """How many."""
        return self.network.classes

    def both(self, segments: int) -> Question:
        """The question about (f_lower, f_upper)."""
        graph = bounding_network(self.network.layers, self.lower, self.upper, segments)
        return Question(graph, self.lower, self.upper, self.density, self.inputs, self.free)

    def sampled(self, count: int, seed: int) -> tuple[Floats, Floats]:
        """Draws of the free inputs and the true outputs there, as `Question.sampled`."""
        x = self.density.sample(count, np.random.default_rng(seed))
        return x, np.concatenate([self.network(part) for part in np.array_split(x, max(1, count // 50_000))])


def enclosed(
    network: Network | Graph | Layers,
    inputs: Floats,
    free: Sequence[int],
    density: Density,
    lower: Floats,
    upper: Floats,
) -> Enclosed:
    """Check what belongs together, as `question`.

    Raises:
        UsageError: as `question`, or no input is left to be random.
    """
    found = layers_of(network)
    flat, kept, density, lower, upper = placed(found.inputs, inputs, free, density, lower, upper)
    if not kept:
        raise UsageError("the box has no width in any input, so that nothing is random; give it some")
    return Enclosed(restricted_layers(found, flat, kept), lower, upper, density, flat, kept)


@dataclass(frozen=True, eq=False)
class Enclosure:
    """Both networks of so many segments, cut into regions.

    Attributes:
        segments: S.
        question, pieces: about (f_lower, f_upper).
        below, above: the regions with the outputs of f_lower, and with those of f_upper.
    """

    segments: int
    question: Question
    pieces: Pieces
    below: Pieces
    above: Pieces

    def mapped(self, of_lower: Floats, of_upper: Floats) -> Pieces:
        """The same regions with the outputs f_lower A + f_upper B, A and B of shape (outputs, new outputs)."""
        return answers.mapped_pieces(self.pieces, self.question.graph, np.vstack([of_lower, of_upper]))


def enclosure(asked: Enclosed, segments: int, budget: Budget) -> Enclosure:
    """Cut the box by both networks."""
    question = asked.both(segments)
    pieces, eye = question.pieces(budget), np.eye(asked.outputs)
    sides = [
        answers.mapped_pieces(pieces, question.graph, np.vstack(pair)) for pair in ((eye, 0 * eye), (0 * eye, eye))
    ]
    return Enclosure(segments, question, pieces, *sides)


def output_range(found: Enclosure, column: int) -> tuple[float, float]:
    """Values that an output does not leave in the box."""
    return float(answers.output_range(found.below, column)[0]), float(answers.output_range(found.above, column)[1])


Ask = Callable[[Pieces, Question], Found]


def both_sides(found: Enclosure, ask: Ask, outside: Outside, tolerance: float) -> Found:
    """L from the upper network, U from the lower one."""
    low, high = ask(found.above, found.question), ask(found.below, found.question)
    bounds = Bounds(low.bounds.lower, high.bounds.upper)
    return answers.sound(Found(bounds, low.pieces, low.cells, apart(bounds, low, outside) <= tolerance))


def apart(bounds: Bounds, found: Found, outside: Outside) -> float:
    """The largest U - L, without the mass that is certainly outside the box."""
    missing = 1 - float(found.cells.inside[1]) if outside == "add" else 0.0
    return float((bounds.upper - bounds.lower).max(initial=0)) - missing


def tightened(
    asked: Enclosed, first: Enclosure, ask: Ask, budget: Budget, tolerance: float, outside: Outside, fixed: bool
) -> tuple[Enclosure, Found]:
    """Twice the segments until bounds are near enough or the budget ends, or only `first` where they are fixed."""
    began, enclosing = time.monotonic(), first
    found = both_sides(first, ask, outside, tolerance)
    while not (fixed or found.reached or budget.spent(len(found.cells.least))):
        if time.monotonic() + COSTS_MORE * (time.monotonic() - began) > budget.until:
            break
        enclosing = enclosure(asked, 2 * enclosing.segments, budget)
        finer = both_sides(enclosing, ask, outside, tolerance)
        bounds = Bounds(
            np.maximum(found.bounds.lower, finer.bounds.lower), np.minimum(found.bounds.upper, finer.bounds.upper)
        )
        found = answers.sound(Found(bounds, finer.pieces, finer.cells, apart(bounds, finer, outside) <= tolerance))
    return enclosing, found


def one_output(
    asked: Enclosed, first: Enclosure, column: int, y: Array, budget: Budget, tolerance: float,
    outside: Outside = "add", fixed: bool = False,
) -> tuple[Enclosure, Found]:  # fmt: skip
    """L and U of P(f_o <= y), as `answers.one_output`; the last enclosure as well."""

    def ask(pieces: Pieces, question: Question) -> Found:
        return answers.one_output(pieces, question, column, y, budget, tolerance / 2, outside)

    return tightened(asked, first, ask, budget, tolerance, outside, fixed)


def joint(
    asked: Enclosed, first: Enclosure, y: Array, budget: Budget, tolerance: float, outside: Outside = "add",
    fixed: bool = False,
) -> tuple[Enclosure, Found]:  # fmt: skip
    """L and U of P(f <= y), as `answers.joint`; the last enclosure as well."""

    def ask(pieces: Pieces, question: Question) -> Found:
        return answers.joint(pieces, question, y, budget, tolerance / 2, outside)

    return tightened(asked, first, ask, budget, tolerance, outside, fixed)


def quantile(
    found: Enclosure, column: int, q: float, budget: Budget, outside: Outside = "add", tolerance: float = 1e-6
) -> Quantile:
    """Bounds of a quantile: that of f_lower is below it, that of f_upper above.

    Raises:
        UsageError: q is not between 0 and 1.
    """
    low = answers.quantile(found.below, found.question, column, q, budget, outside, tolerance).lower
    return Quantile(q, low, answers.quantile(found.above, found.question, column, q, budget, outside, tolerance).upper)


def class_probabilities(
    found: Enclosure, outputs: int, budget: Budget, tolerance: float = 1e-6, outside: Outside = "add"
) -> Floats:
    """Bounds of the probability of each class, as `answers.class_probabilities`.

    Class i has at least the probability that f_upper_j - f_lower_i <= 0 (< 0 for j < i) for all others j, and at most
    that of f_lower_j - f_upper_i <= 0.
    """
    result = np.ones((outputs, 2))
    for i in range(outputs if outputs > 1 else 0):
        others = [j for j in range(outputs) if j != i]
        rivals, own = np.eye(outputs)[:, others], np.zeros((outputs, len(others)))
        own[i] = -1.0
        y = np.zeros((1, len(others)))
        after = answers.joint(found.mapped(rivals, own), found.question, y, budget, tolerance, outside)
        y[0, [k for k, j in enumerate(others) if j < i]] = np.nextafter(0.0, -1.0)
        before = answers.joint(found.mapped(own, rivals), found.question, y, budget, tolerance, outside)
        result[i] = before.bounds.lower[0], after.bounds.upper[0]
    return result
