"""Certificates for classes: the digits (IV-B) with Table II's statistics, and the iris network beside its
references.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from arfj.certify.cvar import FAMILIES, Moments, Options, certify_classes, cvar
from arfj.certify.cvar.certificate import METHODS, Method, margin
from arfj.certify.cvar.falsify import falsify
from arfj.certify.cvar.multipliers import Family
from arfj.certify.cvar.samples import LAWS, OTHERS, draw, matched
from arfj.network import Floats, Network
from experiments.cvar.given import CLASS, IRIS, PLT, digits, iris
from experiments.sheets import Column, Sheet
from experiments.studies import Row, Scale, Task

EPSILON = 0.2
DRAWN = 100_000
SHORT, LONG = 60.0, 120.0
TABLE = [law for law in LAWS if law != "two-radius"]
"""The laws of Table II, all with the class's mean and covariance."""


def digits_stage(scale: Scale, _rows: Sequence[Row]) -> Iterator[Task]:
    """Every rival of class 6 by descent, two of them by a semidefinite solver as well; then the laws."""
    rivals = [j for j in range(10) if j != CLASS] if scale.size == "full" else [8]
    for j in rivals:
        asked: list[tuple[Family, Method, float]] = [("diagonal", "first-order", SHORT)]
        if scale.size == "full":
            asked.append(("pairs", "first-order", LONG))
            asked += [("diagonal", "sdp", LONG)] if j in (0, 8) else []
        for family, method, full in asked:
            limit = scale.seconds(full)
            call = functools.partial(digits_bound, j, family, method, limit)
            yield Task(f"cvar/digits/{j}/{family}/{method}", call, limit, f"{family} {method}")
    count = DRAWN if scale.size == "full" else 2000
    for law in [*TABLE, *OTHERS]:
        yield Task(f"cvar/digits/law/{law}", functools.partial(statistics, law, count), SHORT, "law")


def iris_stage(scale: Scale, _rows: Sequence[Row]) -> Iterator[Task]:
    """The three pairs of classes that have references, by every family and method; none where the network is not at
    hand.
    """
    if not PLT.is_file():
        return
    for pair in IRIS if scale.size == "full" else ["1/2"]:
        for family in FAMILIES if scale.size == "full" else FAMILIES[:1]:
            for method in METHODS:
                limit = scale.seconds(SHORT)
                call = functools.partial(iris_bound, pair, family, method, limit)
                yield Task(f"cvar/iris/{pair}/{family}/{method}", call, limit, f"iris {method}")


def digits_bound(rival: int, family: Family, method: Method, limit: float) -> dict[str, Any]:
    """One certificate of the digits network."""
    given = digits()
    row = bound(given.network, given.moments, CLASS, rival, family, method, limit)
    return row | {"part": "digits", "accuracy": given.accuracy}


def iris_bound(pair: str, family: Family, method: Method, limit: float) -> dict[str, Any]:
    """One certificate of the iris network."""
    network, inputs = iris()
    true, rival = map(int, pair.split("/"))
    row = bound(network, Moments.of(inputs[true]), true, rival, family, method, limit)
    data = cvar(network(inputs[true]) @ margin(network.classes, rival, true), EPSILON)
    return row | {"part": "iris", "pair": pair, "data": data, "reference": IRIS[pair][family]}


def bound(
    network: Network, moments: Moments, true: int, rival: int, family: Family, method: Method, limit: float
) -> dict[str, Any]:
    """A certificate, a falsifier, and what moment-matched samples of all laws reach."""
    options = Options(family, method, limit)
    found = certify_classes(network, moments, true, EPSILON, options, [rival])[rival]
    weights = margin(network.classes, rival, true)

    def loss(x: Any) -> Floats:  # noqa: ANN401 - ArrayLike
        return np.asarray(network(x) @ weights)

    lower = falsify(loss, moments, EPSILON, found.proof).value
    rng = np.random.default_rng(rival)
    sampled = {law: cvar(loss(matched(draw(law, moments, 5000, rng), moments)), EPSILON) for law in LAWS}
    row = {"study": "cvar", "true": true, "rival": rival, "family": family, "method": method, "bound": found.bound}
    row |= {"reported": found.objective, "said": found.status, "seconds": found.seconds}
    return row | {"falsifier": lower, "sampled": sampled, "status": "optimal"}


def statistics(law: str, count: int) -> dict[str, Any]:
    """Table II: the margin f_6 - max_j f_j over draws of a law; CVaR is the mean of its lowest fifth."""
    given = digits()
    outputs = given.network(draw(law, given.moments, count, np.random.default_rng(CLASS)))
    rivals = np.delete(outputs, CLASS, axis=1)
    values = outputs[:, CLASS] - rivals.max(axis=1)
    row = {"study": "cvar", "part": "law", "law": law, "drawn": count, "mean": float(values.mean())}
    positive, deviation = float((values > 0).mean()), float(values.std())
    row |= {"median": float(np.median(values)), "deviation": deviation, "positive": positive}
    return row | {"cvar": -cvar(-values, EPSILON), "status": "optimal"}


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """Bounds of the digits, statistics of the laws, bounds of the iris network."""
    made = [digits_sheet(rows), laws_sheet(rows), iris_sheet(rows)]
    return [sheet for sheet in made if sheet is not None]


