"""Section 6.4: surrogates of deep networks: time and value against depth, by how many layers are sampled."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from arfj.certify.scenario import Request, Safe, Source, Uniform, certify, certify_by_surrogate
from arfj.network import Network
from arfj.report.figure import INK, OTHER, TARGET, TRUE, new_figure
from experiments.scenario.common import DELTA, DOCUMENT, ROWS, SHORT, of
from experiments.sheets import Column, Sheet
from experiments.studies import Row, Scale, Study, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, RADIUS, EPSILON = 20, 0.001, 0.001
DEPTHS = (3, 5, 7, 10, 13, 16, 19, 22, 25)
KEPT: Mapping[str, Callable[[int], int]] = {
    "1": lambda _: 1,
    "log K": lambda depth: max(1, round(math.log(depth))),
    "sqrt K": lambda depth: round(math.sqrt(depth)),
    "K - 1": lambda depth: depth - 1,
}
"""k*, by the depth K."""


def stage(scale: Scale, _rows: Sequence[Row]) -> list[Task]:
    """One row a depth."""
    depths = DEPTHS if scale.size == "full" else DEPTHS[:2]
    return [Task(f"scenario/depth/{d:02d}", functools.partial(measured, d), SHORT, "depth") for d in depths]


def network_of(depth: int) -> Network:
    """K hidden ReLU layers of random weights that keep the length of what passes, on average; two outputs."""
    rng = np.random.default_rng(depth)
    sizes = [WIDTH] * (depth + 1) + [2]
    pairs = itertools.pairwise(sizes)
    weights = [rng.normal(size=pair) * math.sqrt(2.0 / pair[0]) for pair in pairs]
    return Network.from_arrays(weights, [np.zeros(size) for size in sizes[1:]], "linear")


def measured(depth: int) -> dict[str, Any]:
    """The network itself, then its surrogates."""
    network = network_of(depth)
    x = np.random.default_rng(1000 + depth).random(WIDTH)
    true = int(network.classify(x[None])[0])
    safe, source = Safe.margin(2, true), Source(network, x, Uniform(RADIUS))
    request = Request(EPSILON, DELTA, threads=1)
    deep = certify(source, safe, request)
    margin = float((network(x[None]) @ safe.rows.T)[0, 0])
    found: dict[str, Any] = {"status": "optimal", "depth": depth, "margin": margin}
    found["deep"] = {"bound": deep.bound, "seconds": deep.seconds}
    for name, kept in KEPT.items():
        began = time.perf_counter()
        one = certify_by_surrogate(source, safe, kept(depth), request)
        found[name] = {"kept": kept(depth), "bound": one.bound, "seconds": time.perf_counter() - began}
    return found


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """Values as shares of the margin, then seconds."""
    found = sorted(of(rows, "scenario/depth/"), key=lambda row: row["depth"])
    if not found:
        return []
    names = ["deep", *KEPT]
    heads = [Column("K", 0)] + [Column("the network itself" if n == "deep" else f"k* = {n}", 3) for n in names]
    values = [(row["depth"], *(row[name]["bound"] / row["margin"] for name in names)) for row in found]
    seconds = [(row["depth"], *(row[name]["seconds"] for name in names)) for row in found]
    notes = (
        f"Random ReLU networks of {WIDTH} neurons a layer, uniform noise of radius {RADIUS}, epsilon {EPSILON}, "
        "N = 11508; bounds as shares of the margin without noise.",
        "What is not sampled is paid for in value: relaxed layers multiply their slack. The time of CROWN over all "
        "layers is in every k*.",
    )
    return [
        Sheet("scenario_depth", "Section 6.4: value against depth.", heads, values, notes),
        Sheet("scenario_depth_seconds", "Section 6.4: seconds against depth.", heads, seconds),
    ]


def figures(rows: Sequence[Row]) -> Mapping[str, Callable[[], Figure]]:
    """Value and time against depth."""
    found = sorted(of(rows, "scenario/depth/"), key=lambda row: row["depth"])
    return {"scenario_depth": functools.partial(drawn, found)} if len(found) > 2 else {}


def drawn(found: Sequence[Row]) -> Figure:
    """Two panels."""
    figure = new_figure(7.4, 3.1)
    at = [row["depth"] for row in found]
    styles = {
        "deep": (INK, "-"),
        "1": (TARGET, "-"),
        "log K": (TARGET, "--"),
        "sqrt K": (TRUE, "--"),
        "K - 1": (TRUE, "-"),
    }
    for left, what in ((0.09, "bound"), (0.62, "seconds")):
        axes = figure.add_axes((left, 0.16, 0.36, 0.8))
        for name, (colour, dashes) in styles.items():
            values = [row[name][what] / (row["margin"] if what == "bound" else 1.0) for row in found]
            axes.plot(at, values, color=colour, ls=dashes, lw=1.4, label="itself" if name == "deep" else f"k* = {name}")
        axes.set_xlabel("depth K")
        axes.set_ylabel("bound / margin" if what == "bound" else "seconds")
        axes.set_yscale("symlog" if what == "bound" else "log")
        axes.grid(color=OTHER, lw=0.3)
        if what == "bound":
            axes.legend(loc="lower left")
    return figure


def violations(rows: Sequence[Row]) -> list[str]:
    """A surrogate lies below its network, for both have the same samples."""
    return [
        f"{row['key']}: k* = {name} has the larger bound"
        for row in of(rows, "scenario/depth/")
        for name in KEPT
        if row[name]["bound"] > row["deep"]["bound"] + 1e-9
    ]


STUDY = Study(
    "scenario_depth",
    "Section 6.4: surrogates against depth",
    (stage,),
    sheets,
    figures,
    violations=violations,
    keys=("scenario/depth/",),
    rows=ROWS,
    document=DOCUMENT,
)
