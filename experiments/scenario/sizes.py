"""Sample sizes: the printed formula, the exact tail, and how many samples may be discarded of the printed number."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from arfj.certify.scenario import discards, exact_size, paper_size
from experiments.scenario.common import DOCUMENT, ROWS, SHORT, of
from experiments.sheets import Column, Sheet
from experiments.studies import Row, Scale, Study, Task

PUBLISHED = {
    581: (0.05, 1e-5, 3),
    1217: (0.025, 5e-6, 3),
    25026: (0.001, 1e-5, 1),
    251: (0.1, 1e-5, 1),
    101: (0.25, 1e-5, 1),
    291: (0.1, 1e-5, 3),
    609: (0.05, 5e-6, 3),
}
"""The sizes in print, by the epsilon, delta and p that give them."""


def stage(_scale: Scale, _rows: Sequence[Row]) -> list[Task]:
    """One row a size."""
    return [
        Task(f"scenario/sizes/{size:05d}", functools.partial(measured, size, *asked), SHORT)
        for size, asked in PUBLISHED.items()
    ]


def measured(published: int, epsilon: float, delta: float, p: int) -> dict[str, Any]:
    """Both sizes; discards are about half-spaces, p = 1."""
    formula, exact = paper_size(epsilon, delta, p), exact_size(epsilon, delta, p)
    return {
        "status": "optimal",
        "published": published,
        "epsilon": epsilon,
        "delta": delta,
        "p": p,
        "paper": formula,
        "exact": exact,
        "share": exact / formula,
        "discarded": discards(published, epsilon, delta) if p == 1 else None,
    }


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """The sizes."""
    found = of(rows, "scenario/sizes/")
    if not found:
        return []
    columns = [Column("epsilon", 3), Column("delta"), Column("p", 0), Column("published", 0), Column("formula", 0)]
    columns += [Column("exact", 0), Column("share", 0, percent=True), Column("discarded", 0)]
    cells = [
        (
            r["epsilon"],
            f"{r['delta']:g}",
            r["p"],
            *(r[name] for name in ("published", "paper", "exact", "share", "discarded")),
        )
        for r in sorted(found, key=lambda row: (row["p"], row["epsilon"]))
    ]
    notes = (
        "formula: (2 / epsilon) (ln(1 / delta) + p), as printed; exact: the least N with P(Bin(N, epsilon) <= p - 1) "
        "<= delta, which is as much as the theorem asks for.",
        "discarded: how many of the published number of samples may be dropped from a half-space.",
    )
    return [Sheet("scenario_sizes", "Sample sizes.", columns, cells, notes)]


def violations(rows: Sequence[Row]) -> list[str]:
    """Sizes that the formula does not give, or that are no smaller."""
    found = of(rows, "scenario/sizes/")
    wrong = [f"the formula gives {r['paper']}, not {r['published']}" for r in found if r["paper"] != r["published"]]
    return wrong + [f"the exact size {r['exact']} is larger" for r in found if r["exact"] > r["paper"]]


STUDY = Study(
    "scenario_sizes",
    "sample sizes of scenario programs: printed and exact",
    (stage,),
    sheets,
    violations=violations,
    keys=("scenario/sizes/",),
    rows=ROWS,
    document=DOCUMENT,
)
