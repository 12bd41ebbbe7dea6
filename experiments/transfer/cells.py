"""What the tables of the transfer study are made of: families of answers in numbers, with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from arfj.errors import ArfjError
from experiments.sheets import Cell, Column
from experiments.studies import Row
from experiments.transfer import plan
from experiments.transfer.outcomes import Bools, Outcomes, exact, paired
from experiments.transfer.statistics import Interval, clopper_pearson, cluster_bootstrap
from experiments.transfer.subject import SAME

SUCCESS = (
    Column("answers"), Column("proven", 0), Column("mean gap", 1, True), Column("mean distance", 2),
    Column("price", 2), Column("target", 1, True), Column("95 %"), Column("not the true class", 1, True),
    Column("95 %"), Column("p target", 3), Column("weak confidence", 3), Column("margin", 3),
)  # fmt: skip
SCALED = "least change of the nominal network, stretched"
TITLES = {
    "scaled": SCALED,
    "gradient": "gradient steps on the attack's networks",
    "noise": "gradient steps on the nominal network with noisy weights",
    "logits": "gradient steps on averaged outputs",
}
SHORT = "exact, alpha = 0 (shorter)"


def alphas(rows: Sequence[Row]) -> list[int]:
    """Those of exact answers at the usual margin and target."""
    return sorted({row["alpha"] for row in rows if row["method"] == plan.EXACT and exact(row["alpha"])(row)})


def standard(rows: Sequence[Row]) -> int:
    """The alpha at which all else is compared."""
    return max((alpha for alpha in alphas(rows) if alpha <= plan.ALPHA), default=0)


def success(found: Outcomes, wanted: int, alone: Outcomes | None) -> list[Cell]:
    """The cells of `SUCCESS`: shares over the targets that are right on the clean image.

    Args:
        found: the answers of a family.
        wanted: how many it was asked for: not every question has an answer, and not all are found in time.
        alone: the nominal network's least changes, of which the price is told.
    """
    optimal = sum(row.get("status") == "optimal" for row in found.rows)
    gaps = [row["gap"] for row in found.rows if row.get("gap") is not None]
    price = None
    if alone is not None:
        mine, base = paired(found, alone)
        price = float(np.mean(mine.distances / base.distances)) if mine.rows else None
    return [
        f"{len(found.rows)} of {wanted}", optimal, float(np.mean(gaps)) if gaps else None,
        float(found.distances.mean()), price,
        found.mean(found.hit.astype(float)), interval(found.hit, found), found.mean(found.missed.astype(float)),
        interval(found.missed, found), found.mean(found.target), found.mean(found.target - found.true),
        found.mean(found.target - found.rival),
    ]  # fmt: skip


def share(values: Bools, found: Outcomes) -> Interval | None:
    """The mean over the valid cells with the cluster bootstrap's interval; None where there is too little.

    Where all valid cells agree no resample differs. Then the units are the images or the networks, whichever are fewer:
    k of k, or none of k, by Clopper and Pearson.
    """
    try:
        one = cluster_bootstrap(values.astype(float), found.valid)
    except ArfjError:
        return None
    if one.low < one.high:
        return one
    units = min(int(found.valid.any(axis=1).sum()), int(found.valid.any(axis=0).sum()))
    low, high = clopper_pearson(round(one.estimate * units), units)
    return Interval(one.estimate, float(low), float(high))


def interval(values: Bools, found: Outcomes) -> str:
    """The interval of a share in per cent; a dash where there is none."""
    one = share(values, found)
    return "-" if one is None else told(one, 100.0)


def told(one: Interval, scale: float = 1.0) -> str:
    """An interval."""
    return f"{scale * one.low:.1f} to {scale * one.high:.1f}"


def notes(rows: Sequence[Row]) -> list[str]:
    """What is true of all tables."""
    counts = {name: len(row["seen"][name]["class"]) for row in rows for name in row.get("seen") or ()}
    return [
        f"{counts.get(SAME, 0)} target networks of the same method; only pairs count in which the target is right on "
        "the clean image.",
        "Intervals: 95 %, pigeonhole bootstrap over images and targets, given the networks of the attack: one nominal "
        "network and one draw of its samples. With few images or targets they are on the short side.",
    ]


def at_distance(method: str, robust: Outcomes) -> Callable[[Row], bool]:
    """Chooses a method's answers for the distances of the exact ones."""
    budgets = {row["position"]: row["distance"] for row in robust.rows}
    return lambda row: row["method"] == method and row["budget"] == budgets.get(row["position"])
