"""Figures 1 to 3, the three pictures of an answer of each kind, and Figure 4, how sure the attacked network is."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from arfj.attack.__main__ import CLASS_NAMES
from arfj.data import bundled_images
from arfj.errors import ArfjError
from arfj.evaluate import Witness
from arfj.network import Floats
from arfj.report.figure import INK, PALE, TARGET, TRUE, new_figure, triptych
from experiments.paper import grey_box, ten
from experiments.paper.ten import KINDS, answered, of_role
from experiments.studies import Row, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 9
"""The true class whose answers are drawn, where it has some."""
LINES = {"FJAE": (TRUE, "-", 2.6), "IRAE": (INK, (0, (2, 2)), 1.4), "ORAE": (TARGET, "-", 2.0)}
"""Colour, dashes and width: where two curves lie on each other, both are seen."""


def figures(rows: Sequence[Row]) -> dict[str, Callable[[], Figure]]:
    """Those that the rows allow."""
    found = {key: row for key, row in of_role(rows, "answer").items() if row["distance"] is not None}
    drawn: dict[str, Callable[[], Figure]] = {}
    true = shown(found)
    for number, kind in enumerate(KINDS, 1):
        if (kind, true) in found:
            drawn[f"figure{number}"] = functools.partial(pictures, found[kind, true])
    said = {kind: attacked(rows, kind) for kind in KINDS}
    if any(values.size for values in said.values()):
        drawn["figure4"] = functools.partial(curves, said)
    return drawn


def shown(found: Collection[tuple[str, int]]) -> int:
    """The class of Figures 1 to 3, one for all: one that every kind has an answer to, or as many kinds as may be."""
    held = Counter(true for _, true in found)
    return max(held, key=lambda true: (held[true], true == SHOWN, -true), default=SHOWN)


def pictures(row: Row) -> Figure:
    """Original, change and result."""
    x = answered(row)
    if x is None:
        raise ArfjError(f"the row {row['key']} holds no answer to draw")
    witness = Witness(
        x,
        bundled_images().nominal[row["true"]],
        row["true"],
        row["target"],
        row["gamma"],
        row["distance"],
        row["bound"],
    )
    pair = f"{CLASS_NAMES[row['true']]} → {CLASS_NAMES[row['target']]}"
    proof = "proven optimal" if row["status"] == "optimal" else f"proven bound {row['bound']:.3f}"
    count = f"{row['scenarios']} network{'s' if row['scenarios'] > 1 else ''}"
    return triptych(
        witness, f"{row['model']}: {pair}", f"L1 distance {row['distance']:.3f}   ·   {proof}   ·   {count}"
    )


def attacked(rows: Sequence[Row], kind: str) -> Floats:
    """The target's probabilities at the attacked network, one a grey-box answer of a kind."""
    found = [row for (name, _), row in of_role(rows, "grey").items() if name == kind and "seen" in row]
    return np.array([row["seen"]["attacked"]["target"][0] for row in found])


def reached(probabilities: Floats, levels: Floats) -> Floats:
    """How many of the probabilities are at least each level."""
    return np.asarray((probabilities[None, :] >= levels[:, None]).sum(axis=1), dtype=np.float64)


def curves(said: Mapping[str, Floats]) -> Figure:
    """A step curve a kind: it falls behind the probability of each answer."""
    figure = new_figure(5.6, 3.5)
    axes = figure.add_axes((0.1, 0.145, 0.87, 0.73))
    most = max(values.size for values in said.values())
    for kind, values in said.items():
        colour, dashes, width = LINES[kind]
        ends = np.unique(np.concatenate([values, [0.0, 1.0]]))
        axes.step(ends, reached(values, ends), where="pre", color=colour, linestyle=dashes, linewidth=width, label=kind)
    axes.set_xlim(-0.015, 1)  # drops near 0 would lie on the axis
    axes.set_ylim(0, most + 0.4)
    axes.set_yticks(range(0, most + 1, 2 if most > 5 else 1))
    axes.set_xlabel("p")
    axes.set_title("answers whose target has at least probability p at the attacked network", loc="left", size=9.5)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelcolor=PALE)
    axes.legend(loc="upper right", handlelength=2.4)
    return figure


STUDY = Study(
    "figures",
    "Figures 1 to 4: pictures of answers, and the grey box level by level",
    (ten.answers, grey_box.answers),
    lambda _rows: [],
    figures=figures,
    completed=ten.completed,
    keys=("answer/", "grey/"),
)
