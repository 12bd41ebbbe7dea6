r"""Multipliers by semidefinite programming (cvxpy with Clarabel, then SCS; large ones with SCS alone).

    min beta + Tr(N) / eps   s.t.  N >= 0,   theta >= 0,   lift(N + beta e e') >= M_mid(theta) + M_out

This is the joint problem in whitened coordinates: H = N + beta e e' is the largest form with N >= H - beta e e', so H
itself is no variable, and the input matrix P of the paper is found together with Q. What a solver reports is kept as
its word; the bound comes from `recompute`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from arfj.certify.cvar.multipliers import Constraints
from arfj.errors import SolverError
from arfj.network import Floats

SOLVERS = ("CLARABEL", "SCS")
"""In the order in which they are asked: the second where the first leaves no multipliers."""
DENSE = 110
"""The largest matrix for which Clarabel is asked, too: its memory grows with the fourth power, to 3 GiB at 130 rows."""
CAP = 1e4
"""The largest multiplier, relative to the loss: product cuts make some of them grow without end."""


@dataclass(frozen=True, eq=False)
class Word:
    """What a solver says, and is not believed.

    Attributes:
        theta: its multipliers, shape (K,), or None.
        status: its status, in its words.
        solver: its name.
        objective: the value that it reports, or None.
        seconds: wall clock.
    """

    theta: Floats | None
    status: str
    solver: str
    objective: float | None
    seconds: float


def solve_sdp(
    given: Constraints,
    loss: Floats,
    epsilon: float,
    seconds: float | None = None,
    solvers: Sequence[str] | None = None,
    cap: float = CAP,
) -> Word:
    """The multipliers of the joint problem.

    Args:
        given: the constraints.
        loss: M_out, shape (N, N).
        epsilon: in (0, 1).
        seconds: limit of all solvers together, or None.
        solvers: names of cvxpy's, in the order in which they are asked; by default see `usual`.
        cap: see `CAP`.

    Raises:
        SolverError: cvxpy is missing.
    """
    cp = load_cvxpy()
    net = given.lifted
    scale = max(float(np.abs(loss).max()), 1e-12)
    theta = cp.Variable(given.count, nonneg=True)
    beta = cp.Variable()
    cover = cp.Variable((net.rank + 1, net.rank + 1), PSD=True)
    lift = csr_array((np.ones(net.rank + 1), (net.seen, range(net.rank + 1))), shape=(net.size, net.rank + 1))
    corner = np.zeros((net.size, net.size))
    corner[-1, -1] = 1.0
    middle = cp.reshape(columns(given) @ theta, (net.size, net.size), order="C")
    slack = lift @ cover @ lift.T + beta * corner - middle - loss / scale
    problem = cp.Problem(cp.Minimize(beta + cp.trace(cover) / epsilon), [0.5 * (slack + slack.T) >> 0, theta <= cap])
    word = ask(cp, problem, theta, seconds, solvers or usual(net.size))
    objective = None if word.objective is None else word.objective * scale
    return Word(None if word.theta is None else word.theta * scale, word.status, word.solver, objective, word.seconds)


def usual(rows: int) -> Sequence[str]:
    """The solvers for a matrix of so many rows."""
    return SOLVERS if rows <= DENSE else SOLVERS[1:]


def columns(given: Constraints) -> csr_array:
    """Column k is L' C_k L, row-major, shape (N^2, K)."""
    size, table, forms = given.lifted.size, given.table.tocoo(), csr_array(given.forms)
    places, owners, entries = [], [], []
    left, right = np.divmod(table.coords[0], len(given.forms))
    for i, j, owner, coefficient in zip(left, right, table.coords[1], table.data, strict=True):
        one, other = (slice(forms.indptr[row], forms.indptr[row + 1]) for row in (i, j))
        found = coefficient * np.multiply.outer(forms.data[one], forms.data[other])
        places.append(np.add.outer(forms.indices[one].astype(np.int64) * size, forms.indices[other]).ravel())
        owners.append(np.full(found.size, owner))
        entries.append(found.ravel())
    shape = (size * size, given.count)
    if not entries:
        return csr_array(shape)
    return csr_array((np.concatenate(entries), (np.concatenate(places), np.concatenate(owners))), shape=shape)


def load_cvxpy() -> Any:  # noqa: ANN401 - a module without types
    """The module cvxpy.

    Raises:
        SolverError: it is missing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import cvxpy
    except ImportError as error:
        raise SolverError(
            "semidefinite programs need cvxpy: pip install 'arfj[certify]', or use --method first-order"
        ) from error
    return cvxpy


def ask(cp: Any, problem: Any, theta: Any, seconds: float | None, solvers: Sequence[str]) -> Word:  # noqa: ANN401
    """Solver after solver, until one leaves multipliers and calls them optimal."""
    began = time.perf_counter()
    best: Word | None = None
    for name in solvers:
        left = None if seconds is None else seconds - (time.perf_counter() - began)
        if left is not None and left <= 0:
            break
        found = _asked(cp, problem, theta, name, left)
        if best is None or best.theta is None or found.status == "optimal":
            best = found if best is None or found.theta is not None else best
        if best.status == "optimal":
            break
    taken = time.perf_counter() - began
    if best is None:
        return Word(None, "time limit", "", None, taken)
    return Word(best.theta, best.status, best.solver, best.objective, taken)


def _asked(cp: Any, problem: Any, theta: Any, name: str, seconds: float | None) -> Word:  # noqa: ANN401
    limits = {"CLARABEL": "time_limit", "SCS": "time_limit_secs"}
    options: dict[str, Any] = {} if seconds is None or name not in limits else {limits[name]: seconds}
    if name == "SCS":
        options |= {"eps": 1e-6, "max_iters": 20_000}
    began = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "inaccurate" is a status here, and proves nothing either way
            problem.solve(solver=name, **options)
    except cp.error.SolverError as error:
        status = f"error ({str(error).splitlines()[0][:80]})"
        return Word(None, status, name, None, time.perf_counter() - began)
    values = None if theta.value is None else np.array(theta.value, dtype=np.float64)
    value = problem.value
    objective = None if value is None or not np.isfinite(value) else float(value)
    return Word(values, str(problem.status), name, objective, time.perf_counter() - began)
