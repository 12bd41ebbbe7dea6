"""Sets of outputs that a scenario program chooses among, and what they say of a'y + b.

The sets here have closed forms. l2 and l1 balls need a search (`euclidean`, `diamond`); what these report is not the
optimum of their program but a ball that is proven to hold the ball of the optimum, for the theorem is about the
optimum and nothing is believed of a search: a larger set is missed by f(X) at most as often.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from arfj.errors import ArfjError
from arfj.network import Floats

Norm = Literal["l1", "l2", "linf"]
ROUNDING = 4e-16
"""Relative, a term: two roundings."""
SMALLEST, LARGEST = 1e-100, 1e100
"""Squares of what is in between are floats."""
TINY = 1e-150
"""Added to distances: of smaller differences the squares are 0."""


@dataclass(frozen=True, eq=False)
class Ball:
    """{y : ||y - c|| <= r}.

    Attributes:
        centre: c, shape (n_y,).
        radius: r.
        norm: "l1", "l2" or "linf".
    """

    centre: Floats
    radius: float
    norm: Norm

    def least(self, a: Floats, b: float) -> float:
        """inf {a'y + b : y in the ball} = a'c - r ||a||_dual + b, rounded down."""
        dual = {"l1": np.inf, "l2": 2, "linf": 1}[self.norm]
        steep = float(np.linalg.norm(a, dual))
        size = float(np.abs(a) @ np.abs(self.centre)) + self.radius * steep + abs(b)
        return float(a @ self.centre - self.radius * steep + b) - ROUNDING * (len(a) + 3) * size

    def distances(self, points: Floats) -> Floats:
        """||y_j - c|| of points (N, n_y), rounded up."""
        order = {"l1": 1, "l2": 2, "linf": np.inf}[self.norm]
        size = float(np.abs(points).max() + np.abs(self.centre).max())
        found = np.linalg.norm(points - self.centre, order, axis=1)
        return np.asarray(found * (1.0 + ROUNDING * (points.shape[1] + 3)) + ROUNDING * size + TINY)


@dataclass(frozen=True, eq=False)
class Box:
    """{y : l <= y <= u}, shapes (n_y,): p = 2 n_y."""

    lower: Floats
    upper: Floats

    def least(self, a: Floats, b: float) -> float:
        """inf {a'y + b : y in the box}, rounded down."""
        terms = np.where(a > 0, a * self.lower, a * self.upper)
        size = float(np.abs(terms).sum()) + abs(b)
        return float(terms.sum() + b) - ROUNDING * (len(a) + 3) * size


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """{y : ||Q y - z||_2 <= r}, Q fixed before any sample was seen: a ball of Q y, so p = n_y + 1.

    Attributes:
        shape: Q, (n_y, n_y), invertible.
        image: the ball of Q y: z and r.
    """

    shape: Floats
    image: Ball

    def least(self, a: Floats, b: float) -> float:
        """inf {a'y + b : y in the ellipsoid} = t'z - r ||t|| + b with Q't = a, rounded down."""
        t: Floats = np.asarray(np.linalg.solve(self.shape.T, a), dtype=np.float64)
        left = float(np.linalg.norm(a - self.shape.T @ t))  # of which the farthest y makes this much
        return self.image.least(t, b) - left * reach(self.shape, self.image) * (1.0 + 1e-6)


def reach(shape: Floats, image: Ball) -> float:
    """At least the length of every y with Q y in the ball."""
    steep = 1.0 / float(np.linalg.svd(shape, compute_uv=False)[-1])
    return steep * (float(np.linalg.norm(image.centre)) + image.radius) * (1.0 + 1e-6)


def ellipsoid(shape: Floats, image: Ball) -> Ellipsoid:
    """The ellipsoid of a ball of Q y as float64 computes it: widened by what that product rounds."""
    rounding = ROUNDING * (len(shape) + 3) * float(np.linalg.norm(shape)) * reach(shape, image)
    return Ellipsoid(shape, Ball(image.centre, image.radius + rounding, "l2"))


Set = Ball | Box | Ellipsoid


def box(points: Floats) -> Box:
    """The optimum over boxes for every regulariser that rises with the widths: the smallest one."""
    return Box(points.min(axis=0), points.max(axis=0))


def linf_ball(points: Floats, a: Floats) -> Ball:
    """The optimum over linf balls with lambda > 0, from the extremes m_i, M_i of the samples alone.

    Of radius r, the best centre has c_i = m_i + r where a_i > 0 and M_i - r where a_i < 0; its value is
    sum a_i^+ m_i + a_i^- M_i whatever r is, so the regulariser takes the least radius, max_i (M_i - m_i) / 2. Where
    a_i = 0 the largest c_i is taken: a rule that is fixed beforehand, as the theorem wants where optima are many.
    """
    low, up = points.min(axis=0), points.max(axis=0)
    radius = 0.5 * float((up - low).max())
    centre = np.where(a < 0, up - radius, low + radius)
    # Once for the radius, once for the centre: then the ball holds that of exact arithmetic.
    size = float(np.maximum(np.abs(low), np.abs(up)).max()) + radius
    return covering(Ball(centre, radius + 2 * ROUNDING * size, "linf"), points)


def in_range(weight: float, scale: float, steep: float) -> float:
    """lambda, relative to the spread of the samples and the length of a.

    Raises:
        ArfjError: floating point ends before them: scaled by them, the program would be another one.
    """
    if not all(SMALLEST < value < LARGEST for value in (weight, scale, steep)):
        raise ArfjError(
            f"lambda is {weight:.3g}, relative to outputs {scale:.3g} apart and to the length {steep:.3g} of a: "
            "beyond floating point; use linf, or another --regularise"
        )
    return weight


def covering(ball: Ball, points: Floats) -> Ball:
    """The ball itself, which holds every sample.

    Raises:
        ArfjError: one lies outside: a search went wrong, and nothing is certified.
    """
    farthest = float(ball.distances(points).max())
    slack = 4 * ROUNDING * (points.shape[1] + 3) * (ball.radius + float(np.abs(points).max()))
    if not farthest <= ball.radius + slack + TINY:
        raise ArfjError(f"a sample lies outside the {ball.norm} ball by {farthest - ball.radius:.3g}; use another set")
    return Ball(ball.centre, max(ball.radius, farthest), ball.norm)
