"""`python -m arfj.evaluate`: cross-check of witnesses on any networks."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import numpy as np
from rich.table import Table

from arfj.cli import ANSWERED, Parser, answer_console, run
from arfj.evaluate.certificate import ASSUMPTION, DELTA, checked_delta, percent
from arfj.evaluate.crosscheck import CrossCheck, cross_check, witness_files
from arfj.evaluate.replay import load_witness
from arfj.network import Network, load_dense

PROG = "python -m arfj.evaluate"
EXAMPLES = f"""\
  {PROG} output/witnesses --outer                  the 15 bundled networks that no attack sees
  {PROG} witness.npz --networks one.npz two.npz    any networks of your own
  {PROG} witness.npz --inner --json                one JSON document on stdout
"""
CERTIFIED = "next % >="
WIDTH_OF_NUMBERS = 110
"""Columns that the table takes beside the names of its files; where stdout is no terminal, nothing is cut off."""


def main(argv: Sequence[str]) -> int:
    """Cross-check the witnesses named in `argv`; the answer goes to stdout."""
    options = _parser().parse_args(argv)
    delta = checked_delta(options.delta)
    networks = _networks(options)
    checks = [cross_check(load_witness(path), networks, str(path), delta) for path in witness_files(options.witness)]
    if options.json:
        print(json.dumps({"results": [check.as_json() for check in checks]}, indent=2, allow_nan=False))
    else:
        longest = max(len(check.witness) for check in checks)
        width = None if sys.stdout.isatty() else max(longest, len("witness")) + WIDTH_OF_NUMBERS
        console = answer_console(file=sys.stdout, width=width, highlight=False)
        console.print(table(checks))
        console.print(closing_line(delta))
    return ANSWERED


def _parser() -> argparse.ArgumentParser:
    parser = Parser(PROG, "How well do adversarial examples fool networks that the attack has not seen?", EXAMPLES)
    parser.usage = f"{PROG} WITNESS ... (--networks FILE ... | --inner | --outer) [--delta D] [--json]"
    parser.add_argument("witness", metavar="WITNESS", nargs="+", help="a witness of arfj.attack, or a folder of them")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--networks", metavar="FILE", nargs="+", help="the networks, one a file")
    source.add_argument("--inner", action="store_true", help="the 15 held-out bundled networks of inner sampling")
    source.add_argument("--outer", action="store_true", help="the 15 held-out bundled networks of outer sampling")
    parser.add_argument(
        "--delta",
        type=float,
        default=DELTA,
        metavar="D",
        help=f"the certificate's probability of error, in (0, 1); {DELTA} by default",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    return parser


def _networks(options: argparse.Namespace) -> list[Network]:
    if options.networks:
        return [load_dense(path) for path in options.networks]
    from arfj import data

    return list((data.bundled_inner if options.inner else data.bundled_outer)(held_out=True))


def table(checks: Sequence[CrossCheck]) -> Table:
    """The cross-checks as a table, one row a witness and a last one of means: shares in %, the rest in [-1, 1]."""
    count = checks[0].networks
    title = f"Cross-check on {count} network{'s' if count > 1 else ''}"
    result = Table(title=title, title_justify="left", collapse_padding=True)
    result.add_column("witness", overflow="fold", footer="mean")
    columns = {
        "target %": [100 * check.rate.target for check in checks],
        "true %": [100 * check.rate.true for check in checks],
        "other %": [100 * check.rate.other for check in checks],
        "p target": [check.probability.target for check in checks],
        "p true": [check.probability.true for check in checks],
        "p other": [check.probability.other for check in checks],
        "weak confidence": [check.weak_confidence for check in checks],
        "margin": [check.margin for check in checks],
    }
    for name, values in columns.items():
        result.add_column(name, justify="right", footer=_number(name, float(np.mean(values))))
    result.add_column(CERTIFIED, justify="right")  # no footer: a mean of bounds certifies nothing
    for index, check in enumerate(checks):
        numbers = [_number(name, values[index]) for name, values in columns.items()]
        result.add_row(check.witness, *numbers, percent(check.certificate.probability))
    result.show_footer = len(checks) > 1
    return result


def closing_line(delta: float) -> str:
    """What the last column claims, and on what assumption."""
    return (
        f"{CERTIFIED}: a lower bound on the probability that the next network of the same sampler gives the target, "
        f"with confidence 1 - {delta} for each row by itself. {ASSUMPTION}"
    )


def _number(name: str, value: float) -> str:
    return f"{value:.1f}" if name.endswith("%") else f"{value:.4f}"


if __name__ == "__main__":
    sys.exit(run(main))
