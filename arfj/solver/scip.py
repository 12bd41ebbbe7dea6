"""SCIP through PySCIPOpt."""

from __future__ import annotations

import importlib.metadata
import logging
import time
from typing import Any

import numpy as np
from pyscipopt import Eventhdlr, Model, quicksum
from pyscipopt.scip import PY_SCIP_EVENTTYPE, PY_SCIP_PARAMSETTING, Event, Expr

from arfj.encoding import Problem
from arfj.errors import SolverError
from arfj.network import Floats
from arfj.solver.branching import PhaseRule
from arfj.solver.hulls import TINY, HullRows, hulls_of
from arfj.solver.interrupt import NotBackError, Watched, run_interruptible
from arfj.solver.record import MOST_SEED, Limits, Progress, Solution, Status, Step

LOG = logging.getLogger(__name__)

FEASIBILITY = 1e-9
"""Tolerance on rows and integrality. A binary off by f opens a big-M row by f M, so the default 1e-6 would leak."""

INFINITE = 1e20
"""What SCIP takes for infinite."""

LEAST_EPSILON = 1e-20
"""The least size that SCIP lets be told from 0."""

BRANCHING = {"maxreliable": 8.0, "initcand": 100, "maxlookahead": 12, "sbiterquot": 2.0, "sbiterofs": 1_000_000}
"""More strong branching than SCIP's own: trees of thousands of nodes become half as large."""

_STOPPED: dict[str, str] = {
    "timelimit": "time limit reached",
    "memlimit": "memory limit reached",
    "userinterrupt": "interrupted",
    "terminate": "terminated from outside",
    "bestsollimit": "stopped at an improving answer",
    "sollimit": "stopped at an answer",
    "gaplimit": "gap closed",
}

_EVENTS = (PY_SCIP_EVENTTYPE.BESTSOLFOUND, PY_SCIP_EVENTTYPE.NODESOLVED, PY_SCIP_EVENTTYPE.LPSOLVED)


class _Watcher(Eventhdlr):
    """Passes incumbent, bound and nodes on, at most a few times a second."""

    def __init__(self, progress: Progress, every: float = 0.2) -> None:
        self.progress = progress
        self.every = every
        self.started = self.last = time.perf_counter()

    def eventinit(self) -> None:
        """Subscribe."""
        for kind in _EVENTS:
            self.model.catchEvent(kind, self)

    def eventexit(self) -> None:
        """Unsubscribe."""
        for kind in _EVENTS:
            self.model.dropEvent(kind, self)

    def eventexec(self, event: Event) -> None:
        """Report, unless just done."""
        now = time.perf_counter()
        if now - self.last < self.every:
            return
        self.last = now
        incumbent = self.model.getPrimalbound()
        bound = self.model.getDualbound()
        self.progress(
            Step(
                incumbent if incumbent < 1e19 else None,
                bound if bound > -1e19 else None,
                int(self.model.getNNodes()),
                now - self.started,
            )
        )


def solve_scip(
    problem: Problem, limits: Limits, start: Floats | None = None, progress: Progress | None = None
) -> Solution:
    """Solve with SCIP.

    Args:
        problem: the neutral record.
        limits: time, threads, seed, memory.
        start: values of all columns of a feasible answer.
        progress: called while solving.

    Raises:
        SolverError: a number in the model is infinite to SCIP.
    """
    began = time.perf_counter()
    problem = problem.without_tiny(TINY)
    if not (largest := np.abs(problem.matrix.data).max(initial=0.0)) < INFINITE:
        raise SolverError(f"a number of {largest:.0e} stands in the model, and {INFINITE:.0e} is infinite to SCIP")
    model, columns, slacks = build_model(problem)
    _set_limits(model, limits)
    rule = PhaseRule([(columns[y], columns[s], columns[z]) for y, s, z in problem.phases])
    hulls = hulls_of(problem) if limits.proving else None
    rows = None if hulls is None else HullRows(hulls, columns)
    if limits.proving and problem.phases:
        rule.include(model)
    if rows is not None:
        rows.include(model)
    if problem.indicators:
        # SCIP 10 loses optima otherwise: probing takes dual fixings of indicators for implications.
        model.setParam("misc/allowstrongdualreds", False)
    if start is not None:
        answer = model.createSol()
        for column, value in zip(columns, start, strict=True):
            model.setSolVal(answer, column, float(value))
        for slack, one in zip(slacks, problem.indicators, strict=True):  # left at 0 they would make the start invalid
            model.setSolVal(answer, slack, max(0.0, float(np.dot(one.values, start[list(one.columns)])) - one.rhs))
        model.addSol(answer)
    watched = Watched(progress, model.interruptSolve)
    if progress is not None:
        model.includeEventhdlr(_Watcher(watched), "progress", "reports incumbent and bound")
    left = max(0.0, limits.seconds - (time.perf_counter() - began))
    model.setParam("limits/time", min(1e20, left))
    failures: list[str] = []

    def optimise() -> None:
        try:
            model.optimizeNogil()
        except Exception as error:  # PySCIPOpt raises no other class when an LP breaks down
            failures.append(str(error))

    try:
        interrupted = run_interruptible(optimise, watched, left)
    except NotBackError as late:  # the thread keeps the model
        return late.solution(time.perf_counter() - began)
    if rule.failure:
        LOG.warning("the branching rule failed (%s), and SCIP's own took over", rule.failure)
    if rows is not None and rows.failure:
        LOG.warning("hulls of neurons gave no rows any more (%s)", rows.failure)
    if failures:
        seconds = time.perf_counter() - began
        return Solution(
            "unknown", f"numerical trouble in SCIP ({failures[0]})", None, None, -np.inf, 0, seconds, interrupted
        )
    return _read(model, columns, time.perf_counter() - began, interrupted)


