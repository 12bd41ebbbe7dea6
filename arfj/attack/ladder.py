r"""Bounds from smaller balls, where the proof over the ball of the best answer is out of reach.

If no answer lies within distance r, r is a lower bound on the distance of all of them. Over a ball of radius r that is
smaller than the distance R of the best answer, bounds of the neurons are narrower, fewer of them are open, and the tree
is a small part of the one that the whole ball takes: where that one has proven next to nothing after minutes, a third
of R may take seconds. What is proven is a bound only; the last step, from r to R, is the search that was out of reach.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from arfj.attack.closing import Closing
from arfj.bounds import Bounds
from arfj.question import Question

FIRST = 0.2
"""The first step, as a share of R."""
STEP, LEAST_STEP = 0.25, 0.02
"""Later ones, as a share of what is proven; the least that is worth a search, as a share of R."""
TIME = 0.3
"""A radius may take this share of the time that is left."""
CLIMB = 0.7
"""And all of them together this share of what was left before; then the search over the whole ball goes on."""
DIRECT, TIGHTEN = 0.05, 0.4
"""Of that, a first search without tightened bounds may take this share; of what is left then, tightening another."""
TOP = 0.97
"""From this share of R on, the whole ball is next."""
APART = 1e-9
"""Bounds contradict each other where the lower one exceeds the upper one by more than this, absolute and relative."""

Tighten = Callable[[Question, Sequence[Bounds], float, float], list[Bounds]]
"""See `arfj.tighten.tighten`."""


@dataclass
class Ladder:
    """Which radius is next: a fifth of R first, then a quarter more than what is proven, half of a step that failed.

    Attributes:
        distance: R, of the best answer.
        bound: proven.
        step: the next one, as a share of what is proven, or of R / 5 if that is more.
    """

    distance: float
    bound: float
    step: float = 1.0

    def __post_init__(self) -> None:
        if self.bound >= FIRST * self.distance:
            self.step = STEP

    @property
    def unit(self) -> float:
        """What steps are shares of."""
        return max(self.bound, FIRST * self.distance)

    @property
    def radius(self) -> float:
        """The next one."""
        return min(self.bound + self.step * self.unit, TOP * self.distance)

    @property
    def over(self) -> bool:
        """Whether no radius is left that is worth a search."""
        return self.radius - self.bound < LEAST_STEP * self.distance

    def risen(self, bound: float, distance: float) -> None:
        """Take up what the search of the next radius has proven, and the distance of the best answer then."""
        tried = self.radius
        self.distance, self.bound = distance, max(self.bound, bound)
        done = bound >= tried * (1.0 - 1e-6)
        self.step = min(self.step, STEP) if done else 0.5 * max(tried - self.bound, 0.0) / self.unit


@dataclass(frozen=True, eq=False)
class Rung:
    """What the search of a smaller ball came to.

    Attributes:
        bound: proven lower bound on the distance of all answers, those outside of the ball included.
        closing: the last search, or None where bounds said before it that the ball holds no answer.
        nodes: branchings.
        interrupted: whether the user stopped it.
    """

    bound: float
    closing: Closing | None
    nodes: int = 0
    interrupted: bool = False


def search_ball(
    part: Question,
    bounds: Sequence[Bounds],
    radius: float,
    until: float,
    closing_of: Callable[[Sequence[Bounds]], Closing],
    tighten: Tighten,
) -> Rung:
    """A short search; if it stays open, tightened bounds and a longer one.

    Args:
        part: the question.
        bounds: of its scenarios, which hold at every answer within `radius`.
        radius: r.
        until: `time.perf_counter()` value at which to stop.
        closing_of: the search with such bounds, its `within` being r.
        tighten: better bounds of the same kind.
    """
    before: Closing | None = None
    while not contradictory(bounds):
        closing = closing_of(bounds)
        share = DIRECT
        if before is not None:
            closing.go_on_from(before)
            share = 1.0
        solution = closing.run(max(0.0, share * (until - time.perf_counter())))
        done = closing.closed or closing.outgrown or solution.interrupted or time.perf_counter() >= until
        if done or before is not None:
            return Rung(min(radius, closing.bound), closing, closing.nodes, solution.interrupted)
        before = closing
        bounds = tighten(part, bounds, radius, time.perf_counter() + TIGHTEN * (until - time.perf_counter()))
    return Rung(radius, before, 0 if before is None else before.nodes)


def contradictory(bounds: Sequence[Bounds]) -> bool:
    """Whether no point has such pre-activations: each bound is a safe one, so there is no answer then."""
    return any(
        bool((low - up > APART * (1.0 + abs(low) + abs(up))).any())
        for one in bounds
        for low, up in zip(one.lower, one.upper, strict=True)
    )
