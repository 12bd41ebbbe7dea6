"""`python -m experiments.table_bundled`: least distances of the ten bundled images, from committed rows.

FJAE fools the nominal network alone, IRAE also five perturbed copies of it, ORAE also five retrained networks.
The rows are those of `make benchmark-full`; nothing is solved here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from arfj.cli import ANSWERED, Parser, run
from arfj.errors import ArfjError
from arfj.files import atomic_write
from arfj.report.store import Store

Row = Mapping[str, Any]

HERE = Path(__file__).parent
ROWS = HERE / "rows" / "bundled.jsonl"
README = HERE.parent / "README.md"
MARK = "table_bundled"
KINDS = {"nominal": "FJAE", "inner": "IRAE", "outer": "ORAE"}
CLASSES = 10
EXAMPLES = """\
  python -m experiments.table_bundled                                    print the table of the committed rows
  python -m experiments.table_bundled --rows out/benchmark-full/results.jsonl  another run's
  python -m experiments.table_bundled --take out/benchmark-full/results.jsonl  commit to that run's rows
  python -m experiments.table_bundled --write                            put the table into README.md
"""


def main(argv: Sequence[str]) -> int:
    """Print the table, or write it where it belongs."""
    parser = Parser("python -m experiments.table_bundled", "Least distances of the bundled images.", EXAMPLES)
    parser.add_argument("--rows", type=Path, default=ROWS, metavar="FILE", help="a results.jsonl of the attack")
    parser.add_argument("--take", type=Path, metavar="FILE", help=f"copy these rows to {ROWS.relative_to(HERE.parent)}")
    parser.add_argument("--write", action="store_true", help="replace the table in README.md")
    options = parser.parse_args(argv)
    if options.take is not None:
        take(options.take, ROWS)
    text = table(last_rows(options.rows))
    if options.write:
        with atomic_write(README) as stream:
            stream.write(inserted(README.read_text(encoding="utf-8"), text, MARK).encode())
    print(text)
    return ANSWERED


def last_rows(path: Path) -> list[Row]:
    """The last row of each image and kind.

    Raises:
        ArfjError: there is none.
    """
    last = {(row["kind"], row["true"]): row for row in Store(path).rows() if row.get("kind") in KINDS}
    if not last:
        raise ArfjError(f"{path} holds no rows; run make benchmark-full, or name a results.jsonl with --rows")
    return [last[key] for key in sorted(last, key=lambda key: (list(KINDS).index(key[0]), key[1]))]


def take(source: Path, target: Path) -> None:
    """Copy the rows that the table needs; where the witnesses lay is left out."""
    lines = [json.dumps({**row, "witness": None}) + "\n" for row in last_rows(source)]
    with atomic_write(target) as stream:
        stream.write("".join(lines).encode())


def table(rows: Iterable[Row]) -> str:
    """Markdown: one line an image and kind, then one line of sums a kind."""
    lines = [
        "| image | true → target | model | distance | proven bound | gap | seconds | nodes |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    kinds: dict[str, list[Row]] = {kind: [] for kind in KINDS}
    for row in rows:
        kinds[row["kind"]].append(row)
    for true in range(CLASSES):
        lines += [_line(row) for chosen in kinds.values() for row in chosen if row["true"] == true]
    return "\n".join([*lines, "", *(_summary(kind, chosen) for kind, chosen in kinds.items() if chosen)])


def _line(row: Row) -> str:
    numbers = (_number(row["distance"], 5), _number(row["bound"], 5), _percent(row["gap"]), f"{row['seconds']:.1f}")
    cells = (row["image"], f"{row['true']} → {row['target']}", KINDS[row["kind"]], *numbers, str(row["nodes"]))
    return f"| {' | '.join(cells)} |"


def _summary(kind: str, rows: Sequence[Row]) -> str:
    proven = sum(row["status"] == "optimal" for row in rows)
    hits = sum(row["replay"] is not None and row["replay"]["hit"] for row in rows)
    distances = [row["distance"] for row in rows if row["distance"] is not None]
    mean = _number(sum(distances) / len(distances) if distances else None, 5)
    gaps = [row["gap"] for row in rows if row["gap"] is not None]
    return (
        f"- {KINDS[kind]} (`--{kind}`, {rows[0]['scenarios']} network{'s' if rows[0]['scenarios'] > 1 else ''}): "
        f"{proven} of {len(rows)} proven optimal, {hits} replayed hits, mean distance {mean}, "
        f"largest gap {_percent(max(gaps, default=None))}, {sum(row['seconds'] for row in rows):.0f} s in all."
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def inserted(text: str, table: str, mark: str) -> str:
    """`text` with what stands between <!-- mark --> and <!-- /mark --> replaced.

    Raises:
        ArfjError: one of them is missing.
    """
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ArfjError(f"the document lacks the marks {begin} and {end}")
    return f"{head}{begin}\n{table}\n{end}{tail}"


if __name__ == "__main__":
    sys.exit(run(main))
