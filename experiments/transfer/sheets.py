"""The tables of the transfer study, from rows alone: families of exact answers, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from arfj.question import EVERY
from experiments.sheets import Cell, Column, Sheet
from experiments.transfer import plan
from experiments.transfer.cells import SUCCESS, alphas, notes, standard, success
from experiments.transfer.certain import by_image, certificates
from experiments.transfer.outcomes import Outcomes, asked, common, exact, outcomes, paired
from experiments.transfer.rivals import by_method, by_set, designs
from experiments.transfer.subject import SAME

if TYPE_CHECKING:
    from experiments.studies import Row


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """All tables for which there are rows."""
    mine = [row for row in rows if row.get("study") == "transfer"]
    makers: tuple[Callable[[Sequence[Row]], Sheet | None], ...] = (
        of_targets, by_alpha, by_block, by_gamma, by_method, by_demand, by_goal, by_set, by_image, certificates,
        designs,
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
    notes = [
        "Trained, but not kept: a class that is never given, or an accuracy out of bounds; in `same` also d_osd, as "
        "the sampler of the attack asks it. The others are not held to its bounds."
    ]
    return Sheet("transfer_targets", "Networks to be fooled", columns, lines, notes)


def families(
    rows: Sequence[Row], chosen: Sequence[tuple[str, Callable[[Row], bool]]]
) -> list[tuple[str, int, int, Outcomes]]:
    """Families of answers: name, how many were asked for and answered, and outcomes on the images that all answer."""
    found = [(name, asked(rows, choice), one) for name, choice in chosen if (one := outcomes(rows, choice, SAME))]
    shared = common([one for _, _, one in found])
    return [(name, wanted, len(one.rows), same) for (name, wanted, one), same in zip(found, shared, strict=True)]


def lined(rows: Sequence[Row], chosen: Sequence[tuple[str, Callable[[Row], bool]]]) -> list[list[Cell]]:
    """A line a family, with the cells of `SUCCESS`; answers are counted, too, that others lack."""
    alone = outcomes(rows, exact(0), SAME)
    lines: list[list[Cell]] = []
    for name, wanted, answered, found in families(rows, chosen):
        if found.rows:
            cells = success(found, wanted, alone)
            lines.append([name, f"{answered} of {wanted}", *cells[1:]])
    return lines


def on_shared(rows: Sequence[Row], chosen: Sequence[tuple[str, Callable[[Row], bool]]]) -> str:
    """How many images the lines of a table are of."""
    found = families(rows, chosen)
    count = len(found[0][3].rows) if found else 0
    return f"All numbers but the first are of the {count} images that every line has an answer to."


def by_alpha(rows: Sequence[Row]) -> Sheet | None:
    """Success against the number of networks in the attack."""
    chosen = [(str(alpha), exact(alpha)) for alpha in alphas(rows)]
    lines = lined(rows, chosen)
    if not lines:
        return None
    title = "Answers on networks of the same training method that no attack has seen, by alpha"
    price = "Price: distance by that of the nominal network's least change (alpha 0), mean over images."
    columns = [Column("alpha"), *SUCCESS]
    return Sheet("transfer_alpha", title, columns, lines, [on_shared(rows, chosen), *notes(rows), price])


def by_block(rows: Sequence[Row]) -> Sheet | None:
    """The standard attack with other draws of its samples."""
    alpha = standard(rows)
    blocks = sorted({row.get("block", 0) for row in rows if row["method"] == plan.EXACT})
    if len(blocks) < 2:
        return None
    chosen = [(f"{1 + b * alpha} to {(b + 1) * alpha}", exact(alpha, block=b)) for b in blocks]
    lines = lined(rows, chosen)
    shares = [found.mean(found.hit.astype(float)) for _, _, _, found in families(rows, chosen) if found.rows]
    spread = (
        f"Standard deviation of the targets' share between draws: {100 * float(np.std(shares, ddof=1)):.1f} points."
    )
    title = f"The same attack with other draws of its alpha = {alpha} samples, one image a class"
    told = [on_shared(rows, chosen), spread, "No interval of the other tables includes it.", *notes(rows)]
    return Sheet("transfer_draws", title, [Column("samples"), *SUCCESS], lines, told)


def by_gamma(rows: Sequence[Row]) -> Sheet | None:
    """Success against the margin that the attack asks for."""
    alpha = standard(rows)
    gammas = sorted({row["gamma"] for row in rows if row["method"] == plan.EXACT and row["alpha"] == alpha})
    chosen = [(f"{gamma:g}", exact(alpha, gamma)) for gamma in gammas]
    lines = lined(rows, chosen)
    if len(lines) < 2:
        return None
    title = f"The same by the margin gamma, alpha = {alpha}"
    told = [on_shared(rows, chosen), *hopeless(rows, alpha, gammas), *notes(rows)]
    return Sheet("transfer_gamma", title, [Column("gamma"), *SUCCESS], lines, told)


def hopeless(rows: Sequence[Row], alpha: int, gammas: Sequence[float]) -> list[str]:
    """How many questions were proven to have no answer."""
    counts = {
        gamma: sum(exact(alpha, gamma)(row) and row["status"] == "infeasible" for row in rows) for gamma in gammas
    }
    return [
        f"gamma = {gamma:g}: {count} questions are proven to have no answer."
        for gamma, count in counts.items()
        if count
    ]


def soft_families(rows: Sequence[Row]) -> list[tuple[str, Callable[[Row], bool]]]:
    """The nominal network alone, softer demands, and all networks."""
    alpha = standard(rows)
    softer = {plan.demand_of(row) for row in rows if row["method"] == plan.EXACT} - {EVERY}
    chosen = [(plan.told(one, alpha + 1), exact(alpha, demand=one)) for one in sorted(softer, key=plan.order)]
    ends = [("the nominal one", exact(0)), (plan.told(EVERY, alpha + 1), exact(alpha))]
    return [ends[0], *chosen, ends[1]] if chosen else []


def by_demand(rows: Sequence[Row]) -> Sheet | None:
    """Less than to fool all networks of the attack."""
    chosen = soft_families(rows)
    lines = lined(rows, chosen)
    if not lines:
        return None
    title = f"Less than to fool every network, alpha = {standard(rows)}, one image a class"
    told = [on_shared(rows, chosen), *notes(rows)]
    return Sheet("transfer_soft", title, [Column("asked of the networks"), *SUCCESS], lines, told)


def by_goal(rows: Sequence[Row]) -> Sheet | None:
    """The paper's target against the most likely other one, on the same images."""
    lines: list[list[Cell]] = []
    for alpha in alphas(rows):
        likely, usual = (outcomes(rows, exact(alpha, goal=goal), SAME) for goal in (plan.LIKELIEST, plan.PAPER))
        if likely is None or usual is None:
            continue
        both = paired(usual, likely)
        if not both[0].rows:
            continue
        for name, found in zip(("true - 1", "most likely other"), both, strict=True):
            lines.append([alpha, name, *success(found, len(found.rows), None)])
    if not lines:
        return None
    columns = [Column("alpha", 0), Column("target class"), *SUCCESS]
    told = ["Answers: images that have one for both targets.", *notes(rows)]
    return Sheet("transfer_goal", "Two targets on one image a class", columns, lines, told)
