"""Cases to rows: solve, note the progress and the machine, append."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from arfj.attack import solve_question
from arfj.bab.kernels import COMPILED
from arfj.errors import ArfjError
from arfj.report.store import Store
from arfj.solver import Engine, Step, version
from experiments.attacks.plan import Case, Plan, Row
from experiments.verify_benchmark import cpu

POINTS = 60
"""Points of a trace, at most."""

Point = tuple[float, float | None, float | None]
"""Seconds, distance of the best answer, bound."""


class Trace:
    """Keeps what the attack says of itself where it changes."""

    def __init__(self) -> None:
        self.points: list[Point] = []

    def told(self, _phase: str, step: Step) -> None:
        """The attack's callback."""
        self.add(step.seconds, step.incumbent, step.bound)

    def add(self, seconds: float, incumbent: float | None, bound: float | None) -> None:
        """Another point, unless it says the same as the last one."""
        if not self.points or self.points[-1][1:] != (incumbent, bound):
            self.points.append((seconds, incumbent, bound))


def thinned(points: Sequence[Point], most: int = POINTS) -> list[Point]:
    """The first point and the last of each of `most` - 1 equal intervals of log(1 + seconds), rounded."""
    kept = list(points)
    if len(points) > most:
        at = np.log1p([point[0] for point in points])
        bins = np.minimum((at / max(at[-1], 1e-9) * (most - 1)).astype(int), most - 2)
        kept = [points[0], *(points[int(i)] for i in np.flatnonzero(np.diff(bins, append=most)) if i > 0)]
    return [(round(s, 2), _rounded(d), _rounded(b)) for s, d, b in kept]


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 6)


def run_cases(
    store: Store, plan: Plan, cases: Iterable[Case], ask: Callable[[Case], dict[str, Any]] | None = None
) -> None:
    """Measure every case that has no row with at least its time limit; rows are kept as they come.

    Args:
        store: where the rows are.
        plan: processes, and which keys.
        cases: in the order in which they begin.
        ask: measures one; `solved` by default.

    Raises:
        KeyboardInterrupt: what was interrupted is not kept, the others are.
    """
    missing = [case for case in cases if plan.only in case.key and not present(store, case.key, limit_of(case))]
    if not missing:
        return
    most = sum(map(limit_of, missing)) / plan.jobs
    print(f"{len(missing)} to measure, at most about {np.ceil(most / 60):.0f} minutes", file=sys.stderr)
    call = functools.partial(_timed, ask=ask or solved, jobs=plan.jobs)
    results: Iterable[tuple[Case, dict[str, Any]]]
    if plan.jobs == 1:
        results = map(call, missing)
    else:
        parallel = Parallel(n_jobs=plan.jobs, pre_dispatch="n_jobs", return_as="generator_unordered")
        results = parallel(delayed(call)(case) for case in missing)
    for case, row in results:
        if row.pop("interrupted", False):
            raise KeyboardInterrupt
        store.append(case.key, limit_of(case), row)
        told = "no answer" if row["distance"] is None else f"{row['distance']:.5f}"
        print(f"{case.key}: {row['status']}, {row['seconds']:.1f} s, {told}", file=sys.stderr)


def limit_of(case: Case) -> float:
    """Its seconds."""
    return case.options.time_limit


def present(store: Store, key: str, seconds: float) -> bool:
    """Whether there is a row of this key that had as much time; one that ended in an error is made again."""
    row = store.find(key)
    return row is not None and row.get("status") != "error" and float(row.get("time_limit") or 0.0) >= seconds


def _timed(case: Case, ask: Callable[[Case], dict[str, Any]], jobs: int) -> tuple[Case, dict[str, Any]]:
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    name = case.instance
    names = {"networks": name.networks, "kind": name.kind, "alpha": name.alpha, "true": name.true}
    facts = names | {"solver": case.options.solver, "jobs": jobs, "load": load}
    began = time.perf_counter()
    try:
        found = ask(case)
    except ArfjError as error:  # a licence that is too small, say: the other cases go on
        nothing = {"distance": None, "bound": None, "gap": None, "replay": None}
        found = {"status": "error", "reason": str(error), "seconds": time.perf_counter() - began, **nothing}
    row = facts | found | dict(case.facts)
    return case, row | {"machine": machine(row["solver"])}


def solved(case: Case) -> dict[str, Any]:
    """Solve a case: the result, and how bound and incumbent went."""
    trace = Trace()
    with tempfile.TemporaryDirectory() as folder:
        witness = Path(folder) / "w.npz"
        result = solve_question(case.instance.question, case.options, witness, case.instance.label, trace.told)
    trace.add(result.seconds, result.distance, result.bound)
    return compact(result.as_json()) | {"trace": thinned(trace.points), "interrupted": result.interrupted}


def compact(row: Row) -> dict[str, Any]:
    """A result of the attack's command without its classes and margins, and without where the witness lay."""
    seen = row["replay"]
    short = None if seen is None else {"hit": seen["hit"], "distance": seen["distance"]}
    return {**row, "replay": short, "witness": None}


@functools.cache
def machine(solver: Engine | None) -> dict[str, Any]:
    """What the seconds depend on: processor, cores, versions."""
    names = ("arfj", "numpy", "scipy")
    found = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}
    if COMPILED:
        found["arfj"] += " with compiled loops"
    facts: dict[str, Any] = {"cpu": cpu(), "cores": os.cpu_count(), "versions": found}
    try:
        return facts if solver is None else facts | {"solver": version(solver)}
    except ArfjError:
        return facts
