r"""A certificate for the largest of several losses, such as max_j f_j - f_c over all rivals.

Bounds of the single losses do not bound their maximum: in its worst cases each input may have another rival. One form
H above all of them does: H >= M_mid(theta_j) + M_out(j) for every j implies max_j L_j <= [xi; 1]' H [xi; 1] on the
network.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from arfj.certify.cvar.certificate import Certificate, Options
from arfj.certify.cvar.lifting import Lifted
from arfj.certify.cvar.moments import checked_level, symmetrised
from arfj.certify.cvar.multipliers import Constraints, constraints
from arfj.certify.cvar.recompute import Proof, proof_from
from arfj.certify.cvar.sdp import CAP, ask, columns, load_cvxpy, usual
from arfj.certify.cvar.worst import worst_of_white
from arfj.errors import UsageError
from arfj.network import Floats


def certify_maximum(
    net: Lifted, losses: Sequence[Floats], epsilon: float, options: Options | None = None
) -> Certificate:
    """Bound sup CVaR_eps(max_j L_j), by one semidefinite program and a recomputation.

    Args:
        net: the lifted network.
        losses: M_out of each, shape (N, N).
        epsilon: in (0, 1).
        options: the family, the limit and the solvers count; the method is always "sdp".

    Raises:
        UsageError: no losses, or eps out of range.
        SolverError: cvxpy is missing.
    """
    if not losses:
        raise UsageError("there are no losses; expected at least one")
    options, began = options or Options(method="sdp"), time.perf_counter()
    checked_level(epsilon)
    given = constraints(net, options.multipliers)
    cp = load_cvxpy()
    size, count = net.rank + 1, len(losses)
    scale = max(float(np.abs(loss).max()) for loss in losses) or 1.0
    theta, beta = cp.Variable(count * given.count, nonneg=True), cp.Variable()
    cover = cp.Variable((size, size), PSD=True)
    lift = csr_array((np.ones(size), (net.seen, range(size))), shape=(net.size, size))
    corner = np.zeros((net.size, net.size))
    corner[-1, -1] = 1.0
    table = columns(given)
    conditions = [theta <= CAP]
    for j, loss in enumerate(losses):
        mine = theta[j * given.count : (j + 1) * given.count]
        middle = cp.reshape(table @ mine, (net.size, net.size), order="C")
        slack = lift @ cover @ lift.T + beta * corner - middle - loss / scale
        conditions.append(0.5 * (slack + slack.T) >> 0)
    problem = cp.Problem(cp.Minimize(beta + cp.trace(cover) / epsilon), conditions)
    word = ask(cp, problem, theta, options.seconds, options.solvers or usual(net.size))
    proof = None
    if word.theta is not None and cover.value is not None and beta.value is not None:
        common = scale * np.asarray(cover.value, dtype=np.float64)
        common[-1, -1] += scale * float(beta.value)
        proof = _proof(given, losses, scale * word.theta, symmetrised(common), epsilon)
    objective = None if word.objective is None else scale * word.objective
    status = f"{word.status} ({word.solver})"
    return Certificate(proof, epsilon, "sdp", status, objective, time.perf_counter() - began)


def _proof(given: Constraints, losses: Sequence[Floats], theta: Floats, common: Floats, epsilon: float) -> Proof | None:
    """The solver's common form, raised by a multiple of I until it lies above every loss's own."""
    above, parts = 0.0, []
    for loss, mine in zip(losses, np.split(theta, len(losses)), strict=True):
        proof = proof_from(given, loss, mine, epsilon)
        if proof is None:
            return None
        parts.append(proof.theta)
        rounding = 8 * np.finfo(float).eps * len(common) * (np.linalg.norm(proof.form) + np.linalg.norm(common))
        above = max(above, float(np.linalg.eigvalsh(proof.form - common)[-1]) + float(rounding))
    form = common + above * np.eye(len(common))
    worst = worst_of_white(form, epsilon)
    return Proof(worst.value, form, worst, np.concatenate(parts), above)
