"""Tables 4 and 5: what 15 fresh inner and 15 fresh outer networks say of the ten answers of each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.paper import ten
from experiments.paper.published import DIFFERS, INNER_RATE, OUTER_RATE
from experiments.paper.shares import COLUMNS, Shares, mean, shares
from experiments.paper.ten import CLASSES, KINDS, of_role
from experiments.sheets import Cell, Column, Sheet
from experiments.studies import Row, Study

SETS = {"inner": ("table4", "Table 4"), "outer": ("table5", "Table 5")}

Said = Mapping[tuple[str, int], Shares]


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """Table 4, Table 5, and the means of both beside the paper."""
    found = {key: row for key, row in of_role(rows, "answer").items() if "seen" in row}
    if not found:
        return []
    said = {asked: {key: shares(row, asked) for key, row in found.items()} for asked in SETS}
    return [means(said), *(each(asked, said[asked]) for asked in SETS)]


def each(asked: str, said: Said) -> Sheet:
    """A row an image and kind, then the means."""
    name, title = SETS[asked]
    order = [(kind, true) for true in range(CLASSES) for kind in KINDS if (kind, true) in said]
    cells: list[tuple[Cell, ...]] = [
        (f"{true} → {(true - 1) % CLASSES}", kind, *said[kind, true].cells) for kind, true in order
    ]
    cells += [("mean", kind, *mean(of_kind(said, kind)).cells) for kind in KINDS if of_kind(said, kind)]
    notes = (
        f"15 {asked} networks that are no scenario of any kind, and that nothing was chosen by.",
        "The printed weak confidence fits the last column, target minus largest other, better than target minus true.",
    )
    columns = (Column("true → target"), Column("model"), *COLUMNS)
    return Sheet(name, f"{title}: fresh {asked} networks.", columns, cells, notes)


def of_kind(said: Said, kind: str) -> list[Shares]:
    """Those of one kind."""
    return [one for (name, _), one in said.items() if name == kind]


def means(said: Mapping[str, Said]) -> Sheet:
    """The means over the images, beside what the paper says of them."""
    cells = [
        (SETS[asked][1], asked, kind, *mean(some).cells, INNER_RATE if asked == "inner" else OUTER_RATE[kind])
        for asked, ours in said.items()
        for kind in KINDS
        if (some := of_kind(ours, kind))
    ]
    columns = (Column("where"), Column("networks"), Column("model"), *COLUMNS, Column("published rate target"))
    notes = (*(gain(said["outer"], kind) for kind in ("FJAE", "IRAE")), DIFFERS)
    return Sheet("table45", "Tables 4 and 5: means over the images.", columns, cells, [note for note in notes if note])


def gain(said: Said, kind: str) -> str:
    """By how many points ORAE hits more outer networks, on the images that both have."""
    both = [true for name, true in said if name == "ORAE" and (kind, true) in said]
    if not both:
        return ""
    rates = [mean(said[name, true] for true in both).target for name in ("ORAE", kind)]
    return f"On fresh outer networks ORAE hits {100 * (rates[0] - rates[1]):.1f} points more than {kind}."


STUDY = Study(
    "table45",
    "Tables 4 and 5: answers on fresh networks",
    (ten.answers,),
    sheets,
    completed=ten.completed,
    keys=("answer/",),
)
