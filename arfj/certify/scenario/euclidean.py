r"""The scenario program of Euclidean balls, and a ball that provably holds the one of its optimum.

    max a'c - r ||a|| - lambda r^2   s.t.  ||y_j - c|| <= r  for all j.                                    (lambda > 0)

Its optimum is unique. A search finds a point near it and multipliers; these prove how near. For weights w >= 0 that sum
to one, with ybar = sum w_j y_j and V = sum w_j ||y_j - ybar||^2, every feasible (c, r) has

    ||c - ybar||^2 + V <= r^2,   so its value is at most  a'ybar + psi(r),  psi(r) = ||a|| (rho(r) - r) - lambda r^2,

rho(r) = sqrt(r^2 - V), and psi is concave. If the point at hand has the value o and g = a'ybar + max psi - o, then the
optimum has psi(r) >= max psi - g, so its r lies in an interval, whose ends halving finds, and

    ||c - ybar - rho(r) a / ||a|| ||^2 <= 2 rho(r) g / ||a||,

for it lies in a ball of radius rho(r) and within g / ||a|| of its cap. Whatever the weights are, this is true; good
ones make g the rounding error.

Samples that are next to equal leave a search little to go by. With all of them within s of a point y, the value there
is -s ||a|| - lambda s^2 with r = s, and that of the optimum at most s ||a|| - lambda r^2 beside a'y, as its ball holds
a sample; so r^2 <= 2 s ||a|| / lambda + s^2, and its ball lies within s + 2 r of y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arfj.certify.scenario.sets import Ball, covering, in_range
from arfj.errors import ArfjError
from arfj.network import Floats

ROUNDS, ADDED = 200, 16
"""The search has only some of the samples; so many of those that lie outside are added in a round."""
BLUNT, SHARPEST = 1e4, 1e13
"""The barrier's last weight while samples are added, and at the end: the gap left is two a sample, divided by this."""
CENTRING, POLISHING = 60, 8
"""Newton steps, at most."""
LOOSE = 0.02
"""The share of the radius by which a ball may be widened; more means that the search has failed."""
NEGLIGIBLE = 1e-3
"""Where samples are next to equal, a ball of this size beside them will do."""
MARGIN = 1e-14
"""Relative: what rounding may do to g."""


@dataclass(frozen=True, eq=False)
class Program:
    """The program, scaled: points within a unit ball around 0, ||a|| = 1."""

    points: Floats
    a: Floats
    weight: float

    def value(self, centre: Floats, radius: float) -> float:
        """a'c - r - lambda r^2."""
        return float(self.a @ centre) - radius - self.weight * radius**2


def l2_ball(points: Floats, a: Floats, weight: float) -> Ball:
    """A ball that holds all points and the optimal ball.

    Args:
        points: y_j, shape (N, n_y).
        a: not 0.
        weight: lambda > 0.

    Raises:
        ArfjError: the search came to no end.
    """
    origin = points.mean(axis=0)
    moved = points - origin
    scale = float(np.sqrt((moved**2).sum(axis=1).max()))
    if scale == 0.0:  # all are one, or not apart by as much as `covering` adds
        return covering(Ball(points[0], 0.0, "l2"), points)
    steep = float(np.linalg.norm(a))
    relative = in_range(weight * scale / steep if steep else np.inf, scale, steep)
    program = Program(moved / scale, a / steep, relative)
    centre, weights, active = _searched(program)
    radius = float(np.sqrt(((program.points - centre) ** 2).sum(axis=1).max()))
    reach = _proven(program, centre, weights, active)
    if reach > radius * (1.0 + LOOSE) + 1e-9:
        most = 1.0 + 2.0 * float(np.sqrt(2.0 / relative + 1.0)) * (1.0 + 1e-9)
        if most * scale <= NEGLIGIBLE * float(np.abs(points).max()):
            return covering(Ball(origin, scale * most, "l2"), points)
        raise ArfjError(
            f"the search for an l2 ball ended {reach - radius:.3g} of its scale from what it can prove; use linf"
        )
    # What shifting and scaling rounded: some units in the last place of the largest coordinate.
    rounding = 1e-14 * (float(np.abs(points).max()) + scale)
    return covering(Ball(origin + scale * centre, scale * reach + rounding, "l2"), points)


