"""Section 6.2: where localising and certifying at once certifies, and localising first does not."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from arfj.certify.scenario import Ball, L1Ball, Request, Safe, Source, certify
from arfj.network import Floats
from arfj.report.figure import INK, PALE, TARGET, TRUE, new_figure
from experiments.scenario.common import DELTA, DOCUMENT, ROWS, SHORT, of
from experiments.sheets import Column, Sheet
from experiments.studies import Row, Scale, Study, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPSILON, LAMBDA, ENCLOSING = 0.05, 0.1, 1e6
"""With a large lambda the ball is the smallest that holds the samples: localising first."""
METHODS = {"half-space": ("halfspace", LAMBDA), "joint": ("l2", LAMBDA), "smallest ball": ("l2", ENCLOSING)}
SAFE = Safe(np.array([[0.0, 1.0]]), np.array([0.5]))


def source(seed: int = 0) -> Source:
    """ReLU of the uniform distribution on the l1 ball around (1, 0)."""
    return Source(relu, np.array([1.0, 0.0]), L1Ball(1.0), seed)


def relu(x: Floats) -> Floats:
    """f."""
    return np.maximum(x, 0.0)


def stage(scale: Scale, _rows: Sequence[Row]) -> list[Task]:
    """One row a method and size."""
    sizings = ("exact", "paper") if scale.size == "full" else ("exact",)
    return [
        Task(f"scenario/joint/{name}/{sizing}", functools.partial(measured, name, sizing), SHORT, "joint")
        for name in METHODS
        for sizing in sizings
    ]


def measured(name: str, sizing: str) -> dict[str, Any]:
    """One certificate."""
    kind, weight = METHODS[name]
    asked = {"epsilon": EPSILON, "delta": DELTA, "sizing": sizing, "set": kind, "regularise": weight}
    found = certify(source(), SAFE, Request(**asked))  # type: ignore[arg-type]
    return {"status": "optimal", "method": name} | found.as_json()


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """The bounds."""
    found = of(rows, "scenario/joint/")
    if not found:
        return []
    columns = (
        Column("method"),
        Column("size"),
        Column("N", 0),
        Column("p", 0),
        Column("bound", 3),
        Column("certified"),
    )
    order = list(METHODS)
    found.sort(key=lambda r: (r["sizing"] == "exact", order.index(r["method"])))
    cells = [(r["method"], r["sizing"], r["samples"], r["p"], r["bound"], "yes" if r["safe"] else "no") for r in found]
    notes = (
        f"f = ReLU on R^2, uniform noise on the l1 ball around (1, 0), safe: y_2 + 0.5 >= 0, epsilon {EPSILON}, lambda "
        f"{LAMBDA}. Published: the joint method certifies, the smallest enclosing ball does not.",
        "The least possible margin is 0.5, which the half-space finds; it says nothing of where the outputs are.",
    )
    return [Sheet("scenario_joint", "Section 6.2: joint localisation and certification.", columns, cells, notes)]


def figures(rows: Sequence[Row]) -> Mapping[str, Callable[[], Figure]]:
    """The balls around the samples."""
    found = {row["method"]: row for row in of(rows, "scenario/joint/") if row["sizing"] == "paper"}
    return {"scenario_joint": functools.partial(drawn, found)} if len(found) == len(METHODS) else {}


def drawn(found: Mapping[str, Row]) -> Figure:
    """Samples, both balls, and the unsafe side."""
    figure = new_figure(4.6, 4.2)
    axes = figure.add_axes((0.11, 0.1, 0.86, 0.87))
    y = relu(source().inputs(581, 0, 0))
    axes.plot(y[:, 0], y[:, 1], ".", color=INK, ms=2.5)
    at = np.linspace(0.0, 2.0 * np.pi, 400)
    for name, colour in (("joint", TRUE), ("smallest ball", TARGET)):
        ball = Ball(np.array(found[name]["centre"]), found[name]["radius"], "l2")
        x, z = ball.centre[:, None] + ball.radius * np.array([np.cos(at), np.sin(at)])
        axes.plot(x, z, color=colour, lw=1.4, label=f"{name}: {found[name]['bound']:.2f}")
    axes.axhspan(-1.2, -0.5, color=PALE, alpha=0.2, lw=0)
    axes.text(-0.45, -0.62, "unsafe", color=PALE, va="top")
    axes.set_aspect("equal")
    axes.set_ylim(-1.2, 3.2)
    axes.legend(loc="upper right")
    return figure


def violations(rows: Sequence[Row]) -> list[str]:
    """What the paper says, and is not so."""
    wrong = []
    for row in of(rows, "scenario/joint/"):
        low, up = {"joint": (0.15, 0.20), "smallest ball": (-0.45, -0.35)}.get(row["method"], (0.499, 0.501))
        if not low <= row["bound"] <= up:
            wrong.append(f"the bound of the {row['method']} ({row['sizing']}) is {row['bound']:.3f}")
    return wrong


STUDY = Study(
    "scenario_joint",
    "Section 6.2: localising and certifying at once",
    (stage,),
    sheets,
    figures,
    violations=violations,
    keys=("scenario/joint/",),
    rows=ROWS,
    document=DOCUMENT,
)
