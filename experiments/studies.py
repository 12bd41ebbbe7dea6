"""What a study is: tasks in stages, rows that are kept as they come, and sheets and figures made of the rows alone.

A task is a call that can be sent anywhere: joblib does the work and no backend is named. The process that asks appends
each row once, so that a study which was killed, or lost a worker, goes on where its rows end.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import os
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import joblib

from arfj.errors import ArfjError
from arfj.report.live import duration
from arfj.report.store import Store
from experiments.attacks.measure import machine
from experiments.sheets import Sheet
from training.sets import commit as checkout

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
HERE = Path(__file__).parent
EVERY = 30.0
"""Seconds between two lines of progress where stderr is no terminal."""


@dataclass(frozen=True)
class Scale:
    """How much of a study is measured.

    Attributes:
        size: "full", or "smoke": seconds, no data set, little said.
        limit: seconds a solve, or None for the study's own.
        folder: where a study keeps what its rows do not hold, networks say; or None.
        subject: a user's own networks and images (`experiments.transfer.subject`), or None for the bundled ones.
        jobs: tasks at a time (joblib; -1 for as many as there are cores).
    """

    size: Literal["full", "smoke"] = "full"
    limit: float | None = None
    folder: Path | None = None
    subject: Path | None = None
    jobs: int = -1

    def seconds(self, full: float, smoke: float = 20.0) -> float:
        """The time limit of a solve."""
        return self.limit or (full if self.size == "full" else min(full, smoke))


@dataclass(frozen=True)
class Task:
    """One row to be made.

    Attributes:
        key: of its row.
        call: makes it, in another process perhaps: a partial of a module's function.
        limit: seconds that it may take; a row with at least this limit is not made again.
        kind: tasks of one kind take about equally long: what one took says what the others will.
    """

    key: str
    call: Callable[[], Mapping[str, Any]]
    limit: float
    kind: str = ""


Stage = Callable[[Scale, Sequence[Row]], Iterable[Task]]
"""The tasks of a stage, from the rows of those before it."""


@dataclass(frozen=True)
class Study:
    """A table or figure, or several that share their rows.

    Attributes:
        name: on the command line.
        title: what it shows, in a line.
        stages: see `Stage`.
        sheets: the tables that the rows make.
        figures: functions that draw, by the name of their file.
        completed: what is added to a row by the process that asks (cheap, and needs what workers lack).
        violations: what the rows contradict of all that must hold, in sentences; each is an error of the command.
        kept: the rows that belong together; the others are neither shown nor committed.
        keys: what the keys of its rows begin with.
        rows: the committed ones.
        document: where the sheets and figures of the committed rows stand, or None.
    """

    name: str
    title: str
    stages: Sequence[Stage]
    sheets: Callable[[Sequence[Row]], Sequence[Sheet]]
    figures: Callable[[Sequence[Row]], Mapping[str, Callable[[], Figure]]] = lambda _rows: {}
    completed: Callable[[Scale, Row], Row] = lambda _scale, row: row
    violations: Callable[[Sequence[Row]], Sequence[str]] = lambda _rows: ()
    kept: Callable[[Sequence[Row]], Sequence[Row]] = lambda rows: rows
    keys: Sequence[str] = ()
    rows: Path = HERE / "rows" / "paper.jsonl.gz"
    document: Path | None = HERE.parent / "docs" / "reproduction.md"


@dataclass
class Clock:
    """What is left to do, and how long that will take."""

    jobs: int
    left: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    taken: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    done: int = 0
    shown: float = 0.0

    def add(self, tasks: Iterable[Task]) -> None:
        """More to do."""
        for task in tasks:
            self.left[task.kind].append(task.limit)

    def took(self, task: Task, seconds: float) -> None:
        """A task is done."""
        self.left[task.kind].remove(task.limit)
        self.taken[task.kind].append(seconds)
        self.done += 1

    @property
    def open(self) -> int:
        """Tasks that are not done."""
        return sum(map(len, self.left.values()))

    @property
    def remaining(self) -> float:
        """Seconds: the mean of those done of the same kind, or the limit where none is."""
        total = 0.0
        for kind, limits in self.left.items():
            taken = self.taken.get(kind)
            total += len(limits) * sum(taken) / len(taken) if taken else sum(limits)
        return total / self.jobs

    @property
    def line(self) -> str:
        """For the user."""
        word = "at most about" if any(self.left[kind] and kind not in self.taken for kind in self.left) else "about"
        return f"{self.done} of {self.done + self.open} done, {word} {duration(self.remaining)} left"


def measure(study: Study, store: Store, scale: Scale, only: str = "") -> None:
    """Make the rows that are missing, stage by stage.

    Args:
        study: what to measure.
        store: where rows are kept.
        scale: how much of it.
        only: a part of the keys that are measured.

    Raises:
        ArfjError: tasks failed; all others are done and kept, and a second run asks for these alone.
    """
    clock = Clock(joblib.effective_n_jobs(scale.jobs))
    failed: dict[str, str] = {}
    for stage in study.stages:
        rows = last(store.rows())
        made = {row["key"]: row for row in rows if row.get("status") != "error"}
        tasks = {task.key: task for task in stage(scale, rows) if only in task.key}
        missing = [task for key, task in tasks.items() if not _settled(made.get(key), task.limit)]
        settled = tasks.keys() - {task.key for task in missing}
        for key in sorted(settled):  # what is added to rows may have changed since: other networks are there
            row = made[key]
            if (fresh := study.completed(scale, row)) != row:
                store.append(key, float(row["time_limit"]), fresh)
        clock.add(missing)
        for key, row in _made(missing, scale.jobs, clock):
            if row.get("status") == "error":
                failed[key] = str(row.get("reason"))
            store.append(key, tasks[key].limit, study.completed(scale, row))
            clock.took(tasks[key], float(row["took"]))
            show(clock, study.name)
    if failed:
        key, reason = next(iter(failed.items()))
        raise ArfjError(f"{len(failed)} of the tasks of {study.name} failed, {key} first: {reason}")


def _settled(row: Row | None, limit: float) -> bool:
    """Whether more time would not change a row."""
    if row is None:
        return False
    return row.get("status") in ("optimal", "infeasible") or float(row.get("time_limit") or 0.0) >= limit


def _made(tasks: Sequence[Task], jobs: int, clock: Clock) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows as they come."""
    if tasks:
        print(f"{len(tasks)} tasks: {clock.line}", file=sys.stderr, flush=True)
        clock.shown = time.monotonic()
    if jobs == 1:
        yield from (_timed(task.key, task.call, 1) for task in tasks)
        return
    # Long ones first, so that none is begun when all others are over; few are handed out before their turn.
    order = sorted(tasks, key=lambda task: -task.limit)
    parallel = joblib.Parallel(n_jobs=jobs, pre_dispatch="2*n_jobs", batch_size=1, return_as="generator_unordered")
    try:
        yield from parallel(joblib.delayed(_timed)(task.key, task.call, clock.jobs) for task in order)
    except BrokenProcessPool as error:
        raise ArfjError(
            "a worker was ended from outside, for its memory perhaps; what was finished is kept: run again, with fewer "
            "--jobs if it happens once more"
        ) from error


