"""Exact answers beside others, and targets of another kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arfj.errors import ArfjError
from experiments.sheets import Cell, Column, Sheet
from experiments.studies import Row
from experiments.transfer import baselines
from experiments.transfer.cells import SHORT, TITLES, alphas, at_distance, interval, notes, standard, told
from experiments.transfer.outcomes import Outcomes, common, exact, outcomes, paired, sets
from experiments.transfer.statistics import paired_difference, power, variance_components
from experiments.transfer.subject import SAME

NEAR = 0.01
"""A baseline's distance is that of the exact answer up to this share."""


def by_method(rows: Sequence[Row]) -> Sheet | None:
    """Baselines at equal distance."""
    alpha = standard(rows)
    robust = outcomes(rows, exact(alpha), SAME)
    if robust is None or not alpha:
        return None
    columns = [
        Column("attack"), Column("answers", 0), Column("distance", 2), Column("seconds", 1),
        Column("fools all of the attack's networks", 0), Column("target", 1, True), Column("95 %"),
        Column("exact minus this, points", 1), Column("95 %"), Column("not the true class", 1, True),
        Column("exact minus this, points", 1), Column("95 %"),
    ]  # fmt: skip
    named = [(f"exact, alpha = {alpha}", robust), *rivals(rows, robust)]
    names, found = zip(*named, strict=True)
    shared = common(found)
    if not shared[0].rows:
        return None
    bases = [None, *[shared[0]] * len(shared[1:])]
    lines = [_compared(name, one, base) for name, one, base in zip(names, shared, bases, strict=True)]
    short = [row for one in shared for row in one.rows if row["distance"] < row.get("budget", 0.0) * (1 - NEAR)]
    title = f"Baselines at the distance of the exact answers to alpha = {alpha}"
    words = [
        f"All lines are of the same {len(shared[0].rows)} images. A baseline has the exact answer's distance, image by "
        f"image; {len(short)} answers of baselines are shorter by more than {NEAR:.0%}.",
        "Seconds of an answer, parallel runs on a machine with other work; those of exact answers are spent on proofs.",
        *notes(rows),
    ]
    return Sheet("transfer_baselines", title, columns, lines, words)


def rivals(rows: Sequence[Row], robust: Outcomes) -> list[tuple[str, Outcomes]]:
    """What exact answers are compared with, by name."""
    chosen = [(SHORT, exact(0)), *((TITLES[method], at_distance(method, robust)) for method in baselines.METHODS)]
    return [(name, one) for name, choice in chosen if (one := outcomes(rows, choice, SAME)) is not None]


def _compared(name: str, found: Outcomes, robust: Outcomes | None) -> list[Cell]:
    seconds = float(np.mean([row["seconds"] for row in found.rows]))
    whole = sum(_fools_all(row) for row in found.rows)
    cells: list[Cell] = [name, len(found.rows), float(found.distances.mean()), seconds, whole]
    cells += [found.mean(found.hit.astype(float)), interval(found.hit, found)]
    cells += _difference(found, robust, "hit")
    cells += [found.mean(found.missed.astype(float)), *_difference(found, robust, "missed")]
    return cells


def _fools_all(row: Row) -> bool:
    """Whether all networks of the standard attack are fooled; of a shorter one that is not known."""
    return bool(row["fooled"] == row["scenarios"]) if "fooled" in row else bool(row["replay"]["hit"])


def _difference(found: Outcomes, robust: Outcomes | None, what: str) -> list[Cell]:
    if robust is None:
        return [None, None]
    mine, other = paired(robust, found)
    try:
        one = paired_difference(getattr(mine, what), getattr(other, what), mine.valid)
    except ArfjError:
        return [None, None]
    return [one.estimate, told(one)]


def by_set(rows: Sequence[Row]) -> Sheet | None:
    """Shifted targets: other architectures, optimisers, data."""
    chosen = [alpha for alpha in alphas(rows) if alpha in (0, 1, standard(rows), max(alphas(rows)))]
    columns = [Column("targets"), Column("networks", 0)]
    for alpha in chosen:
        columns += [Column(f"target, alpha = {alpha}", 1, True), Column("95 %")]
    columns += [Column(TITLES["scaled"], 1, True), Column("95 %")]
    lines: list[list[Cell]] = []
    for name in sorted(sets(rows), key=lambda name: (name != SAME, name)):
        robust = outcomes(rows, exact(standard(rows)), name)
        if robust is None:
            continue
        line: list[Cell] = [name, robust.hit.shape[1]]
        families = [outcomes(rows, exact(alpha), name) for alpha in chosen]
        for found in (*families, outcomes(rows, at_distance("scaled", robust), name)):
            line += [None, None] if found is None else [found.mean(found.hit.astype(float)), interval(found.hit, found)]
        lines.append(line)
    if not lines:
        return None
    return Sheet("transfer_shifts", "Targets of another kind than the attack's networks", columns, lines, notes(rows))


def designs(rows: Sequence[Row]) -> Sheet | None:
    """How many targets would show a difference of ten points."""
    alpha = standard(rows)
    robust = outcomes(rows, exact(alpha), SAME)
    if robust is None or not alpha:
        return None
    lines: list[list[Cell]] = []
    words: list[str] = []
    for name, rival in rivals(rows, robust):
        mine, other = paired(robust, rival)
        try:
            parts = variance_components(mine.hit.astype(float) - other.hit.astype(float), mine.valid)
        except ArfjError:
            continue
        design = power(parts)
        words.append(f"Against {name}: {design.sentence()}.")
        lines.append([
            name, parts.images, parts.targets, parts.image**0.5, parts.target**0.5, parts.residual**0.5,
            design.detectable, design.targets,
        ])  # fmt: skip
    if not lines:
        return None
    columns = [
        Column("exact answers against"), Column("images", 0), Column("targets", 0), Column("sd between images", 3),
        Column("sd between targets", 3), Column("sd of the rest", 3), Column("least difference shown, points", 1),
        Column("targets for 10 points", 0),
    ]  # fmt: skip
    said = ["Two-sided test at 5 %, power 80 %, given the networks of the attack.", *words]
    return Sheet("transfer_power", "What the design can show", columns, lines, said)
