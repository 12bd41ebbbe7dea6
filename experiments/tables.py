"""What every experiment's command does: measure into rows, print their table, put it into PERFORMANCE.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arfj.cli import ANSWERED, Parser
from arfj.files import atomic_write
from arfj.report.store import Store
from experiments.table_bundled import inserted

Row = Mapping[str, Any]

HERE = Path(__file__).parent
REPORT = HERE.parent / "PERFORMANCE.md"


@dataclass(frozen=True)
class Experiment:
    """An experiment with committed rows and one table.

    Attributes:
        name: of its module, its rows and its place in PERFORMANCE.md.
        description, examples: for its `--help`.
        measure: appends the rows that are missing.
        table: rows to Markdown.
        smoke: a few rows that are not kept, or None.
    """

    name: str
    description: str
    examples: str
    measure: Callable[[Store], None]
    table: Callable[[Sequence[Row]], str]
    smoke: Callable[[], Sequence[Row]] | None = None

    def main(self, argv: Sequence[str]) -> int:
        """Measure, print, or write the table."""
        parser = Parser(f"python -m experiments.{self.name}", self.description, self.examples)
        rows = HERE / "rows" / f"{self.name}.jsonl"
        parser.add_argument("--rows", type=Path, default=rows, metavar="FILE", help="where the rows are")
        parser.add_argument("--run", action="store_true", help="measure what has no row yet")
        parser.add_argument("--write", action="store_true", help="replace the table in PERFORMANCE.md")
        if self.smoke is not None:
            parser.add_argument("--smoke", action="store_true", help="a small one, into rows that are not kept")
        options = parser.parse_args(argv)
        if self.smoke is not None and options.smoke:
            print(self.table(self.smoke()))
            return ANSWERED
        store = Store(options.rows)
        if options.run:
            self.measure(store)
        text = self.table(store.rows())
        if options.write:
            put({self.name: text})
        print(text)
        return ANSWERED


def put(tables: Mapping[str, str]) -> None:
    """Replace what stands between the marks of these names in PERFORMANCE.md.

    Raises:
        ArfjError: a mark is missing, or the file cannot be written.
    """
    text = REPORT.read_text(encoding="utf-8")
    for mark, table in tables.items():
        text = inserted(text, table, mark)
    with atomic_write(REPORT) as stream:
        stream.write(text.encode())