def _searched(program: Program) -> tuple[Floats, Floats, Floats]:
    """Centre, weights and their points: the program on few points, to which the farthest are added."""
    points = np.unique(program.points, axis=0)
    chosen = np.unique([np.argmin(points @ program.a), np.argmax((points**2).sum(axis=1))])
    centre, sharpest = np.zeros(points.shape[1]), BLUNT
    for _ in range(ROUNDS):
        centre, weights = _barrier(program, points[chosen], centre, sharpest)
        apart = np.sqrt(((points - centre) ** 2).sum(axis=1))
        outside = np.setdiff1d(np.flatnonzero(apart > apart[chosen].max() * (1.0 + 1e-12)), chosen)
        if not outside.size and sharpest >= SHARPEST:
            return _polished(program, points[chosen], centre, weights)
        if not outside.size:
            sharpest = SHARPEST
        chosen = np.concatenate([chosen, outside[np.argsort(-apart[outside])[:ADDED]]])
    raise ArfjError(f"the search for an l2 ball did not end within {ROUNDS} rounds; use linf")


def _barrier(program: Program, points: Floats, centre: Floats, sharpest: float) -> tuple[Floats, Floats]:
    """Centre and weights for few points: Newton's method with the barrier -sum log(r^2 - ||y_j - c||^2).

    At weight t the condition t a = sum 2 (c - y_j) / s_j, s_j the slack, makes 1 / s_j the weights of the proof.
    """
    z = np.append(centre, 1.1 * float(np.sqrt(((points - centre) ** 2).sum(axis=1).max())) + 1e-3)
    size = 1.0 + 2.0 * program.weight  # of the objective's slope
    sharpness = 1.0 / size
    while sharpness * size < sharpest:
        sharpness *= 8.0
        for _ in range(CENTRING):
            moved, decrement = _centring(program, points, z, sharpness)
            if moved is None:
                break
            z = moved
            if decrement < 1e-4:
                break
    slack = _slack(points, z)
    weights = (1.0 / slack) / (1.0 / slack).sum()
    return z[:-1], weights


def _centring(program: Program, points: Floats, z: Floats, sharpness: float) -> tuple[Floats | None, float]:
    """A damped Newton step, and its decrement; None where rounding lets none be made."""
    apart, radius, slack = z[:-1] - points, z[-1], _slack(points, z)
    rows = np.column_stack([-apart, np.full(len(points), radius)]) * (2.0 / slack)[:, None]
    total = 2.0 * (1.0 / slack).sum()
    gradient = sharpness * np.append(-program.a, 1.0 + 2.0 * program.weight * radius) - rows.sum(axis=0)
    hessian = rows.T @ rows + np.diag(np.append(np.full(len(z) - 1, total), -total))
    hessian[-1, -1] += 2.0 * sharpness * program.weight
    step = np.linalg.lstsq(hessian, -gradient, rcond=1e-15)[0]
    decrement = float(np.sqrt(max(-gradient @ step, 0.0)))
    length = 1.0 / (1.0 + decrement) if decrement > 0.25 else 1.0
    for _ in range(40):
        moved = z + length * step
        if moved[-1] > 0 and (_slack(points, moved) > 0).all():
            return moved, decrement
        length *= 0.5
    return None, decrement


def _slack(points: Floats, z: Floats) -> Floats:
    """r^2 - ||y_j - c||^2, as a product: what little is left of it is not cancelled."""
    apart = np.sqrt(((z[:-1] - points) ** 2).sum(axis=1))
    return np.asarray((z[-1] - apart) * (z[-1] + apart))


