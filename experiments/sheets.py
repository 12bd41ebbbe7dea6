"""A table as data: rows and columns, from which Markdown, CSV and LaTeX are printed."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

Cell = str | float | int | None

LATEX = {
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "→": r"$\to$", "≤": r"$\le$", "≥": r"$\ge$", "±": r"$\pm$",
    "<": r"$<$", ">": r"$>$",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column: its heading, and how numbers in it are printed.

    Attributes:
        name: the heading.
        digits: decimals of a float, or None for text, which stands at the left.
        percent: whether a float is a share, printed in per cent.
    """

    name: str
    digits: int | None = None
    percent: bool = False

    def told(self, cell: Cell) -> str:
        """A cell as it is printed; None is a dash."""
        if cell is None:
            return "-"
        if isinstance(cell, str) or self.digits is None:
            return str(cell)
        return f"{100 * cell:.{self.digits}f} %" if self.percent else f"{cell:.{self.digits}f}"

    def value(self, cell: Cell) -> str:
        """A cell for machines: floats in full, None empty."""
        return "" if cell is None else repr(cell) if isinstance(cell, float) else str(cell)


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        name: of its files.
        title: what it shows, a sentence.
        columns, rows: headings and cells.
        notes: sentences below it.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """A heading in bold, the table, its notes as a list."""
        heads = " | ".join(column.name for column in self.columns)
        rules = "|".join("---" if column.digits is None else "---:" for column in self.columns)
        lines = [f"**{self.title}**", "", f"| {heads} |", f"|{rules}|"]
        lines += [f"| {' | '.join(self._told(row))} |" for row in self.rows]
        return "\n".join([*lines, *([""] if self.notes else []), *(f"- {note}" for note in self.notes)])

    def csv(self) -> str:
        """Headings, then values in full precision; shares stay shares."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([column.name for column in self.columns])
        for row in self.rows:
            writer.writerow([column.value(cell) for column, cell in zip(self.columns, row, strict=True)])
        return stream.getvalue()

    def latex(self) -> str:
        """A `table` environment with booktabs rules."""
        kinds = "".join("l" if column.digits is None else "r" for column in self.columns)
        heads = " & ".join(escaped(column.name) for column in self.columns)
        body = [" & ".join(map(escaped, self._told(row))) + r" \\" for row in self.rows]
        notes = [rf"\par\smallskip\footnotesize {escaped(' '.join(self.notes))}"] if self.notes else []
        return "\n".join([
            r"\begin{table}", r"\centering", rf"\caption{{{escaped(self.title)}}}", rf"\label{{tab:{self.name}}}",
            rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", heads + r" \\", r"\midrule", *body, r"\bottomrule",
            r"\end{tabular}", *notes, r"\end{table}", "",
        ])  # fmt: skip

    def _told(self, row: Sequence[Cell]) -> list[str]:
        return [column.told(cell) for column, cell in zip(self.columns, row, strict=True)]


def escaped(text: str) -> str:
    """Text for LaTeX."""
    return re.sub("|".join(map(re.escape, LATEX)), lambda found: LATEX[found[0]], text)
