"""Where the answer may lie: a box intersected with an L1 ball around the nominal image.

    X(R) = {x : lower <= x <= upper, ||x - centre||_1 <= R}

Its support function is a fractional knapsack: each pixel i moves towards the sign of w_i at gain |w_i| per unit of
L1 budget, up to its distance to the box; the budget R goes to the largest gains first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from arfj.errors import UsageError
from arfj.network import Floats


@dataclass(frozen=True, eq=False)
class Region:
    """X(R) of the module's docstring.

    Attributes:
        centre: the nominal image xbar, shape (n,), inside the box.
        lower, upper: the box, shape (n,).
        radius: R >= 0 in L1; `numpy.inf` where there is no ball.

    Raises:
        UsageError: NaN, an empty box, a centre outside it, or a negative radius.
    """

    centre: Floats
    lower: Floats
    upper: Floats
    radius: float = np.inf

    def __post_init__(self) -> None:
        for name in ("centre", "lower", "upper"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if self.centre.ndim != 1 or not self.centre.shape == self.lower.shape == self.upper.shape:
            raise UsageError("a region needs centre, lower and upper of one shape (n,)")
        if not (np.isfinite(self.lower).all() and np.isfinite(self.upper).all()):
            raise UsageError("the box of a region must be finite")
        if not ((self.lower <= self.centre) & (self.centre <= self.upper)).all():
            raise UsageError("the nominal image must lie in its box (pixels in [0, 1]) and hold no NaN")
        if not self.radius >= 0:
            raise UsageError(f"the radius is {self.radius}; expected a number >= 0")

    @classmethod
    def around(cls, centre: ArrayLike, radius: float = np.inf) -> Region:
        """{x in [0, 1]^n : ||x - centre||_1 <= radius} around a flat image."""
        flat = np.asarray(centre, dtype=np.float64).ravel()
        return cls(flat, np.zeros_like(flat), np.ones_like(flat), radius)

    def with_radius(self, radius: float) -> Region:
        """The same box with another ball."""
        return replace(self, radius=radius)

    @property
    def reach(self) -> float:
        """sum_j max(xbar_j - l_j, u_j - xbar_j): the L1 distance of the farthest point of the box."""
        return float(np.maximum(self.centre - self.lower, self.upper - self.centre).sum())

    @property
    def has_ball(self) -> bool:
        """Whether the ball cuts anything off the box."""
        return self.radius < self.reach

    def support(self, weights: ArrayLike) -> Floats:
        """max {w . x : x in X(R)} for every row w of `weights`, shape (k, n) -> (k,).

        Exact up to rounding (no outward margin: the bounds add theirs).
        """
        w = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        room, gain = self._knapsack(w)
        base = w @ self.centre
        if not self.has_ball:
            return np.asarray(base + (gain * room).sum(axis=1))
        order = np.argsort(-gain, axis=1)
        room = np.take_along_axis(room, order, axis=1)
        gain = np.take_along_axis(gain, order, axis=1)
        return np.asarray(base + (gain * self._steps(room)).sum(axis=1))

    def maximiser(self, weights: ArrayLike) -> Floats:
        """A point of X(R) at which the support is attained, for every row: (k, n) -> (k, n)."""
        w = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        room, gain = self._knapsack(w)
        if self.has_ball:
            order = np.argsort(-gain, axis=1)
            steps = self._steps(np.take_along_axis(room, order, axis=1))
            room = np.zeros_like(steps)
            np.put_along_axis(room, order, steps, axis=1)
        return np.asarray(self.centre + np.sign(w) * room)

    def _knapsack(self, w: Floats) -> tuple[Floats, Floats]:
        """How far each pixel may move in the direction of its weight, and the gain per unit."""
        return np.where(w > 0, self.upper - self.centre, self.centre - self.lower), np.abs(w)

    def _steps(self, room: Floats) -> Floats:
        """Spend the radius on pixels in the given order."""
        spent = np.cumsum(room, axis=1) - room
        return np.clip(self.radius - spent, 0.0, room)

    def magnitude(self, weights: ArrayLike) -> Floats:
        """sum_i |w_i| max(|l_i|, |u_i|), the scale of the rounding error of w . x, per row."""
        w = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        return np.asarray(np.abs(w) @ np.maximum(np.abs(self.lower), np.abs(self.upper)))

    def contains(self, x: ArrayLike, tolerance: float = 0.0) -> bool:
        """Whether x, shape (n,), lies in the region up to `tolerance`."""
        point = np.asarray(x, dtype=np.float64)
        inside = (point >= self.lower - tolerance).all() and (point <= self.upper + tolerance).all()
        return bool(inside and np.abs(point - self.centre).sum() <= self.radius + tolerance)
