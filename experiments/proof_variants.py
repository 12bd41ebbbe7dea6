"""`python -m experiments.proof_variants`: what each part of SCIP's proof is worth, measured by leaving it out.

Every variant proves the optima of the same bundled questions, one after another on one thread, from the same warm
starts; the ratios are of seconds (a time-out counts as its limit, and makes the ratio a lower bound).
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from arfj.attack import Options, parts, prove, sampled, solve_question
from arfj.cli import run
from arfj.data import bundled_images, bundled_nominal, bundled_outer
from arfj.ensemble import Ensemble
from arfj.question import Question
from arfj.report.store import Store
from arfj.solver import scip
from experiments.tables import HERE, Experiment, Row

ROWS = HERE / "rows" / "proof_variants.jsonl"
MARK = "proof_variants"
EXAMPLES = """\
  python -m experiments.proof_variants                    print the table of the committed rows
  python -m experiments.proof_variants --run              measure what is missing in them (about half an hour)
  python -m experiments.proof_variants --write            put the table into PERFORMANCE.md
"""
LIMIT = 60.0
DEFAULT = "default"


class _AtOnce(parts.Divided):
    """All scenarios in the model from the start."""

    def first(self) -> list[int]:
        return list(range(len(self.question.ensemble)))


def _plain_settings(model: Any) -> None:  # noqa: ANN401 - a SCIP model
    model.setParam("numerics/feastol", scip.FEASIBILITY)


SCIP = Options(solver="scip", time_limit=LIMIT)
Patch = Callable[[], contextlib.AbstractContextManager[object]]
VARIANTS: dict[str, tuple[Options, Patch]] = {
    DEFAULT: (SCIP, contextlib.nullcontext),
    "SCIP's own settings": (
        SCIP,
        lambda: mock.patch.multiple(scip, tune_for_proof=_plain_settings, BRANCHING={}),
    ),
    "all scenarios at once": (
        SCIP,
        lambda: mock.patch("arfj.attack.solve.Divided", _AtOnce),
    ),
    "no tightening": (SCIP, lambda: mock.patch.object(prove, "PATIENCE", np.inf)),
    "interval bounds": (replace(SCIP, bounds="interval"), contextlib.nullcontext),
    "CROWN bounds": (replace(SCIP, bounds="crown"), contextlib.nullcontext),
    "exact bounds": (replace(SCIP, bounds="exact"), contextlib.nullcontext),
    "paper formulation": (replace(SCIP, formulation="paper"), contextlib.nullcontext),
}


def questions(problem: str) -> Iterator[Question]:
    """The ten bundled images against one nominal network, it and a retrained one, or it and five perturbed ones."""
    ensemble = {
        "one network": lambda: sampled("nominal").ensemble,
        "two networks": lambda: Ensemble((bundled_nominal(), bundled_outer()[0]), "outer"),
        "six perturbed": lambda: sampled("inner").ensemble,
    }[problem.split(",", maxsplit=1)[0]]()
    images = bundled_images()
    for true, image in enumerate(images.nominal):
        yield Question(image, true, (true - 1) % 10, ensemble)


PROBLEMS: dict[str, tuple[str, ...]] = {
    "one network": tuple(name for name in VARIANTS if name not in ("CROWN bounds", "exact bounds")),
    "two networks": (DEFAULT, "SCIP's own settings", "all scenarios at once", "no tightening", "interval bounds"),
    "two networks, by bounds": (DEFAULT, "interval bounds", "CROWN bounds", "exact bounds"),
    "six perturbed": (DEFAULT, "all scenarios at once"),
}


def measure(store: Store) -> None:
    """Solve what has no row yet; all variants of a question in turn, so that other load meets them alike."""
    for problem, names in PROBLEMS.items():
        for question in questions(problem):
            for name in names:
                key = f"{problem}/{name}/{question.true}"
                if store.find(key) is None:
                    store.append(key, LIMIT, _row(problem, name, question))


def _row(problem: str, name: str, question: Question) -> Row:
    options, patch = VARIANTS[name]
    with tempfile.TemporaryDirectory() as folder, patch():
        result = solve_question(question, options, Path(folder) / "w.npz")
    print(f"{problem}, {name}, class {question.true}: {result.status}, {result.seconds:.1f} s", file=sys.stderr)
    facts = {"problem": problem, "variant": name, "cores": os.cpu_count(), "witness": None}
    return result.as_json() | facts


def table(rows: Sequence[Row]) -> str:
    """Markdown: per problem and variant, how many optima were proven, and the geometric mean of the time ratios."""
    seconds = {(row["problem"], row["variant"], row["true"]): row for row in rows}
    lines = [
        "| problem | variant | proven | seconds, median | seconds, sum | binaries | nodes, sum | times the default |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for problem, names in PROBLEMS.items():
        for name in names:
            chosen = [row for key, row in seconds.items() if key[:2] == (problem, name)]
            if chosen:
                lines.append(_line(problem, name, chosen, seconds))
    return "\n".join(lines)


def _line(problem: str, name: str, rows: Sequence[Row], all_rows: Mapping[tuple[str, str, int], Row]) -> str:
    times = np.array([row["seconds"] for row in rows])
    base = np.array([all_rows[problem, DEFAULT, row["true"]]["seconds"] for row in rows])
    proven = sum(row["status"] == "optimal" for row in rows)
    ratio = float(np.exp(np.mean(np.log(times / base))))
    cells = (
        problem,
        name,
        f"{proven} of {len(rows)}",
        f"{np.median(times):.1f}",
        f"{times.sum():.0f}",
        f"{np.mean([row['binaries'] for row in rows]):.0f}",
        str(sum(row["nodes"] for row in rows)),
        f"{'at least ' if proven < len(rows) else ''}{ratio:.2f}",
    )
    return f"| {' | '.join(cells)} |"


def main(argv: Sequence[str]) -> int:
    """Measure, print, or write the table."""
    everything = Experiment(
        MARK,
        "What each part of the proof is worth.",
        EXAMPLES,
        measure,
        table,
    )
    return everything.main(argv)


if __name__ == "__main__":
    sys.exit(run(main))
