"""Where x may lie: a box intersected with an L1 or L2 ball around the nominal image.

    X(R) = {x : lower <= x <= upper, ||x - centre||_p <= R},   p = 1 or 2

Support functions in closed form. p = 1 is a fractional knapsack: each pixel i moves towards the sign of w_i at gain
|w_i| per unit of L1 budget, up to its distance to the box; the budget R goes to the largest gains first. p = 2: pixel i
moves by min(t |w_i|, its distance to the box), and t is the root of a quadratic between two breakpoints.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arfj.errors import UsageError
from arfj.network import Floats

MARGIN, MARGIN_TERMS = 2.0**-51, 16
"""Four times the unit roundoff, for every pixel and so many more: what sums of squares and their root are off by."""
FAINT = 1e-100
"""A gain is next to nothing below this share of the largest one; its square is still a number above."""
PIXELS, LEAST_PIXELS = 2, 16
"""An L1 budget is first offered to so many pixels a unit, and so many more: selected, not sorted."""


def long_sum(terms: int) -> float:
    """By how much a magnitude is raised because its sum has very many terms: the margin for rounding covers 2^14."""
    return max(1.0, terms / 2**14)


@dataclass(frozen=True, eq=False)
class Region:
    """X(R) of the module's docstring.

    Attributes:
        centre: the nominal image xbar, shape (n,), inside the box.
        lower, upper: the box, shape (n,).
        radius: R >= 0; `numpy.inf` where there is no ball.
        norm: p, 1 or 2.

    Raises:
        UsageError: NaN, an empty box, a centre outside it, or a negative radius.
    """

    centre: Floats
    lower: Floats
    upper: Floats
    radius: float = np.inf
    norm: Literal[1, 2] = 1

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
        if self.norm not in (1, 2):
            raise UsageError(f"the norm is {self.norm}; expected 1 or 2 (a ball in L infinity is a box)")

    @classmethod
    def around(cls, centre: ArrayLike, radius: float = np.inf, norm: Literal[1, 2] = 1) -> Region:
        """{x in [0, 1]^n : ||x - centre||_p <= radius} around a flat image."""
        flat = np.asarray(centre, dtype=np.float64).ravel()
        return cls(flat, np.zeros_like(flat), np.ones_like(flat), radius, norm)

    @classmethod
    def cube(cls, centre: ArrayLike, epsilon: float) -> Region:
        """{x in [0, 1]^n : ||x - centre||_inf <= epsilon} around a flat image, a box."""
        flat = np.asarray(centre, dtype=np.float64).ravel()
        if not epsilon >= 0:
            raise UsageError(f"the radius is {epsilon}; expected a number >= 0")
        return cls(flat, np.maximum(flat - epsilon, 0.0), np.minimum(flat + epsilon, 1.0))

    @classmethod
    def between(cls, lower: ArrayLike, upper: ArrayLike) -> Region:
        """The box itself, around its middle."""
        low, up = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
        return cls(np.clip(0.5 * (low + up), low, up), low, up)

    def with_radius(self, radius: float) -> Region:
        """The same box with another ball."""
        return replace(self, radius=radius)

    @property
    def box(self) -> tuple[Floats, Floats]:
        """The smallest box around it: lower and upper corner."""
        if not self.has_ball:
            return self.lower, self.upper
        reach = self.radius * (1.0 + 1e-15)
        low, up = np.nextafter(self.centre - reach, -np.inf), np.nextafter(self.centre + reach, np.inf)
        return np.maximum(self.lower, low), np.minimum(self.upper, up)

    @property
    def reach(self) -> float:
        """The distance of the farthest point of the box: for p = 1, sum_j max(xbar_j - l_j, u_j - xbar_j)."""
        return float(np.linalg.norm(np.maximum(self.centre - self.lower, self.upper - self.centre), self.norm))

    @property
    def has_ball(self) -> bool:
        """Whether the ball cuts anything off the box."""
        return self.radius < self.reach

    def support(self, weights: ArrayLike) -> Floats:
        """max {w . x : x in X(R)} for every row w of `weights`, shape (k, n) -> (k,).

        Exact up to rounding (no outward margin: the bounds add theirs).
        """
        return self.attained(weights)[0]

    def maximiser(self, weights: ArrayLike) -> Floats:
        """A point of X(R) at which the support is attained, for every row: (k, n) -> (k, n)."""
        return self.attained(weights)[1]

    def attained(self, weights: ArrayLike) -> tuple[Floats, Floats]:
        """`support` and `maximiser` of the same weights, for little more than either."""
        w = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        if self.has_ball and self.norm == 1:
            return self._spent(w)
        room, gain = np.where(w > 0, self.upper - self.centre, self.centre - self.lower), np.abs(w)
        if self.has_ball:
            room, moved = self._euclidean(gain, room)
        else:
            moved = room
        return np.asarray(w @ self.centre + (gain * room).sum(axis=1)), np.asarray(self.centre + np.sign(w) * moved)

    def _spent(self, w: Floats) -> tuple[Floats, Floats]:
        """`attained` where the radius is spent on the pixels of the largest gains first."""
        up, down = self.upper - self.centre, self.centre - self.lower
        gain = np.maximum(np.where(up > 0, w, 0.0), np.where(down > 0, -w, 0.0))
        pixels = self._order(gain, up, down, w)
        mine = np.take_along_axis(w, pixels, axis=1)
        room = np.where(mine > 0, up[pixels], down[pixels])
        moved = np.clip(self.radius - (np.cumsum(room, axis=1) - room), 0.0, room)
        x = np.tile(self.centre, (len(w), 1))
        np.put_along_axis(x, pixels, self.centre[pixels] + np.sign(mine) * moved, axis=1)
        return np.asarray(w @ self.centre + (np.abs(mine) * moved).sum(axis=1)), x

    def _order(self, gain: Floats, up: Floats, down: Floats, w: Floats) -> NDArray[np.intp]:
        """Pixels by falling gain, row by row: a few of them where these have room for the radius, or all of them."""
        total = gain.shape[1]
        few = int(min(PIXELS * self.radius, total)) + LEAST_PIXELS
        if few < total // 2:
            chosen = np.argpartition(gain, total - few, axis=1)[:, total - few :]
            gains = np.take_along_axis(gain, chosen, axis=1)
            room = np.where(np.take_along_axis(w, chosen, axis=1) > 0, up[chosen], down[chosen])
            enough = room.sum(axis=1) >= self.radius
            if (enough | (gains.min(axis=1) <= 0)).all():  # or nothing else is worth a move
                ranks = np.argsort(-gains, axis=1)
                return np.take_along_axis(chosen, ranks, axis=1)
        return np.argsort(-gain, axis=1)

    def _euclidean(self, gain: Floats, room: Floats) -> tuple[Floats, Floats]:
        """min(t gain, room) of every pixel, t such that the Euclidean length is the radius (or nothing is left).

        Twice: no move of the first is too short, and the second ones stay in the ball. t is never too small: the
        squares that are left for the pixels from k on are raised by more than rounding takes from them, and t is no
        smaller than where the last pixel before k stops. Pixels whose gains are next to nothing beside the largest one
        are not counted: in the first they move as far as they can, in the second not at all.
        """
        able = (gain > 0) & (room > 0)
        largest = np.where(able, gain, 0.0).max(axis=1, initial=0.0, keepdims=True)
        share = np.where(able, gain / np.where(largest > 0, largest, 1.0), 0.0)
        moving = share > FAINT
        share = np.where(moving, share, 0.0)
        margin = MARGIN * (gain.shape[1] + MARGIN_TERMS)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            limit = np.where(moving, room / share, np.inf)  # t at which the pixel stops
            order = np.argsort(limit, axis=1)
            limits = np.take_along_axis(limit, order, axis=1)
            stopped = np.take_along_axis(np.where(moving, room, 0.0) ** 2, order, axis=1).cumsum(axis=1)
            squares = np.take_along_axis(share**2, order, axis=1)
            running = np.flip(np.flip(squares, axis=1).cumsum(axis=1), axis=1)  # those from this pixel on
            none = np.zeros((len(gain), 1))
            left = np.maximum(self.radius**2 - np.hstack([none, stopped[:, :-1]]), 0.0) + margin * self.radius**2
            roots = np.sqrt(left / running) * (1.0 + margin)
            fits = roots <= limits
            first = fits.argmax(axis=1)
            rows = np.arange(len(gain))
            before = np.hstack([none, limits[:, :-1]])[rows, first]
            t = np.where(fits.any(axis=1), np.maximum(roots[rows, first], before), np.inf)
            moved = np.where(moving, np.minimum(t[:, None] * share, room), 0.0)
        length = np.linalg.norm(moved, axis=1, keepdims=True)
        back = np.where(length > self.radius, self.radius / np.where(length > 0, length, 1.0), 1.0)
        return np.where(able & ~moving, room, moved), back * moved

    def magnitude(self, weights: ArrayLike) -> Floats:
        """sum_i |w_i| max(|l_i|, |u_i|), the scale of the rounding error of w . x, per row; more for long sums."""
        w = np.atleast_2d(np.asarray(weights, dtype=np.float64))
        return np.asarray(np.abs(w) @ (np.maximum(np.abs(self.lower), np.abs(self.upper)) * long_sum(w.shape[1])))

    def contains(self, x: ArrayLike, tolerance: float = 0.0) -> bool:
        """Whether x, shape (n,), lies in the region up to `tolerance`."""
        point = np.asarray(x, dtype=np.float64)
        inside = (point >= self.lower - tolerance).all() and (point <= self.upper + tolerance).all()
        return bool(inside and np.linalg.norm(point - self.centre, self.norm) <= self.radius + tolerance)
