r"""Distributions with a given mean and covariance: x = mu + S xi, with E xi = 0 and E xi xi' = I.

The coordinates of xi are independent draws of one law that is shifted and scaled to mean 0 and variance 1, but for
`t`, whose coordinates share one denominator, and `two-radius`: xi = r u, u uniform on the sphere, r one of two radii
with E r^2 = rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from arfj.certify.cvar.moments import Moments
from arfj.errors import UsageError
from arfj.network import Floats

PARETO, WEIBULL, LOG = 3.5, 1.5, 0.5
"""Exponent of the power law, shape of the Weibull law, deviation of the logarithm."""
FREEDOM, HEAVY = 3.0, 2.5
"""Degrees of freedom of t."""
Drawer = Callable[[np.random.Generator, tuple[int, int]], Floats]


def _uniform(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.uniform(-math.sqrt(3.0), math.sqrt(3.0), shape)


def _power(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    mean = 1.0 / (PARETO - 1.0)  # of the Lomax law, which numpy calls pareto
    deviation = math.sqrt(PARETO / ((PARETO - 1.0) ** 2 * (PARETO - 2.0)))
    return (rng.pareto(PARETO, shape) - mean) / deviation


def _lognormal(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    mean = math.exp(0.5 * LOG**2)
    return (rng.lognormal(0.0, LOG, shape) - mean) / (mean * math.sqrt(math.expm1(LOG**2)))


def _weibull(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    mean, square = math.gamma(1.0 + 1.0 / WEIBULL), math.gamma(1.0 + 2.0 / WEIBULL)
    return (rng.weibull(WEIBULL, shape) - mean) / math.sqrt(square - mean**2)


def _normal(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.standard_normal(shape)


def _t(freedom: float, scaled: bool) -> Drawer:
    """Multivariate t; with Sigma as scale matrix its covariance is Sigma nu / (nu - 2): no member of P(mu, Sigma)."""

    def drawn(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
        values = rng.standard_normal(shape) / np.sqrt(rng.chisquare(freedom, (shape[0], 1)) / freedom)
        return values if scaled else values * math.sqrt((freedom - 2.0) / freedom)

    return drawn


def _two_radius(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """A fifth of the mass at twice the usual radius: E r^2 = rank (0.2 * 4 + 0.8 * 0.25) = rank."""
    direction = rng.standard_normal(shape)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    radius = np.where(rng.random((shape[0], 1)) < 0.2, 2.0, 0.5) * math.sqrt(shape[1])
    return direction * radius


LAWS: dict[str, Drawer] = {
    "uniform": _uniform,
    "power law": _power,
    "lognormal": _lognormal,
    "Weibull": _weibull,
    "normal": _normal,
    "t": _t(FREEDOM, scaled=False),
    "two-radius": _two_radius,
}
"""Laws by name, all members of P(mu, Sigma)."""
T_SCALE, T_HEAVY, T_HEAVY_SCALE = "t, Sigma as scale", "t (2.5)", "t (2.5), Sigma as scale"
OTHERS: dict[str, Drawer] = {
    T_HEAVY: _t(HEAVY, scaled=False),
    T_SCALE: _t(FREEDOM, scaled=True),
    T_HEAVY_SCALE: _t(HEAVY, scaled=True),
}
"""More of t: with heavier tails, and with Sigma as the scale matrix, which leaves P(mu, Sigma)."""


def draw(law: str, moments: Moments, count: int, rng: np.random.Generator) -> Floats:
    """Independent draws of x, shape (count, n).

    Raises:
        UsageError: a law that is not known.
    """
    known = LAWS | OTHERS
    drawer = known.get(law)
    if drawer is None:
        raise UsageError(f"there is no law {law!r}; expected one of {', '.join(known)}")
    if not moments.rank:
        return np.tile(moments.mean, (count, 1))
    return moments.inputs(drawer(rng, (count, moments.rank)))


def matched(samples: ArrayLike, moments: Moments) -> Floats:
    """Samples moved by an affine map so that their own mean and covariance (divided by their number) are mu and Sigma.

    The uniform distribution on them is then a member of P(mu, Sigma), and no certificate may be exceeded on it.

    Raises:
        UsageError: they span fewer dimensions than Sigma.
    """
    rows = np.asarray(samples, dtype=np.float64)
    white = (rows - rows.mean(axis=0)) @ np.linalg.pinv(moments.root).T
    values, vectors = np.linalg.eigh(white.T @ white / len(rows))
    if len(rows) <= moments.rank or (moments.rank and values[0] <= 1e-12 * values[-1]):
        raise UsageError(f"{len(rows)} samples do not span {moments.rank} dimensions; draw more")
    return moments.inputs(white @ vectors / np.sqrt(values) @ vectors.T)
