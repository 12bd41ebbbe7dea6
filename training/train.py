"""`python -m training.train`: make a set of networks, check one, or make the package's bundle again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import joblib
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import arfj
from arfj.cli import ANSWERED, Parser, run
from arfj.data import load_fashion_mnist
from arfj.errors import UsageError
from training.check import check_set
from training.growth import FOLDER as GROWTH
from training.growth import Growth, make_growth, summary_of_growth
from training.sets import Plan, make_set
from training.settings import Settings

BUNDLE = Path(arfj.__file__).parent / "bundle"

EXAMPLES = """\
  python -m training.train --output my-set                       one nominal network, 5 inner and 5 outer samples
  python -m training.train --output my-set --alpha 10 --seed 7   more samples, other seeds
  python -m training.train --output wide --hidden 16 16          another structure
  python -m training.train --check my-set                        compute accuracies, distances and digests again
  python -m training.train --bundle                              make the networks that ship with the package again
  python -m training.train --growth                              then the larger ones, and more samples, beside them
"""


def parser() -> Parser:
    """The options, with the defaults of `Plan` and `Settings`."""
    plan, settings = Plan(), Settings()
    result = Parser(
        "python -m training.train",
        "Train sets of networks on Fashion-MNIST: a nominal network, weight-perturbed and retrained samples of it.",
        EXAMPLES,
    )
    what = result.add_mutually_exclusive_group()
    what.add_argument("--output", type=Path, metavar="DIR", help="make a set in this folder")
    what.add_argument("--check", type=Path, metavar="DIR", help="compare a set with its manifest")
    what.add_argument(
        "--bundle", action="store_true", help="make arfj/bundle again (its own options; needs a checkout)"
    )
    what.add_argument(
        "--growth",
        action="store_true",
        help="make arfj/bundle/growth again, from arfj/bundle: larger networks, and outer samples for alpha up to 50",
    )
    add = result.add_argument
    add("--alpha", type=int, default=plan.alpha, help="samples of each kind for attacks (%(default)s)")
    add("--held-out", type=int, default=0, help="more samples of each kind, for the evaluation only (%(default)s)")
    add("--seed", type=int, default=plan.first_seed, help="seeds are tried from this one on (%(default)s)")
    add("--hidden", type=int, nargs="+", default=list(settings.hidden), metavar="N", help="hidden layers (8 8 8)")
    add("--epochs", type=int, default=settings.epochs, help="passes through the data (%(default)s)")
    add("--batch", type=int, default=settings.batch, help="images a step (%(default)s)")
    add("--rate", type=float, default=settings.rate, help="learning rate of the first epoch (%(default)s)")
    add("--last-rate", type=float, default=settings.last_rate, help="share of it left in the last (%(default)s)")
    accuracy = [settings.least, settings.most]
    add("--accuracy", type=float, nargs=2, default=accuracy, metavar=("FROM", "TO"), help="kept range (0.83 0.86)")
    add("--epsilon-inner", type=float, default=plan.epsilon_inner, help="d_in of inner samples (%(default)s)")
    add("--epsilon-outer", type=float, default=plan.epsilon_outer, help="bound on d_osd of outer ones (%(default)s)")
    add("--n-jobs", type=int, default=-1, help="processes; -1: one a core (%(default)s)")
    add("--download", action="store_true", help="let Keras download Fashion-MNIST if it is not on this machine")
    return result


def _plan(options: argparse.Namespace) -> Plan:
    settings = Settings(
        tuple(options.hidden), options.epochs, options.batch, options.rate, options.last_rate, *options.accuracy
    )
    return Plan(settings, options.alpha, options.held_out, options.seed, options.epsilon_inner, options.epsilon_outer)


@contextmanager
def _progress(wanted: int) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr with the time left, on a terminal only; it moves with every network kept."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("training", total=wanted)

        def seen(kept: int, trained: int) -> None:
            bar.update(task, completed=kept, description=f"{kept} of {wanted} networks kept, {trained} trained")

        yield seen


def _make(folder: Path, plan: Plan, options: argparse.Namespace) -> None:
    data = load_fashion_mnist(options.download)
    start = perf_counter()
    with _progress(plan.samples + 1) as seen:
        manifest = make_set(folder, plan, data, options.n_jobs, seen)
    print(summary(manifest))
    _tell(folder, start, options)


def _make_growth(bundle: Path, options: argparse.Namespace) -> None:
    data, growth = load_fashion_mnist(options.download), Growth()
    start = perf_counter()
    with _progress(growth.wanted) as seen:
        manifest = make_growth(bundle, growth, data, options.n_jobs, seen)
    print(summary_of_growth(manifest))
    _tell(bundle / GROWTH, start, options)


def _tell(folder: Path, start: float, options: argparse.Namespace) -> None:
    jobs = joblib.effective_n_jobs(options.n_jobs)
    print(f"written to {folder} in {perf_counter() - start:.0f} s with {jobs} processes")


def summary(manifest: dict[str, Any]) -> str:
    """One line a kind: how many, accuracies, distances; one line a discarded seed."""
    lines = []
    for kind in ("nominal", "inner", "outer"):
        chosen = [entry for entry in manifest["networks"] if entry["kind"] == kind]
        ranges = (f"{key} {_range([entry[key] for entry in chosen])}" for key in ("accuracy", "d_osd", "d_in"))
        lines += [f"{kind:8} {len(chosen):3} networks  {'  '.join(ranges)}"] if chosen else []
    lines += [f"discarded {len(manifest['discarded'])} of {manifest['trained']} trained networks"]
    lines += [f"  seed {entry['seed']}: {entry['reason']}" for entry in manifest["discarded"]]
    return "\n".join(lines)


def _range(values: list[float]) -> str:
    low, high = f"{min(values):.4f}", f"{max(values):.4f}"
    return low if low == high else f"{low}..{high}"


def main(argv: Sequence[str]) -> int:
    """Make or check, as the options say.

    Raises:
        ArfjError: one line saying what to mend.
    """
    options = parser().parse_args(argv)
    if options.check:
        print(check_set(options.check, options.download))
    elif options.bundle:
        _make(BUNDLE, Plan(), options)
    elif options.growth:
        _make_growth(BUNDLE, options)
    elif options.output:
        _make(options.output, _plan(options), options)
    else:
        raise UsageError("say what to do: --output DIR, --check DIR, --bundle or --growth (see --help)")
    return ANSWERED


if __name__ == "__main__":
    sys.exit(run(main))
