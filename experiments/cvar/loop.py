"""The closed loop (IV-A): ellipsoids that hold the next state, and Figure 1."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from arfj.certify.cvar import FAMILIES, Moments, lifted
from arfj.certify.cvar.ellipsoid import least_ellipsoid
from arfj.certify.cvar.multipliers import Family
from arfj.certify.cvar.samples import draw
from arfj.network import Floats
from experiments.cvar.given import (
    CONTROL,
    CONTROLLER,
    DETERMINANT,
    GAIN,
    JOINT_DETERMINANT,
    SHAPE,
    STATE,
    TRUE_DETERMINANT,
)
from experiments.sheets import Column, Sheet
from experiments.studies import Row, Scale, Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EPSILONS = (0.5, 0.2, 0.1)
SHOWN = 0.2
CASES = ("set", "confidence", "cvar", "joint")
"""Inputs with x'x <= 1; with probability p = 1 - eps in the confidence ellipsoid; sup CVaR of x'x; P found jointly."""
LIMIT = 60.0
MOMENTS = Moments(np.zeros(2), np.eye(2) / 4)
TOGETHER = STATE + CONTROL @ GAIN


def radius(case: str, epsilon: float) -> float:
    """r: 1, 1 / (2 (1 - p)) with p = 1 - eps, or 1 / (2 eps)."""
    return {"set": 1.0, "confidence": 1.0 / (2.0 * (1.0 - (1.0 - epsilon)))}.get(case, 1.0 / (2.0 * epsilon))


def stage(scale: Scale, _rows: Sequence[Row]) -> list[Task]:
    """Case by case; the set itself knows no eps."""
    limit = scale.seconds(LIMIT)
    chosen = [(case, eps) for case in CASES for eps in (EPSILONS if case != "set" else (0.5,))]
    if scale.size == "smoke":
        chosen = [("cvar", 0.5), ("joint", 0.5)]
    return [
        Task(f"cvar/loop/{case}/{family}/{eps:g}", functools.partial(measured, case, family, eps, limit), limit, "loop")
        for case, eps in chosen
        for family in FAMILIES
    ]


def measured(case: str, family: Family, epsilon: float, limit: float) -> dict[str, Any]:
    """One ellipsoid."""
    net, r = lifted(CONTROLLER, MOMENTS), radius(case, epsilon)
    form = None if case == "joint" else np.diag([1.0, 1.0, -r])
    found = least_ellipsoid(net, np.hstack([STATE, CONTROL]), epsilon, family, form, limit)
    shape = None if found.shape is None else found.shape.tolist()
    row = {"study": "cvar", "part": "loop", "case": case, "family": family, "epsilon": epsilon, "r": r}
    return row | {"shape": shape, "said": found.status, "seconds": found.seconds, "status": "optimal"}


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """E and its determinant, in units of r."""
    mine = [row for row in rows if row.get("part") == "loop"]
    if not mine:
        return []
    columns = [Column("input"), Column("multipliers"), Column("eps", 2), Column("r", 2)]
    columns += [Column(f"E{place} / r", 4) for place in ("11", "12", "22")] + [
        Column("det E / r²", 5),
        Column("", None),
    ]
    order = sorted(mine, key=lambda row: (CASES.index(row["case"]), -row["epsilon"], row["key"]))
    lines = [line(row) for row in order]
    known = (*SHAPE, DETERMINANT)
    lines.append(("reference: P fixed", "pairs", None, None, *known, ""))
    lines.append(("reference: joint, eps 0.5", "pairs", None, None, None, None, None, JOINT_DETERMINANT, ""))
    truth = TOGETHER @ TOGETHER.T
    lines.append(("reachable set itself", "", None, None, truth[0, 0], truth[0, 1], truth[1, 1], TRUE_DETERMINANT, ""))
    notes = (
        "set: all inputs with x'x ≤ 1; confidence: P(x'x ≤ r) ≥ p = 1 - eps; cvar: sup CVaR of x'x ≤ r. With P "
        "fixed these are one program, so confidence and cvar coincide at p = 1 - eps; with P found jointly "
        "(joint) they do not.",
        "E is certified: scaled by the bound that is recomputed from the multipliers.",
    )
    return [Sheet("cvar_loop", "Ellipsoids that hold x⁺ = A x + B f(x)", columns, lines, notes)]


def line(row: Row) -> tuple[Any, ...]:
    """A line of the table."""
    head = (row["case"], row["family"], row["epsilon"], row["r"])
    if row["shape"] is None:
        return (*head, None, None, None, None, "unknown")
    shape = np.array(row["shape"]) / row["r"]
    return (*head, shape[0, 0], shape[0, 1], shape[1, 1], float(np.linalg.det(shape)), row["said"])


def violations(rows: Sequence[Row]) -> list[str]:
    """With P fixed all inputs of the set are held; and volumes fall with more constraints and with P free."""
    found = {(r["case"], r["family"], r["epsilon"]): np.array(r["shape"]) / r["r"] for r in rows if r.get("shape")}
    wrong = []
    truth = TOGETHER @ TOGETHER.T
    for (case, family, eps), shape in found.items():
        if case != "joint" and np.linalg.eigvalsh(shape - truth)[0] < -1e-6:
            wrong.append(f"the ellipsoid of {case}, {family} at {eps:g} does not hold the reachable set")
        free = found.get(("joint", family, eps))
        if case == "cvar" and free is not None and np.linalg.det(free) > np.linalg.det(shape) * (1 + 1e-2):
            wrong.append(f"at {eps:g} a free P makes the ellipsoid of {family} larger")
    return wrong


def figures(rows: Sequence[Row]) -> Mapping[str, Callable[[], Figure]]:
    """Figure 1, where the ellipsoids of its eps are there."""
    chosen = {(row["case"], row["family"]): row for row in rows if row.get("shape") and row.get("epsilon") == SHOWN}
    if not {("cvar", "pairs"), ("joint", "pairs"), ("joint", "products")} <= chosen.keys():
        return {}
    return {"cvar_loop": lambda: drawn(chosen)}


def drawn(chosen: Mapping[tuple[str, str], Row]) -> Figure:
    """Next states of samples of three laws, matched in mean and covariance, and the ellipsoids at eps 0.2."""
    from arfj.report.figure import INK, OTHER, PALE, TARGET, TRUE, new_figure

    figure = new_figure(9.6, 3.4)
    for place, law in enumerate(("uniform", "normal", "t")):
        axes = figure.add_axes((0.075 + 0.315 * place, 0.15, 0.27, 0.75))
        y = draw(law, MOMENTS, 2000, np.random.default_rng(place)) @ TOGETHER.T
        axes.plot(*y.T, ".", color=OTHER, markersize=1.6, zorder=1)
        lines = (
            ("cvar", "pairs", PALE, "P fixed"),
            ("joint", "pairs", TRUE, "joint"),
            ("joint", "products", TARGET, "products"),
        )
        for case, family, colour, label in lines:
            _ellipse(axes, np.array(chosen[case, family]["shape"]), colour, label)
        _ellipse(axes, radius("cvar", SHOWN) * TOGETHER @ TOGETHER.T, INK, "reachable from x'x ≤ r")
        axes.set(xlim=(-8.5, 8.5), ylim=(-0.8, 1.0), title=law, xlabel="$x^+_1$")
        axes.spines[["top", "right"]].set_visible(False)
        if place == 0:
            axes.set_ylabel("$x^+_2$")
            axes.legend(loc="upper right", fontsize=6.5, borderaxespad=0)
    return figure


def _ellipse(axes: Axes, shape: Floats, colour: str, label: str) -> None:
    angle = np.linspace(0.0, 2.0 * np.pi, 200)
    values, vectors = np.linalg.eigh(shape)
    points = vectors * np.sqrt(values) @ np.vstack([np.cos(angle), np.sin(angle)])
    axes.plot(*points, color=colour, lw=1.3, label=label, zorder=2)
