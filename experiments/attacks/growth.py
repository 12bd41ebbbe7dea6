"""Suite `growth`: larger networks, the nominal one alone and all six."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from arfj.attack import Options
from arfj.report.store import Store
from experiments.attacks import rows as told
from experiments.attacks.measure import run_cases
from experiments.attacks.plan import THREE, Case, Plan, Row, Suite

PREFIX = "growth"
SETS: Mapping[str, int] = {"nominal": 0, "six": 5}
"""Networks beside the nominal one."""
LIMITS: Mapping[str, Mapping[str, float]] = {
    "16-16-16": {"nominal": 300.0, "six": 600.0},
    "32-32-32": {"nominal": 300.0, "six": 600.0},
    "64-64": {"nominal": 600.0, "six": 600.0},
    "conv": {"nominal": 600.0, "six": 600.0},
}


def cases(plan: Plan) -> list[Case]:
    """By architecture, then by the number of networks."""
    return [
        Case(
            f"{PREFIX}/{name}/{count}/{solver}/{true}",
            plan.instance("outer" if alpha else "nominal", alpha, true, name),
            Options(solver=solver, time_limit=plan.seconds(LIMITS[name][count], 30.0)),
        )
        for name in plan.pick(tuple(LIMITS), ("16-16-16",), ("16-16-16",))
        for count, alpha in SETS.items()
        for true in plan.classes(THREE, (1,))
        for solver in plan.with_solvers("bab")
    ]


def measure(plan: Plan, store: Store) -> None:
    """Solve what is missing."""
    run_cases(store, plan, cases(plan))


def table(rows: Sequence[Row]) -> str:
    """One line an architecture, number of networks and image, then how many were closed."""
    mine = told.of(PREFIX, rows)
    if not mine:
        return told.MISSING
    groups: dict[tuple[str, ...], list[Row]] = {}
    for name, counts in LIMITS.items():
        for count in counts:
            for row in sorted(mine, key=lambda row: int(row["true"])):
                _, of, which, solver, _ = row["key"].split("/")
                if (of, which) == (name, count):
                    groups.setdefault((name, count, solver), []).append(row)
    columns = (
        "networks, how many, solver, true → target, status, s:, in the last model:, distance:, bound:, gap:, binaries:"
    )
    lines = told.header(columns) + [_line(names, row) for names, chosen in groups.items() for row in chosen]
    return told.table(lines, *(_summary(*item) for item in groups.items()), *told.machines(mine))


def _line(names: tuple[str, ...], row: Row) -> str:
    if row["status"] == "error":
        return told.line(*names, row["true"], row["reason"], *("-" * 6))
    numbers = (told.number(row["distance"]), told.number(row["bound"]), told.percent(row["gap"]), row["binaries"])
    to, used = f"{row['true']} → {row['target']}", f"{row['active']} of {row['scenarios']}"
    return told.line(*names, to, row["status"], f"{row['seconds']:.1f}", used, *numbers)


def _summary(names: tuple[str, ...], rows: Sequence[Row]) -> str:
    closed = sum(map(told.decided, rows))
    gaps = [row["gap"] for row in rows if row.get("gap") is not None]
    limit = max(float(row["time_limit"]) for row in rows)
    return (
        f"- {', '.join(names)}: {closed} of {len(rows)} closed within {limit:g} s, {sum(map(told.hit, rows))} replayed "
        f"hits, largest gap {told.percent(max(gaps, default=None))}."
    )


SUITE = Suite(PREFIX, PREFIX, "larger networks and a convolution", measure, table)
