r"""The worst-case CVaR of a quadratic loss, without a semidefinite program.

    sup_{P(mu, Sigma)} CVaR_eps([x; 1]' H [x; 1]) = min_beta beta + (1/eps) sum_i max(lambda_i(G - beta e e'), 0)
                                                  = (1/eps) max {Tr(G W) : 0 <= W <= I, W_ee = eps},   G = F' H F

The first line is the dual of Zymler, Kuhn and Rustem (2013) after N = R N R: the least N >= 0 above a matrix is its
positive part. It is convex in beta, and every beta gives an upper bound, so no minimiser has to be trusted. In the
second line W / eps is the second moment of [xi; 1] in the worst cases and (I - W) / (1 - eps) that of the others: any
two distributions with these moments, mixed with weights eps and 1 - eps, attain the bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh_tridiagonal
from scipy.linalg.lapack import dsytrd

from arfj.certify.cvar.moments import Moments, checked_level, symmetrised
from arfj.errors import UsageError
from arfj.network import Floats

STEPS = 80
"""Steps towards the best beta; a dozen or two suffice."""
CLOSE = 1e-13
"""The search ends when the gap to the least value is this share of the magnitude."""
WHOLE_MASS = 1e-6
"""Weights sum to 1 up to this."""

TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True, eq=False)
class _Line:
    """Value, slope and second derivative of the objective at one beta."""

    beta: float
    value: float
    slope: float
    bend: float


@dataclass(frozen=True, eq=False)
class WorstCase:
    """The worst-case CVaR of a form.

    Attributes:
        value: an upper bound on it, with the rounding of its own evaluation on top.
        beta: the beta of that bound: the worst-case value at risk.
        form: G, shape (rank + 1, rank + 1).
        epsilon: eps.
        ends: what is known on both sides of the best beta.
    """

    value: float
    beta: float
    form: Floats
    epsilon: float
    ends: tuple[_Line, _Line]

    @cached_property
    def tail(self) -> Floats:
        """W of the module's docstring, shape (rank + 1, rank + 1)."""
        return _tail(self.form, *self.ends, self.epsilon)

    @property
    def attained(self) -> float:
        """Tr(G W) / eps, from below: what some distribution with these moments attains."""
        return float((self.form * self.tail).sum()) / self.epsilon


def worst_case_cvar(form: ArrayLike, moments: Moments, epsilon: float) -> WorstCase:
    """sup CVaR_eps([x; 1]' H [x; 1]) over P(mu, Sigma).

    Args:
        form: H, symmetric, shape (n + 1, n + 1).
        moments: mu and Sigma.
        epsilon: eps in (0, 1), the share of the worst cases.

    Raises:
        UsageError: eps out of range, or a form of another shape.
    """
    return worst_of_white(moments.whitened(form), epsilon)


def worst_of_white(form: Floats, epsilon: float) -> WorstCase:
    """The same for a form G over [xi; 1] with E xi = 0 and E xi xi' = I; the last row is that of the 1."""
    epsilon = checked_level(epsilon)
    if not np.isfinite(form).all():
        raise UsageError("the form holds NaN or infinity, or is too large for floating-point numbers")
    diagonal, beside = _tridiagonal(form)
    size, scale = len(form), float(np.linalg.norm(form)) + TINY

    def line(beta: float) -> _Line:
        return _line(diagonal, beside, beta, epsilon)

    low, high = line(-scale), line(scale)
    for power in range(STEPS):  # weight of e in the positive part: 1 far below, 0 far above
        if low.slope <= 0 <= high.slope:
            break
        low, high = line(-scale * 2.0**power), line(scale * 2.0**power)
    best = min(low, high, key=lambda one: one.value)
    for step in range(STEPS):
        beta = _next(low, high, step)
        if not low.beta < beta < high.beta:
            break
        found = line(beta)
        best = min(best, found, key=lambda one: one.value)
        low, high = (found, high) if found.slope < 0 else (low, found)
        crossing = _crossing(low, high)
        if best.value - crossing[1] <= CLOSE * (abs(best.beta) + abs(best.value) + scale):
            break
    # A symmetric eigenvalue problem is solved up to a small multiple of n u ||G||; sums of n positive ones carry n of
    # these.
    with np.errstate(over="ignore"):  # an infinite bound is seen, and unknown
        rounding = (
            8 * np.finfo(float).eps * size * (np.sqrt(size) * (scale + abs(best.beta)) / epsilon + abs(best.beta))
        )
    return WorstCase(best.value + float(rounding), best.beta, form, epsilon, (low, high))


def _tridiagonal(form: Floats) -> tuple[Floats, Floats]:
    """Diagonal and off-diagonal of Q' G Q with Q' e = e_1: only the first entry then depends on beta."""
    if len(form) == 1:
        return form[0].copy(), np.zeros(0)
    _, diagonal, beside, _, _ = dsytrd(form[::-1, ::-1], lower=1)  # the lower form leaves the first coordinate alone
    return np.asarray(diagonal), np.asarray(beside)