def digits_sheet(rows: Sequence[Row]) -> Sheet | None:
    """A line a rival."""
    mine = [row for row in rows if row.get("part") == "digits"]
    if not mine:
        return None
    by = {(row["rival"], row["family"], row["method"]): row for row in mine}
    lines = []
    for j in sorted({row["rival"] for row in mine}):
        asked = (("diagonal", "first-order"), ("pairs", "first-order"), ("diagonal", "sdp"))
        one, pair, sdp = (by.get((j, *what)) for what in asked)
        best = [row for row in (one, pair, sdp) if row is not None]
        lower = max(row["falsifier"] for row in best)
        cells = [cell for row in (one, pair, sdp) for cell in (row and row["bound"], row and row["seconds"])]
        least = min((row["bound"] for row in best if row["bound"] is not None), default=None)
        lines.append((str(j), *cells, sdp and sdp["reported"], lower, None if least is None else least - lower))
    columns = [Column("rival"), Column("diagonal", 4), Column("s", 1), Column("pairs", 4), Column("s", 1)]
    columns += [Column("diagonal, SDP", 4), Column("s", 1), Column("its solver says", 4)]
    columns += [Column("falsifier", 4), Column("gap", 4)]
    notes = (
        f"64-32-10, test accuracy {100 * mine[0]['accuracy']:.1f} %; mean and covariance of class {CLASS} among the "
        f"training images, eps {EPSILON:g}, loss f_rival - f_{CLASS}. Bounds at most 0 certify a rival.",
        "falsifier: what a distribution with these moments reaches; gap: the least bound less that.",
    )
    return Sheet("cvar_digits", f"Certificates of class {CLASS}, rival by rival", columns, lines, notes)


def laws_sheet(rows: Sequence[Row]) -> Sheet | None:
    """A line a law."""
    by = {row["law"]: row for row in rows if row.get("part") == "law"}
    lines = [
        (law, *(by[law][name] for name in ("mean", "median", "deviation", "positive", "cvar")))
        for law in [*TABLE, *OTHERS]
        if law in by
    ]
    if not lines:
        return None
    columns = [Column("law"), Column("mean", 3), Column("median", 3), Column("deviation", 3)]
    columns += [Column("positive", 2, percent=True), Column("CVaR 0.2", 3)]
    drawn = max(row["drawn"] for row in by.values())
    notes = (
        f"The margin f_{CLASS} - max_j f_j over {drawn:,} draws; CVaR 0.2 is the mean of its lowest fifth. But for the "
        "last two, all laws have the class's mean and covariance.",
        "t has 3 degrees of freedom, or 2.5. With Sigma as its scale matrix its covariance is 3 or 5 times Sigma: "
        "these are no distributions that the certificates are about.",
    )
    return Sheet("cvar_laws", "Table II: the margin under six laws with the same moments", columns, lines, notes)


def iris_sheet(rows: Sequence[Row]) -> Sheet | None:
    """A line a pair of classes and family."""
    by = {(row["pair"], row["family"], row["method"]): row for row in rows if row.get("part") == "iris"}
    lines = []
    for pair in IRIS:
        for family in FAMILIES:
            found = [by.get((pair, family, method)) for method in METHODS]
            any_row = next((row for row in found if row is not None), None)
            if any_row is None:
                continue
            cells = [cell for row in found for cell in (row and row["bound"], row and row["seconds"])]
            head = (pair.replace("/", " → "), family, IRIS[pair][family])
            lines.append((*head, *cells, any_row["falsifier"], any_row["data"]))
    if not lines:
        return None
    columns = [Column("true → rival"), Column("multipliers"), Column("reference", 4), Column("SDP", 4), Column("s", 1)]
    columns += [Column("first-order", 4), Column("s", 1), Column("falsifier", 4), Column("data", 4)]
    notes = ("References are of two other solvers; data is the CVaR over the test inputs of the class themselves.",)
    return Sheet("cvar_iris", "The 4-5-5-3 iris network, eps 0.2", columns, lines, notes)


def violations(rows: Sequence[Row]) -> list[str]:
    """No distribution with the moments exceeds a bound, and no bound misses its reference."""
    wrong = []
    for row in rows:
        if row.get("part") not in ("digits", "iris") or row["bound"] is None:
            continue
        reached = max(row["falsifier"], *row["sampled"].values())
        if reached > row["bound"] + 1e-9:
            wrong.append(f"{row['key']}: a distribution reaches {reached:.6f}, above the bound {row['bound']:.6f}")
        room = 3e-3 if row["family"] == "products" else 5e-4
        if "reference" in row and abs(row["bound"] - row["reference"]) > room:
            wrong.append(f"{row['key']}: the bound {row['bound']:.6f} misses its reference {row['reference']:.6f}")
    return wrong
