"""`python -m arfj.verify`: decide a VNN-LIB property of a network."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from arfj.bounds.ascent import compile_seconds
from arfj.cli import ANSWERED, INTERRUPTED, Parser, checked_seconds, leave, run
from arfj.errors import UsageError
from arfj.files import is_device, make_folder
from arfj.verify import standard
from arfj.verify.files import verify_files
from arfj.verify.outcome import INTERRUPTED as REASON
from arfj.verify.outcome import Outcome, write_result
from arfj.verify.portfolio import Options
from arfj.verify.progress import watched
from arfj.verify.property import Property

PROG = standard.PROG
EXAMPLES = f"""\
  {PROG} network.onnx property.vnnlib                     robust, falsified or unknown, within 60 s
  {PROG} network.npz property.vnnlib.gz --time-limit 600  networks as .onnx, .onnx.gz, .npz, .keras or .h5
  {PROG} network.onnx property.vnnlib --results out.txt   VNN-COMP's result file as well
  {PROG} network.onnx property.vnnlib --json              one JSON document on stdout

  the commands of VNN-LIB 2.0:
{standard.EXAMPLES}"""
SHOWN = 10
"""Numbers of a counterexample that the table shows; --json and --results give all."""


def main(argv: Sequence[str]) -> int:
    """Verify what `argv` names; the answer goes to stdout."""
    if argv and argv[0] in standard.COMMANDS:
        return standard.main(argv)
    options = _parser().parse_args(argv)
    limits = Options(options.time_limit, options.device, options.seed)
    if options.results is not None:
        _check_results(options.results)
    begun = time.perf_counter()
    prop: Property | None = None
    try:
        with watched(limits.seconds) as progress:
            outcome, prop = verify_files(options.network, options.property, limits, progress)
    except KeyboardInterrupt:  # before there was anything to keep
        outcome = Outcome("unknown", REASON, time.perf_counter() - begun, 0)
    if options.results is not None:
        write_result(options.results, outcome, prop)
    if options.verbose:
        print(f"{outcome.seconds:.2f} s, {compile_seconds():.2f} s of them compiling", file=sys.stderr)
    print(json.dumps(outcome.document(), indent=2, allow_nan=False) if options.json else in_words(outcome))
    return INTERRUPTED if outcome.interrupted else ANSWERED


def entry() -> NoReturn:
    """The command `arfj-verify`."""
    leave(run(main))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(PROG, "Is there an input of the set at which the network's outputs are unsafe?", EXAMPLES)
    parser.usage = f"{PROG} NETWORK PROPERTY [--time-limit S] [--device cpu | gpu] [--results FILE] [--json]"
    parser.add_argument("network", metavar="NETWORK", help="the network: .onnx, .onnx.gz, .npz, .keras or .h5")
    parser.add_argument("property", metavar="PROPERTY", help="the property: VNN-LIB, .vnnlib or .vnnlib.gz")
    parser.add_argument(
        "--time-limit",
        metavar="S",
        type=lambda text: checked_seconds("--time-limit", text),
        default=60.0,
        help="seconds, reading the files included (default 60)",
    )
    parser.add_argument(
        "--device", choices=["cpu", "gpu"], default="cpu", help="who bounds subproblems: NumPy here, or JAX on a GPU"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the descents' starts (default 0)")
    parser.add_argument(
        "--results", metavar="FILE", help="write VNN-COMP's result file: sat, unsat, unknown or timeout"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return parser


def _check_results(name: str) -> None:
    """Before any work is spent."""
    if not name or Path(name).is_dir():
        raise UsageError(f"--results {name!r} is {'a folder' if name else 'empty'}; expected the path of a file")
    if not is_device(name):
        make_folder(Path(name).parent)


def in_words(outcome: Outcome) -> str:
    """The answer as lines of text."""
    lines = [
        f"{outcome.verdict}: {outcome.reason}",
        f"{outcome.seconds:.2f} s, {outcome.branches} branches",
    ]
    if outcome.bound is not None:
        lines.append(f"the margin is proven to be at least {outcome.bound:.6g} (above 0 would be robust)")
    if outcome.counterexample is not None:
        for name, values in (("x", outcome.counterexample.x), ("y", outcome.counterexample.y)):
            shown = ", ".join(f"{value:.6g}" for value in values[:SHOWN])
            more = f", ... ({len(values)} numbers; --json gives all)" if len(values) > SHOWN else ""
            lines.append(f"{name} = {shown}{more}")
    return "\n".join(lines)


if __name__ == "__main__":
    entry()
