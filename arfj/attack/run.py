"""Many questions: one after another with a live line, or spread over processes; rows are kept, a killed run resumes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
from joblib import Parallel, cpu_count, delayed

from arfj.attack.options import Earlier, Options
from arfj.attack.orphan import Asker, end_with, this_process
from arfj.attack.progress import Progress
from arfj.attack.result import AttackResult, from_json
from arfj.attack.solve import solve_question
from arfj.errors import ArfjError, UsageError
from arfj.evaluate import Replay, Witness, load_witness, replay
from arfj.question import Question
from arfj.solver import Step

MODEL = 2
"""Raised when a change of the code may change answers; rows of another number are not resumed from."""


class Rows(Protocol):
    """Where finished rows are kept (`arfj.report.store.Store`)."""

    def settled(self, key: str, time_limit: float) -> Mapping[str, Any] | None:
        """The row of a question that needs no new solve, or None."""

    def find(self, key: str) -> Mapping[str, Any] | None:
        """The last row of a question, or None."""

    def append(self, key: str, time_limit: float, row: Mapping[str, Any]) -> None:
        """Keep a row."""


@dataclass(frozen=True, eq=False)
class Job:
    """One question of a run.

    Attributes:
        question: what is asked.
        label: what the image is called in tables and file names.
    """

    question: Question
    label: str

    def key(self, options: Options) -> str:
        """A hash of everything that the answer depends on, time and threads left out."""
        q = self.question
        digest = hashlib.sha256()
        for network in q.ensemble:
            digest.update(network.fingerprint().encode())
        digest.update(q.flat.astype("<f8").tobytes())
        facts = (MODEL, q.ensemble.kind, q.ensemble.nominal_included, q.nominal.shape, q.true, q.target, q.gamma)
        soft = q.demand.as_json().items()  # empty by default, so that the keys of older rows hold
        digest.update(repr((*facts, *soft, options.formulation, options.bounds, options.engine, options.seed)).encode())
        return digest.hexdigest()

    def witness(self, folder: Path, options: Options) -> Path:
        """Where the answer is saved."""
        q = self.question
        label = os.fsencode(self.label)[:80].decode(errors="ignore")
        name = f"{q.ensemble.kind}_{label}_{q.true}to{q.target}_alpha{q.ensemble.alpha}_{self.key(options)[:8]}"
        return folder / "witnesses" / f"{name}.npz"


def run_jobs(
    jobs: Sequence[Job],
    options: Options,
    folder: Path,
    rows: Rows,
    n_jobs: int = 1,
    watch: Callable[[Progress], object] | None = None,
) -> Iterator[tuple[Job, AttackResult]]:
    """Solve every job that is not settled, and yield the results as they finish (settled ones first).

    Args:
        jobs: the questions.
        options: for all of them; `threads` are those of each process (`share_of_cores`).
        folder: where witnesses are saved.
        rows: finished rows, read for resuming and appended to.
        n_jobs: processes (joblib; -1 for all cores). No backend is named: `joblib.parallel_config` decides.
        watch: told of the progress, when the jobs run one after another.

    Raises:
        KeyboardInterrupt: after the interrupted job's result has been yielded and kept.
    """
    pending = []
    for job in jobs:
        result = settled(job, options, folder, rows)
        if result is None:
            pending.append(job)
        else:
            yield job, result
    if n_jobs == 1 or len(pending) == 1:
        cores = options.threads if n_jobs == 1 else share_of_cores(n_jobs, len(pending))
        yield from _one_by_one(pending, len(jobs), replace(options, threads=cores), folder, rows, watch)
    elif pending:
        yield from _spread(pending, options, folder, rows, n_jobs)


def settled(job: Job, options: Options, folder: Path, rows: Rows) -> AttackResult | None:
    """The result of an earlier run, where more time was not asked for and the witness still replays."""
    row = rows.settled(job.key(options), options.time_limit)
    if row is None:
        return None
    try:
        result = from_json(row)
    except (KeyError, TypeError, ValueError, OverflowError, UsageError):
        return None
    if not result.consistent:
        return None
    if result.distance is None:
        # Without an answer only a proof is worth keeping: what stopped the solver (its memory, say) may have changed.
        return result if result.status == "infeasible" else None
    answer = _replayed(job, options, folder)
    if answer is None or answer[1].distance != result.distance:
        return None
    return result.replayed_again(str(job.witness(folder, options)), answer[1])


def earlier(job: Job, options: Options, folder: Path, rows: Rows) -> Earlier | None:
    """Answer and bound of an unproven earlier run, to go on from: a second run is never worse than the first."""
    row = rows.find(job.key(options))
    answer = None if row is None else _replayed(job, options, folder)
    if row is None or answer is None:
        return None
    try:
        bound = float(row["bound"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return Earlier(answer[0].x, bound if 0 <= bound <= answer[1].distance else 0.0)


def _replayed(job: Job, options: Options, folder: Path) -> tuple[Witness, Replay] | None:
    """The saved answer of a job, if it is one."""
    try:
        witness = load_witness(job.witness(folder, options))
        replayed = replay(witness, job.question.ensemble)
    except ArfjError:
        return None
    return (witness, replayed) if replayed.hit and _answers(witness, job.question) else None


def _answers(witness: Witness, question: Question) -> bool:
    """Whether the file answers this question and no other."""
    asked = (question.true, question.target, question.gamma, question.demand)
    same = np.array_equal(witness.nominal, question.nominal)
    return same and (witness.true, witness.target, witness.gamma, witness.demand) == asked


def _one_by_one(
    jobs: Sequence[Job],
    images: int,
    options: Options,
    folder: Path,
    rows: Rows,
    watch: Callable[[Progress], object] | None,
) -> Iterator[tuple[Job, AttackResult]]:
    for index, job in enumerate(jobs, start=images - len(jobs) + 1):

        def told(phase: str, step: Step, index: int = index, job: Job = job) -> None:
            if watch is not None:
                watch(
                    Progress(
                        index,
                        images,
                        job.label,
                        phase,
                        step.incumbent,
                        step.bound,
                        step.nodes,
                        step.seconds,
                        options.time_limit,
                    )
                )

        known = earlier(job, options, folder, rows)
        result = solve_question(job.question, options, job.witness(folder, options), job.label, told, known)
        keep(job, options, rows, result)
        yield job, result
        if result.interrupted:
            raise KeyboardInterrupt


def _spread(
    jobs: Sequence[Job], options: Options, folder: Path, rows: Rows, n_jobs: int
) -> Iterator[tuple[Job, AttackResult]]:
    """Several jobs at a time. At Ctrl-C the running ones, which hear it too, are waited for, and no others begin.

    Towards the end, where there are fewer jobs left than processes, each may use more cores.
    """
    with _Stop() as stop, tempfile.TemporaryDirectory(prefix="arfj-") as place:
        share = Share(Path(place) / "cores", options.threads)
        share.write(share_of_cores(n_jobs, len(jobs)))
        asker = this_process()

        def calls() -> Iterator[Any]:
            for index, job in enumerate(jobs):
                if stop.asked:
                    return
                known = earlier(job, options, folder, rows)
                yield delayed(_indexed)(index, job, options, job.witness(folder, options), known, share, asker)

        # Not more are handed out than run: what is handed out is waited for.
        parallel = Parallel(n_jobs=n_jobs, pre_dispatch="n_jobs", return_as="generator_unordered")
        for done, (index, result) in enumerate(parallel(calls()), start=1):
            keep(jobs[index], options, rows, result)
            if done < len(jobs):
                share.write(share_of_cores(n_jobs, len(jobs) - done))
            yield jobs[index], result
    if stop.asked:
        raise KeyboardInterrupt


@dataclass(frozen=True)
class Share:
    """How many cores each job may use at present: a number in a file, which all processes read.

    Attributes:
        path: of the file.
        least: where there is no file, as at the beginning and on other machines.
    """

    path: Path
    least: int

    def write(self, cores: int) -> None:
        """From now on so many, if that is more."""
        beside = self.path.with_suffix(".new")
        with contextlib.suppress(OSError):  # it is of no matter for any answer
            beside.write_text(str(max(cores, self.least)), encoding="ascii")
            beside.replace(self.path)

    def __call__(self) -> int:
        """The number."""
        try:
            return int(self.path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return self.least


class _Stop:
    """Turns the first Ctrl-C into a wish to stop; the second one interrupts as usual."""

    def __init__(self) -> None:
        self.asked = False
        self.before: Any = None

    def __enter__(self) -> _Stop:
        if threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGINT, self.hear)
        return self

    def hear(self, _number: int, _frame: FrameType | None) -> None:
        """The handler."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print("stopping: the running images end with what they have (Ctrl-C again gives them up)", file=sys.stderr)

    def __exit__(self, *_: object) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)


def _indexed(
    index: int, job: Job, options: Options, witness: Path, known: Earlier | None, share: Share, asker: Asker
) -> tuple[int, AttackResult]:
    end_with(asker)
    return index, solve_question(job.question, options, witness, job.label, earlier=known, cores=share)


def keep(job: Job, options: Options, rows: Rows, result: AttackResult) -> None:
    """Append a result; one that was interrupted counts with the time that it had."""
    key = job.key(options)
    limit = options.time_limit
    if result.interrupted:
        before = rows.find(key)
        given = None if before is None else before.get("time_limit")
        had = given if isinstance(given, (int, float)) and 0 < given < np.inf else 0.0
        limit = max(min(limit, result.seconds), had)
    rows.append(key, limit, result.as_json())


def share_of_cores(n_jobs: int, jobs: int) -> int:
    """Solver threads of each process: cores divided by processes, at least one."""
    cores = int(cpu_count())
    processes = max(1, min(cores + 1 + n_jobs if n_jobs < 0 else n_jobs, jobs))
    return max(1, cores // processes)