def _polished(program: Program, points: Floats, centre: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Newton steps on the conditions of optimality, as long as they prove more."""
    best = (_proven(program, centre, weights, points), centre, weights, points)
    held = weights > 1e-6 * weights.max()
    active = points[held]
    radius = float(np.sqrt(((points - centre) ** 2).sum(axis=1).max()))
    m = weights[held] / weights[held].sum() * (1.0 + 2.0 * program.weight * radius)
    for _ in range(POLISHING):
        centre, radius, m = _newton(program, active, centre, radius, m)
        if not (np.isfinite(m).all() and (m > 0).all() and radius > 0):
            break
        reach = _proven(program, centre, m / m.sum(), active)
        if reach < best[0]:
            best = (reach, centre, m / m.sum(), active)
    return best[1:]


def _newton(program: Program, active: Floats, centre: Floats, radius: float, m: Floats) -> tuple[Floats, float, Floats]:
    """One step for sum m_j (c - y_j) = r a, sum m_j = 1 + 2 lambda r, ||c - y_j||^2 = r^2."""
    n, k = len(centre), len(m)
    apart = centre - active
    residual = np.concatenate([
        m @ apart - radius * program.a,
        [m.sum() - 1.0 - 2.0 * program.weight * radius],
        0.5 * ((apart**2).sum(axis=1) - radius**2),
    ])  # fmt: skip
    jacobian = np.zeros((n + 1 + k, n + 1 + k))
    jacobian[:n, :n] = m.sum() * np.eye(n)
    jacobian[:n, n], jacobian[:n, n + 1 :] = -program.a, apart.T
    jacobian[n, n], jacobian[n, n + 1 :] = -2.0 * program.weight, 1.0
    jacobian[n + 1 :, :n], jacobian[n + 1 :, n] = apart, -radius
    step = np.linalg.lstsq(jacobian, residual, rcond=None)[0]
    return centre - step[:n], radius - float(step[n]), m - step[n + 1 :]


def _proven(program: Program, centre: Floats, weights: Floats, active: Floats) -> float:
    """The radius around `centre` that holds the ball of the optimum, by the module's docstring."""
    radius = float(np.sqrt(((program.points - centre) ** 2).sum(axis=1).max()))
    mean = weights @ active
    spread = float(weights @ ((active - mean) ** 2).sum(axis=1))
    best = _best_radius(spread, program.weight)
    size = 1.0 + program.weight * max(best, radius) ** 2 + radius + float(np.abs(centre).max())
    most = _psi(best, spread, program.weight)
    gap = max(float(program.a @ mean) + most - program.value(centre, radius), 0.0)
    gap += MARGIN * (len(centre) + 8) * size
    low, up = _interval(best, spread, program.weight, most - gap)
    rho = [_rho(r, spread) for r in (low, best, up)]
    shift = float(np.linalg.norm(centre - mean - rho[1] * program.a))
    return up + shift + max(rho[2] - rho[1], rho[1] - rho[0]) + float(np.sqrt(2.0 * rho[2] * gap)) + MARGIN * size


def _interval(best: float, spread: float, weight: float, level: float) -> tuple[float, float]:
    """An interval that holds {r : psi(r) >= level}: psi rises up to `best` and falls behind it."""
    least = float(np.sqrt(spread))
    low, inside = least, best
    if _psi(low, spread, weight) < level:
        for _ in range(200):
            middle = 0.5 * (low + inside)
            low, inside = (middle, inside) if _psi(middle, spread, weight) < level else (low, middle)
    step = 1e-12 * best + 1e-300
    while _psi(best + step, spread, weight) >= level:
        step *= 2.0
    inside, up = best, best + step
    for _ in range(200):
        middle = 0.5 * (inside + up)
        inside, up = (inside, middle) if _psi(middle, spread, weight) < level else (middle, up)
    return low, up


def _rho(radius: float, spread: float) -> float:
    least = float(np.sqrt(spread))
    return float(np.sqrt(max((radius - least) * (radius + least), 0.0)))


def _psi(radius: float, spread: float, weight: float) -> float:
    """(rho - r) - lambda r^2, with rho - r = -V / (rho + r) free of cancellation."""
    rho = _rho(radius, spread)
    return (-spread / (rho + radius) if spread else 0.0) - weight * radius * radius


def _best_radius(spread: float, weight: float) -> float:
    """The r >= sqrt(V) with 1 / rho - 1 / r = 2 lambda, by halving: the left side falls."""
    least = float(np.sqrt(spread))
    if least == 0.0:
        return 0.0
    low, up = 0.0, 1.0  # rho
    for _ in range(2000):
        if 1.0 / up - 1.0 / np.hypot(up, least) < 2.0 * weight:
            break
        up *= 2.0
    for _ in range(200):
        middle = 0.5 * (low + up)
        if middle in (low, up):
            break
        excess = least**2 / (middle * np.hypot(middle, least) * (middle + np.hypot(middle, least)))
        low, up = (middle, up) if excess > 2.0 * weight else (low, middle)
    return float(np.hypot(up, least))
