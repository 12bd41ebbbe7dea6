"""Figures: the exact distribution functions, and the tanh network between its bounds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from arfj.report.figure import INK, PALE, TARGET, TRUE, new_figure
from experiments.studies import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figures(rows: Sequence[Row]) -> Mapping[str, Callable[[], Figure]]:
    """Those that the rows allow."""
    iris = [row for row in rows if row["key"].startswith("cdf/iris/")]
    tanh = [row for row in rows if row["key"].startswith("cdf/tanh/")]
    made: dict[str, Callable[[], Figure]] = {}
    if iris:
        made["cdf_iris"] = functools.partial(distributions, iris)
    if tanh:
        made["cdf_tanh"] = functools.partial(enclosures, sorted(tanh, key=lambda row: row["segments"])[:2])
    return made


def distributions(rows: Sequence[Row]) -> Figure:
    """One curve a logit; at a million samples the band of Monte Carlo is hardly wider than the curve."""
    figure = new_figure(6.0, 3.5)
    axes = figure.add_axes((0.09, 0.14, 0.88, 0.76))
    for row, colour in zip(sorted(rows, key=lambda row: row["key"]), (TRUE, TARGET, INK), strict=False):
        share = np.array(row["share"])
        axes.fill_between(row["y"], share - row["band"], share + row["band"], color=colour, alpha=0.3, linewidth=0)
        axes.plot(row["y"], row["lower"], color=colour, linewidth=1.3, label=f"logit {row['key'].rsplit('/', 1)[1]}")
    axes.set_title("P(f <= y), iris: bounds and the band of Monte Carlo", loc="left", size=9.5)
    return _finished(figure)


def enclosures(rows: Sequence[Row]) -> Figure:
    """Upper and lower networks along a diagonal of the box."""
    figure = new_figure(6.0, 3.5)
    axes = figure.add_axes((0.09, 0.14, 0.88, 0.76))
    for row, colour in zip(rows, (TARGET, TRUE), strict=False):
        label = f"{row['segments']} segments"
        axes.fill_between(row["t"], row["low"], row["high"], color=colour, alpha=0.35, linewidth=0, label=label)
    axes.plot(rows[0]["t"], rows[0]["true"], color=INK, linewidth=1.2, label="tanh network")
    axes.set_title("A tanh network between its piecewise linear bounds, from (0, 1) to (1, 0)", loc="left", size=9.5)
    return _finished(figure)


def _finished(figure: Figure) -> Figure:
    axes = figure.axes[0]
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelcolor=PALE)
    axes.legend(loc="best", frameon=False)
    return figure
