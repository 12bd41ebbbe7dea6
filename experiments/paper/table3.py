"""Table 3: the least distances of FJAE, IRAE and ORAE on the ten images, proven, and the sizes of their models."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from arfj.attack import sampled
from arfj.data import bundled_images
from arfj.encoding import encode_paper
from arfj.question import Question
from experiments.paper import ten
from experiments.paper.published import IRAE_OVER, ORAE_OVER, ORAE_SECONDS, ORAE_TOTAL, SIZES, beside
from experiments.paper.ten import CLASSES, KINDS, of_role
from experiments.sheets import Column, Sheet
from experiments.studies import Row, Scale, Study, Task

TOLERANCE = 2e-6
"""Two optima that are each proven to a relative gap of 1e-6 may differ by this share."""
NETWORKS = {"FJAE": 1, "IRAE": 6, "ORAE": 6}

Found = Mapping[tuple[str, int], Row]


def sizes(scale: Scale, _rows: Sequence[Row]) -> list[Task]:
    """The printed models, which are built and not solved."""
    limit = scale.seconds(60.0)
    return [Task(f"size/{kind}", functools.partial(size, kind), limit, "size") for kind in KINDS]


def size(kind: str) -> dict[str, Any]:
    """The size of the printed model."""
    ensemble = sampled(KINDS[kind]).ensemble
    problem = encode_paper(Question(bundled_images().nominal[9], 9, 8, ensemble)).problem
    counts = {"variables": problem.variables, "binaries": problem.binaries, "constraints": problem.constraints}
    return {"model": kind, "networks": len(ensemble), **counts}


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """The answers, their ranges beside the published ones, and the sizes."""
    found = of_role(rows, "answer")
    return [answers(found), ranges(found), *model_sizes(rows, found)] if found else []


def answers(found: Found) -> Sheet:
    """A row an image and kind."""
    columns = (
        Column("image"), Column("true → target"), Column("model"), Column("distance", 5), Column("proven bound", 5),
        Column("gap", 4, percent=True), Column("seconds", 1), Column("nodes", 0), Column("over FJAE", 3, percent=True),
    )  # fmt: skip
    cells = [
        (
            row["image"], f"{true} → {row['target']}", kind, row["distance"], row["bound"], row["gap"], row["seconds"],
            row["nodes"], None if kind == "FJAE" else above(found, kind, true),
        )
        for true in range(CLASSES)
        for kind in KINDS
        for row in [found.get((kind, true))]
        if row is not None
    ]  # fmt: skip
    notes = (*(proven(found, kind) for kind in KINDS), ordering(found))
    return Sheet("table3", "Table 3: least distances, in L1 of pixels in [0, 1].", columns, cells, notes)


def above(found: Found, kind: str, true: int) -> float | None:
    """By what share an answer is farther than FJAE's."""
    one, other = (found.get((name, true), {}).get("distance") for name in ("FJAE", kind))
    return None if one is None or other is None else float(other) / float(one) - 1.0


def proven(found: Found, kind: str) -> str:
    """How far the rows of a kind are proven."""
    rows = [row for (name, _), row in found.items() if name == kind]
    optimal = sum(row["status"] == "optimal" for row in rows)
    hits = sum(row["replay"] is not None and row["replay"]["hit"] for row in rows)
    seconds = sum(row["seconds"] for row in rows)
    open_gaps = [row["gap"] for row in rows if row["status"] != "optimal" and row["gap"] is not None]
    told = f", the largest open gap {100 * max(open_gaps):.2f} %" if open_gaps else ""
    nothing = sum(row["distance"] is None for row in rows)
    told += f", {nothing} without an answer" if nothing else ""
    return f"{kind}: {optimal} of {len(rows)} proven optimal{told}; {hits} replayed hits; {seconds:,.0f} s in all."


def ordering(found: Found) -> str:
    """What was checked of the order."""
    missed = broken(found)
    pairs = sum(("FJAE", true) in found for kind, true in found if kind != "FJAE")
    if missed:
        return f"Violated: {'; '.join(missed)}."
    return f"FJAE at most IRAE and FJAE at most ORAE: checked on {pairs} pairs, holds on all."


