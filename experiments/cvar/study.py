"""`python -m experiments cvar`: what is published, remade and put beside what was published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.cvar import classes, loop, scaling
from experiments.sheets import Sheet
from experiments.studies import Row, Study

ROWS = Path(__file__).parent.parent / "rows" / "cvar.jsonl.gz"
ROOT = Path(__file__).parents[2]


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """The tables of the document."""
    return [*loop.sheets(rows), *classes.sheets(rows)]


def violations(rows: Sequence[Row]) -> list[str]:
    """What the rows contradict."""
    return [*loop.violations(rows), *classes.violations(rows)]


STUDY = Study(
    "cvar",
    "worst-case CVaR: closed loop, digits and iris beside what was published",
    (loop.stage, classes.iris_stage, classes.digits_stage),
    sheets,
    loop.figures,
    violations=violations,
    keys=("cvar/loop/", "cvar/digits/", "cvar/iris/"),
    rows=ROWS,
    document=ROOT / "docs" / "cvar.md",
)
SCALING = Study(
    "cvar-scaling",
    "what certificates of worst-case CVaR cost, by input dimension and width",
    (scaling.stage, scaling.together_stage),
    scaling.sheets,
    keys=("cvar/scaling/", "cvar/together/"),
    rows=ROWS,
    document=ROOT / "PERFORMANCE.md",
)
