"""What the paper says of its tables, in sentences, and whether the rows bear it out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from experiments.paper import table1, table2, table3, table45, ten
from experiments.paper.published import IRAE_OVER, ORAE_OVER, OUTER_D_IN, REFIT_ACCURACY, REFIT_D_IN
from experiments.paper.shares import mean, shares
from experiments.paper.ten import CLASSES, KINDS, of_role
from experiments.sheets import Column, Sheet
from experiments.studies import Row, Study

TENS = 20.0
"""Points from which on a gain is one of tens."""


@dataclass(frozen=True)
class Claim:
    """A sentence, where it comes from, what is found here, and whether it holds."""

    text: str
    where: str
    here: str
    holds: bool


Judge = Callable[[Sequence[Row]], Claim | None]


def accuracy(rows: Sequence[Row]) -> Claim | None:
    """A refitted network is as good as before."""
    changes = [abs(table1.points(row)) for row in refitted(rows)]
    if not changes:
        return None
    text = f"Refitting on one image changes the accuracy by {REFIT_ACCURACY.told} points"
    return Claim(text, "Table 1", f"at most {max(changes):.2f}", all(map(REFIT_ACCURACY.holds, changes)))


def apart(rows: Sequence[Row]) -> Claim | None:
    """Inner and outer sampling are different things."""
    near = [row["d_in"] for row in refitted(rows)]
    far = [row["d_in"] for row in rows if row["key"].startswith("outer/") and row.get("network")]
    if not near or not far:
        return None
    least, published = min(far) / max(near), (OUTER_D_IN.low or 0.0) / REFIT_D_IN.high
    text = f"Retrained networks are thousands of times as far as refitted ones (ranges of d_in: {published:,.0f} times)"
    return Claim(text, "Tables 1, 2", f"{least:,.0f} times", least >= 1000.0)


def refitted(rows: Sequence[Row]) -> list[Row]:
    """The rows of Table 1."""
    return [row for row in rows if row["key"].startswith("refit/") and row.get("rate") == table1.RATE]


def ordered(rows: Sequence[Row]) -> Claim | None:
    """More scenarios, farther answers."""
    found = of_role(rows, "answer")
    pairs = sum(("FJAE", true) in found for kind, true in found if kind != "FJAE")
    missed = table3.violations(rows)
    text = "FJAE is at most as far as IRAE and ORAE, image by image"
    return Claim(text, "Table 3", f"{pairs - len(missed)} of {pairs}", not missed) if pairs else None


def over(kind: str, rows: Sequence[Row]) -> Claim | None:
    """How much farther answers to more scenarios are."""
    one = IRAE_OVER if kind == "IRAE" else ORAE_OVER
    found = of_role(rows, "answer")
    shares_over = (table3.above(found, kind, true) for true in range(CLASSES))
    values = [100.0 * share for share in shares_over if share is not None]
    text = f"{kind} is {one.told} farther than FJAE"
    return Claim(text, "Table 3", one.here(values), all(map(one.holds, values))) if values else None


def rate(kind: str, asked: str, rows: Sequence[Row]) -> float | None:
    """The share of fresh networks that a kind's answers fool, over the images that all kinds have."""
    found = {key: row for key, row in of_role(rows, "answer").items() if "seen" in row}
    whole = [true for true in range(CLASSES) if all((name, true) in found for name in KINDS)]
    return mean(shares(found[kind, true], asked) for true in whole).target if whole else None


def inner(rows: Sequence[Row]) -> Claim | None:
    """All three kinds survive small changes of the weights."""
    rates = [found for kind in KINDS if (found := rate(kind, "inner", rows)) is not None]
    text = "Fresh inner networks are fooled by all answers of all kinds"
    return (
        Claim(
            text,
            "Table 4",
            "by all" if min(rates) == 1.0 else f"by {100 * min(rates):.1f} % at least",
            min(rates) == 1.0,
        )
        if rates
        else None
    )


def failing(rows: Sequence[Row]) -> Claim | None:
    """FJAE and IRAE do not survive retraining."""
    rates = [found for kind in ("FJAE", "IRAE") if (found := rate(kind, "outer", rows)) is not None]
    text = "FJAE and IRAE mostly fail on fresh outer networks"
    here = " and ".join(f"{100 * found:.1f} %" for found in rates)
    return Claim(text, "Table 5", f"fooled: {here}", max(rates) < 0.5) if rates else None


def gaining(rows: Sequence[Row]) -> Claim | None:
    """ORAE survives it more often."""
    best, others = rate("ORAE", "outer", rows), [rate(kind, "outer", rows) for kind in ("FJAE", "IRAE")]
    known = [found for found in others if found is not None]
    if best is None or not known:
        return None
    gain = 100.0 * (best - max(known))
    text = "ORAE fools tens of points more of the fresh outer networks"
    return Claim(text, "Table 5", f"{100 * best:.1f} %, {gain:+.1f} points", gain >= TENS)


def judged(rows: Sequence[Row]) -> list[Claim]:
    """The claims that the rows say something of."""
    judges: tuple[Judge, ...] = (
        accuracy, apart, ordered, functools.partial(over, "IRAE"), functools.partial(over, "ORAE"), inner, failing,
        gaining,
    )  # fmt: skip
    return [claim for judge in judges if (claim := judge(rows)) is not None]


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """A row a claim."""
    claims = judged(rows)
    columns = [Column(name) for name in ("published", "where", "here", "holds")]
    cells = [(claim.text, claim.where, claim.here, "yes" if claim.holds else "not on all") for claim in claims]
    notes = (f"Tens of points are {TENS:g} or more; most are more than half; thousands of times are 1,000 or more.",)
    return [Sheet("claims", "What is published, and what holds here.", columns, cells, notes)] if claims else []


STUDY = Study(
    "claims",
    "What the paper says of its tables, and what holds here",
    (table1.stage, table2.stage, ten.answers),
    sheets,
    completed=ten.completed,
    keys=(*table1.STUDY.keys, *table2.STUDY.keys, *table45.STUDY.keys),
)