def build_model(problem: Problem) -> tuple[Model, list[Any], list[Any]]:
    """The problem as a SCIP model, its columns in order, and the slack that SCIP adds for every indicator."""
    model = Model()
    model.hideOutput()
    columns = [
        model.addVar(
            vtype="B" if integer else "C",
            lb=None if low == -np.inf else float(low),
            ub=None if up == np.inf else float(up),
            obj=float(cost),
        )
        for low, up, cost, integer in zip(problem.lower, problem.upper, problem.objective, problem.integer, strict=True)
    ]
    matrix = problem.matrix
    left = np.abs(matrix.data).min(initial=np.inf)
    if left <= TINY:  # of a column without bounds
        model.setParam("numerics/epsilon", max(LEAST_EPSILON, float(left) / 10))
    for row, (low, up) in enumerate(zip(problem.row_lower, problem.row_upper, strict=True)):
        at = slice(matrix.indptr[row], matrix.indptr[row + 1])
        terms = quicksum(
            float(value) * columns[index] for index, value in zip(matrix.indices[at], matrix.data[at], strict=True)
        )
        _add_row(model, terms, float(low), float(up))
    slacks = []
    for one in problem.indicators:
        terms = quicksum(value * columns[index] for index, value in zip(one.columns, one.values, strict=True))
        implication = model.addConsIndicator(terms <= one.rhs, columns[one.binary])
        slacks.append(model.getSlackVarIndicator(implication))
    return model, columns, slacks


def _add_row(model: Model, terms: Expr, low: float, up: float) -> None:
    if low == up:
        model.addCons(terms == low)
    elif up == np.inf:
        model.addCons(terms >= low)
    elif low == -np.inf:
        model.addCons(terms <= up)
    else:
        model.addCons(low <= (terms <= up))


def tune_for_proof(model: Model) -> None:
    """Settings for closing the gap below a start that is within a few per cent of the optimum.

    Cuts on big-M rows cost more than they gain, the start leaves heuristics nothing to find, and presolve and
    restarts only move the work; so does propagation until nothing moves, through rows of hundreds of pixels. Default
    tolerances would leak: see `FEASIBILITY`.
    """
    model.setParam("numerics/feastol", FEASIBILITY)
    model.setParam("numerics/dualfeastol", FEASIBILITY)
    model.setParam("misc/catchctrlc", False)
    model.setParam("timing/clocktype", 2)
    model.setHeuristics(PY_SCIP_PARAMSETTING.OFF)
    model.setSeparating(PY_SCIP_PARAMSETTING.OFF)
    model.setPresolve(PY_SCIP_PARAMSETTING.OFF)
    model.setParam("presolving/maxrestarts", 0)
    model.setParam("propagating/maxrounds", 1)


def _set_limits(model: Model, limits: Limits) -> None:
    model.setParam("numerics/feastol", FEASIBILITY)
    model.setParam("numerics/dualfeastol", FEASIBILITY)
    model.setParam("limits/gap", limits.gap)
    model.setParam("randomization/randomseedshift", limits.seed % MOST_SEED)
    model.setParam("lp/threads", limits.threads)
    model.setParam("parallel/maxnthreads", limits.threads)
    model.setParam("misc/catchctrlc", False)
    model.setParam("timing/clocktype", 2)
    if limits.proving:
        tune_for_proof(model)
        for name, value in BRANCHING.items():
            model.setParam(f"branching/relpscost/{name}", value)
    if limits.memory is not None:
        model.setParam("limits/memory", min(limits.memory, 8e12))
    if limits.solutions is not None:
        model.setParam("limits/bestsol", limits.solutions)


def _read(model: Model, columns: list[Any], seconds: float, interrupted: bool) -> Solution:
    word = model.getStatus()
    values: Floats | None = None
    value: float | None = None
    if model.getNSols() > 0:
        best = model.getBestSol()
        values = np.array([model.getSolVal(best, column) for column in columns])
        value = float(model.getSolObjVal(best))
    bound = float(model.getDualbound())
    bound = -np.inf if bound <= -1e19 else np.inf if bound >= 1e19 else bound
    status: Status
    reason = ""
    if word == "infeasible":
        status, bound = "infeasible", np.inf
    elif word in ("optimal", "gaplimit") and values is not None:
        status = "optimal"
    else:
        status = "unknown" if values is None else "feasible"
        reason = _STOPPED["userinterrupt"] if interrupted else _STOPPED.get(word, f"SCIP stopped with status {word}")
    return Solution(status, reason, values, value, bound, int(model.getNTotalNodes()), seconds, interrupted)


def version() -> str:
    """The version of SCIP in use."""
    model = Model()
    return f"SCIP {model.version()} (PySCIPOpt {importlib.metadata.version('pyscipopt')})"
