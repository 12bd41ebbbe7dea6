"""`python -m arfj.verify`: decide a VNN-LIB property of a network."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from arfj.cli import ANSWERED, INTERRUPTED, Parser, run
from arfj.errors import UsageError
from arfj.files import make_folder
from arfj.verify.files import verify_files
from arfj.verify.outcome import Outcome, write_result
from arfj.verify.portfolio import Options
from arfj.verify.search import Progress, Step, silent

PROG = "python -m arfj.verify"
EXAMPLES = f"""\
  {PROG} network.onnx property.vnnlib                     robust, falsified or unknown, within 60 s
  {PROG} network.npz property.vnnlib.gz --time-limit 600  networks as .onnx, .onnx.gz, .npz, .keras or .h5
  {PROG} network.onnx property.vnnlib --results out.txt   VNN-COMP's result file as well
  {PROG} network.onnx property.vnnlib --json              one JSON document on stdout
"""
SHOWN = 10
"""Numbers of a counterexample that the table shows; --json and --results give all."""


def main(argv: Sequence[str]) -> int:
    """Verify what `argv` names; the answer goes to stdout."""
    options = _parser().parse_args(argv)
    limits = Options(options.time_limit, options.device, options.seed)
    _check_device(limits)
    if options.results:
        make_folder(Path(options.results).parent)
    with _line(limits) as progress:
        outcome, prop = verify_files(options.network, options.property, limits, progress)
    if options.results:
        write_result(options.results, outcome, prop)
    print(json.dumps(outcome.document(), indent=2) if options.json else in_words(outcome))
    return INTERRUPTED if outcome.reason == "interrupted" else ANSWERED


def _parser() -> argparse.ArgumentParser:
    parser = Parser(PROG, "Is there an input of the set at which the network's outputs are unsafe?", EXAMPLES)
    parser.usage = f"{PROG} NETWORK PROPERTY [--time-limit S] [--device cpu | gpu] [--results FILE] [--json]"
    parser.add_argument("network", metavar="NETWORK", help="the network: .onnx, .onnx.gz, .npz, .keras or .h5")
    parser.add_argument("property", metavar="PROPERTY", help="the property: VNN-LIB, .vnnlib or .vnnlib.gz")
    parser.add_argument("--time-limit", metavar="S", type=_seconds, default=60.0, help="seconds (default 60)")
    parser.add_argument(
        "--device", choices=["cpu", "gpu"], default="cpu", help="who bounds subproblems: NumPy here, or JAX on a GPU"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the descents' starts (default 0)")
    parser.add_argument(
        "--results", metavar="FILE", help="write VNN-COMP's result file: sat, unsat, unknown or timeout"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"--time-limit {text!r} is no number; expected seconds, such as 60") from None
    if not 0 < value < float("inf"):
        raise UsageError(f"--time-limit {text} cannot be kept; expected a positive number of seconds")
    return value


def _check_device(options: Options) -> None:
    if options.device == "cpu":
        return
    try:
        import jax
    except ImportError:
        raise UsageError("--device gpu needs JAX: pip install 'jax[cuda13]'") from None
    if jax.default_backend() == "cpu":
        raise UsageError("--device gpu: JAX finds no GPU here; leave the option out to use the CPU")


@contextmanager
def _line(options: Options) -> Iterator[Progress]:
    """A line on stderr that says what is going on, on a terminal only."""
    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console

    with Console(stderr=True).status("reading") as status:

        def show(step: Step) -> None:
            worst = "" if step.worst is None else f", worst bound {step.worst:.4g}"
            left = max(0.0, options.seconds - step.seconds)
            status.update(f"{step.stage}: {step.open} open{worst}, {step.branches} branches, {left:.0f} s left")

        yield show


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
    sys.exit(run(main))
