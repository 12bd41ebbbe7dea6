"""Plots of the rows: time against alpha, and how bound and incumbent went. matplotlib is loaded when one is drawn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arfj.report.figure import OTHER, PALE, TARGET, TRUE, new_figure, save_png, style
from experiments.attacks import alpha, formulations, growth, seeds
from experiments.attacks import rows as told
from experiments.attacks.plan import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (TRUE, TARGET, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", OTHER)
TRACED = (formulations.PREFIX, alpha.PREFIX, growth.PREFIX, seeds.PREFIX)
COLUMNS = 6
SOONEST = 0.1
"""Seconds at which the axis of a trace begins."""


def plots(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw all plots for which there are rows, and name their files.

    Raises:
        ArfjError: matplotlib is missing, or a file cannot be written.
    """
    drawn = []
    growing = [row for row in told.of(alpha.PREFIX, rows) if row["status"] != "error"]
    if growing:
        drawn.append(_alpha(growing, folder / "alpha.png"))
    for prefix in TRACED:
        traced = [row for row in told.of(prefix, rows) if row.get("trace")]
        if traced:
            traced.sort(key=lambda row: [part.zfill(3) for part in row["key"].split("/")])
            drawn.append(_traces(traced, folder / f"traces_{prefix}.png"))
    return drawn


def _alpha(rows: Sequence[Row], path: Path) -> Path:
    """A line an image and solver; hollow marks stand at the time of a question that stayed open."""
    figure = new_figure(6.4, 4.2)
    with style():
        axes = figure.add_axes((0.11, 0.13, 0.86, 0.82))
        names = sorted({(row["solver"], row["true"]) for row in rows})
        for (solver, true), colour in zip(names, itertools.cycle(COLOURS), strict=False):
            chosen = [row for row in rows if (row["solver"], row["true"]) == (solver, true)]
            chosen.sort(key=lambda row: row["alpha"])
            at, seconds = [row["alpha"] for row in chosen], [row["seconds"] for row in chosen]
            label = f"{true} → {chosen[0]['target']}, {solver}"
            axes.plot(at, seconds, color=colour, linewidth=1.4, label=label)
            for row in chosen:
                face = colour if told.decided(row) else "white"
                axes.plot(row["alpha"], row["seconds"], "o", color=colour, markerfacecolor=face, markersize=5.5)
        axes.plot([], [], "o", color=PALE, markerfacecolor="white", label="not proven")
        for count, goal in alpha.GOALS.items():
            axes.plot(count, goal, "_", color=PALE, markersize=18, label="goal" if count == 20 else None)
        axes.set_xscale("log")
        axes.set_yscale("log")
        ticks = sorted({row["alpha"] for row in rows} | set(alpha.GOALS))
        axes.set_xticks(ticks, [str(count) for count in ticks])
        axes.minorticks_off()
        axes.set_xlabel("alpha: networks beside the nominal one")
        axes.set_ylabel("seconds")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper left")
        save_png(figure, path)
    return path


def _traces(rows: Sequence[Row], path: Path) -> Path:
    """A panel a row: the best answer's distance and the bound against seconds."""
    columns = min(COLUMNS, len(rows))
    lines = math.ceil(len(rows) / columns)
    figure = new_figure(2.3 * columns + 0.5, 1.75 * lines + 0.4)
    with style():
        grid = figure.subplots(lines, columns, squeeze=False)
        for panel, row in itertools.zip_longest(grid.ravel(), rows):
            if row is None:
                panel.remove()
            else:
                _panel(panel, row)
        grid[0, 0].legend(loc="center left")
        figure.supxlabel("seconds", size=9.0)
        figure.supylabel("L1 distance", size=9.0)
        figure.tight_layout()
        save_png(figure, path)
    return path


def _panel(axes: Axes, row: Row) -> None:
    for index, colour, label in ((1, TARGET, "incumbent"), (2, TRUE, "bound")):
        points: list[Any] = [point for point in row["trace"] if point[index] is not None]
        at = [max(point[0], SOONEST) for point in points]
        axes.plot(at, [point[index] for point in points], drawstyle="steps-post", color=colour, label=label)
        axes.plot(at[-1:], [point[index] for point in points[-1:]], ".", color=colour)
    axes.set_xscale("log")
    axes.set_xlim(SOONEST, 10 ** math.ceil(math.log10(max(row["trace"][-1][0], 1.0) + 0.1)))
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    name = row["key"].partition("/")[2]
    axes.set_title(name if told.decided(row) else f"{name} (open)", size=8.0)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
