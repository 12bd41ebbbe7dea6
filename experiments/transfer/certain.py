"""Image by image, and what is certain of the next network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from arfj.evaluate import transfer_certificate
from arfj.evaluate.certificate import ASSUMPTION
from experiments.sheets import Cell, Column, Sheet
from experiments.studies import Row
from experiments.transfer.cells import alphas, standard
from experiments.transfer.outcomes import exact, outcomes
from experiments.transfer.statistics import a_priori_violation, clopper_pearson
from experiments.transfer.subject import SAME

DELTA = 0.05


def by_image(rows: Sequence[Row]) -> Sheet | None:
    """Every image, with exact binomial intervals."""
    alpha = standard(rows)
    alone, robust = outcomes(rows, exact(0), SAME), outcomes(rows, exact(alpha), SAME)
    if alone is None or robust is None or not alpha:
        return None
    columns = [
        Column("test image", 0), Column("true → target"), Column("distance, alpha = 0", 3), Column("hits"),
        Column("95 %"), Column(f"distance, alpha = {alpha}", 3), Column("hits"), Column("95 %"),
    ]  # fmt: skip
    lines: list[list[Cell]] = []
    for position in sorted(set(alone.positions) & set(robust.positions)):
        line: list[Cell] = []
        for found in (alone.at([position]), robust.at([position])):
            row, hits, trials = found.rows[0], int((found.hit & found.valid).sum()), int(found.valid.sum())
            low, high = clopper_pearson(hits, trials)
            line = line or [row["index"], f"{row['true']} → {row['target']}"]
            line += [row["distance"], f"{hits} of {trials}", f"{100 * low:.0f} to {100 * high:.0f}"]
        lines.append(line)
    return Sheet(
        "transfer_images", "Image by image: targets that are fooled, of those right on the clean image", columns, lines,
        ["Intervals: Clopper-Pearson, 95 %, in per cent; they hold for one image, not for all at once."],
    )  # fmt: skip


def down(value: float) -> float:
    """Three decimals, rounded down: what is printed is proven, too."""
    return math.floor(1000 * value) / 1000


def certificates(rows: Sequence[Row]) -> Sheet | None:
    """What is certain of the next network, by theory beforehand and by fresh networks afterwards."""
    columns = [
        Column("alpha", 0), Column("answers", 0), Column("proven", 0), Column("a priori, k = 1", 3),
        Column("a priori, k as found (median)", 3), Column("fresh networks: lowest", 3), Column("median", 3),
        Column("highest", 3), Column("answers with at least 0.5", 0),
    ]  # fmt: skip
    lines: list[list[Cell]] = []
    for alpha in alphas(rows):
        found = outcomes(rows, exact(alpha), SAME)
        if found is None:
            continue
        optimal = [row for row in found.rows if row.get("status") == "optimal"]
        # The networks of the last model alone lead to the same least change; where none is told, all have to be taken.
        known = [1 - a_priori_violation(alpha, min(row["active"] or alpha, alpha), DELTA) for row in optimal if alpha]
        fresh = np.array([transfer_certificate(int(hits.sum()), len(hits), DELTA).probability for hits in found.hit])
        lines.append([
            alpha, len(found.rows), len(optimal), 1 - a_priori_violation(alpha, 1, DELTA) if alpha else None,
            float(np.median(known)) if known else None, down(fresh.min()), down(np.median(fresh)), down(fresh.max()),
            int((fresh >= 0.5).sum()),
        ])  # fmt: skip
    if not lines:
        return None
    return Sheet(
        "transfer_certificates",
        "Probability that the next network of the sampler is fooled: lower bounds at 95 % confidence",
        columns, lines,
        [
            "A priori: scenario theory for non-convex programs, alpha scenarios of which k lead to the same answer; it "
            "speaks of the networks in the model alone, and holds for answers that are proven least changes.",
            "That needs the least change to be unique; the nominal network, which is not drawn, counts among the k.",
            "Fresh networks: exact binomial bound of one answer from all target networks of the same method. A bound "
            "holds for one answer by itself; for all answers of a line at once, delta has to be shared out.",
            ASSUMPTION,
        ],
    )  # fmt: skip
