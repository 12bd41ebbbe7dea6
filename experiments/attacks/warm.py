"""Suite `warm`: the warm start alone, held against the best distance known."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from arfj.attack import Options
from arfj.attack.warm import warm_start
from arfj.evaluate.replay import TOLERANCE
from arfj.report.store import Store
from experiments.attacks import rows as told
from experiments.attacks import ten
from experiments.attacks.measure import run_cases
from experiments.attacks.plan import Case, Plan, Row, Suite

PREFIX = "warm"
SECONDS = 5.0
SEEDS = (0, 1, 2)
GOALS = (1.05, 1.15)
"""Median and worst distance, in units of the best distance known."""


def cases(plan: Plan) -> list[Case]:
    """Every image with every seed."""
    seconds = plan.limit or plan.pick(SECONDS, SECONDS, 1.0)
    return [
        Case(f"{PREFIX}/{seed}/{true}", plan.instance("outer", ten.ALPHA, true), Options(time_limit=seconds, seed=seed))
        for seed in plan.pick(SEEDS, SEEDS[:1], SEEDS)
        for true in plan.classes(ten.ALL, (1, 2, 4))
    ]


def measure(plan: Plan, store: Store) -> None:
    """Search what is missing."""
    run_cases(store, plan, cases(plan), searched)


def searched(case: Case) -> dict[str, Any]:
    """The warm start's answer, clipped into its box and passed through all networks.

    It takes the attack's own path, short attack first, with a try at the proof that comes to nothing.
    """
    question = case.instance.question
    began = time.perf_counter()
    with threadpool_limits(1):
        deadline = began + case.options.time_limit
        corner = warm_start(question, case.options.seed, deadline, tried=lambda first: first)
    seconds = time.perf_counter() - began
    names = {"target": question.target, "gamma": question.gamma, "seed": case.options.seed, "solver": None}
    facts = names | {"seconds": seconds}
    if corner is None:
        return facts | {"status": "unknown", "distance": None, "replay": None, "slack": None}
    x = np.clip(corner.x, 0.0, 1.0)
    slack, distance = question.slack(x), question.distance(x)
    seen = {"hit": slack >= -TOLERANCE, "distance": distance}
    return facts | {"status": "feasible", "distance": distance, "replay": seen, "slack": slack}


def table(rows: Sequence[Row]) -> str:
    """One line an image: distance by the best known one, a column a seed; then median, worst and share of hits."""
    mine = [row for row in told.of(PREFIX, rows) if row["status"] != "error"]
    if not mine:
        return told.MISSING
    known = told.best_known(rows, ten.PREFIX)
    proven = {told.asked(row) for row in told.of(ten.PREFIX, rows) if row["status"] == "optimal" and "true" in row}
    seeds = sorted({row["seed"] for row in mine})
    found = {(row["true"], row["seed"]): row for row in mine}
    lines = told.header("true → target, best known:, proven, " + ", ".join(f"seed {seed}:" for seed in seeds))
    for true in sorted({row["true"] for row in mine}):
        one = next(row for row in mine if row["true"] == true)
        cells = [told.number(share(found.get((true, seed)), known), 4) for seed in seeds]
        word = "yes" if told.asked(one) in proven else "no"
        least = told.number(known.get(told.asked(one)))
        lines.append(told.line(f"{true} → {one['target']}", least, word, *cells))
    return told.table(lines, *_summary(mine, known), *told.machines(mine))


def share(row: Row | None, known: dict[tuple[Any, ...], float]) -> float | None:
    """Distance by the best known one; None without an answer that fools all networks."""
    if row is None or not told.hit(row):
        return None
    return float(row["distance"] / known[told.asked(row)])


def _summary(rows: Sequence[Row], known: dict[tuple[Any, ...], float]) -> list[str]:
    shares = [value for row in rows if (value := share(row, known)) is not None]
    hits = f"- {len(shares)} of {len(rows)} answers fool all networks by replay"
    seconds = f"seconds: at most {max(row['seconds'] for row in rows):.1f}, asked for {_limits(rows)}."
    if not shares:
        return [f"{hits}; {seconds}"]
    median, worst = float(np.median(shares)), max(shares)
    words = ["reached" if value <= goal else "missed" for value, goal in zip((median, worst), GOALS, strict=True)]
    return [
        f"{hits}; {seconds}",
        f"- Distance by the best known: median {median:.4f} (goal: within {GOALS[0]:g}, {words[0]}), "
        f"worst {worst:.4f} (goal: within {GOALS[1]:g}, {words[1]}).",
    ]


def _limits(rows: Sequence[Row]) -> str:
    return ", ".join(f"{limit:g}" for limit in sorted({float(row["time_limit"]) for row in rows}))


SUITE = Suite(PREFIX, PREFIX, "the warm start alone", measure, table)
