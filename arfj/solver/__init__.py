"""Solvers: one neutral problem in, one `Solution` out. A solver's package is loaded only when it is asked for."""

from __future__ import annotations

import importlib.util
from typing import Literal

from arfj.encoding import Problem
from arfj.errors import SolverError
from arfj.network import Floats
from arfj.solver.record import EnoughError, Limits, Progress, Solution, Status, Step

SolverName = Literal["scip", "gurobi"]

Engine = SolverName | Literal["bab"]
"""What proves: a solver of problems, or our own branch and bound (`arfj.bab`) on SCIP's linear programs."""

PACKAGES: dict[Engine, str] = {"bab": "pyscipopt", "scip": "pyscipopt", "gurobi": "gurobipy"}

__all__ = [
    "Engine",
    "EnoughError",
    "Limits",
    "Progress",
    "Solution",
    "SolverName",
    "Status",
    "Step",
    "available",
    "installed",
    "solve",
    "version",
]


def solve(
    name: SolverName,
    problem: Problem,
    limits: Limits,
    start: Floats | None = None,
    progress: Progress | None = None,
) -> Solution:
    """Solve a problem.

    Args:
        name: which solver.
        problem: the neutral record.
        limits: time, threads, seed, memory, gap.
        start: values of all columns of a feasible answer, or None.
        progress: called while solving, at most a few times a second.

    Raises:
        SolverError: the solver is missing, has no licence, or refuses a model of this size.
    """
    match name:
        case "scip":
            from arfj.solver.scip import solve_scip

            return solve_scip(problem, limits, start, progress)
        case "gurobi":
            from arfj.solver.gurobi import solve_gurobi

            return solve_gurobi(problem, limits, start, progress)


def installed(name: Engine) -> bool:
    """Whether the solver's package can be found (it is not loaded)."""
    return importlib.util.find_spec(PACKAGES[name]) is not None


def available(name: Engine) -> bool:
    """Whether the solver is installed and has a licence, be it one that is limited in size."""
    if not installed(name):
        return False
    if name == "gurobi":
        try:
            from arfj.solver.gurobi import check_licence

            check_licence()
        except SolverError:
            return False
    return True


def version(name: Engine) -> str:
    """The solver's name and version, for the records.

    Raises:
        SolverError: the solver is missing.
    """
    match name:
        case "bab" | "scip":
            from arfj.solver import scip

            return scip.version()
        case "gurobi":
            from arfj.solver import gurobi

            return gurobi.version()