def violations(rows: Sequence[Row]) -> list[str]:
    """What contradicts the order of the kinds, or a proof."""
    return broken(of_role(rows, "answer"))


def broken(found: Found) -> list[str]:
    """Answers below a bound proven for them: that of FJAE holds for IRAE and ORAE, whose scenarios include its one."""
    return [
        f"{kind} of class {true} has distance {row['distance']:.9g}, below the bound {bound:.9g} proven for {source}"
        for (kind, true), row in found.items()
        if row["distance"] is not None
        for source, bound in bounds(found, kind, true)
        if row["distance"] < bound * (1.0 - TOLERANCE)
    ] + [
        f"{kind} of class {true} has an answer that does not replay" for (kind, true), row in found.items() if lies(row)
    ]


def bounds(found: Found, kind: str, true: int) -> Iterator[tuple[str, float]]:
    """What is proven from below: by its own run, and by that of FJAE, whose optimum counts where it is proven."""
    yield kind, found[kind, true]["bound"]
    least = found.get(("FJAE", true))
    if kind != "FJAE" and least is not None:
        yield "FJAE", least["distance"] if least["status"] == "optimal" else least["bound"]


def lies(row: Row) -> bool:
    """Whether a row has a distance that no replay confirms."""
    return row["distance"] is not None and not (row["replay"] or {}).get("hit")


def ranges(found: Found) -> Sheet:
    """Beside the paper."""
    over = {
        kind: [100.0 * share for true in range(CLASSES) if (share := above(found, kind, true)) is not None]
        for kind in ("IRAE", "ORAE")
    }
    seconds = [row["seconds"] for (kind, _), row in found.items() if kind == "ORAE"]
    total = [sum(seconds)] if len(seconds) == CLASSES else []
    pairs = ((IRAE_OVER, over["IRAE"]), (ORAE_OVER, over["ORAE"]), (ORAE_SECONDS, seconds), (ORAE_TOTAL, total))
    given = {kind: [round(row["time_limit"]) for (name, _), row in found.items() if name == kind] for kind in KINDS}
    limits = ", ".join(f"{kind} {span(some)} s" for kind, some in given.items() if some)
    notes = (
        f"Time limits: {limits}; an answer that is open by then is shown with its proven gap.",
        "An increase hangs on the image and on the networks that were drawn, seconds on solver and machine.",
        *load(list(found.values())),
    )
    return beside("table3_published", "Table 3 beside the paper.", pairs, notes)


def load(rows: Sequence[Row]) -> list[str]:
    """What else the machine did."""
    loads = [row["load"] for row in rows if row.get("load") is not None]
    if not loads:
        return []
    told = f"median {statistics.median(loads):.1f}, at most {max(loads):.1f}"
    return [f"Load average before a solve: {told}; these solves make {max(row['jobs'] for row in rows)} of it."]


def model_sizes(rows: Sequence[Row], found: Found) -> list[Sheet]:
    """The printed model, as published and as built here, and the last tight model that was solved."""
    made = {row["model"]: row for row in rows if row["key"].startswith("size/") and "variables" in row}
    names = ("variables", "binaries", "constraints")
    columns = [Column(text) for text in ("model", "networks", "formulation", "variables", "binary", "constraints")]
    cells: list[tuple[str, ...]] = []
    for kind, row in made.items():
        count = str(row["networks"])
        cells.append((kind, count, "published", *(str(number) for number in SIZES[row["networks"]])))
        cells.append((kind, count, "paper, built here", *(str(row[name]) for name in names)))
        solved = [row for (name, _), row in found.items() if name == kind]
        if solved:
            cells.append((kind, count, "tight, solved here", *(span([one[name] for one in solved]) for name in names)))
    notes = (
        "The tight formulation leaves out neurons that cannot change sign near the answer, pixels that cannot move and "
        "networks whose conditions hold anyway: its size depends on the image.",
    )
    return [Sheet("table3_sizes", "Sizes of the models.", columns, cells, notes)] if made else []


def span(values: Sequence[int]) -> str:
    """A range of integers."""
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


STUDY = Study(
    "table3",
    "Table 3: least distances of FJAE, IRAE and ORAE",
    (sizes, ten.answers),
    sheets,
    completed=ten.completed,
    violations=violations,
    keys=("answer/", "size/"),
)
