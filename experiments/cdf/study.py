"""The study: its tasks, its tables, and what its rows must not say."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import numpy as np

from experiments.cdf import crosscheck, measure, speed
from experiments.cdf.figures import figures
from experiments.cdf.networks import DATA, instances
from experiments.sheets import Cell, Column, Sheet
from experiments.studies import HERE, Row, Scale, Study, Task

PUBLISHED = {
    (25, 1): (25, 0.00988),
    (25, 2): (10, 0.01236),
    (50, 1): (20, 0.05534),
    (50, 2): (23, 0.04709),
    (50, 3): (8, 0.06864),
}
"""Tests and mean U - L of Table 1 (iris), by per cent deleted and number of free inputs."""
COUNTS = (5, 10, 20, 40)
SECONDS = 25.0
"""That an instance may be refined for."""
SAMPLES = 10_000_000
"""Of Monte Carlo beside an instance."""


def tasks(scale: Scale, _rows: Sequence[Row]) -> Iterable[Task]:
    """All rows are independent of each other."""
    smoke = scale.size == "smoke"
    samples = 2000 if smoke else 1_000_000
    for output in range(1 if smoke else 3):
        yield Task(f"cdf/iris/{output}", functools.partial(measure.iris, output, samples), 60.0, "curve")
    for count in COUNTS[: 2 if smoke else None]:
        call = functools.partial(measure.segments, count, 500 if smoke else 100_000 if count < 40 else 10_000)
        yield Task(f"cdf/tanh/{count:02}", call, 120.0, "segments")
    for name in list(crosscheck.CASES)[: 2 if smoke else None]:
        call = functools.partial(crosscheck.row, name, 40.0 if smoke else crosscheck.SAMPLES)
        yield Task(f"{crosscheck.PREFIX}{name}", call, 120.0, "scenario")
    yield Task("cdf/diabetes", functools.partial(measure.noise, samples), 60.0, "curve")
    if not DATA.exists():
        return
    for percent in (25, 50):
        chosen: dict[int, int] = {}
        for place, free in instances(percent):
            chosen[free] = chosen.get(free, 0) + 1
            if smoke and (chosen[free] > 1 or free > 2):
                continue
            seconds = scale.seconds(SECONDS, 3.0)
            call = functools.partial(measure.missing, percent, place, 20_000 if smoke else SAMPLES, seconds)
            yield Task(f"cdf/missing/{percent}/{free}/{place:02}", call, seconds, f"missing {free}")


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """Those that the rows allow."""
    made = (curves(rows), gaps(rows), table1(rows), crosscheck.sheet(rows))
    return [sheet for sheet in made if sheet.rows]


def curves(rows: Sequence[Row]) -> Sheet:
    """Exact distribution functions beside Monte Carlo."""
    columns = [
        Column("network"), Column("regions", 0), Column("enumeration, s", 3), Column("60 points, s", 3),
        Column("largest U - L", 12), Column("Monte Carlo, samples", 0), Column("farthest from the bounds", 6),
        Column("99 % band", 6),
    ]  # fmt: skip
    names = {"cdf/iris/": "iris 2-12-12-12-3, logit ", "cdf/diabetes": "diabetes 10-32-16-8-1"}
    cells: list[list[Cell]] = []
    for row in rows:
        for prefix, name in names.items():
            if row["key"].startswith(prefix):
                what = name + (row["key"].removeprefix(prefix) if prefix.endswith("/") else "")
                facts: list[Cell] = [
                    row[key] for key in ("regions", "enumerated", "seconds", "apart", "samples", "away", "band")
                ]
                cells.append([what, *facts])
    return Sheet(
        "cdf_curves",
        "Distribution functions of single outputs beside Monte Carlo",
        columns,
        sorted(cells, key=lambda row: str(row[0])),
        (
            "Iris: two sepal features scaled to [0, 1], Beta(2, 2) x Beta(3, 2). Diabetes: Gaussian noise of half a "
            "standard deviation on the body mass index of the first patient, box of six deviations.",
            "The last but one column: by how much a share of samples leaves [L, U] at any of the points; the last one: "
            "by how much it may (Dvoretzky, Kiefer, Wolfowitz, Massart).",
        ),
    )


def gaps(rows: Sequence[Row]) -> Sheet:
    """The tanh network between its piecewise linear bounds."""
    found = sorted((row for row in rows if row["key"].startswith("cdf/tanh/")), key=lambda row: row["segments"])
    columns = [
        Column("segments S"), Column("mean gap", 4), Column("largest gap", 4), Column("S² x mean gap", 2),
        Column("samples", 0), Column("outside", 0), Column("not nested in 2 S", 0),
    ]  # fmt: skip
    cells = [
        [
            row["segments"], row["gap"], row["worst"], row["gap"] * row["segments"] ** 2, row["samples"],
            row["broken"], row["unnested"],
        ]
        for row in found
    ]  # fmt: skip
    note = (
        "Outside: values of the network that leave the bounds, of all outputs at all samples. The gap falls as 1 / S²."
    )
    return Sheet("cdf_segments", "Upper and lower networks of a tanh network 2-12-12-12-3", columns, cells, (note,))


def table1(rows: Sequence[Row]) -> Sheet:
    """Mean widths beside the published ones."""
    columns = [
        Column("deleted"), Column("free inputs"), Column("tests"), Column("published mean U - L", 5),
        Column("mean U - L on the box", 9), Column("mean mass outside", 5), Column("both together", 5),
        Column("mean s", 2), Column("most s", 2), Column("cells, mean", 0),
        Column("grid points that samples leave", 2, percent=True),
    ]  # fmt: skip
    cells: list[list[Cell]] = []
    for (percent, free), (count, width) in PUBLISHED.items():
        found = [row for row in rows if row["key"].startswith(f"cdf/missing/{percent}/{free}/")]
        if not found:
            continue
        mean = {key: float(np.mean([row[key] for row in found])) for key in ("mean", "measured", "cells", "missed")}
        outside = float(np.mean([row["outside"] - row["unsure"] for row in found]))
        most = max(row["measured"] for row in found)
        tests = f"{len(found)}" if len(found) == count else f"{len(found)} of {count}"
        cells.append([
            f"{percent} %", f"{free}", tests, width, mean["mean"] - outside, outside, mean["mean"], mean["measured"],
            most, mean["cells"], mean["missed"],
        ])  # fmt: skip
    return Sheet(
        "cdf_table1",
        "Table 1, iris: joint distribution function of the three logits with missing features",
        columns,
        cells,
        (
            "Resolution and grid of the published widths are not given. Here: 20 x 20 x 20 points, evenly over the "
            "range of each logit on the box; mass outside the box may be anywhere and is in the upper bounds.",
            "At 25 % the published means are smaller than what lies outside, so that they cannot hold it: they compare "
            "with the column of the box.",
            f"Three inputs are refined until U - L is at most {measure.TOLERANCE} on the box, or {SECONDS:g} s "
            "are over; a round that has begun is finished.",
            "The last column: how often a share of samples, ten million of them, leaves [L, U].",
        ),
    )


def violations(rows: Sequence[Row]) -> list[str]:
    """What bounds that hold cannot show."""
    wrong = crosscheck.violations(rows)
    for row in rows:
        if not row["key"].startswith("cdf/") or row.get("status") == "error":
            continue
        if row.get("broken") or row.get("unnested"):
            wrong.append(f"{row['key']}: the network leaves its bounds, or finer bounds are not nested")
        if row.get("away", 0.0) > row.get("band", np.inf):
            wrong.append(
                f"{row['key']}: Monte Carlo is {row['away']:.2g} outside the bounds, more than {row['band']:.2g}"
            )
    return wrong


ROWS = HERE / "rows" / "cdf.jsonl.gz"
STUDY = Study(
    "cdf",
    "distributions of outputs under random inputs: exact, bounded, and beside Monte Carlo",
    (tasks,),
    sheets,
    figures=figures,
    violations=violations,
    keys=("cdf/iris/", "cdf/tanh/", "cdf/diabetes", "cdf/missing/", crosscheck.PREFIX),
    rows=ROWS,
    document=HERE.parent / "docs" / "cdf.md",
)
SPEED = Study(
    "cdf-speed",
    "what distribution functions cost: regions, and a hundred points of one output",
    (speed.stage,),
    speed.sheets,
    keys=(speed.PREFIX,),
    rows=ROWS,
    document=HERE.parent / "PERFORMANCE.md",
)
