r"""Lines below and above an activation on an interval [l, u]: p a + q <= act(a) <= r a + s for l <= a <= u.

ReLU: the chord above; below, any slope in [0, 1] through the origin (Zhang et al. 2018). Sigmoid and tanh are convex
left of 0 and concave right of it: the chord on the one side, and on the other the tangent at the midpoint, or, where
[l, u] holds 0, the line through the far end that touches the curve (found by bisection, kept on the sound side).

Written for NumPy and for `jax.numpy`: the array module is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from arfj.graph import Kind

HALVINGS = 25
ROUNDING = 1e-13
"""Share of the terms by which lines of smooth activations are moved outward: their evaluation errs by some 1e-16."""

Array = Any
"""An array of the module in use."""


@dataclass(frozen=True, eq=False)
class Lines:
    """p, q, r, s of the module's docstring, each of the shape of l; `open` marks the neurons whose p may be chosen.

    q is None where it is 0 throughout (ReLU).
    """

    low_slope: Array
    low_shift: Array
    up_slope: Array
    up_shift: Array
    open: Array


def relax(xp: Any, kind: Kind, lower: Array, upper: Array) -> Lines:
    """Lines for act on [lower, upper], element by element. Where lower > upper (no such a), any line is sound."""
    if kind == "relu":
        return _relu(xp, lower, upper)
    return _smooth(xp, kind, lower, xp.maximum(lower, upper))


def _relu(xp: Any, lower: Array, upper: Array) -> Lines:
    unstable = (lower < 0) & (upper > 0)
    on = xp.where(lower >= 0, 1.0, 0.0).astype(lower.dtype)
    slope = xp.where(unstable, upper / xp.where(unstable, upper - lower, 1.0), on)
    shift = xp.where(unstable, -slope * lower, 0.0)
    below = xp.where(unstable, xp.where(upper > -lower, 1.0, 0.0), on).astype(lower.dtype)
    return Lines(below, None, slope, shift, unstable)


def _smooth(xp: Any, kind: Kind, lower: Array, upper: Array) -> Lines:
    def act(a: Array) -> Array:
        return xp.tanh(a) if kind == "tanh" else 0.5 * (xp.tanh(0.5 * a) + 1.0)

    def steepness(a: Array) -> Array:
        value = act(a)
        return 1.0 - value * value if kind == "tanh" else value * (1.0 - value)

    up_slope, up_at = _above(xp, act, steepness, lower, upper)
    # -act(-a) is act again (up to the constant 1 of the sigmoid): what bounds from above there bounds from below here.
    constant = 0.0 if kind == "tanh" else 1.0
    low_slope, low_at = _above(xp, lambda a: constant - act(-a), steepness, -upper, -lower)
    up_shift = act(up_at) - up_slope * up_at
    low_shift = act(-low_at) + low_slope * low_at
    outward = ROUNDING * (1.0 + xp.maximum(xp.abs(lower), xp.abs(upper)))
    nothing = xp.zeros(lower.shape, dtype=bool)
    return Lines(low_slope, low_shift - outward, up_slope, up_shift + outward, nothing)


def _above(xp: Any, act: Any, steepness: Any, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Slope of a line above act on [lower, upper], and a point at which it meets the curve."""
    width = upper - lower
    chord = xp.where(width > 1e-9, (act(upper) - act(lower)) / xp.where(width > 1e-9, width, 1.0), 0.0)
    middle = 0.5 * (lower + upper)
    # Through (l, act(l)) and touching at d > 0: left of d the tangent at d passes below (l, act(l)).
    low, high = xp.zeros_like(lower), xp.maximum(upper, 0.0)
    for _ in range(HALVINGS):
        d = 0.5 * (low + high)
        steep = act(d) - steepness(d) * (d - lower) < act(lower)
        low, high = xp.where(steep, d, low), xp.where(steep, high, d)
    touches = act(upper) - steepness(upper) * width > act(lower)
    narrow = width <= 1e-9
    tangent = steepness(low)
    slope = xp.where(lower >= 0, steepness(middle), xp.where((upper > 0) & touches, tangent, chord))
    at = xp.where(lower >= 0, middle, lower)
    # A narrow interval: the level line through the right end, for act rises.
    return xp.where(narrow, 0.0, slope), xp.where(narrow, upper, at)
