"""`python -m experiments`: measure studies, and make their tables and figures from rows alone."""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from arfj.cli import ANSWERED, Parser, checked_seconds, run
from arfj.errors import ArfjError, UsageError
from arfj.files import atomic_write, make_folder
from arfj.report.store import Store
from experiments.committed import save, take, write
from experiments.registry import GROUPS, STUDIES
from experiments.studies import Row, Scale, Study, last, measure, read

EXAMPLES = """\
  python -m experiments                                      list studies and groups
  python -m experiments paper                                print the tables of the committed rows
  python -m experiments paper --out out/paper                .md, .csv, .tex, .png and .pdf of all of them as well
  python -m experiments paper --run --out out/paper          measure what has no row in out/paper/results.jsonl
  python -m experiments table3 --run --out out/t --only ORAE --limit 60
  python -m experiments paper --take out/paper/results.jsonl --write   commit to these rows, renew the document
  python -m experiments transfer --run --out out/transfer    hours; stop and go on at any time
  python -m experiments paper transfer --smoke --out out/s   tiny forms: a minute or two
"""


def main(argv: Sequence[str]) -> int:
    """Measure, print, write."""
    options = _parser().parse_args(argv)
    studies = _asked(options.study)
    if not studies:
        print("\n".join(f"{name:14} {study.title}" for name, study in STUDIES.items()))
        print("\n".join(f"{name:14} all of: {', '.join(members)}" for name, members in GROUPS.items()))
        return ANSWERED
    limit = _checked(options)
    if options.out is not None:
        make_folder(options.out)  # before minutes are spent
    if options.take is not None:
        take(studies, options.take)
    if options.smoke and options.out is None:
        with tempfile.TemporaryDirectory() as folder:
            return _done(studies, options, Path(folder), limit)
    status = _done(studies, options, options.out, limit)
    if options.write:
        print("\n".join(f"written: {document}" for document in write(studies)), file=sys.stderr)
    return status


def _checked(options: Namespace) -> float | None:
    """The limit; options that exclude each other are refused.

    Raises:
        UsageError: they do.
    """
    if options.run and options.out is None:
        raise UsageError("--run needs a folder for rows, tables and figures; name it with --out")
    unused = [name for name in ("limit", "jobs", "only", "subject") if getattr(options, name) not in (None, "")]
    if unused and not (options.run or options.smoke):
        raise UsageError(f"--{unused[0]} is about measuring; add --run or --smoke")
    options.jobs = -1 if options.jobs is None else options.jobs
    if options.jobs == 0:
        raise UsageError("--jobs is 0; expected a number of processes, or -1 for all cores")
    if (options.take or options.write) and (options.run or options.smoke or options.rows):
        raise UsageError("--take and --write are about committed rows; leave out --run, --smoke and --rows")
    return None if options.limit is None else checked_seconds("--limit", options.limit)


def _parser() -> Parser:
    parser = Parser("python -m experiments", "Tables and figures, from rows that are measured or committed.", EXAMPLES)
    parser.add_argument("study", nargs="*", metavar="STUDY", help="names of studies or groups; none lists them")
    parser.add_argument("--run", action="store_true", help="measure what has no row yet, in DIR/results.jsonl")
    parser.add_argument("--smoke", action="store_true", help="a tiny form of it: seconds a study")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="rows to show (.jsonl, .gz), not the committed ones")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where rows, tables and figures go")
    parser.add_argument("--take", type=Path, metavar="FILE", help="make these rows the committed ones")
    parser.add_argument("--write", action="store_true", help="put committed rows into the document, figures beside it")
    parser.add_argument("--limit", metavar="SECONDS", help="of each solve, instead of the study's own")
    parser.add_argument("--jobs", type=int, default=None, metavar="N", help="tasks at a time (-1: as many as cores)")
    parser.add_argument("--only", default="", metavar="TEXT", help="measure keys that contain this")
    parser.add_argument("--subject", type=Path, metavar="DIR", help="your own networks and images (transfer)")
    return parser


def _asked(names: Sequence[str]) -> list[Study]:
    wanted: list[str] = []
    for name in names:
        if name not in STUDIES and name not in GROUPS:
            raise UsageError(f"there is no study {name!r}; expected one of {', '.join([*STUDIES, *GROUPS])}")
        wanted += GROUPS.get(name, (name,))
    return [STUDIES[name] for name in dict.fromkeys(wanted)]


def _done(studies: Sequence[Study], options: Namespace, out: Path | None, limit: float | None) -> int:
    """Study by study; what goes wrong with one is told when all others are done."""
    wrong: list[str] = []
    for study in studies:
        rows: Sequence[Row]
        if out is not None and (options.run or options.smoke):
            scale = Scale("smoke" if options.smoke else "full", limit, out, options.subject, options.jobs)
            store = Store(out / "results.jsonl")
            try:
                measure(study, store, scale, options.only)
            except UsageError:
                raise
            except ArfjError as error:
                wrong.append(str(error))
            rows = last(store.rows())
        else:
            rows = read(options.rows or study.rows)
        rows = study.kept(rows)
        if rows or not wrong:  # what went wrong is told in the end
            show(study, rows, options.out)
        wrong += [f"{study.name}: {sentence}" for sentence in study.violations(rows)]
    if wrong:
        raise ArfjError(wrong[0] if len(wrong) == 1 else f"{wrong[0]} (and {len(wrong) - 1} more)")
    return ANSWERED


def show(study: Study, rows: Sequence[Row], out: Path | None) -> None:
    """Print the sheets; write them and the figures where a folder is given."""
    sheets, figures = study.sheets(rows), study.figures(rows)
    if not sheets and not figures:
        print(f"{study.name}: no rows yet", file=sys.stderr)
    for sheet in sheets:
        print(sheet.markdown() + "\n")
        if out is not None:
            for suffix, text in (("md", sheet.markdown() + "\n"), ("csv", sheet.csv()), ("tex", sheet.latex())):
                with atomic_write(out / f"{sheet.name}.{suffix}") as stream:
                    stream.write(text.encode())
    if out is not None:
        for name, draw in figures.items():
            for kind in ("png", "pdf"):
                save(draw, out / f"{name}.{kind}")
            print(f"drawn: {out / name}.png and .pdf", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run(main))
