r"""The smallest ellipsoid that holds y = C [x; f(x)] at a level: {y : y' E^-1 y <= 1} with sup CVaR_eps(y' E^-1 y) <=
1.

    max log det X   s.t.  H >= M_mid(theta) + Y' X Y  on [x; f],   and either
        joint    sup CVaR_eps(H) <= 1, H free: H = N + beta e e', beta + Tr(N) / eps <= 1
        fixed    H = tau P0 + e e', tau >= 0, for one input form P0 (input matrices form a cone: with tau = 1 alone the
                 published condition has no solution for large sets)

CVaR at most 1 implies P(y' E^-1 y <= 1) >= 1 - eps. With P0 = x'x - r the fixed form is the reachable set of the
inputs x'x <= r, and a certificate for distributions where sup CVaR_eps(x'x) <= r. The certified shape is E = v X^-1
with the v that is recomputed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.sparse import csr_array

from arfj.certify.cvar.lifting import EPS, Lifted
from arfj.certify.cvar.moments import checked_level, symmetrised
from arfj.certify.cvar.multipliers import Constraints, Family, constraints
from arfj.certify.cvar.recompute import DAMPINGS, dominating, proof_from, raised_for_rounding
from arfj.certify.cvar.sdp import ask, columns, load_cvxpy, usual
from arfj.errors import UsageError
from arfj.network import Floats

CAPS = (100.0, 10.0, 3.0)
"""The largest multiplier, the next where a solver calls the last inaccurate: with product cuts some grow without end,
and solvers fail on them. Each result is certified, and the least ellipsoid counts; 100 costs 2e-3 of the volume in the
published example."""


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """A certified ellipsoid about 0.

    Attributes:
        shape: E, shape (q, q), or None where nothing stands.
        status: the solver's word.
        seconds: wall clock of the solver.
    """

    shape: Floats | None
    status: str
    seconds: float

    @property
    def determinant(self) -> float | None:
        """det E: its square root is the volume up to a constant."""
        return None if self.shape is None else float(np.linalg.det(self.shape))


def least_ellipsoid(
    net: Lifted,
    rows: ArrayLike,
    epsilon: float,
    family: Family = "pairs",
    input_form: ArrayLike | None = None,
    seconds: float | None = None,
) -> Ellipsoid:
    """The certified ellipsoid of least volume for y = C [x; f(x)].

    Args:
        net: the lifted network, with the moments of its input.
        rows: C, shape (q, n + outputs).
        epsilon: in (0, 1).
        family: of the multipliers.
        input_form: P0 over [x; 1], shape (n + 1, n + 1), for the fixed form; None for the joint one.
        seconds: limit of the solvers, or None.

    Raises:
        UsageError: C or P0 of another shape, eps out of range.
        SolverError: cvxpy is missing.
    """
    checked_level(epsilon)
    given = np.asarray(rows, dtype=np.float64)
    width = len(net.inputs) + len(net.outputs)
    if given.ndim != 2 or given.shape[1] != width:
        raise UsageError(f"C has shape {given.shape}; expected (q, {width}), over the inputs and the outputs")
    forms = given @ np.vstack([net.inputs, net.outputs])
    slips = _slips(net, given)
    units = np.linalg.norm(forms, axis=1)  # each row of y in a unit of its own, for the solvers' sake
    units[units == 0] = 1.0
    known = constraints(net, family)
    fixed = None if input_form is None else net.moments.whitened(input_form)
    best: Ellipsoid | None = None
    for cap in CAPS:
        found = _solved(known, forms / units[:, None], slips / units, epsilon, fixed, seconds, cap)
        if best is None or (found.determinant or np.inf) < (best.determinant or np.inf):
            best = found
        if found.shape is not None and found.status.startswith("optimal ("):
            break
    if best is None or best.shape is None:
        return best or Ellipsoid(None, "", 0.0)
    return replace(best, shape=best.shape * np.multiply.outer(units, units))


def _slips(net: Lifted, rows: Floats) -> Floats:
    """The norms of what rounding may have done to the rows of C [x; f(x)] as forms, shape (q,)."""
    sizes, both = np.abs(rows), np.vstack([net.inputs, net.outputs])
    of_parts = np.concatenate([np.zeros(len(net.inputs)), net.output_slips])
    return np.asarray(sizes @ (of_parts + (len(both) + 2) * EPS * np.linalg.norm(both, axis=1)) * (1 + 1e-9))


def _solved(
    known: Constraints,
    forms: Floats,
    slips: Floats,
    epsilon: float,
    fixed: Floats | None,
    seconds: float | None,
    cap: float,
) -> Ellipsoid:
    cp = load_cvxpy()
    net = known.lifted
    theta = cp.Variable(known.count, nonneg=True)
    inverse = cp.Variable((len(forms), len(forms)), PSD=True)
    lift = csr_array((np.ones(net.rank + 1), (net.seen, range(net.rank + 1))), shape=(net.size, net.rank + 1))
    cover, scale, conditions = _cover(cp, net.rank + 1, epsilon, fixed)
    middle = cp.reshape(columns(known) @ theta, (net.size, net.size), order="C")
    slack = lift @ cover @ lift.T - middle - forms.T @ inverse @ forms
    problem = cp.Problem(cp.Maximize(cp.log_det(inverse)), [*conditions, 0.5 * (slack + slack.T) >> 0, theta <= cap])
    word = ask(cp, problem, theta, seconds, usual(net.size))
    status = f"{word.status} ({word.solver})"
    if word.theta is None or inverse.value is None:
        return Ellipsoid(None, status, word.seconds)
    form = symmetrised(np.asarray(inverse.value, dtype=np.float64))
    multiple = None if scale is None else max(float(scale.value), 0.0)
    lost = float((2.0 * np.linalg.norm(forms, axis=1) + slips) @ np.abs(form) @ slips) * (1 + 1e-9)
    loss = symmetrised(forms.T @ form @ forms) + net.raised(lost)
    return Ellipsoid(_certified(known, loss, form, word.theta, epsilon, fixed, multiple), status, word.seconds)


def _cover(cp: Any, size: int, epsilon: float, fixed: Floats | None) -> tuple[Any, Any, list[Any]]:  # noqa: ANN401
    """H, tau (or None), and what else must hold."""
    corner = np.zeros((size, size))
    corner[-1, -1] = 1.0
    if fixed is not None:
        scale = cp.Variable(nonneg=True)
        return scale * fixed + corner, scale, []
    part, beta = cp.Variable((size, size), PSD=True), cp.Variable()
    return part + beta * corner, None, [beta + cp.trace(part) / epsilon <= 1]


def _certified(
    known: Constraints,
    loss: Floats,
    inverse: Floats,
    theta: Floats,
    epsilon: float,
    fixed: Floats | None,
    multiple: float | None,
) -> Floats | None:
    """E = v X^-1: v bounds sup CVaR of y' X y in the joint form, and y' X y - tau P0 in the fixed one."""
    try:
        shape = np.asarray(np.linalg.inv(inverse), dtype=np.float64)
    except np.linalg.LinAlgError:
        return None
    if np.linalg.eigvalsh(symmetrised(shape))[0] <= 0:
        return None
    shape *= 1.0 + 16 * len(shape) * np.finfo(float).eps * float(np.linalg.cond(inverse))  # the inverse's rounding
    if fixed is None or multiple is None:
        proof = proof_from(known, loss, theta, epsilon)
        return None if proof is None or proof.bound <= 0 else symmetrised(proof.bound * shape)
    kept = np.maximum(theta, 0.0)
    found = [
        _constant(known, loss, known.damped(kept, amount * kept.max()), multiple * factor * fixed)
        for amount in DAMPINGS
        for factor in (1.0, *(1.0 + 10.0**-power for power in range(8, 0, -1)))
    ]
    values = [value for value in found if value is not None and value > 0]
    return symmetrised(min(values) * shape) if values else None


def _constant(known: Constraints, loss: Floats, theta: Floats, form: Floats) -> float | None:
    """The least v with form + v e e' >= G, by a Schur complement, and with what rounding may hide."""
    dominated = dominating(known, loss, theta)
    if dominated is None:
        return None
    gap = form - raised_for_rounding(known, loss, theta, dominated)[0]
    try:
        factor = cho_factor(gap[:-1, :-1], lower=True)
    except (LinAlgError, ValueError):
        return None
    reached = float(gap[:-1, -1] @ cho_solve(factor, gap[:-1, -1])) - float(gap[-1, -1])
    return reached + 1e-12 * (abs(reached) + float(np.abs(gap).max()))
