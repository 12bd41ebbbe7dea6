r"""Multipliers by descent: no semidefinite solver, and a valid bound at every step.

Newton steps along the central path where the second derivatives fit into memory; where they do not, L-BFGS-B on the
gradient alone, scaled by the diagonal. Either way a step is kept only where the hidden block stays negative definite,
and what is reported is certified by `recompute`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize

from arfj.certify.cvar.barrier import Barrier
from arfj.certify.cvar.multipliers import Constraints, constraints
from arfj.certify.cvar.recompute import Proof, proof_from
from arfj.network import Floats

CAP = 1e3
"""The largest multiplier, relative to those of the start: what constrains nothing would grow without end."""
LARGEST = 2**25
"""Numbers that one array of second derivatives may hold: a quarter of a GiB."""
POWERS = range(-12, 9, 4)
"""Of 2: multiples of the first multipliers that are tried as a start."""
FACTOR = 0.15
"""By which mu shrinks from stage to stage."""
TOLERANCE = 1e-4
"""The gap to the optimum, relative to the bound, at which the descent ends."""
CENTRED = 0.3
"""Squared Newton decrement, in units of mu, at which a stage ends."""
STEPS = 40
"""Newton steps a stage, at most."""
GRADIENTS = 200
"""L-BFGS iterations a stage, at most."""


@dataclass(frozen=True, eq=False)
class Descent:
    """What the descent found.

    Attributes:
        proof: the best certified bound, or None where there is none.
        status: "optimal" (the barrier's gap is closed at its minimum), "stopped" (no such minimum: gradients alone,
        or no
            more progress), or "time limit". A bound is certified whatever it says.
        steps: points at which the barrier was evaluated with its derivatives.
        trace: certified bounds by the seconds at which they were known.
    """

    proof: Proof | None
    status: str
    steps: int
    trace: tuple[tuple[float, float], ...]


@dataclass
class _State:
    """Where the descent stands."""

    beta: float
    theta: Floats
    mu: float
    cap: float
    steps: int = 0

    def walls(self, theta: Floats) -> float:
        """-sum log theta - sum log(1 - theta / cap)."""
        return -float(np.log(theta).sum() + np.log1p(-theta / self.cap).sum())


def descend(
    given: Constraints,
    loss: Floats,
    epsilon: float,
    seconds: float | None = None,
    tolerance: float = TOLERANCE,
    curvature: bool | None = None,
) -> Descent:
    """The least bound that multipliers of this family prove, up to `tolerance`.

    Args:
        given: the constraints.
        loss: M_out, shape (N, N).
        epsilon: in (0, 1).
        seconds: limit, or None; the best bound so far then counts.
        tolerance: see `TOLERANCE`.
        curvature: whether to use second derivatives; by default where they fit into memory.
    """
    began = time.perf_counter()

    def clock() -> float:
        return time.perf_counter() - began

    def late() -> bool:
        return seconds is not None and clock() > seconds

    barrier = Barrier(given, loss, epsilon)
    newton = barrier.work <= LARGEST if curvature is None else curvature
    best, theta = _start(given, loss, epsilon)
    if given.count > 3 * given.lifted.hidden > 0:  # what the family `diagonal` proves is at hand soon, and never lost
        first = descend(constraints(given.lifted), loss, epsilon, seconds, tolerance)
        wide, proof = _extended(given, loss, epsilon, first)
        if proof is not None and (best is None or proof.bound < best.bound):
            # Newton's method starts in the middle; gradients alone find their way from a good start only.
            best, theta = proof, theta if newton else wide
    if best is None:
        return Descent(None, "stopped", 0, ())
    trace = [(clock(), best.bound)]
    if not given.count:
        return Descent(best, "optimal", 0, tuple(trace))
    scale = abs(best.bound) + abs(best.worst.beta) + float(np.abs(loss).max())
    inside = _inside(barrier, best.worst.beta, theta)
    state = _State(best.worst.beta, inside, 0.1 * scale * epsilon, CAP * float(inside.max()))
    stage = _newton if newton else _gradients
    weights = 2 * (given.lifted.rank + 1) + given.lifted.hidden + 2 * given.count
    status = "stopped"
    for _ in range(60):
        moved = stage(barrier, state, late)
        found = proof_from(given, loss, state.theta, epsilon)
        if found is not None and found.bound < best.bound:
            best = found
        trace.append((clock(), best.bound))
        if late():
            status = "time limit"
            break
        if state.mu / epsilon * weights <= tolerance * max(abs(best.bound), 1e-3 * scale):
            status = "optimal" if moved else "stopped"
            break
        state.mu *= FACTOR
    return Descent(best, status, state.steps, tuple(trace))


def _start(given: Constraints, loss: Floats, epsilon: float) -> tuple[Proof | None, Floats]:
    """The best multiple of the multipliers that only make the hidden block negative definite."""
    theta = given.start()
    size = max(float(np.abs(loss).max()), 1e-12)
    tries = [(proof_from(given, loss, size * 2.0**power * theta, epsilon, (0.0,)), power) for power in POWERS]
    found = [(one, power) for one, power in tries if one is not None]
    if not found:
        return None, theta
    best, power = min(found, key=lambda pair: pair[0].bound)
    return best, size * 2.0**power * theta


def _extended(given: Constraints, loss: Floats, epsilon: float, first: Descent) -> tuple[Floats, Proof | None]:
    """The multipliers of the family `diagonal`, which all families begin with, and none of the others."""
    wide = np.zeros(given.count)
    if first.proof is None:
        return wide, None
    wide[: len(first.proof.theta)] = first.proof.theta
    return wide, proof_from(given, loss, wide, epsilon)


def _inside(barrier: Barrier, beta: float, theta: Floats) -> Floats:
    """All multipliers positive, the new ones so small that the hidden block stays negative definite."""
    hidden, count = barrier.given.lifted.hidden, barrier.given.count
    least = 1e-3 * float(theta[:hidden].mean()) / max(1.0, count / (3.0 * hidden))
    for power in range(12):
        found = np.maximum(theta, least * 10.0**-power)
        if barrier.at(beta, found, 1.0) is not None:
            return found
    return theta


def _newton(barrier: Barrier, state: _State, late: Callable[[], bool]) -> bool:
    """Damped Newton steps at one mu; whether they ended at its minimum."""
    for _ in range(STEPS):
        at = barrier.at(state.beta, state.theta, state.mu)
        if at is None:
            return False
        state.steps += 1
        scales = np.concatenate([[1.0], state.theta])  # in units of theta, the barrier of theta >= 0 is the identity
        hessian = barrier.hessian(at, state.mu) * np.outer(scales, scales)
        near = state.theta / (state.cap - state.theta)
        hessian[np.arange(1, len(scales)), np.arange(1, len(scales))] += state.mu * (1.0 + near**2)
        gradient = np.concatenate([[at.beta_slope], at.slope * state.theta + state.mu * (near - 1.0)])
        step = _solved(hessian, -gradient)
        if step is None:
            return False
        decrease = -float(gradient @ step)
        start = at.value + state.mu * state.walls(state.theta)
        if not _moved(barrier, state, step * scales, start, decrease):
            return False
        if decrease < CENTRED * state.mu:
            return True
        if late():
            return False
    return False


def _solved(matrix: Floats, right: Floats) -> Floats | None:
    scale = 1.0 / np.sqrt(np.diag(matrix))
    scaled = matrix * np.outer(scale, scale)
    for power in (-13, -11, -9, -7):
        try:
            factor = cho_factor(scaled + 10.0**power * np.eye(len(scaled)), lower=True)
            return np.asarray(scale * cho_solve(factor, scale * right))
        except (LinAlgError, ValueError):
            continue
    return None


def _moved(barrier: Barrier, state: _State, step: Floats, start: float, decrease: float) -> bool:
    """Go along the step as far as the value falls and the point stays inside."""
    worst = max(float((-step[1:] / state.theta).max()), float((step[1:] / (state.cap - state.theta)).max()))
    length = min(1.0, 0.95 / max(worst, 1e-300))
    for _ in range(40):
        beta, theta = state.beta + length * step[0], state.theta + length * step[1:]
        at = barrier.at(float(beta), theta, state.mu)
        if at is not None and at.value + state.mu * state.walls(theta) <= start - 1e-3 * length * decrease:
            state.beta, state.theta = float(beta), theta
            return True
        length *= 0.5
    return False


def _gradients(barrier: Barrier, state: _State, late: Callable[[], bool]) -> bool:
    """L-BFGS-B at one mu, in coordinates scaled by the diagonal of the second derivatives; theta >= 0 by its bounds."""
    at = barrier.at(state.beta, state.theta, state.mu)
    if at is None:
        return False
    along_beta, along = barrier.scales(at, state.mu)
    scales = np.concatenate([[along_beta], along])
    scales = 1.0 / np.maximum(scales, 1e-5 * scales.max())
    best = np.concatenate([[state.beta], state.theta])
    level = at.value
    wall = abs(at.value) + 1.0

    def objective(point: Floats) -> tuple[float, Floats]:
        nonlocal best, level
        there = point * scales
        found = barrier.at(float(there[0]), there[1:], state.mu)
        state.steps += 1
        if found is None:
            return 1e6 * wall, np.zeros_like(point)
        if found.value < level:
            best, level = there, found.value
        return found.value, np.concatenate([[found.beta_slope], found.slope]) * scales

    def stop(_: Floats) -> None:
        if late():
            raise StopIteration

    bounds = [(None, None), *((0.0, state.cap / scale) for scale in scales[1:])]
    solve: Any = minimize  # its published types take no objective that gives the slope as well
    options = {"maxiter": GRADIENTS, "maxcor": 30, "ftol": 1e-12, "gtol": 0.0}
    with contextlib.suppress(StopIteration):
        solve(objective, best / scales, jac=True, method="L-BFGS-B", bounds=bounds, callback=stop, options=options)
    state.beta, state.theta = float(best[0]), np.maximum(best[1:], 0.0)
    return False
