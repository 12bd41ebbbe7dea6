r"""Central paths of several problems at once: every problem has its own point, mu, line search and status.

    min over beta, theta:   F_mu(beta, theta) - mu sum log theta - mu sum log(1 - theta / cap),   mu -> 0

Newton's method goes along them, or, where second derivatives do not fit into memory, L-BFGS-B. A problem that has come
to the end of a stage is certified, and goes on to its next mu or leaves the stack.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize

from arfj.certify.cvar.barrier import Barrier, Points
from arfj.certify.cvar.multipliers import Problem
from arfj.certify.cvar.recompute import DAMPINGS, Proof, proof_from
from arfj.network import Floats

CAP = 1e3
"""The largest multiplier, relative to those of the start: what constrains nothing would grow without end."""
FACTOR = 0.1
"""By which mu shrinks from stage to stage."""
CENTRED = 0.3
"""Squared Newton decrement, in units of mu, at which a stage ends."""
STEPS = 100
"""Newton steps a stage, at most."""
STAGES = 60
"""Stages, at most."""
GRADIENTS = 200
"""L-BFGS iterations a stage, at most."""


class Start(NamedTuple):
    """Where a descent begins: (beta, theta), shape (K + 1,), what it proves, and the first mu.

    Multipliers of 0 are none of the descent's: they get its own first values.
    """

    proof: Proof
    point: Floats
    mu: float


@dataclass(frozen=True)
class Clock:
    """Since when, and until when."""

    began: float
    seconds: float | None

    def now(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self.began

    def left(self) -> float | None:
        """Seconds until its limit, or None without one."""
        return None if self.seconds is None else max(self.seconds - self.now(), 0.0)

    def late(self) -> bool:
        """Whether the limit is over."""
        return self.seconds is not None and self.now() > self.seconds


@dataclass
class Path:
    """Where one problem stands.

    Attributes:
        problem: itself.
        best: the best proof so far.
        trace: certified bounds by the seconds at which they were known.
        path: minima of the barrier: mu, and (beta, theta).
        scale: magnitude of its numbers.
        status: how it ended, or None before that.
        steps, stages: how many so far; `inner` are the steps of this stage.
    """

    problem: Problem
    best: Proof
    trace: list[tuple[float, float]]
    scale: float
    path: list[tuple[float, Floats]] = field(default_factory=list)
    status: str | None = None
    steps: int = 0
    stages: int = 0
    inner: int = 0

    @property
    def weights(self) -> float:
        """The parameter of the barrier: the gap at its minimum, in units of mu."""
        given = self.problem.given
        return 2.0 * (given.lifted.rank + 1) + given.lifted.hidden + 2.0 * given.count


@dataclass
class _State:
    """Points and barriers of all problems, one a row.

    Attributes:
        points: (beta, theta), shape (B, K + 1).
        mu, cap: of the barrier, and the largest multiplier, shape (B,).
    """

    points: Floats
    mu: Floats
    cap: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.cap = CAP * _largest(self.points)


def magnitude(problem: Problem, proof: Proof) -> float:
    """The magnitude of a problem's numbers."""
    return abs(proof.bound) + abs(proof.worst.beta) + float(np.abs(problem.loss).max())


