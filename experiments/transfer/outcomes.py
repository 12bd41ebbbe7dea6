"""Rows as matrices: what every target network says of every answer of one method."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arfj.question import EVERY, Demand
from experiments.studies import Row
from experiments.transfer.plan import EXACT, GAMMA, PAPER, demand_of
from experiments.transfer.subject import digest

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Answers to the same kind of question on one set of targets: a row an image, a column a target.

    Attributes:
        positions: of the images.
        rows: the answers' rows.
        hit: whether the target network gives the target class.
        missed: whether it gives another class than the true one.
        valid: whether it gives the clean image its true class; only these count.
        target, true, rival: probabilities of the target, the true class, and the likeliest class but the target.
    """

    positions: tuple[int, ...]
    rows: tuple[Row, ...]
    hit: Bools
    missed: Bools
    valid: Bools
    target: Floats
    true: Floats
    rival: Floats

    @property
    def distances(self) -> Floats:
        """L1, one an image."""
        return np.array([row["distance"] for row in self.rows])

    def at(self, positions: Iterable[int]) -> Outcomes:
        """For these images only."""
        where = [self.positions.index(position) for position in positions]
        return Outcomes(
            tuple(self.positions[i] for i in where),
            tuple(self.rows[i] for i in where),
            self.hit[where],
            self.missed[where],
            self.valid[where],
            self.target[where],
            self.true[where],
            self.rival[where],
        )

    def mean(self, values: Floats) -> float:
        """Over the cells that count."""
        return float(values[self.valid].mean()) if self.valid.any() else float("nan")


def answer_digest(row: Row) -> str:
    """Tells answers apart."""
    return digest(json.dumps(row["change"]).encode())


def kept(rows: Sequence[Row]) -> list[Row]:
    """The rows of one subject, the last one's, and of its answers those baselines that are theirs.

    A row whose subject is none belongs to all of them; of several records of a set of targets the last one counts.
    """
    subjects = [row["subject"] for row in rows if row.get("subject")]
    mine = [row for row in rows if not subjects or row.get("subject") in (None, subjects[-1])]
    answers = {answer_digest(row) for row in mine if row.get("method") == EXACT and row.get("change") is not None}
    mine = [row for row in mine if row.get("of") is None or row["of"] in answers]
    sets = {row["set"]: row for row in mine if row.get("method") == "targets"}
    return [row for row in mine if row.get("method") != "targets" or sets[row["set"]] is row]


def exact(
    alpha: int, gamma: float = GAMMA, goal: str = PAPER, demand: Demand = EVERY, block: int = 0
) -> Callable[[Row], bool]:
    """Chooses exact answers."""
    wanted = (EXACT, alpha, gamma, goal, demand, block)

    def chosen(row: Row) -> bool:
        names = (row["method"], row.get("alpha"), row.get("gamma"), row.get("goal"), demand_of(row))
        return (*names, row.get("block", 0)) == wanted

    return chosen


def asked(rows: Iterable[Row], chosen: Callable[[Row], bool]) -> int:
    """How many questions were asked of those chosen, answered or not."""
    return sum(row["method"] == EXACT and chosen(row) for row in rows)


def sets(rows: Iterable[Row]) -> list[str]:
    """The names of the target sets, in the order in which rows name them."""
    return list(dict.fromkeys(name for row in rows for name in row.get("seen", ())))


def outcomes(rows: Sequence[Row], chosen: Callable[[Row], bool], name: str) -> Outcomes | None:
    """The outcomes of the answers chosen, on the set `name`; None where there are none."""
    shown = [row for row in rows if name in row.get("seen", ())]
    clean = {row["position"]: row for row in shown if row["method"] == "clean"}
    asked_of = [row for row in shown if row["method"] != "clean" and row["position"] in clean and chosen(row)]
    found = [row for row in asked_of if _same(row, clean[row["position"]], name)]
    if not found:
        return None
    found.sort(key=lambda row: row["position"])
    seen: list[Mapping[str, list[float]]] = [row["seen"][name] for row in found]
    classes = np.array([one["class"] for one in seen])
    true = np.array([row["true"] for row in found])[:, None]
    target = np.array([row["target"] for row in found])[:, None]
    unharmed = np.array([clean[row["position"]]["seen"][name]["class"] for row in found])
    chances = (np.array([one[key] for one in seen]) for key in ("target", "true", "rival"))
    positions = tuple(row["position"] for row in found)
    return Outcomes(positions, tuple(found), classes == target, classes != true, unharmed == true, *chances)


def _same(row: Row, clean: Row, name: str) -> bool:
    """Whether both were shown to the same networks."""
    return bool(row["seen"][name].get("digest") == clean["seen"][name].get("digest"))


def common(families: Sequence[Outcomes]) -> list[Outcomes]:
    """All of them for the images that they share."""
    shared = set.intersection(*(set(family.positions) for family in families)) if families else set()
    return [family.at(sorted(shared)) for family in families]


def paired(one: Outcomes, other: Outcomes) -> tuple[Outcomes, Outcomes]:
    """Both for the images that they share."""
    common = [position for position in one.positions if position in other.positions]
    return one.at(common), other.at(common)
