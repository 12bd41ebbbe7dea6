"""Many questions: one after another with a live line, or spread over processes; rows are kept, a killed run resumes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from joblib import Parallel, delayed

from arfj.attack.progress import Progress
from arfj.attack.prove import Options
from arfj.attack.result import AttackResult, from_json
from arfj.attack.solve import solve_question
from arfj.errors import ArfjError
from arfj.evaluate import Witness, load_witness, replay
from arfj.question import Question
from arfj.solver import Step

MODEL = 1
"""Raised when a change of the code may change answers; rows of another number are not resumed from."""


class Rows(Protocol):
    """Where finished rows are kept (`arfj.report.store.Store`)."""

    def settled(self, key: str, time_limit: float) -> Mapping[str, Any] | None:
        """The row of a question that needs no new solve, or None."""

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
        digest.update(repr((*facts, options.formulation, options.bounds, options.solver, options.seed)).encode())
        return digest.hexdigest()

    def witness(self, folder: Path, options: Options) -> Path:
        """Where the answer is saved."""
        q = self.question
        name = f"{q.ensemble.kind}_{self.label}_{q.true}to{q.target}_alpha{q.ensemble.alpha}_{self.key(options)[:8]}"
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
        options: for all of them; `threads` is divided by the number of processes.
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
        yield from _one_by_one(pending, len(jobs), options, folder, rows, watch)
    elif pending:
        yield from _spread(pending, options, folder, rows, n_jobs)


def settled(job: Job, options: Options, folder: Path, rows: Rows) -> AttackResult | None:
    """The result of an earlier run, where more time was not asked for and the witness still replays."""
    row = rows.settled(job.key(options), options.time_limit)
    if row is None:
        return None
    try:
        result = from_json(row)
        if result.distance is None:
            return result
        path = job.witness(folder, options)
        witness = load_witness(path)
        replayed = replay(witness, job.question.ensemble)
    except (ArfjError, KeyError, TypeError, ValueError):
        return None
    if not (replayed.hit and _answers(witness, job.question) and replayed.distance == result.distance):
        return None
    return result.replayed_again(str(path), replayed)


def _answers(witness: Witness, question: Question) -> bool:
    """Whether the file answers this question and no other."""
    asked = (question.true, question.target, question.gamma)
    same = np.array_equal(witness.nominal, question.nominal)
    return same and (witness.true, witness.target, witness.gamma) == asked


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

        result = solve_question(job.question, options, job.witness(folder, options), job.label, told)
        keep(job, options, rows, result)
        yield job, result
        if result.interrupted:
            raise KeyboardInterrupt


def _spread(
    jobs: Sequence[Job], options: Options, folder: Path, rows: Rows, n_jobs: int
) -> Iterator[tuple[Job, AttackResult]]:
    calls = (delayed(_indexed)(i, job, options, job.witness(folder, options)) for i, job in enumerate(jobs))
    for index, result in Parallel(n_jobs=n_jobs, return_as="generator_unordered")(calls):
        keep(jobs[index], options, rows, result)
        yield jobs[index], result
        if result.interrupted:
            raise KeyboardInterrupt


def _indexed(index: int, job: Job, options: Options, witness: Path) -> tuple[int, AttackResult]:
    return index, solve_question(job.question, options, witness, job.label)


def keep(job: Job, options: Options, rows: Rows, result: AttackResult) -> None:
    """Append a result; one that was interrupted counts with the time that it had."""
    limit = min(options.time_limit, result.seconds) if result.interrupted else options.time_limit
    rows.append(job.key(options), limit, result.as_json())


def share_of_cores(n_jobs: int, jobs: int) -> int:
    """Solver threads of each process: cores divided by processes, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = max(1, min(cores + 1 + n_jobs if n_jobs < 0 else n_jobs, jobs))
    return max(1, cores // processes)