def _timed(key: str, call: Callable[[], Mapping[str, Any]], jobs: int) -> tuple[str, dict[str, Any]]:
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    began = time.perf_counter()
    try:
        found = dict(call())
    except ArfjError as error:  # the others go on
        found = {"status": "error", "reason": str(error)}
    except Exception as error:
        found = {"status": "error", "reason": f"{type(error).__name__}: {error}"}
    facts = {"took": round(time.perf_counter() - began, 3), "jobs": jobs, "load": load, "host": host()}
    return key, found | facts | {"machine": machine(found.get("solver")), "commit": commit()}


@functools.cache
def commit() -> str | None:
    """Of the checkout."""
    return checkout()


@functools.cache
def host() -> str:
    """Tells machines apart without naming them."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def show(clock: Clock, name: str) -> None:
    """A line of progress: on a terminal one that is overwritten, else one now and then."""
    if sys.stderr.isatty():
        end = "\n" if not clock.open else ""
        print(f"\r\x1b[K{name}: {clock.line}", end=end, file=sys.stderr, flush=True)
    elif time.monotonic() - clock.shown > EVERY or not clock.open:
        clock.shown = time.monotonic()
        print(f"{name}: {clock.line}", file=sys.stderr, flush=True)


def last(rows: Iterable[Row]) -> list[Row]:
    """The last row of each key that is no error, if it has one, in the order in which the keys came first."""
    found: dict[str, Row] = {}
    for row in rows:
        if row.get("status") != "error" or found.get(row["key"], row).get("status") == "error":
            found[row["key"]] = row
    return list(found.values())


def read(path: Path) -> list[Row]:
    """The last row of each key of a file, `.gz` or not.

    Raises:
        ArfjError: it is missing, or cannot be read.
    """
    try:
        if path.suffix != ".gz":
            path.stat()
            return last(Store(path).rows())
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            return last([_checked(json.loads(line)) for line in stream])
    except (OSError, EOFError, ValueError) as error:
        raise ArfjError(f"cannot read {path} ({error}); name a file of rows with --rows") from error


def _checked(row: Any) -> Row:  # noqa: ANN401 - any JSON value
    if not isinstance(row, dict) or not isinstance(row.get("key"), str):
        raise ValueError("a line is no row with a key")
    return row
