r"""Bounds from smaller balls, where the proof over the ball of the best answer is out of reach.

If no answer lies within distance r, r is a lower bound on the distance of all of them. Over a ball of radius r that is
smaller than the distance R of the best answer, bounds of the neurons are narrower, fewer of them are open, and the tree
is a small part of the one that the whole ball takes: where that one has proven next to nothing after minutes, half of R
may take seconds. What is proven is a bound only; the last step, from r to R, is the search that was out of reach.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST = 0.2
"""The first radius, as a share of R."""
STEP, LEAST_STEP = 0.25, 0.02
"""From one radius to the next: a share of the bound to begin with; the least, as a share of R."""
TIME = 0.3
"""A radius may take this share of the time that is left."""
DIRECT, TIGHTEN = 0.05, 0.4
"""Of that, a first search without tightened bounds may take this share; of what is left then, tightening another."""
TOP = 0.97
"""From this share of R on, the whole ball is next."""


@dataclass
class Ladder:
    """Which radius is next.

    Attributes:
        distance: R, of the best answer.
        bound: proven.
        step: by what share of itself the bound is to rise.
    """

    distance: float
    bound: float
    step: float = STEP

    @property
    def radius(self) -> float:
        """The next one."""
        return min(max(self.bound * (1.0 + self.step), FIRST * self.distance), TOP * self.distance)

    @property
    def over(self) -> bool:
        """Whether no radius is left that is worth a search."""
        return self.radius - self.bound < LEAST_STEP * self.distance

    def risen(self, bound: float, distance: float) -> None:
        """A radius was tried: a step that failed is halved, or what is below `FIRST` would be tried next."""
        tried = self.radius
        failed = bound < tried * (1.0 - 1e-6)
        self.distance, self.bound = distance, max(self.bound, bound)
        if failed:
            self.step = 0.5 * (tried / self.bound - 1.0) if self.bound > 0 else self.step
