"""What is told of an answer: one JSON document, or a table and sentences."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from arfj.certify.cdf.answers import Quantile
from arfj.certify.cdf.enclosures import Enclosed
from arfj.certify.cdf.mesh import Array
from arfj.certify.cdf.question import Question
from arfj.certify.cdf.refine import Found
from arfj.certify.cdf.regions import Pieces
from arfj.cli import answer_console

_BLOCK = 10**4000


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found: points y, bounds there, the regions, and what else was asked for."""

    y: Array
    found: Found
    pieces: Pieces
    quantile: Quantile | None
    classes: Array | None
    segments: int | None = None


def document_of(answer: Answer, seconds: float) -> dict[str, Any]:
    """The JSON document; numbers are rounded to the side on which they still hold."""
    bounds, found = answer.found.bounds, answer.found
    lower, upper = (np.asarray(side, dtype=np.float64) for side in (bounds.lower, bounds.upper))
    if found.pieces.evaluation.exact:  # the nearest float may lie on the wrong side
        lower = np.array([_down(value, exact) for value, exact in zip(lower, bounds.lower, strict=True)])
        upper = np.array([-_down(-value, -exact) for value, exact in zip(upper, bounds.upper, strict=True)])
    inside = found.cells.inside
    document: dict[str, Any] = {
        "y": np.asarray(answer.y, dtype=np.float64).tolist(),
        "lower": lower.tolist(),
        "upper": upper.tolist(),
        "regions": answer.pieces.regions,
        "outside_mass": float(1 - inside[0]),
        "seconds": round(seconds, 3),
        "complete": bool(answer.pieces.complete),
        "tolerance_met": bool(found.reached),
    }
    if found.pieces.evaluation.exact:
        document["fractions"] = {"lower": list(map(told, bounds.lower)), "upper": list(map(told, bounds.upper))}
    if answer.segments is not None:
        document["segments"] = answer.segments
    if answer.quantile is not None:
        ends = [None if math.isinf(end) else end for end in (answer.quantile.lower, answer.quantile.upper)]
        document["quantile"] = {"q": answer.quantile.q, "lower": ends[0], "upper": ends[1]}
    if answer.classes is not None:
        document["classes"] = [
            {"lower": _down(float(low), low), "upper": -_down(-float(high), -high)} for low, high in answer.classes
        ]
        if found.pieces.evaluation.exact:
            document["fractions"]["classes"] = [
                {"lower": told(low), "upper": told(high)} for low, high in answer.classes
            ]
    return document


def told(exact: Fraction | int) -> str:
    """A fraction in decimal digits, however many: Python's own conversion ends at 4300 of them."""
    ends = [_digits(exact.numerator), _digits(exact.denominator)]
    return ends[0] if exact.denominator == 1 else "/".join(ends)


def _digits(number: int) -> str:
    """Of an integer >= 0, in blocks of 4000."""
    blocks: list[int] = []
    while number >= _BLOCK:
        number, block = divmod(number, _BLOCK)
        blocks.append(block)
    return f"{number}" + "".join(f"{block:04000d}" for block in reversed(blocks))


def _down(value: float, exact: Any) -> float:  # noqa: ANN401 - a fraction
    return value if value <= exact else float(np.nextafter(value, -np.inf))


def rounded(value: float, digits: int, side: str) -> str:
    """A number in so many digits, rounded down (`decimal.ROUND_FLOOR`) or up (`decimal.ROUND_CEILING`)."""
    return f"{float(Context(prec=digits, rounding=side).create_decimal(Decimal(value))):.{digits}g}"


def digits_apart(y: Sequence[Any]) -> int:
    """The fewest digits, 6 or more, in which no two different values of y look alike."""
    values = set(np.asarray(y, dtype=np.float64).ravel().tolist())
    return next((digits for digits in range(6, 17) if len({f"{v:.{digits}g}" for v in values}) == len(values)), 17)


def show(document: dict[str, Any], lines: Sequence[str]) -> None:
    """Print the table and the sentences to stdout."""
    from rich.table import Table

    table = Table(title="P(f <= y)", title_justify="left")
    for name in ("y", "lower bound", "upper bound"):
        table.add_column(name, justify="right", overflow="fold")
    digits = digits_apart(document["y"])
    for y, low, high in zip(document["y"], document["lower"], document["upper"], strict=True):
        shown = ", ".join(f"{value:.{digits}g}" for value in (y if isinstance(y, list) else [y]))
        table.add_row(shown, f"{math.floor(low * 1e9) / 1e9:.9f}", f"{math.ceil(high * 1e9) / 1e9:.9f}")
    console = answer_console(file=sys.stdout, width=None if sys.stdout.isatty() else 100, highlight=False)
    console.print(table)
    console.print("\n".join(lines), soft_wrap=True)


def sentences(
    document: dict[str, Any], answer: Answer, asked: Question | Enclosed, options: argparse.Namespace, logits: bool
) -> list[str]:
    """What is claimed, on which assumptions, and what is not."""
    count = "" if document["complete"] else " at least (the budget ended)"
    what = "region" if document["regions"] == 1 else "regions"
    lines = [f"{document['regions']} linear {what}{count}, {document['seconds']:.2f} s."]
    if answer.segments is not None:
        what = "segment" if answer.segments == 1 else "segments"
        lines[0] = f"Of networks below and above, {answer.segments} {what} for each part of an activation: {lines[0]}"
    if found := document.get("quantile"):
        ends = [(found["lower"], ROUND_FLOOR), (found["upper"], ROUND_CEILING)]
        low, high = ("unbounded" if end is None else rounded(end, 9, side) for end, side in ends)
        lines.append(f"The {found['q']:g}-quantile of output {options.output} lies between {low} and {high}.")
    for index, row in enumerate(document.get("classes", [])):
        low, high = math.floor(row["lower"] * 1e9) / 1e9, math.ceil(row["upper"] * 1e9) / 1e9
        lines.append(f"Class {index} has a probability from {low:.9f} to {high:.9f}.")
    if logits:
        lines.append(
            "The outputs are logits: the softmax at the end of the file is left out; --softmax is about probabilities."
        )
    outside = document["outside_mass"]
    if not asked.density.whole:
        what = "added to the upper bounds" if options.outside == "add" else "left out: the law is that inside the box"
        lines.append(f"At most {rounded(outside, 3, ROUND_CEILING)} of the mass lies outside the box, and is {what}.")
    if not document["tolerance_met"]:
        lines.append(
            f"They are farther apart than {options.tolerance:g}: an output has an atom there, or the budget ended."
        )
    lines.append(
        "They hold for the density that is given, at every point of the box; that the density is right is assumed."
    )
    return lines
