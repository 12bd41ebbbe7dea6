"""Suite `alpha`: more and more retrained networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from arfj.attack import Options
from arfj.report.store import Store
from experiments.attacks import rows as told
from experiments.attacks.measure import run_cases
from experiments.attacks.plan import THREE, Case, Plan, Row, Suite

PREFIX = "alpha"
ALPHAS = (1, 2, 5, 10, 20, 50)
LIMITS: Mapping[int, float] = {50: 600.0}
LIMIT = 120.0
"""Seconds of the others."""
GOALS: Mapping[int, float] = {20: 120.0, 50: 600.0}


def cases(plan: Plan) -> list[Case]:
    """All images of an alpha, then the next."""
    return [
        Case(
            f"{PREFIX}/{solver}/{alpha}/{true}",
            plan.instance("outer", alpha, true),
            Options(solver=solver, time_limit=plan.seconds(LIMITS.get(alpha, LIMIT))),
        )
        for alpha in plan.pick(ALPHAS, (1, 2), (1, 2, 5))
        for true in plan.classes(THREE, (1, 4))
        for solver in plan.with_solvers("bab")
    ]


def measure(plan: Plan, store: Store) -> None:
    """Solve what is missing."""
    run_cases(store, plan, cases(plan))


def table(rows: Sequence[Row]) -> str:
    """One line an alpha and image, then the goals."""
    mine = sorted(told.of(PREFIX, rows), key=lambda row: (row["solver"], row["alpha"], row["true"]))
    if not mine:
        return told.MISSING
    columns = "alpha:, true → target, solver, status, s:, networks in the last model:, distance:, bound:, gap:"
    lines = told.header(columns)
    lines += [_line(row) for row in mine]
    goals = [_goal(alpha, seconds, mine) for alpha, seconds in GOALS.items()]
    return told.table(lines, *filter(None, goals), *told.machines(mine))


def _line(row: Row) -> str:
    if row["status"] == "error":
        return told.line(row["alpha"], row["true"], row["key"].split("/")[1], row["reason"], *("-" * 5))
    used = f"{row['active']} of {row['scenarios']}"
    numbers = (told.number(row["distance"]), told.number(row["bound"]), told.percent(row["gap"]))
    to = f"{row['true']} → {row['target']}"
    return told.line(row["alpha"], to, row["solver"], row["status"], f"{row['seconds']:.1f}", used, *numbers)


def _goal(alpha: int, seconds: float, rows: Sequence[Row]) -> str:
    chosen = [row for row in rows if row["alpha"] == alpha]
    reached = sum(row["status"] == "optimal" and row["seconds"] <= seconds for row in chosen)
    return f"- alpha = {alpha}: {reached} of {len(chosen)} optimal within {seconds:g} s (goal: all)." if chosen else ""


SUITE = Suite(PREFIX, PREFIX, "1 to 50 retrained networks", measure, table)
