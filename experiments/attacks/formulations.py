"""Suite `formulations`: the model as it was published, beside the tight one with everything around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from arfj.attack import Options
from arfj.encoding import Formulation
from arfj.report.store import Store
from arfj.solver import Engine
from experiments.attacks import rows as told
from experiments.attacks.measure import run_cases
from experiments.attacks.plan import THREE, Case, Plan, Row, Suite

NAME, PREFIX = "formulations", "formulation"
LIMIT = 1800.0
KINDS: Mapping[Literal["nominal", "inner", "outer"], int] = {"nominal": 0, "inner": 5, "outer": 5}
"""Networks beside the nominal one."""
BOTH: tuple[Formulation, ...] = ("tight", "paper")


def engine(formulation: Formulation, solver: Engine) -> Engine:
    """Who solves a formulation beside the tight one of this solver: our own branch and bound has no printed one."""
    return Options(formulation=formulation, solver=solver).engine


def cases(plan: Plan) -> list[Case]:
    """Both formulations of a question in turn, so that other load meets them alike."""
    kinds = plan.pick(tuple(KINDS), ("nominal",), ("nominal", "outer"))
    found = []
    for kind in kinds:
        for true in plan.classes(THREE, (1, 4)):
            for solver in plan.with_solvers("bab"):
                for formulation in BOTH:
                    one = engine(formulation, solver)
                    options = Options(formulation=formulation, solver=one, time_limit=plan.seconds(LIMIT))
                    key = f"{PREFIX}/{kind}/{formulation}/{one}/{true}"
                    found.append(Case(key, plan.instance(kind, KINDS[kind], true), options))
    return found


def measure(plan: Plan, store: Store) -> None:
    """Solve what is missing."""
    run_cases(store, plan, cases(plan))


def table(rows: Sequence[Row]) -> str:
    """One line a question, then the geometric mean of the ratios a kind; a time-out counts as its limit."""
    mine = told.of(PREFIX, rows)
    if not mine:
        return told.MISSING
    found = {tuple(row["key"].split("/")[1:]): row for row in mine}
    columns = "networks, paper, tight, true → target, paper s:, tight s:, ratio:, paper nodes:, tight nodes:"
    lines = told.header(columns)
    sums = []
    for kind in KINDS:
        chosen = [row for row in mine if row["kind"] == kind]
        for solver in dict.fromkeys(row["key"].split("/")[3] for row in chosen if row["key"].split("/")[2] == "tight"):
            pairs = []
            of_paper = engine("paper", solver)
            for true in sorted({row["true"] for row in chosen}):
                paper = found.get((kind, "paper", of_paper, str(true)))
                tight = found.get((kind, "tight", solver, str(true)))
                one = paper or tight
                if one is None:
                    continue
                times = (told.told_seconds(paper), told.told_seconds(tight))
                nodes = ("-" if row is None else row.get("nodes", "-") for row in (paper, tight))
                to = f"{true} → {one.get('target', '-')}"
                lines.append(told.line(kind, of_paper, solver, to, *times, ratio(paper, tight), *nodes))
                if paper is not None and tight is not None and comparable(paper, tight):
                    pairs.append((paper, tight))
            if pairs:
                sums.append(_summary(kind, solver, pairs))
    return told.table(lines, *sums, *told.machines(mine))


def comparable(paper: Row, tight: Row) -> bool:
    """Whether both ran, and had the same time where the tight model stayed open."""
    same = told.decided(tight) or paper["time_limit"] == tight["time_limit"]
    return same and "error" not in (paper["status"], tight["status"])


def ratio(paper: Row | None, tight: Row | None) -> str:
    """Seconds of the published model by those of the tight one: a lower bound where only the first stayed open."""
    if paper is None or tight is None or not comparable(paper, tight):
        return "-"
    value = f"{told.seconds_of(paper) / told.seconds_of(tight):.2f}"
    if not told.decided(tight):
        return f"{value} (tight open)"
    return value if told.decided(paper) else f"≥ {value}"


def _summary(kind: str, solver: str, pairs: Sequence[tuple[Row, Row]]) -> str:
    mean = told.geometric_mean([told.seconds_of(paper) / told.seconds_of(tight) for paper, tight in pairs])
    late = sum(not told.decided(paper) for paper, _ in pairs)
    still = [tight for _, tight in pairs if not told.decided(tight)]
    text = f"- {kind}, {solver}: geometric mean of {len(pairs)} ratios {'≥ ' if late and not still else ''}{mean:.2f}"
    if late:
        text += f"; paper open on {late}, counted as the limit"
    if still:
        gaps = ", ".join(f"class {row['true']} with a gap of {told.percent(row.get('gap'))}" for row in still)
        text += f"; tight open on {gaps}, counted as the limit, so that the mean bounds nothing"
    return f"{text}."


SUITE = Suite(NAME, PREFIX, "the published formulation beside the tight one", measure, table)