def _line(diagonal: Floats, beside: Floats, beta: float, epsilon: float) -> _Line:
    shifted = diagonal.copy()
    shifted[0] -= beta
    values, vectors = eigh_tridiagonal(shifted, beside) if len(beside) else (shifted, np.ones((1, 1)))
    positive = values > 0
    weights, above, below = vectors[0] ** 2, values[positive], values[~positive]
    bend = float(weights[positive] @ (1.0 / (above[:, None] - below + TINY)) @ weights[~positive])
    slope = 1.0 - float(weights[positive].sum()) / epsilon
    return _Line(beta, beta + float(above.sum()) / epsilon, slope, 2.0 * bend / epsilon)


def _crossing(low: _Line, high: _Line) -> tuple[float, float]:
    """Where the tangents meet: a lower bound on the least value."""
    rise = high.slope - low.slope
    if rise <= 0:
        return low.beta, min(low.value, high.value)
    beta = (low.value - high.value + high.slope * high.beta - low.slope * low.beta) / rise
    return beta, low.value + low.slope * (beta - low.beta)


def _next(low: _Line, high: _Line, step: int) -> float:
    """A Newton step from the better end, or the tangents' crossing, and the middle now and then: none of them alone is
    fast both on kinks and on curves.
    """
    if step % 3 == 2:
        return 0.5 * (low.beta + high.beta)
    near = low if -low.slope < high.slope else high
    newton = near.beta - near.slope / max(near.bend, TINY)
    if low.beta < newton < high.beta:
        return newton
    return float(np.clip(_crossing(low, high)[0], low.beta, high.beta))


def _tail(form: Floats, low: _Line, high: _Line, epsilon: float) -> Floats:
    """W: the positive eigenspaces at both ends, weighted so that W_ee = eps."""
    ends, size = [], len(form)
    # An eigenvalue that is 0 at the best beta counts on the one side and not on the other, whatever its rounding says.
    zero = 1e-11 * float(np.linalg.norm(form))
    for one, least in ((low, -zero), (high, zero)):
        shifted = form.copy()
        shifted[-1, -1] -= one.beta
        values, vectors = np.linalg.eigh(shifted)
        kept = vectors[:, values > least]
        ends.append(kept @ kept.T)
    more, less = float(ends[0][-1, -1]), float(ends[1][-1, -1])
    share = float(np.clip((epsilon - less) / (more - less), 0.0, 1.0)) if more > less else 0.5
    tail = share * ends[0] + (1.0 - share) * ends[1]
    corner = float(tail[-1, -1])
    if corner > epsilon:
        return symmetrised(tail * (epsilon / corner))
    part = (epsilon - corner) / (1.0 - corner)
    return symmetrised((1.0 - part) * tail + part * np.eye(size))


@dataclass(frozen=True, eq=False)
class Discrete:
    """A distribution on finitely many points.

    Attributes:
        points: shape (points, n).
        weights: shape (points,), summing to 1.
    """

    points: Floats
    weights: Floats

    def moments(self) -> tuple[Floats, Floats]:
        """Mean and covariance."""
        mean = self.weights @ self.points
        apart = self.points - mean
        return mean, np.asarray((apart * self.weights[:, None]).T @ apart)


def attaining(tail: Floats, moments: Moments, epsilon: float, turn: Floats | None = None) -> Discrete:
    """A distribution of P(mu, Sigma) in whose worst cases [xi; 1] has the second moment W / eps.

    Each of its two parts is the mean plus and minus the columns of a root of its covariance; `turn`, an orthogonal
    matrix (rank, rank), picks another root.
    """
    points, weights = [], []
    for part, weight in ((tail / epsilon, epsilon), ((np.eye(len(tail)) - tail) / (1 - epsilon), 1 - epsilon)):
        mean = part[:-1, -1]
        values, vectors = np.linalg.eigh(symmetrised(part[:-1, :-1] - np.outer(mean, mean)))
        root = vectors * np.sqrt(np.maximum(values, 0.0) * len(mean))
        columns = (root if turn is None else root @ turn).T
        points += [mean + columns, mean - columns] if len(mean) else [mean[None]]
        count = 2 * len(mean) or 1
        weights.append(np.full(count, weight / count))
    return Discrete(moments.inputs(np.vstack(points)), np.concatenate(weights))


def cvar(losses: ArrayLike, epsilon: float, weights: ArrayLike | None = None) -> float:
    """CVaR_eps of a discrete loss: the mean of its worst share eps, the last of these counted in part.

    min_beta beta + E max(L - beta, 0) / eps, attained at a quantile.

    Args:
        losses: shape (k,), k >= 1.
        epsilon: in (0, 1).
        weights: shape (k,), equal ones by default.

    Raises:
        UsageError: eps out of range, no losses, losses that are no numbers, or weights that are none of a distribution.
    """
    epsilon, values = checked_level(epsilon), np.asarray(losses, dtype=np.float64).ravel()
    if not values.size:
        raise UsageError("there are no losses to average; expected at least one")
    if np.isnan(values).any():
        raise UsageError("there are losses that are no numbers; expected none")
    mass = np.full(len(values), 1.0 / len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    if mass.shape != values.shape or not (mass >= 0).all() or abs(mass.sum() - 1.0) > WHOLE_MASS:
        raise UsageError(
            f"weights of shape {mass.shape} for {len(values)} losses; expected as many, >= 0, that sum to 1"
        )
    order = np.argsort(-values)
    before = np.cumsum(mass[order]) - mass[order]
    share = np.clip(epsilon - before, 0.0, mass[order])
    return float(share @ values[order] / share.sum())
