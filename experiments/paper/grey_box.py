"""The grey box: the attacked network is an oracle of probabilities on the 50 images of d_osd, and no scenario.

The attacker trains an artificial nominal network. FJAE fools that one, IRAE also perturbed copies of it, ORAE retrained
networks that answer like the oracle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from arfj.attack import sampled
from arfj.data import bundled_growth, bundled_images, bundled_nominal
from arfj.ensemble import ALPHA, EPSILON_OUTER, Ensemble, d_osd, inner_samples
from arfj.network import Network
from experiments.paper import ten
from experiments.paper.shares import COLUMNS, mean, shares
from experiments.paper.ten import CLASSES, KINDS, of_role
from experiments.sheets import Column, Sheet
from experiments.studies import Row, Scale, Study, Task

ARTIFICIAL = 6
"""Of `bundled_growth("8-8-8")`: the first outer sample that is no scenario of an ORAE."""


def answers(scale: Scale, rows: Sequence[Row] = ()) -> list[Task]:
    """The questions, `grey/KIND/TRUE`."""
    return ten.tasks("grey", answer, scale, range(CLASSES) if scale.size == "full" else ten.SMOKE, rows)


def answer(kind: str, true: int, limit: float, earlier: Row | None = None) -> dict[str, Any]:
    """The row of one question, and how far the artificial network is from the attacked one."""
    osd = bundled_images().osd
    distance = d_osd(artificial().probabilities(osd), bundled_nominal().probabilities(osd))
    facts = {"role": "grey", "model": kind, "artificial": ARTIFICIAL, "d_osd": distance}
    return ten.ask(scenarios(kind), true, limit, facts, earlier)


def artificial() -> Network:
    """The attacker's own nominal network."""
    return bundled_growth("8-8-8")[ARTIFICIAL]


def scenarios(kind: str) -> Ensemble:
    """What an attacker without the weights can ask for; the attacked network is never among it."""
    match kind:
        case "FJAE":
            return Ensemble((artificial(),), "nominal")
        case "IRAE":
            return Ensemble((artificial(), *inner_samples(artificial(), ALPHA)), "inner")
        case _:
            return sampled("outer", ALPHA, oracle=bundled_nominal().probabilities).ensemble


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """A row a kind."""
    found = of_role(rows, "grey")
    if not found:
        return []
    columns = (
        Column("model"), Column("scenarios", 0), Column("images", 0), Column("hit the attacked network", 0),
        Column("mean distance", 3), *COLUMNS[3:], Column("largest gap", 2, percent=True),
    )  # fmt: skip
    cells = [line(kind, some) for kind in KINDS if (some := [row for (name, _), row in found.items() if name == kind])]
    distance = next(iter(found.values()))["d_osd"]
    notes = (
        "The attacked network is the bundled nominal one; it is asked for its probabilities on 50 images and for "
        "nothing else, and is no scenario.",
        f"FJAE and IRAE are made for an artificial nominal network with d_osd {distance:.4f} to it, ORAE for {ALPHA} "
        f"other retrained networks, all with d_osd below {EPSILON_OUTER:g}.",
        "Probabilities are those of the attacked network, means over the answers.",
    )
    return [Sheet("grey_box", "Grey box: answers at a network whose weights no attack knows.", columns, cells, notes)]


def line(kind: str, rows: Sequence[Row]) -> tuple[str | int | float | None, ...]:
    """The cells of a kind; images without an answer count as not hit."""
    seen = [shares(row, "attacked") for row in rows if "seen" in row]
    hits = sum(one.target == 1.0 for one in seen)
    distances = [row["distance"] for row in rows if row["distance"] is not None]
    gaps = [row["gap"] for row in rows if row["gap"] is not None]
    said = mean(seen).cells[3:] if seen else (None,) * len(COLUMNS[3:])
    far = sum(distances) / len(distances) if distances else None
    return (kind, rows[0]["scenarios"], len(rows), hits, far, *said, max(gaps, default=None))


STUDY = Study(
    "grey_box",
    "Grey box: answers at a network that is asked for probabilities only",
    (answers,),
    sheets,
    completed=ten.completed,
    keys=("grey/",),
)
