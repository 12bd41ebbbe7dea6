"""Suite `cores`: one image at a time by one process, and by as many as there are cores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from arfj.attack import Options
from arfj.report.store import Store
from experiments.attacks import rows as told
from experiments.attacks.measure import run_cases
from experiments.attacks.plan import BUNDLE, THREE, Case, Plan, Row, Suite, cores

PREFIX = "cores"


@dataclass(frozen=True)
class Group:
    """Questions of one kind.

    Attributes:
        networks: see `Instance`.
        alpha: networks beside the nominal one.
        true: the images.
        seconds: limit.
        alone: whether one process is measured as well, beside which the others are seen.
    """

    networks: str
    alpha: int
    true: tuple[int, ...]
    seconds: float
    alone: bool = False

    @property
    def kind(self) -> Literal["nominal", "outer"]:
        """Of the networks."""
        return "outer" if self.alpha else "nominal"


GROUPS = (
    Group(BUNDLE, 5, (0, 6, 7), 600.0, alone=True),
    Group(BUNDLE, 20, THREE, 120.0),
    Group(BUNDLE, 50, THREE, 600.0),
)
"""Images that take long by one process; and those of more networks, some of which it leaves open."""


def cases(plan: Plan) -> Iterator[Case]:
    """Group by group."""
    for group in plan.pick(GROUPS, GROUPS[:1], GROUPS[:1]):
        counts = sorted({1, cores()} if group.alone else {cores()})
        for true in plan.classes(group.true, (6,)):
            for count in counts:
                key = f"{PREFIX}/{group.networks}/{group.alpha}/{true}/{count}"
                instance = plan.instance(group.kind, group.alpha, true, group.networks)
                options = Options(time_limit=plan.seconds(group.seconds), threads=count)
                yield Case(key, instance, options, {"processes": count})


def measure(plan: Plan, store: Store) -> None:
    """Solve what is missing, one after the other."""
    run_cases(store, replace(plan, jobs=1), cases(plan))


def table(rows: Sequence[Row]) -> str:
    """One line an image and number of processes; the ratio is that of seconds, and of nodes."""
    mine = told.of(PREFIX, rows)
    if not mine:
        return told.MISSING
    alone = {told.asked(row): row for row in mine if row["processes"] == 1}
    columns = "networks, alpha:, true → target, processes:, status, s:, nodes:, distance:, bound:, gap:, times as fast:"
    lines = told.header(columns)
    for row in sorted(mine, key=_place):
        lines.append(_line(row, alone.get(told.asked(row))))
    return told.table(lines, *told.machines(mine))


def _place(row: Row) -> tuple[int, int, int]:
    names = [(group.networks, group.alpha) for group in GROUPS]
    asked = (row["networks"], row["alpha"])
    return names.index(asked) if asked in names else len(names), row["true"], row["processes"]


def _line(row: Row, alone: Row | None) -> str:
    asked = row["networks"], row["alpha"], f"{row['true']} → {row['target']}", row["processes"]
    found = row["status"], f"{row['seconds']:.1f}", row["nodes"]
    numbers = told.number(row["distance"]), told.number(row["bound"]), told.percent(row["gap"])
    both = alone is not None and row["processes"] > 1 and told.decided(row) and told.decided(alone)
    ratio = f"{alone['seconds'] / row['seconds']:.2f}" if alone is not None and both else "-"
    return told.line(*asked, *found, *numbers, ratio)


SUITE = Suite(PREFIX, PREFIX, "one image at a time by one process and by as many as there are cores", measure, table)
