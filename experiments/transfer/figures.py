"""The figures of the transfer study, from rows alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from arfj.question import EVERY
from arfj.report.figure import OTHER, PALE, TARGET, TRUE, new_figure
from experiments.studies import Row
from experiments.transfer import baselines
from experiments.transfer.cells import alphas, at_distance, share, standard
from experiments.transfer.outcomes import Bools, Outcomes, exact, outcomes, sets
from experiments.transfer.plan import demand_of
from experiments.transfer.sheets import families, soft_families
from experiments.transfer.subject import SAME

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figures(rows: Sequence[Row]) -> Mapping[str, Callable[[], Figure]]:
    """Those for which there are rows."""
    mine = [row for row in rows if row.get("study") == "transfer"]
    if len(alphas(mine)) < 2 or outcomes(mine, exact(standard(mine)), SAME) is None:
        return {}
    return {
        "transfer_alpha": lambda: success_by_alpha(mine),
        "transfer_price": lambda: success_by_distance(mine),
        "transfer_shifts": lambda: success_by_set(mine),
        **({"transfer_soft": lambda: success_by_demand(mine)} if soft_families(mine) else {}),
    }


def _share(values: Bools, found: Outcomes) -> tuple[float, float, float]:
    """Per cent, with the distances to both ends of its interval."""
    estimate, one = 100 * found.mean(values.astype(float)), share(values, found)
    if one is None:
        return estimate, 0.0, 0.0
    return estimate, max(estimate - 100 * one.low, 0.0), max(100 * one.high - estimate, 0.0)


def success_by_alpha(rows: Sequence[Row]) -> Figure:
    """Targeted and untargeted success against alpha."""
    figure = new_figure(5.2, 3.6)
    axes = figure.add_axes((0.12, 0.14, 0.85, 0.82))
    for what, colour, label in (("hit", TARGET, "target class"), ("missed", TRUE, "any but the true class")):
        found = [(alpha, outcomes(rows, exact(alpha), SAME)) for alpha in alphas(rows)]
        points = [(alpha, *_share(getattr(one, what), one)) for alpha, one in found if one is not None]
        at = np.arange(len(points))
        mean, low, high = np.array([point[1:] for point in points]).T
        axes.errorbar(at, mean, (low, high), color=colour, marker="o", markersize=4, capsize=2.5, lw=1.4, label=label)
    axes.set_xticks(at, [str(point[0]) for point in points])
    axes.set_xlabel("alpha: sampled networks in the attack")
    _percent(axes)
    axes.legend(loc="upper left")
    return figure


def _percent(axes: Axes) -> None:
    axes.set_ylabel("unseen networks that are fooled, %")
    axes.set_ylim(0, 100)
    axes.spines[["top", "right"]].set_visible(False)


def success_by_distance(rows: Sequence[Row]) -> Figure:
    """What success costs: exact answers by alpha, and baselines, at their mean distances."""
    figure = new_figure(5.2, 3.6)
    axes = figure.add_axes((0.12, 0.14, 0.85, 0.82))
    line = [(alpha, one) for alpha in alphas(rows) if (one := outcomes(rows, exact(alpha), SAME)) is not None]
    at = [float(one.distances.mean()) for _, one in line]
    mean, low, high = np.array([_share(one.hit, one) for _, one in line]).T
    axes.errorbar(at, mean, (low, high), color=TARGET, marker="o", markersize=4, capsize=2.5, lw=1.4, label="exact")
    for (alpha, _), x, y in zip(line, at, mean, strict=True):
        axes.annotate(f"{alpha}", (x, y), (4, -10), textcoords="offset points", size=8, color=PALE)
    robust = outcomes(rows, exact(standard(rows)), SAME)
    assert robust is not None, "the figures are made of these"
    marks = dict(zip(baselines.METHODS, ("s", "^", "v", "D"), strict=True))
    names = {"scaled": "stretched", "gradient": "gradient", "noise": "noisy weights", "logits": "averaged outputs"}
    width = 0.012 * (max(at) - min(at))
    for place, (method, mark) in enumerate(marks.items()):
        found = outcomes(rows, at_distance(method, robust), SAME)
        if found is not None:
            y, less, more = _share(found.hit, found)
            x = float(found.distances.mean()) + (place - 1.5) * width  # side by side, for all have one distance
            axes.errorbar(
                [x], [y], ([less], [more]), fmt=mark, color=OTHER, markersize=5, capsize=2.5,
                markeredgecolor=PALE, label=names[method],
            )  # fmt: skip
    axes.set_xlabel("mean L1 distance (numbers: alpha)")
    _percent(axes)
    axes.legend(loc="upper left")
    return figure


def success_by_set(rows: Sequence[Row]) -> Figure:
    """A group of bars a set of targets."""
    figure = new_figure(6.4, 3.6)
    axes = figure.add_axes((0.1, 0.12, 0.88, 0.84))
    names = sorted(sets(rows), key=lambda name: (name != SAME, name))
    chosen = [alpha for alpha in alphas(rows) if alpha in (0, standard(rows), max(alphas(rows)))]
    colours = (OTHER, TRUE, TARGET)
    for number, (alpha, colour) in enumerate(zip(chosen, colours, strict=False)):
        shift = 0.27 * (number - (len(chosen) - 1) / 2)
        found = [(place, outcomes(rows, exact(alpha), name)) for place, name in enumerate(names)]
        points = [(place, *_share(one.hit, one)) for place, one in found if one is not None]
        if not points:
            continue
        at, mean, low, high = np.array(points).T
        axes.bar(at + shift, mean, 0.25, color=colour, label=f"alpha = {alpha}")
        axes.errorbar(at + shift, mean, (low, high), fmt="none", color=PALE, capsize=1.5, lw=0.8)
    axes.set_xticks(range(len(names)), names)
    axes.tick_params(axis="x", length=0)
    _percent(axes)
    axes.legend(loc="upper right", ncols=len(chosen))
    return figure


def success_by_demand(rows: Sequence[Row]) -> Figure:
    """The trade-off of softer demands: success against distance, on the images that all families answer."""
    figure = new_figure(5.2, 3.6)
    axes = figure.add_axes((0.12, 0.14, 0.85, 0.82))
    found = families(rows, soft_families(rows))
    kinds = {"a share of the networks": TRUE, "mean of the worst slacks": "#009E73", "all, or the nominal one": TARGET}
    for kind, colour in kinds.items():
        mine = [(name, one) for name, _, _, one in found if one.rows and _kind(one.rows[0]) == kind]
        if not mine:
            continue
        at = [float(one.distances.mean()) for _, one in mine]
        mean, low, high = np.array([_share(one.hit, one) for _, one in mine]).T
        line = "none" if kind.startswith("all") else "-"
        axes.errorbar(
            at, mean, (low, high), color=colour, marker="o", markersize=4, capsize=2, lw=1.2, linestyle=line, label=kind
        )
        for place, ((name, _), x, y) in enumerate(zip(mine, at, mean, strict=True)):
            left = kind.startswith("mean")
            text = name.replace("at least ", "").replace("mean of ", "").replace("the ", "")
            where = (-5, 5 + 9 * place) if left else (5, -10)
            axes.annotate(
                text, (x, y), where, textcoords="offset points", size=7, color=PALE, ha="right" if left else "left"
            )
    axes.set_xlabel("mean L1 distance")
    _percent(axes)
    axes.set_ylim(0, min(100, 1.35 * axes.dataLim.y1))
    axes.margins(x=0.12)
    axes.legend(loc="upper left")
    return figure


def _kind(row: Row) -> str:
    demand = demand_of(row)
    if demand.cvar is not None:
        return "mean of the worst slacks"
    return "all, or the nominal one" if demand == EVERY else "a share of the networks"
