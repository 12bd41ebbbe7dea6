"""Suite `seeds`: how much the seconds of the cheaper of the ten images depend on the seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arfj.attack import Options
from arfj.report.store import Store
from arfj.solver import Engine
from experiments.attacks import rows as told
from experiments.attacks import ten
from experiments.attacks.measure import run_cases
from experiments.attacks.plan import Case, Plan, Row, Suite

PREFIX = "seeds"
SEEDS = (0, 1, 2)
CHEAP = 60.0
"""Seconds that an image of the suite `ten` may have taken."""
LIMIT = 180.0
"""As the warm start's time is a share of the limit, it is near that of `ten`."""


def cases(plan: Plan, rows: Sequence[Row]) -> list[Case]:
    """The images that `ten` closed in a minute, all seeds of one in turn."""
    return [
        Case(
            f"{PREFIX}/{solver}/{seed}/{true}",
            plan.instance("outer", ten.ALPHA, true),
            Options(solver=solver, time_limit=plan.seconds(LIMIT), seed=seed),
            {"seed": seed},
        )
        for solver in plan.with_solvers("bab")
        for true in cheap(rows, solver)
        if true in plan.classes(ten.ALL, (1,))
        for seed in plan.pick(SEEDS, SEEDS[:2], SEEDS)
    ]


def cheap(rows: Sequence[Row], solver: Engine) -> list[int]:
    """Classes of the images that `ten` closed with this solver in less than a minute."""
    found = {row["key"]: row for row in rows}
    chosen = {true: found.get(f"{ten.PREFIX}/{solver}/{true}") for true in ten.ALL}
    return [true for true, row in chosen.items() if row and told.decided(row) and row["seconds"] < CHEAP]


def measure(plan: Plan, store: Store) -> None:
    """Solve what is missing."""
    run_cases(store, plan, cases(plan, store.rows()))


def table(rows: Sequence[Row]) -> str:
    """One line a solver and image: seconds a seed and their median."""
    mine = [row for row in told.of(PREFIX, rows) if row["status"] != "error"]
    if not mine:
        return told.MISSING
    seeds = sorted({row["seed"] for row in mine})
    columns = ", ".join(f"seed {seed} s:" for seed in seeds)
    lines = told.header(f"solver, true → target, distance:, {columns}, median s:, most by least:")
    sums: dict[str, list[float]] = {}
    for solver in dict.fromkeys(row["solver"] for row in mine):
        for true in sorted({row["true"] for row in mine if row["solver"] == solver}):
            found = {row["seed"]: row for row in mine if (row["solver"], row["true"]) == (solver, true)}
            times = [told.seconds_of(row) for row in found.values()]
            mark = "" if all(map(told.decided, found.values())) else "≥ "
            one = next(iter(found.values()))
            median = float(np.median(times))
            sums.setdefault(solver, []).append(median)
            distances = [row["distance"] for row in found.values() if told.hit(row)]
            cells = [told.told_seconds(found.get(seed)) for seed in seeds]
            spread = f"{mark}{max(times) / min(times):.2f}"
            least = told.number(min(distances, default=None))
            lines.append(told.line(solver, f"{true} → {one['target']}", least, *cells, f"{median:.1f}", spread))
    facts = [f"- {name}: medians of {len(each)} images, {sum(each):.1f} s in all." for name, each in sums.items()]
    return told.table(lines, *facts, *told.machines(mine))


SUITE = Suite(PREFIX, PREFIX, "three seeds", measure, table)