class Paths:
    """All problems along their paths."""

    def __init__(
        self, problems: Sequence[Problem], starts: Sequence[Start], epsilon: float, tolerance: float, clock: Clock
    ) -> None:
        self.epsilon, self.tolerance, self.clock = epsilon, tolerance, clock
        self.barrier = Barrier(problems, epsilon)
        self.paths = [
            Path(problem, start.proof, [(clock.now(), start.proof.bound)], magnitude(problem, start.proof))
            for problem, start in zip(problems, starts, strict=True)
        ]
        mu = np.array([start.mu for start in starts])
        self.state = _State(self._inside(np.array([start.point for start in starts]), mu), mu)

    def _inside(self, points: Floats, mu: Floats) -> Floats:
        """All multipliers positive, the new ones as large as suits the barrier."""
        hidden, everything = max(self.barrier.hidden, 1), np.arange(len(points))
        usual = points[:, 1 : 1 + hidden].mean(axis=1, keepdims=True) / max(1.0, self.barrier.count / (3.0 * hidden))
        usual = np.where(usual > 0, usual, 1.0)
        best, level = points, np.full(len(points), np.inf)
        for power in range(16):
            least = usual * 10.0**-power
            tried = np.column_stack([points[:, 0], np.maximum(points[:, 1:], least)])
            value = self.barrier.at(everything, tried, mu).value + mu * _walls(tried, CAP * _largest(tried))
            best, level = np.where((value < level)[:, None], tried, best), np.minimum(value, level)
        return best

    def newton(self) -> None:
        """Newton steps, until every path has ended.

        The first step at a new mu uses the second derivatives of the last one: it then goes along the central path.
        """
        which, mu = np.arange(len(self.paths)), self.state.mu
        at = self.barrier.at(which, self.state.points, mu)
        inside = np.isfinite(at.value) & (self.state.points[:, 1:] > 0).all(axis=1)
        which, at = which[inside], at.kept(inside)
        bent, under = at, mu[which]
        while len(which):
            step, promised = self._step(which, at, bent, under)
            moved = self._moved(which, at, step, promised)
            centred = moved & (promised < CENTRED * mu[which]) & (under == mu[which])
            late, kept, over = self.clock.late(), np.ones(len(which), dtype=bool), centred | ~moved
            under = mu[which]
            for place, k in enumerate(which.tolist()):
                path = self.paths[k]
                path.steps, path.inner = path.steps + 1, path.inner + 1
                over[place] |= late or path.inner == STEPS
                kept[place] = not over[place] or self._settled(k, bool(centred[place]))
            which, at, under, again = which[kept], at.kept(kept), under[kept], (over & kept)[kept]
            bent = at
            if again.any():
                at = at.kept(np.ones(len(which), dtype=bool), copied=True)
                found = self.barrier.at(which[again], self.state.points[which[again]], mu[which[again]])
                at.put(again, found, np.ones(len(found.value), dtype=bool))

    def _settled(self, k: int, centred: bool) -> bool:
        """Certify the end of a stage; whether another one follows, which then has its mu."""
        path, mu = self.paths[k], float(self.state.mu[k])
        theta = self.state.points[k, 1:]
        proof = proof_from(*path.problem, theta, self.epsilon, DAMPINGS[:1])
        proof = proof or proof_from(*path.problem, theta, self.epsilon, DAMPINGS[1:])
        if proof is not None and proof.bound < path.best.bound:
            path.best = proof
        path.trace.append((self.clock.now(), path.best.bound))
        if centred:
            path.path.append((mu, self.state.points[k].copy()))
        path.stages, path.inner = path.stages + 1, 0
        if self.clock.late():
            path.status = "time limit"
        elif mu / self.epsilon * path.weights <= self.tolerance * max(abs(path.best.bound), 1e-3 * path.scale):
            path.status = "optimal" if centred else "stopped"
        elif path.stages == STAGES:
            path.status = "stopped"
        self.state.mu[k] *= FACTOR
        return not path.status

    def _step(self, which: NDArray[np.intp], at: Points, bent: Points, under: Floats) -> tuple[Floats, Floats]:
        """Newton steps with the second derivatives of `bent` under its own mu, and how much they promise: NaN where
        there is none.
        """
        theta, mu, cap = self.state.points[which, 1:], self.state.mu[which, None], self.state.cap[which, None]
        # In units of theta the barrier of theta >= 0 is the identity.
        scales, near = np.column_stack([np.ones(len(which)), theta]), theta / (cap - theta)
        hessian = self.barrier.hessian(bent, under)
        hessian *= scales[:, :, None]
        hessian *= scales[:, None]
        diagonal = np.arange(1, scales.shape[1])
        hessian[:, diagonal, diagonal] += under[:, None] * (1.0 + near**2)
        gradient = at.slope * scales
        gradient[:, 1:] += mu * (near - 1.0)
        step = np.array([_solved(one, -slope) for one, slope in zip(hessian, gradient, strict=True)])
        return step * scales, -(gradient * step).sum(axis=1)

    def _moved(self, which: NDArray[np.intp], at: Points, step: Floats, promised: Floats) -> NDArray[np.bool_]:
        """Go along the steps as far as the values fall and the points stay inside; which of them moved."""
        begun, mu, cap = self.state.points[which], self.state.mu[which], self.state.cap[which, None]
        start = at.value + mu * _walls(begun, cap)
        worst = np.maximum(-step[:, 1:] / begun[:, 1:], step[:, 1:] / (cap - begun[:, 1:])).max(axis=1)
        length = np.minimum(1.0, 0.95 / np.maximum(worst, 1e-300))
        open_ = np.flatnonzero(np.isfinite(promised))
        moved = np.zeros(len(which), dtype=bool)
        for _ in range(40):
            if not len(open_):
                break
            tried = begun[open_] + length[open_, None] * step[open_]
            found = self.barrier.at(which[open_], tried, mu[open_])
            value = found.value + mu[open_] * _walls(tried, cap[open_])
            good = value <= start[open_] - 1e-3 * (length * promised)[open_]
            at.put(open_[good], found, good)
            self.state.points[which[open_[good]]] = tried[good]
            moved[open_[good]] = True
            open_ = open_[~good]
            length[open_] *= 0.5
        return moved

    def gradients(self) -> None:
        """L-BFGS-B, stage by stage."""
        for k in range(len(self.paths)):
            while True:
                self._gradients(k)
                if not self._settled(k, centred=False):
                    break

    def _gradients(self, k: int) -> None:
        """At one mu, in coordinates scaled by the diagonal of the second derivatives; theta >= 0 by its bounds."""
        which, state = np.array([k]), self.state
        at = self.barrier.at(which, state.points[which], state.mu[which])
        if not np.isfinite(at.value[0]):
            return
        scales = self.barrier.scales(at, state.mu[which])[0]
        scales = 1.0 / np.maximum(scales, 1e-5 * scales.max())
        best, level, wall = state.points[k], float(at.value[0]), abs(float(at.value[0])) + 1.0

        def objective(point: Floats) -> tuple[float, Floats]:
            nonlocal best, level
            found = self.barrier.at(which, (point * scales)[None], state.mu[which])
            self.paths[k].steps += 1
            value = float(found.value[0])
            if not np.isfinite(value):
                return 1e6 * wall, np.zeros_like(point)
            if value < level:
                best, level = point * scales, value
            return value, found.slope[0] * scales

        def stop(_: Floats) -> None:
            if self.clock.late():
                raise StopIteration

        bounds = [(None, None), *((0.0, state.cap[k] / scale) for scale in scales[1:])]
        solve: Any = minimize  # its published types take no objective that gives the slope as well
        options = {"maxiter": GRADIENTS, "maxcor": 30, "ftol": 1e-12, "gtol": 0.0}
        with contextlib.suppress(StopIteration):
            solve(objective, best / scales, jac=True, method="L-BFGS-B", bounds=bounds, callback=stop, options=options)
        state.points[k, 0], state.points[k, 1:] = best[0], np.maximum(best[1:], 0.0)


def _largest(points: Floats) -> Floats:
    return np.asarray(points[:, 1:].max(axis=1))


@np.errstate(divide="ignore", invalid="ignore")  # at a wall it is infinite
def _walls(points: Floats, cap: Floats) -> Floats:
    """-sum log theta - sum log(1 - theta / cap), problem by problem."""
    theta = points[:, 1:]
    return np.asarray(-(np.log(theta) + np.log1p(-theta / cap.reshape(-1, 1))).sum(axis=1))


def _solved(matrix: Floats, right: Floats) -> Floats:
    """The solution of a system that is positive definite but for rounding, or NaN."""
    scale = 1.0 / np.sqrt(np.diag(matrix))
    scaled = matrix * np.multiply.outer(scale, scale)
    for power in (-13, -11, -9, -7):
        try:
            factor = cho_factor(scaled + 10.0**power * np.eye(len(scaled)), lower=True)
            return np.asarray(scale * cho_solve(factor, scale * right))
        except (LinAlgError, ValueError):
            continue
    return np.full_like(right, np.nan)
