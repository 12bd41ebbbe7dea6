r"""Multipliers by descent: no semidefinite solver, and a valid bound at every step.

Newton steps along the central path where the second derivatives fit into memory; where they do not, L-BFGS-B on the
gradient alone, scaled by the diagonal. Either way a step is kept only where the hidden block stays negative definite,
and what is reported is certified by `recompute`, problem by problem. Problems of one shape go together, in stacks of
matrices, each at its own pace.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arfj.certify.cvar.barrier import Barrier
from arfj.certify.cvar.multipliers import Problem, constraints
from arfj.certify.cvar.paths import Clock, Paths, Start, magnitude
from arfj.certify.cvar.recompute import Proof, proof_from
from arfj.network import Floats

LARGEST = 2**25
"""Numbers that the second derivatives of all problems that go together may hold: a quarter of a GiB."""
POWERS = ((0,), (-4, 4), (-8, 8), (-12, 12))
"""Of 2: multiples of the first multipliers that are tried as a start, on both sides as long as one is better."""
BEGIN = 0.01
"""The first mu, in units of eps times the magnitude of the problem's numbers."""
TOLERANCE = 1e-4
"""The gap to the optimum, relative to the bound, at which the descent ends."""


@dataclass(frozen=True, eq=False)
class Descent:
    """What the descent found.

    Attributes:
        proof: the best certified bound, or None where there is none.
        status: "optimal" (the barrier's gap is closed at its minimum), "stopped" (no such minimum: gradients alone,
        or no more progress), or "time limit". A bound is certified whatever it says.
        steps: points at which the barrier was evaluated with its derivatives.
        trace: certified bounds by the seconds at which they were known.
        path: minima of the barrier: mu, and (beta, theta).
    """

    proof: Proof | None
    status: str
    steps: int
    trace: tuple[tuple[float, float], ...]
    path: tuple[tuple[float, Floats], ...] = ()


LOST = Descent(None, "stopped", 0, ())


def descend(
    problems: Sequence[Problem],
    epsilon: float,
    seconds: float | None = None,
    tolerance: float = TOLERANCE,
    curvature: bool | None = None,
) -> list[Descent]:
    """The least bounds that multipliers of a family prove, up to `tolerance`.

    Args:
        problems: of one shape: the same family on one network; losses and moments are free.
        epsilon: in (0, 1).
        seconds: limit for all together, or None; the best bounds so far then count.
        tolerance: see `TOLERANCE`.
        curvature: whether to use second derivatives; by default where they fit into memory.
    """
    clock, found = Clock(time.perf_counter(), seconds), list[Descent]()
    while len(found) < len(problems):
        rest = problems[len(found) :]
        barrier = Barrier(rest[:1], epsilon)
        newton = barrier.work <= LARGEST if curvature is None else curvature
        together = rest[: max(1, LARGEST // barrier.work) if newton else 1]
        left = clock.left()
        share = None if left is None else left * len(together) / len(rest)
        found += _together(together, epsilon, Clock(time.perf_counter(), share), tolerance, newton)
    return found


def _together(
    problems: Sequence[Problem], epsilon: float, clock: Clock, tolerance: float, newton: bool
) -> list[Descent]:
    """The same for problems whose second derivatives fit into memory at once, or for a single one."""
    starts = [_start(problem, epsilon, clock) for problem in problems]
    first = problems[0].given
    if first.count > 3 * first.lifted.hidden > 0:  # what `diagonal` proves is at hand soon, and never lost
        narrow = [Problem(constraints(one.given.lifted), one.loss) for one in problems]
        known = descend(narrow, epsilon, clock.left(), tolerance)
        starts = [_better(*three, epsilon, newton) for three in zip(problems, starts, known, strict=True)]
    if not first.count:
        return [Descent(one.proof, "optimal", 0, ((clock.now(), one.proof.bound),)) if one else LOST for one in starts]
    begun = {k: start for k, start in enumerate(starts) if start is not None}
    if not begun:
        return [LOST] * len(problems)
    run = Paths([problems[k] for k in begun], list(begun.values()), epsilon, tolerance, clock)
    (run.newton if newton else run.gradients)()
    found = [
        Descent(one.best, one.status or "stopped", one.steps, tuple(one.trace), tuple(one.path)) for one in run.paths
    ]
    by = dict(zip(begun, found, strict=True))
    return [by.get(k, LOST) for k in range(len(problems))]


def _start(problem: Problem, epsilon: float, clock: Clock) -> Start | None:
    """The best multiple of the multipliers that only make the hidden block negative definite."""
    if not np.isfinite(problem.loss).all():  # what is not finite proves nothing
        return None
    theta = max(float(np.abs(problem.loss).max()), 1e-12) * problem.given.start()
    best: Start | None = None
    for powers in POWERS:
        known = best
        for factor in (2.0**power for power in powers):
            proof = proof_from(*problem, factor * theta, epsilon, (0.0,))
            if proof is not None and (best is None or proof.bound < best.proof.bound):
                mu = BEGIN * epsilon * magnitude(problem, proof)
                best = Start(proof, np.append(proof.worst.beta, factor * theta), mu)
        if best is not None and (best is known or clock.late()):
            break
    return best


def _better(problem: Problem, start: Start | None, first: Descent, epsilon: float, newton: bool) -> Start | None:
    """The start, or one from the multipliers of the family `diagonal`, which all families begin with.

    Newton's method goes on from a point of that path, not from its end: it needs room on all sides.
    """
    if first.proof is None:
        return start
    theta = np.zeros(problem.given.count)
    theta[: len(first.proof.theta)] = first.proof.theta
    proof = proof_from(*problem, theta, epsilon)
    if proof is None or (start is not None and start.proof.bound <= proof.bound):
        return start
    mu, point = BEGIN * epsilon * magnitude(problem, proof), np.append(proof.worst.beta, theta)
    if newton and first.path:
        mu, near = min(first.path, key=lambda one: abs(np.log(one[0] / mu)))
        point[: len(near)] = near
    return Start(proof, point, mu)
