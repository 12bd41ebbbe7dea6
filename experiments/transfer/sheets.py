"""The tables of the transfer study, from rows alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from arfj.errors import ArfjError
from arfj.evaluate import transfer_certificate
from arfj.question import EVERY
from experiments.sheets import Cell, Column, Sheet
from experiments.studies import Row
from experiments.transfer import baselines, plan
from experiments.transfer.outcomes import Bools, Outcomes, asked, exact, outcomes, paired, sets
from experiments.transfer.statistics import (
    Interval,
    a_priori_violation,
    clopper_pearson,
    cluster_bootstrap,
    paired_difference,
    power,
    variance_components,
)
from experiments.transfer.subject import SAME

DELTA = 0.05
SUCCESS = (
    Column("answers"), Column("proven", 0), Column("mean gap", 1, True), Column("mean distance", 2),
    Column("price", 2), Column("target", 1, True), Column("95 %"), Column("not the true class", 1, True),
    Column("95 %"), Column("p target", 3), Column("weak confidence", 3), Column("margin", 3),
)  # fmt: skip
TITLES = {
    "scaled": "least change of the nominal network, stretched",
    "gradient": "gradient steps on the six networks",
    "noise": "gradient steps on the nominal network with noisy weights",
    "logits": "gradient steps on averaged outputs",
}


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """All tables for which there are rows."""
    mine = [row for row in rows if row.get("study") == "transfer"]
    makers: tuple[Callable[[Sequence[Row]], Sheet | None], ...] = (
        of_targets, by_alpha, by_gamma, by_method, by_demand, by_goal, by_set, by_image, certificates, designs,
    )  # fmt: skip
    return [sheet for maker in makers if (sheet := maker(mine)) is not None]


def of_targets(rows: Sequence[Row]) -> Sheet | None:
    """The target networks that the study trained."""
    lines: list[list[Cell]] = []
    for row in rows:
        if row["method"] == "targets":
            spans = [
                f"{min(values):.4f} to {max(values):.4f}"
                for values in ([network[key] for network in row["networks"]] for key in ("accuracy", "d_osd"))
            ]
            lines.append([row["set"], row["title"], len(row["networks"]), row["trained"], *spans])
    if not lines:
        return None
    columns = [
        Column("set"), Column("what differs"), Column("networks", 0), Column("trained", 0), Column("accuracy"),
        Column("d_osd to the nominal network"),
    ]  # fmt: skip
    notes = ["Trained, but not kept: a dead output unit mostly; in `same` also an accuracy or d_osd out of bounds."]
    return Sheet("transfer_targets", "Networks to be fooled", columns, lines, notes)


def by_demand(rows: Sequence[Row]) -> Sheet | None:
    """Less than to fool all networks of the attack."""
    alpha = standard(rows)
    whole, alone = outcomes(rows, exact(alpha), SAME), outcomes(rows, exact(0), SAME)
    softer = {plan.demand_of(row) for row in rows if row["method"] == plan.EXACT} - {EVERY}
    if whole is None or not softer:
        return None
    lines: list[list[Cell]] = []
    for demand in sorted(softer, key=plan.order):
        found = outcomes(rows, exact(alpha, demand=demand), SAME)
        if found is not None:
            wanted = asked(rows, exact(alpha, demand=demand))
            lines.append([plan.told(demand, alpha + 1), *success(found, wanted, alone)])
            whole = whole.at(place for place in whole.positions if place in found.positions)
    lines.append([plan.told(EVERY, alpha + 1), *success(whole, len(whole.rows), alone)])
    columns = [Column("asked of the networks"), *SUCCESS]
    title = f"Less than to fool every network, alpha = {alpha}, one image a class"
    return Sheet("transfer_soft", title, columns, lines, _notes(rows))


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


def interval(values: Bools, found: Outcomes) -> str:
    """The cluster bootstrap's, in per cent; a dash where there is too little."""
    try:
        return told(cluster_bootstrap(values.astype(float), found.valid), 100.0)
    except ArfjError:
        return "-"


def told(one: Interval, scale: float = 1.0) -> str:
    """An interval."""
    return f"{scale * one.low:.1f} to {scale * one.high:.1f}"


def by_alpha(rows: Sequence[Row]) -> Sheet | None:
    """Success against the number of networks in the attack."""
    alone = outcomes(rows, exact(0), SAME)
    lines: list[list[Cell]] = []
    for alpha in alphas(rows):
        chosen = exact(alpha)
        found = outcomes(rows, chosen, SAME)
        if found is not None:
            lines.append([alpha, *success(found, asked(rows, chosen), alone)])
    if not lines:
        return None
    return Sheet(
        "transfer_alpha",
        "Answers on networks of the same training method that no attack has seen, by alpha",
        [Column("alpha", 0), *SUCCESS],
        lines,
        [*_notes(rows), "Price: distance by that of the nominal network's least change (alpha 0), mean over images."],
    )


def _notes(rows: Sequence[Row]) -> list[str]:
    counts = {name: len(row["seen"][name]["class"]) for row in rows for name in row.get("seen", ())}
    return [
        f"{counts.get(SAME, 0)} target networks; only pairs count in which the target is right on the clean image.",
        "Intervals: 95 %, pigeonhole bootstrap over images and targets.",
    ]


