"""The committed rows of studies, and the documents that show them."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from arfj.errors import ArfjError
from arfj.files import atomic_write
from arfj.report.figure import style
from experiments.studies import Row, Study, read
from experiments.table_bundled import inserted

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure


def take(studies: Sequence[Study], source: Path) -> None:
    """Make the rows of these studies in `source` the committed ones; the same rows give the same bytes.

    Raises:
        ArfjError: it holds none, or rows of errors.
    """
    found = read(source)
    for path in dict.fromkeys(study.rows for study in studies):
        prefixes = tuple(key for study in studies if study.rows == path for key in study.keys)
        taken = [row for row in found if row["key"].startswith(prefixes)]
        for study in studies:
            taken = list(study.kept(taken)) if study.rows == path else taken
        failed = [row["key"] for row in taken if row.get("status") == "error"]
        if failed or not taken:
            what = f"an error as {failed[0]}" if failed else "no rows of these studies"
            raise ArfjError(f"{source} holds {what}; measure again with --run, and take what that leaves")
        kept = [row for row in read(path) if not row["key"].startswith(prefixes)] if path.exists() else []
        with atomic_write(path) as stream:
            stream.write(packed([*kept, *taken]))


def packed(rows: Sequence[Row]) -> bytes:
    """Rows in the order of their keys, gzipped without a date."""
    lines = "".join(json.dumps(row) + "\n" for row in sorted(rows, key=lambda row: row["key"]))
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as stream:
        stream.write(lines.encode())
    return packed.getvalue()


def write(studies: Sequence[Study]) -> list[Path]:
    """Put sheets and figures of the committed rows into the studies' documents; the documents.

    Raises:
        ArfjError: a document lacks a mark, or rows are missing.
    """
    documents = [study.document for study in studies if study.document is not None]
    for study in studies:
        if study.document is None:
            raise ArfjError(f"{study.name} stands in no document; leave out --write")
        rows = read(study.rows)
        text = study.document.read_text(encoding="utf-8")
        with atomic_write(study.document) as stream:
            stream.write(shown(study, rows, text).encode())
        for name, draw in study.figures(rows).items():
            save(draw, study.document.parent / "figures" / f"{name}.png")
    return list(dict.fromkeys(documents))


def shown(study: Study, rows: Sequence[Row], text: str) -> str:
    """A document's text with the sheets of a study between their marks."""
    for sheet in study.sheets(rows):
        text = inserted(text, sheet.markdown(), sheet.name)
    return text


def save(draw: Callable[[], Figure], path: Path) -> None:
    """Draw a figure into a .png or .pdf; no version and no date, so that the same rows give the same bytes."""
    kind = path.suffix[1:]
    with style():
        figure = draw()
        with atomic_write(path) as stream:
            figure.savefig(stream, format=kind, metadata={"Software" if kind == "png" else "CreationDate": None})
