"""Suite `ten`: the ten bundled images against six networks, by the command that users type.

The command runs in a process of its own, into a folder that is not kept; the wall clock around it counts everything:
start-up, files read, answers saved, replayed and drawn.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arfj.report.store import Store
from arfj.solver import Engine
from experiments.attacks import rows as told
from experiments.attacks.measure import compact, machine, present
from experiments.attacks.plan import BUNDLE, TINY, Plan, Row, Suite, tiny_networks
from experiments.processes import group

PREFIX = "ten"
ALL = tuple(range(10))
SHORT = (1, 2)
ALPHA = 5
LIMIT = 600.0
GOALS: Mapping[Engine, float] = {"bab": 300.0, "scip": 300.0, "gurobi": 90.0}
"""Seconds for all ten together."""
TOGETHER = "together"
GRACE = 120.0
"""Seconds an image beyond its limit after which the command is ended."""


def measure(plan: Plan, store: Store) -> None:
    """One run of the command a solver; of some images only, one run an image."""
    classes = plan.classes(ALL, SHORT)
    limit = plan.seconds(LIMIT)
    for solver in plan.with_solvers("bab", "scip", "gurobi"):
        if plan.size == "tiny" or classes == ALL:
            keys = [f"{PREFIX}/{solver}/{name}" for name in (*classes, TOGETHER)]
            if _missing(plan, store, keys, limit):
                _run(plan, store, solver, limit, None, len(classes))
            continue
        for true in classes:
            if _missing(plan, store, [f"{PREFIX}/{solver}/{true}"], limit):
                _run(plan, store, solver, limit, true, 1)


def _missing(plan: Plan, store: Store, keys: Sequence[str], limit: float) -> bool:
    return any(plan.only in key for key in keys) and not all(present(store, key, limit) for key in keys)


def command(plan: Plan, solver: Engine, limit: float, true: int | None, folder: Path) -> list[str]:
    """The attack's command; tiny networks are saved first."""
    if plan.size == "tiny":
        files = [folder / f"{index}.npz" for index in range(1 + ALPHA)]
        for network, file in zip(tiny_networks(), files, strict=True):
            network.save(file)
        np.save(folder / "x.npy", np.array([0.8, 0.2]), allow_pickle=False)
        asked = ["--networks", *map(str, files), "--image", str(folder / "x.npy")]
    else:
        asked = ["--outer", "--alpha", str(ALPHA), *([] if true is None else ["--true", str(true)])]
    settings = ["--solver", solver, "--time-limit", f"{limit:g}", "--n-jobs", str(plan.jobs)]
    return [sys.executable, "-m", "arfj.attack", *asked, *settings, "--json", "--output", str(folder / "output")]


def _run(plan: Plan, store: Store, solver: Engine, limit: float, true: int | None, images: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        line = command(plan, solver, limit, true, Path(name))
        most = math.ceil(images / plan.jobs) * limit
        print(f"{PREFIX}/{solver}: {images} to solve, at most about {most / 60:.0f} minutes", file=sys.stderr)
        began = time.perf_counter()
        found, reason = _asked(line, images * (limit + GRACE))
        seconds = time.perf_counter() - began
    names = {"networks": TINY if plan.size == "tiny" else BUNDLE, "kind": "outer"}
    facts = names | {"machine": machine(solver), "jobs": min(plan.jobs, images)}
    for row in found:
        store.append(f"{PREFIX}/{solver}/{row['true']}", limit, compact(row) | facts)
    if true is None or reason:
        optimal = sum(row["status"] == "optimal" for row in found)
        status = "error" if reason else "optimal" if optimal == images else "feasible"
        counts = {"images": images, "optimal": optimal, "hits": sum(map(told.hit, found))}
        whole = {"solver": solver, "status": status, "reason": reason, "seconds": seconds, **counts, **facts}
        store.append(f"{PREFIX}/{solver}/{TOGETHER}", limit, whole)
    print(f"{PREFIX}/{solver}: {reason or f'{len(found)} answered'}, {seconds:.1f} s", file=sys.stderr)


def _asked(line: Sequence[str], timeout: float) -> tuple[list[dict[str, Any]], str]:
    """The results that the command prints, and why there are none."""
    with group(line) as process:
        try:
            out, log = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            return [], "ended from outside"
    if process.returncode != 0:
        return [], (log.strip().splitlines() or [f"status {process.returncode}"])[-1]
    return json.loads(out)["results"], ""


def table(rows: Sequence[Row]) -> str:
    """One line an image, one column a solver; then what all ten took together."""
    mine = told.of(PREFIX, rows)
    images = [row for row in mine if not row["key"].endswith(f"/{TOGETHER}")]
    if not mine:
        return told.MISSING
    solvers = [name for name in GOALS if any(row["solver"] == name for row in mine)]
    known = told.best_known(images, PREFIX)
    lines = told.header("image, true → target, distance:, " + ", ".join(f"{name} s:" for name in solvers))
    for true in sorted({row["true"] for row in images}):
        found = {row["solver"]: row for row in images if row["true"] == true}
        one = next(iter(found.values()))
        cells = [told.told_seconds(found.get(name)) for name in solvers]
        least = told.number(known.get(told.asked(one)))
        lines.append(told.line(one["image"], f"{true} → {one['target']}", least, *cells))
    return told.table(lines, *(_summary(name, mine) for name in solvers), *told.machines(mine))


def _summary(solver: Engine, rows: Sequence[Row]) -> str:
    found = {row["key"].split("/")[2]: row for row in rows if row["solver"] == solver}
    whole = found.pop(TOGETHER, None)
    optimal = sum(row["status"] == "optimal" for row in found.values())
    hits = sum(map(told.hit, found.values()))
    text = f"- {solver}: {optimal} of {len(found)} optimal, {hits} replayed hits"
    if whole is None:
        return f"{text}; not all ten together."
    if whole["status"] == "error":
        return f"{text}; all together: {whole['reason']}."
    goal = GOALS[solver]
    word = "reached" if whole["optimal"] == whole["images"] and whole["seconds"] <= goal else "missed"
    end = f" (goal: all optimal within {goal:g} s, {word})" if whole["images"] == len(ALL) else ""
    processes = f"{whole['jobs']} process{'' if whole['jobs'] == 1 else 'es'}"
    return f"{text}; {whole['seconds']:.1f} s wall clock for all {whole['images']} by {processes}{end}."


SUITE = Suite(PREFIX, PREFIX, "ten images, six networks, by the attack's command", measure, table)