def by_gamma(rows: Sequence[Row]) -> Sheet | None:
    """Success against the margin that the attack asks for."""
    alpha = standard(rows)
    alone = outcomes(rows, exact(0), SAME)
    gammas = sorted({row["gamma"] for row in rows if row["method"] == plan.EXACT and row["alpha"] == alpha})
    lines: list[list[Cell]] = []
    for gamma in gammas:
        chosen = exact(alpha, gamma)
        found = outcomes(rows, chosen, SAME)
        if found is not None:
            lines.append([f"{gamma:g}", *success(found, asked(rows, chosen), alone)])
    if len(lines) < 2:
        return None
    title = f"The same by the margin gamma, alpha = {alpha}"
    return Sheet("transfer_gamma", title, [Column("gamma"), *SUCCESS], lines, _notes(rows))


def by_goal(rows: Sequence[Row]) -> Sheet | None:
    """The paper's target against the most likely other one, on the same images."""
    lines: list[list[Cell]] = []
    for alpha in alphas(rows):
        likely, usual = (outcomes(rows, exact(alpha, goal=goal), SAME) for goal in (plan.LIKELIEST, plan.PAPER))
        if likely is None or usual is None:
            continue
        usual, likely = paired(usual, likely)
        names = ("true - 1", "most likely other")
        for name, found in zip(names, (usual, likely), strict=True):
            lines.append([alpha, name, *success(found, len(found.rows), None)])
    if not lines:
        return None
    columns = [Column("alpha", 0), Column("target class"), *SUCCESS]
    return Sheet("transfer_goal", "Two targets on one image a class", columns, lines, _notes(rows))


def by_method(rows: Sequence[Row]) -> Sheet | None:
    """Baselines at equal distance."""
    alpha = standard(rows)
    robust = outcomes(rows, exact(alpha), SAME)
    if robust is None or not alpha:
        return None
    columns = [
        Column("attack"), Column("answers", 0), Column("distance", 2), Column("fools all its networks", 0),
        Column("target", 1, True), Column("95 %"), Column("exact minus this, points", 1), Column("95 %"),
        Column("not the true class", 1, True), Column("exact minus this, points", 1), Column("95 %"),
    ]  # fmt: skip
    lines: list[list[Cell]] = [_compared(f"exact, alpha = {alpha}", robust, None)]
    short = outcomes(rows, exact(0), SAME)
    if short is not None:
        lines.append(_compared("exact, alpha = 0 (shorter)", short, robust))
    for method in baselines.METHODS:
        found = outcomes(rows, at_distance(method, robust), SAME)
        if found is not None:
            lines.append(_compared(TITLES[method], found, robust))
    notes = ["Baselines have the distance of the exact answer on every image, as far as the box allows."]
    title = f"Baselines at the distance of the exact answers to alpha = {alpha}"
    return Sheet("transfer_baselines", title, columns, lines, [*notes, *_notes(rows)])


def at_distance(method: str, robust: Outcomes) -> Callable[[Row], bool]:
    """Chooses a method's answers for the distances of the exact ones."""
    budgets = {row["position"]: row["distance"] for row in robust.rows}
    return lambda row: row["method"] == method and row["budget"] == budgets.get(row["position"])


def _compared(name: str, found: Outcomes, robust: Outcomes | None) -> list[Cell]:
    whole = sum(_fools_all(row) for row in found.rows)
    cells: list[Cell] = [name, len(found.rows), float(found.distances.mean()), whole]
    cells += [found.mean(found.hit.astype(float)), interval(found.hit, found)]
    cells += _difference(found, robust, "hit")
    cells += [found.mean(found.missed.astype(float)), *_difference(found, robust, "missed")]
    return cells


def _fools_all(row: Row) -> bool:
    if "fooled" in row:
        return bool(row["fooled"] == row["scenarios"])
    return row.get("replay") is not None and bool(row["replay"]["hit"])


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
    return Sheet("transfer_shifts", "Targets of another kind than the attack's networks", columns, lines, _notes(rows))


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
        # The sampled networks of the last model alone lead to the same least change.
        known = [1 - a_priori_violation(alpha, min(row["active"], alpha), DELTA) for row in optimal if alpha]
        fresh = np.array([transfer_certificate(int(hits.sum()), len(hits), DELTA).probability for hits in found.hit])
        lines.append([
            alpha, len(found.rows), len(optimal), 1 - a_priori_violation(alpha, 1, DELTA) if alpha else None,
            float(np.median(known)) if known else None, float(fresh.min()), float(np.median(fresh)), float(fresh.max()),
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
            "Fresh networks: exact binomial bound of one answer from all target networks of the same method, which the "
            "attack has not seen. Both assume that the next network is drawn by the same sampler.",
        ],
    )  # fmt: skip


def designs(rows: Sequence[Row]) -> Sheet | None:
    """How many targets would show a difference of ten points."""
    alpha = standard(rows)
    robust = outcomes(rows, exact(alpha), SAME)
    if robust is None or not alpha:
        return None
    lines: list[list[Cell]] = []
    rivals = [("exact, alpha = 0 (shorter)", exact(0))]
    rivals += [(TITLES[method], at_distance(method, robust)) for method in baselines.METHODS]
    for name, chosen in rivals:
        other = outcomes(rows, chosen, SAME)
        if other is None:
            continue
        mine, other = paired(robust, other)
        try:
            parts = variance_components(mine.hit.astype(float) - other.hit.astype(float), mine.valid)
        except ArfjError:
            continue
        design = power(parts)
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
    notes = ["Two-sided test at 5 %, power 80 %; a dash: with so few images no number of targets shows 10 points."]
    return Sheet("transfer_power", "What the design can show", columns, lines, notes)
