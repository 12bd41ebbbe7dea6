r"""From multipliers to a certified number, whatever made the multipliers.

For theta >= 0 and M = M_mid(theta) + M_out, the loss is at most w' M w on the network. With the blocks A, B, C of M
over [xi; 1] and phi, and C < 0,

    max_phi w' M w = [xi; 1]' G [xi; 1],   G = A - B' C^-1 B,

so the worst-case CVaR of the loss is at most that of G, which the eigenvalue form evaluates. No solver is believed:
negative multipliers are set to 0; where C is not negative definite, lambda is raised; what rounding leaves of M <=
lift(G) is measured as the largest eigenvalue s of M - lift(G) and added to G as s K I, since |w|^2 <= K |[xi; 1]|^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from arfj.certify.cvar.moments import symmetrised
from arfj.certify.cvar.multipliers import Constraints
from arfj.certify.cvar.worst import WorstCase, worst_of_white
from arfj.network import Floats

DAMPINGS = (0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1.0)
"""What is added to lambda, relative to the largest multiplier, until the hidden block is negative definite; the best
of the certified numbers counts."""


@dataclass(frozen=True, eq=False)
class Proof:
    """A certified bound and what proves it.

    Attributes:
        bound: sup CVaR of the loss is at most this.
        form: G over [xi; 1], shape (rank + 1, rank + 1): the loss is at most [xi; 1]' G [xi; 1] on the network.
        worst: the worst-case CVaR of G.
        theta: the multipliers, all >= 0.
        shift: s K, what was added for rounding.
    """

    bound: float
    form: Floats
    worst: WorstCase
    theta: Floats
    shift: float


@np.errstate(over="ignore", invalid="ignore")  # what is not finite proves nothing
def proof_from(
    given: Constraints, loss: Floats, theta: Floats, epsilon: float, dampings: Sequence[float] = DAMPINGS
) -> Proof | None:
    """The best bound that these multipliers prove, or None where they prove none.

    Args:
        given: the constraints.
        loss: M_out, shape (N, N).
        theta: multipliers as a solver left them, shape (K,); anything that is no number proves nothing.
        epsilon: in (0, 1).
        dampings: see `DAMPINGS`.
    """
    if theta.shape != (given.count,) or not np.isfinite(theta).all():
        return None
    kept = np.maximum(theta, 0.0)
    if not given.count:
        return _proof(given, loss, kept, epsilon)
    scale = max(float(kept.max(initial=0.0)), 1e-12)
    best: Proof | None = None
    for amount in dampings:
        found = _proof(given, loss, given.damped(kept, amount * scale), epsilon)
        if found is not None and (best is None or found.bound < best.bound):
            best = found
        elif best is not None and amount > 0:
            break  # more of it only loosens
    return best


def _proof(given: Constraints, loss: Floats, theta: Floats, epsilon: float) -> Proof | None:
    form = dominating(given, loss, theta)
    if form is None:
        return None
    raised, shift = raised_for_rounding(given, loss, theta, form)
    if not np.isfinite(raised).all():
        return None
    worst = worst_of_white(raised, epsilon)
    return Proof(worst.value, raised, worst, theta, shift) if np.isfinite(worst.value) else None


def dominating(given: Constraints, loss: Floats, theta: Floats) -> Floats | None:
    """G = A - B' C^-1 B, shape (rank + 1, rank + 1), or None where C is not negative definite."""
    whole = given.middle(theta) + loss
    seen, rank, hidden = given.lifted.seen, given.lifted.rank, given.lifted.hidden
    outer = whole[np.ix_(seen, seen)]
    if not hidden:
        return symmetrised(outer)
    inside, beside = whole[rank : rank + hidden, rank : rank + hidden], whole[rank : rank + hidden][:, seen]
    try:
        factor = cho_factor(-inside, lower=True)
        return symmetrised(outer + beside.T @ cho_solve(factor, beside))
    except (LinAlgError, ValueError):
        return None


def raised_for_rounding(given: Constraints, loss: Floats, theta: Floats, form: Floats) -> tuple[Floats, float]:
    """G + s K I, and s K: lift(G + s K I) >= M on the network, with the rounding of the eigenvalue in s."""
    net = given.lifted
    whole = given.middle(theta) + loss
    gap = whole.copy()
    gap[np.ix_(net.seen, net.seen)] -= form
    size = np.finfo(float).eps * net.size
    # Every entry of M is a sum of products; what cancels in it leaves its rounding.
    magnitude = (
        float(np.linalg.norm(_absolute(given, theta))) + float(np.linalg.norm(loss)) + float(np.linalg.norm(form))
    )
    top = float(np.linalg.eigvalsh(symmetrised(gap))[-1])
    shift = max(top + 4.0 * size * magnitude + _slip(given, theta), 0.0) * net.growth
    return form + shift * np.eye(len(form)), shift


def _slip(given: Constraints, theta: Floats) -> float:
    """By how much, times |w|^2, w' M_mid w may be off where forms l are off by e: sum T_ij (2 |l_i| + |e_i|) |e_j|."""
    rows = len(given.forms)
    table = (abs(given.table) @ theta).reshape(rows, rows)
    return float((2.0 * np.linalg.norm(given.forms, axis=1) + given.slips) @ table @ given.slips) * (1 + 1e-9)


def _absolute(given: Constraints, theta: Floats) -> Floats:
    """sum_k theta_k |L|' |C_k| |L|: the magnitude of the terms of M_mid."""
    forms, rows = np.abs(given.forms), len(given.forms)
    return np.asarray(forms.T @ (abs(given.table) @ theta).reshape(rows, rows) @ forms)
