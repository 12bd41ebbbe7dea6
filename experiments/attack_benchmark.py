"""`python -m experiments.attack_benchmark`: what the attack takes, suite by suite (`experiments/attacks`).

Rows are appended as they are measured, each with the machine it comes from; a suite leaves out what has a row with at
least its time limit. Rows that contradict each other, a bound above a replayed answer, end the command with status 1.
"""

from __future__ import annotations

import sys
import tempfile
from argparse import ArgumentTypeError, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from arfj.cli import ANSWERED, Parser, checked_seconds, run
from arfj.errors import UsageError
from arfj.files import make_folder
from arfj.report.store import Store
from experiments.attacks import alpha, formulations, growth, seeds, ten, warm
from experiments.attacks import cores as several
from experiments.attacks.plan import Plan, Row, Suite, cores
from experiments.attacks.plots import plots
from experiments.attacks.rows import check, last
from experiments.tables import HERE, put

ROWS = HERE / "rows" / "attack_benchmark.jsonl"
MARK = "attack_benchmark"
EXAMPLES = """\
  python -m experiments.attack_benchmark                           print the tables of the committed rows
  python -m experiments.attack_benchmark --run ten                 measure what has no row yet: hours for some suites
  python -m experiments.attack_benchmark --run alpha --true 4 --only /50/
  python -m experiments.attack_benchmark --run                     all suites
  python -m experiments.attack_benchmark --short --rows out/r.jsonl --plot out    some cheap instances: minutes
  python -m experiments.attack_benchmark --smoke                   tiny instances, into rows that are not kept
  python -m experiments.attack_benchmark --write --plot out        put the tables into PERFORMANCE.md, draw the plots
"""
SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        ten.SUITE,
        formulations.SUITE,
        alpha.SUITE,
        growth.SUITE,
        several.SUITE,
        warm.SUITE,
        seeds.SUITE,
    )
}
"""In the order in which they are measured: the last two use the rows of the first."""


def main(argv: Sequence[str]) -> int:
    """Measure, print, write, draw."""
    parser = _parser()
    options = parser.parse_args(argv)
    limit = None if options.limit is None else checked_seconds("--limit", options.limit)
    if options.short and options.rows == ROWS:
        raise UsageError("--short has smaller limits than the committed rows; name a file for its rows with --rows")
    if options.short and options.write:
        raise UsageError("--short has smaller limits than the tables in PERFORMANCE.md; leave out --write or --short")
    if options.plot is not None:
        make_folder(options.plot)  # before minutes are spent
    if options.smoke:
        with tempfile.TemporaryDirectory() as folder:
            plan = _plan(options, limit)
            return _all(Store(Path(folder) / "rows.jsonl"), plan, list(SUITES), options)
    return _all(Store(options.rows), _plan(options, limit), _asked(options), options)


def _parser() -> Parser:
    parser = Parser("python -m experiments.attack_benchmark", "What the attack takes, suite by suite.", EXAMPLES)
    names = ", ".join(f"{suite.name} ({suite.title})" for suite in SUITES.values())
    parser.add_argument("--rows", type=Path, default=ROWS, metavar="FILE", help="where the rows are")
    parser.add_argument(
        "--run", nargs="*", choices=list(SUITES), metavar="SUITE", help=f"measure what has no row yet, of {names}"
    )
    parser.add_argument("--solver", nargs="+", choices=("bab", "scip", "gurobi"), help="instead of the suite's own")
    parser.add_argument("--true", type=_class, nargs="+", metavar="CLASS", help="images, instead of the suite's own")
    parser.add_argument("--limit", metavar="SECONDS", help="for each instance, instead of the suite's own")
    parser.add_argument("--jobs", type=int, default=None, metavar="N", help="processes (default: the cores)")
    parser.add_argument("--only", default="", metavar="TEXT", help="measure keys that contain this")
    parser.add_argument(
        "--short", action="store_true", help="some cheap instances of the suites (of all without --run)"
    )
    parser.add_argument("--smoke", action="store_true", help="tiny instances, into rows that are not kept")
    parser.add_argument("--write", action="store_true", help="replace the tables in PERFORMANCE.md; not with --short")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw the plots into this folder")
    return parser


def _class(text: str) -> int:
    if text not in map(str, range(10)):
        raise ArgumentTypeError(f"{text!r} is no class from 0 to 9")
    return int(text)


def _plan(options: Namespace, limit: float | None) -> Plan:
    jobs = (1 if options.smoke else cores()) if options.jobs is None else options.jobs
    if jobs < 1:
        raise UsageError(f"--jobs is {jobs}; expected a number of processes, 1 or more")
    return Plan(
        "tiny" if options.smoke else "short" if options.short else "full",
        None if options.solver is None else tuple(dict.fromkeys(options.solver)),
        None if options.true is None else tuple(dict.fromkeys(options.true)),
        limit,
        jobs,
        options.only,
    )


def _asked(options: Namespace) -> list[str]:
    """The suites to measure, in order."""
    if options.run is None and not options.short:
        return []
    return [name for name in SUITES if not options.run or name in options.run]


def _all(store: Store, plan: Plan, names: Sequence[str], options: Namespace) -> int:
    """Measure these suites; then tables, plots, and the check."""
    for name in names:
        print(f"{name}: {SUITES[name].title}", file=sys.stderr)
        SUITES[name].measure(plan, store)
    rows = last(store.rows())
    found = tables(rows)
    if options.write and not options.smoke:
        put({f"{MARK}:{name}": table for name, table in found.items()})
    print("\n\n".join(f"{name}: {SUITES[name].title}\n\n{table}" for name, table in found.items()))
    if options.plot is not None:
        for path in plots(rows, options.plot):
            print(f"drawn: {path}", file=sys.stderr)
    check(rows)
    return ANSWERED


def tables(rows: Sequence[Row]) -> dict[str, str]:
    """Markdown by suite; a suite without rows says so."""
    return {name: suite.table(rows) for name, suite in SUITES.items()}


if __name__ == "__main__":
    sys.exit(run(main))
