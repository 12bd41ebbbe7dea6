"""Figures: exact distribution functions, how far samples are off them, and the tanh network between its bounds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from arfj.report.figure import INK, PALE, TARGET, TRUE, new_figure
from experiments.studies import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = (TRUE, TARGET, INK)


def figures(rows: Sequence[Row]) -> Mapping[str, Callable[[], Figure]]:
    """Those that the rows allow."""
    iris = [row for row in rows if row["key"].startswith("cdf/iris/")]
    tanh = [row for row in rows if row["key"].startswith("cdf/tanh/")]
    made: dict[str, Callable[[], Figure]] = {}
    if iris:
        made["cdf_iris"] = functools.partial(distributions, iris)
        made["cdf_iris_difference"] = functools.partial(differences, iris)
    if tanh:
        made["cdf_tanh"] = functools.partial(enclosures, sorted(tanh, key=lambda row: row["segments"])[:2])
    return made


def distributions(rows: Sequence[Row]) -> Figure:
    """One curve a logit; at a million samples the band of Monte Carlo is hardly wider than the curve."""
    figure = new_figure(6.0, 3.5)
    axes = figure.add_axes((0.09, 0.14, 0.88, 0.76))
    for row, colour in zip(_by_logit(rows), COLOURS, strict=False):
        share = np.array(row["share"])
        axes.fill_between(row["y"], share - row["band"], share + row["band"], color=colour, alpha=0.3, linewidth=0)
        axes.plot(row["y"], row["lower"], color=colour, linewidth=1.3, label=_logit(row))
    axes.set_title("P(f <= y), iris: bounds and the band of Monte Carlo", loc="left", size=9.5)
    return _finished(figure)


def differences(rows: Sequence[Row]) -> Figure:
    """The empirical distribution function less the bounds, a panel a logit: what a curve cannot show at a million."""
    figure = new_figure(8.4, 3.0)
    for place, (row, colour) in enumerate(zip(_by_logit(rows), COLOURS, strict=False)):
        axes = figure.add_axes((0.085 + 0.31 * place, 0.16, 0.28, 0.7))
        y, share = np.array(row["y"]), np.array(row["share"])
        axes.axhspan(-1e3 * row["band"], 1e3 * row["band"], color=PALE, alpha=0.15, linewidth=0)
        axes.fill_between(
            y, 1e3 * (share - row["upper"]), 1e3 * (share - row["lower"]), color=colour, linewidth=1.2, alpha=0.9
        )
        axes.axhline(0.0, color=PALE, linewidth=0.6)
        axes.set_ylim(-1.25e3 * row["band"], 1.25e3 * row["band"])
        axes.set_title(f"{_logit(row)}: samples less P(f <= y)", loc="left", size=9.0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelcolor=PALE, labelleft=place == 0)
        if place == 0:
            axes.set_ylabel("thousandths; grey: 99 % band")
    return figure


def _by_logit(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: str(row["key"]))


def _logit(row: Row) -> str:
    return f"logit {row['key'].rsplit('/', 1)[1]}"


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
