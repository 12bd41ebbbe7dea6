"""What tables need of rows: the last of each key, what is known of a question, and numbers as they are printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from arfj.errors import ArfjError
from experiments.attacks.plan import BUNDLE, Row

AGREE = 1e-5
"""A bound that exceeds the distance of an answer by a larger share is wrong."""
MISSING = "Not measured yet."
DECIDED = ("optimal", "infeasible")


def last(rows: Iterable[Row]) -> list[Row]:
    """The last row of each key, in the order in which the keys came first."""
    return list({row["key"]: row for row in rows}.values())


def of(prefix: str, rows: Iterable[Row]) -> list[Row]:
    """The rows of a suite."""
    return [row for row in rows if row["key"].startswith(f"{prefix}/")]


def asked(row: Row) -> tuple[Any, ...]:
    """What tells the questions of two rows apart."""
    names = ("kind", "alpha", "true", "target", "gamma")
    return (row.get("networks", BUNDLE), *(row.get(name) for name in names))


def hit(row: Row) -> bool:
    """Whether the row has an answer that the networks confirm."""
    return row.get("distance") is not None and row.get("replay") is not None and bool(row["replay"]["hit"])


def decided(row: Row) -> bool:
    """Whether the question was closed."""
    return row.get("status") in DECIDED


def best_known(rows: Iterable[Row], first: str) -> dict[tuple[Any, ...], float]:
    """The least distance known of each question: a proven one of the suite `first`, else the best answer of any row."""
    known: dict[tuple[Any, ...], float] = {}
    proven: dict[tuple[Any, ...], float] = {}
    for row in rows:
        if hit(row):
            key = asked(row)
            known[key] = min(row["distance"], known.get(key, np.inf))
            if row["status"] == "optimal" and row["key"].startswith(f"{first}/"):
                proven[key] = min(row["distance"], proven.get(key, np.inf))
    return known | proven


def contradictions(rows: Sequence[Row]) -> list[str]:
    """Keys of rows whose bound exceeds a confirmed answer to the same question, whoever found it."""
    known: dict[tuple[Any, ...], float] = {}
    for row in rows:
        if hit(row):
            known[asked(row)] = min(row["distance"], known.get(asked(row), np.inf))
    wrong = []
    for row in rows:
        least = known.get(asked(row))
        if least is not None and (
            row["status"] == "infeasible"
            or (row.get("bound") is not None and row["bound"] > least * (1.0 + AGREE) + 1e-7)
        ):
            wrong.append(str(row["key"]))
    return wrong


def check(rows: Iterable[Row]) -> None:
    """Be loud about rows that contradict each other.

    Raises:
        ArfjError: there are any.
    """
    wrong = contradictions(last(rows))
    if wrong:
        raise ArfjError(f"{len(wrong)} WRONG, an answer lies below the bound: {'; '.join(wrong)}")


def seconds_of(row: Row) -> float:
    """Seconds; the time limit where the question stayed open."""
    return float(row["seconds" if decided(row) else "time_limit"])


def told_seconds(row: Row | None) -> str:
    """Seconds in a cell; a question that stayed open shows its limit and its gap, an error itself."""
    if row is None:
        return "-"
    if row["status"] == "error":
        return "error"
    if decided(row):
        return f"{row['seconds']:.1f}"
    return f"≥ {row['time_limit']:g} (gap {percent(row.get('gap'))})"


def number(value: float | None, digits: int = 5) -> str:
    """A number in a cell."""
    return "-" if value is None else f"{value:.{digits}f}"


def percent(share: float | None) -> str:
    """A share in a cell."""
    return "-" if share is None else f"{100 * share:.2f} %"


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive numbers."""
    return float(np.exp(np.mean(np.log(values))))


def line(*cells: object) -> str:
    """A line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def header(columns: str) -> list[str]:
    """The first two lines of a table: columns separated by commas; those that end with a colon are right-aligned."""
    names = [name.strip() for name in columns.split(",")]
    ruler = "|".join("---:" if name.endswith(":") else "---" for name in names)
    return [line(*(name.removesuffix(":") for name in names)), f"|{ruler}|"]


def table(lines: Iterable[str], *facts: str) -> str:
    """The lines of a table, and below it those of a list, which may be empty."""
    return "\n".join([*lines, *(["", *facts] if facts else [])])


def machines(rows: Iterable[Row]) -> list[str]:
    """A line for each machine, set of versions and number of processes that rows tell of."""
    found: dict[str, None] = {}
    for row in rows:
        facts = row.get("machine")
        if facts:
            versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
            solver = f", {facts['solver']}" if "solver" in facts else ""
            count = f"{facts['cores']} cores, {row['jobs']} process{'' if row['jobs'] == 1 else 'es'}"
            found[f"- {facts['cpu']}, {count}, {versions}{solver}."] = None
    return list(found)
