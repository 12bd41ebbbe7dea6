"""Gurobi through gurobipy: any licence, the size-limited one that comes with the package included."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from arfj.encoding import Problem
from arfj.errors import SolverError
from arfj.network import Floats
from arfj.solver.interrupt import NotBackError, Watched, run_interruptible
from arfj.solver.record import MOST_SEED, Limits, Progress, Solution, Status, Step

try:
    import gurobipy as gp
    from gurobipy import GRB
except ImportError as missing:
    raise SolverError("gurobipy is not installed; pip install 'arfj[gurobi]', or use --solver scip") from missing

TOLERANCE = 1e-9
"""On rows, integrality and reduced costs. A binary off by f opens a big-M row by f M, so 1e-5 would leak."""

LEAST = 1e-12
"""Gurobi takes coefficients below 1e-13 for 0."""

FREE_LIMITS = {"variables": 2000, "linear constraints": 2000, "general constraints": 200}
"""What the licence that comes with gurobipy allows."""

TOO_LARGE = 10010

EVERY = 0.2
"""Seconds between two reports of progress."""

_STOPPED: dict[int, str] = {
    GRB.TIME_LIMIT: "time limit reached",
    GRB.MEM_LIMIT: "memory limit reached",
    GRB.INTERRUPTED: "interrupted",
    GRB.SOLUTION_LIMIT: "stopped at an improving answer",
    GRB.NODE_LIMIT: "node limit reached",
    GRB.NUMERIC: "stopped by numerical trouble",
    GRB.SUBOPTIMAL: "no further progress within the tolerances",
    GRB.UNBOUNDED: "the problem is unbounded",
    GRB.INF_OR_UNBD: "the problem is infeasible or unbounded",
}


def solve_gurobi(
    problem: Problem, limits: Limits, start: Floats | None = None, progress: Progress | None = None
) -> Solution:
    """Solve with Gurobi.

    Args:
        problem: the neutral record.
        limits: time, threads, seed, memory.
        start: values of all columns of a feasible answer.
        progress: called while solving.

    Raises:
        SolverError: no licence, or one that does not reach for a model of this size.
    """
    began = time.perf_counter()
    problem = problem.without_tiny(LEAST)
    try:
        with ExitStack() as held:
            model = held.enter_context(gp.Model(env=held.enter_context(_environment())))
            columns = build_model(model, problem)
            _set_limits(model, limits)
            if start is not None:
                columns.setAttr("Start", start)
            until = began + limits.seconds
            try:
                interrupted = _optimise(model, progress, until, limits.cores)
                if model.Status == GRB.INF_OR_UNBD and not interrupted:
                    model.Params.DualReductions = 0
                    interrupted = _optimise(model, progress, until, limits.cores)
            except NotBackError as late:
                late.watched.kept = held.pop_all()  # to free the model would mean to wait for the thread
                return late.solution(time.perf_counter() - began)
            return _read(model, columns, time.perf_counter() - began, interrupted)
    except gp.GurobiError as error:
        if error.errno == TOO_LARGE:
            raise SolverError(_size_message(problem)) from error
        raise SolverError(f"Gurobi failed: {error}; try --solver scip") from error


def build_model(model: gp.Model, problem: Problem) -> gp.MVar:
    """Fill an empty Gurobi model with the problem; returns its columns as one MVar."""
    kinds = np.where(problem.integer, GRB.BINARY, GRB.CONTINUOUS)
    columns = model.addMVar(
        len(problem.objective), lb=problem.lower, ub=problem.upper, obj=problem.objective, vtype=kinds
    )
    low, up = problem.row_lower, problem.row_upper
    equal = low == up
    for sense, chosen, side in (
        (GRB.EQUAL, equal, low),
        (GRB.GREATER_EQUAL, ~equal & (low > -np.inf), low),
        (GRB.LESS_EQUAL, ~equal & (up < np.inf), up),
    ):
        if chosen.any():
            model.addMConstr(problem.matrix[chosen], columns, sense, side[chosen])
    single = columns.tolist()
    for one in problem.indicators:
        terms = gp.LinExpr(one.values, [single[index] for index in one.columns])
        model.addGenConstrIndicator(single[one.binary], True, terms, GRB.LESS_EQUAL, one.rhs)
    return columns


@contextmanager
def _environment() -> Iterator[gp.Env]:
    """A silent environment: the licence is looked for here."""
    with gp.Env(empty=True) as env:
        env.setParam("OutputFlag", 0)
        env.setParam("LogToConsole", 0)
        try:
            env.start()
        except gp.GurobiError as error:
            raise SolverError(f"Gurobi has no valid licence ({error}); renew it, or use --solver scip") from error
        yield env


def _set_limits(model: gp.Model, limits: Limits) -> None:
    parameters = model.Params
    parameters.FeasibilityTol = parameters.IntFeasTol = parameters.OptimalityTol = TOLERANCE
    parameters.MIPGap = limits.gap
    parameters.MIPGapAbs = 1e-12
    parameters.Seed = limits.seed % MOST_SEED
    parameters.Threads = limits.threads
    if limits.proving:
        # Cuts on big-M rows cost more than they gain, and the start leaves heuristics nothing to find.
        parameters.Cuts = 0
        parameters.Heuristics = 0.0
    if limits.memory is not None:
        parameters.SoftMemLimit = limits.memory * 2**20 / 1e9
    if limits.solutions is not None:
        parameters.SolutionLimit = limits.solutions


def _optimise(model: gp.Model, progress: Progress | None, until: float, cores: Callable[[], int] | None = None) -> bool:
    """Run until this `time.perf_counter()` value; returns whether the user interrupted.

    Once `cores` says that there may be more threads than there are, the search stops and goes on with so many: Gurobi
    keeps its tree.
    """
    began = time.perf_counter()
    seconds = max(0.0, until - began)
    watched = Watched(progress, model.terminate)
    last = began
    threads = model.Params.Threads

    def report(_: gp.Model, where: int) -> None:
        nonlocal last, threads
        now = time.perf_counter()
        if where != GRB.Callback.MIP or now - last < EVERY:
            return
        last = now
        incumbent = model.cbGet(GRB.Callback.MIP_OBJBST)
        bound = model.cbGet(GRB.Callback.MIP_OBJBND)
        watched(
            Step(
                float(incumbent) if incumbent < GRB.INFINITY else None,
                float(bound) if bound > -GRB.INFINITY else None,
                int(model.cbGet(GRB.Callback.MIP_NODCNT)),
                now - began,
            )
        )
        if cores is not None and (most := cores()) > threads:
            threads = most
            model.terminate()

    def run() -> None:
        while True:
            model.Params.TimeLimit = max(0.0, until - time.perf_counter())
            model.optimize(report)
            if model.Status != GRB.INTERRUPTED or watched.raised is not None or threads <= model.Params.Threads:
                return
            model.Params.Threads = threads  # a wish of the user's meanwhile is repeated until it is heard

    # Where the callback did not ask for it, Gurobi has caught Ctrl-C itself.
    return run_interruptible(run, watched, seconds) or (model.Status == GRB.INTERRUPTED and watched.raised is None)


def _read(model: gp.Model, columns: gp.MVar, seconds: float, interrupted: bool) -> Solution:
    word = model.Status
    values: Floats | None = None
    value: float | None = None
    if model.SolCount > 0:
        values, value = np.asarray(columns.X, dtype=np.float64), float(model.ObjVal)
    status: Status
    reason = ""
    if word == GRB.INFEASIBLE:
        status = "infeasible"
    elif word == GRB.OPTIMAL and values is not None:
        status = "optimal"
    else:
        status = "unknown" if values is None else "feasible"
        reason = _STOPPED[GRB.INTERRUPTED] if interrupted else _STOPPED.get(word, f"Gurobi stopped with status {word}")
    bound = _bound(model, status, value)
    return Solution(status, reason, values, value, bound, int(model.NodeCount), seconds, interrupted)


def _bound(model: gp.Model, status: Status, value: float | None) -> float:
    """The proven lower bound, never above the value: a linear program that stopped early proves nothing."""
    if status == "infeasible":
        return np.inf
    if not model.IsMIP:
        return value if status == "optimal" and value is not None else -np.inf
    bound = float(model.ObjBound)
    if bound <= -GRB.INFINITY:
        return -np.inf
    return bound if value is None else min(bound, value)


def _size_message(problem: Problem) -> str:
    ranges = np.isfinite(problem.row_lower) & np.isfinite(problem.row_upper) & (problem.row_lower != problem.row_upper)
    counts = {
        "variables": len(problem.objective),
        "linear constraints": len(problem.row_lower) + int(ranges.sum()),
        "general constraints": len(problem.indicators),
    }
    over = [
        f"{count} {what} (limit {FREE_LIMITS[what]})" for what, count in counts.items() if count > FREE_LIMITS[what]
    ]
    exceeded = " and ".join(over) or "more than it allows"
    return f"the model has {exceeded}, too large for this Gurobi licence; use --solver scip, or install a full licence"


def check_licence() -> None:
    """Look for a licence.

    Raises:
        SolverError: there is none, or it has expired.
    """
    with _environment():
        pass


def version() -> str:
    """The version of Gurobi in use."""
    return "Gurobi " + ".".join(str(part) for part in gp.gurobi.version())
