"""`python -m arfj.certify cdf`: bounds of the distribution function of a network's outputs under random inputs."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from arfj.certify.cdf import enclosures
from arfj.certify.cdf.answers import (
    class_probabilities,
    grid,
    joint,
    one_output,
    output_range,
    quantile,
)
from arfj.certify.cdf.enclosures import Enclosed, enclosed
from arfj.certify.cdf.evaluation import as_fractions
from arfj.certify.cdf.layers import Layers, layers_of, load, with_softmax
from arfj.certify.cdf.mesh import Array
from arfj.certify.cdf.question import Question, cost, question, read_box, read_density, read_fixed
from arfj.certify.cdf.refine import Found
from arfj.certify.cdf.regions import Budget
from arfj.certify.cdf.report import Answer, document_of, sentences, show
from arfj.cli import ANSWERED, Parser, checked_seconds, status_line
from arfj.errors import UsageError
from arfj.files import load_numbers
from arfj.graph import Graph
from arfj.network import Network

PROG = "python -m arfj.certify cdf"
EXAMPLES = f"""\
  {PROG} --network iris.npz --input x.npy --free 0,1 --density "beta:2,2;beta:3,2"      output 0 at 20 points
  {PROG} --network iris.npz --input x.npy --free 0,1 --density "gauss:0,1;gauss:0,1" --box=-4:4 --joint --at y.npy
  {PROG} --network iris.npz --input x.npy --free 3 --density mixture:m.npz --box box.npy --quantile 0.05 --json
"""
TOLERANCE, POINTS, LIMIT, CELLS, SAMPLES = 1e-3, 20, 60.0, 1_000_000, 100_000
SEGMENTS = 1000
GRID = 200_000
"""Points of a joint distribution function that are computed at most."""


def main(argv: Sequence[str]) -> int:
    """Answer what `argv` asks for."""
    began = time.perf_counter()
    options = _parser().parse_args(argv)
    seconds = checked_seconds("--time-limit", options.time_limit)
    _check(options)
    network = load(options.network)
    asked = _question(options, network)
    graph = asked.both(enclosures.FIRST).graph if isinstance(asked, Enclosed) else asked.graph
    if (sentence := cost(graph, Budget(options.cells, seconds))) is not None:
        print(sentence, file=sys.stderr, flush=True)
    with status_line("cutting the box into regions") as say:
        budget = Watched(options.cells, seconds, say=say)
        if isinstance(asked, Enclosed):
            answer = _enclosed_answer(options, asked, budget)
        else:
            answer = _answered(options, asked, budget)
    document = document_of(answer, time.perf_counter() - began)
    if options.json:
        print(json.dumps(document, indent=2, allow_nan=False))
    else:
        logits = network.softmax and not options.softmax
        show(document, sentences(document, answer, asked, options, logits))
    if options.plot is not None:  # after the answer, which is not lost where a picture cannot be written
        from arfj.certify.cdf.plot import draw

        draw(
            options.plot,
            answer.y,
            answer.found.bounds,
            asked,
            options.output,
            options.samples or SAMPLES,
            options.outside,
        )
    return ANSWERED


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        PROG, "How are a network's outputs distributed when some inputs are random? Bounds that hold.", EXAMPLES
    )
    parser.add_argument("--network", required=True, metavar="FILE", help="the network")
    parser.add_argument("--input", required=True, metavar="FILE.npy", help="the whole input; free values are replaced")
    parser.add_argument("--free", required=True, metavar="I,J,..", help="which inputs are random, from 0 on")
    parser.add_argument(
        "--density",
        required=True,
        metavar="FORM",
        help="beta:A,B;.. (scaled to the box), gauss:MEAN,STD;.. or mixture:FILE.npz (means, cov, weights)",
    )
    parser.add_argument(
        "--box",
        metavar="LO:HI | FILE.npy",
        help="of the free inputs; a file has shape (2, free inputs): lower, upper corner; [0, 1] for beta by default",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--output", type=int, default=0, metavar="I", help="the output; 0 by default")
    which.add_argument("--joint", action="store_true", help="of all outputs together")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--points", type=int, metavar="N", help=f"as many values over the range of each output; {POINTS} by default"
    )
    where.add_argument("--at", metavar="FILE.npy", help="values (points,), or (points, outputs) with --joint")
    parser.add_argument(
        "--outside",
        choices=("add", "renormalise"),
        default="add",
        help="mass outside the box: may be anywhere, or left out",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        metavar="T",
        help=f"U - L that is near enough; {TOLERANCE} by default",
    )
    parser.add_argument(
        "--softmax", action="store_true", help="of the class probabilities: the softmax of the outputs, by segments"
    )
    parser.add_argument(
        "--segments",
        type=int,
        metavar="S",
        help="by networks below and above with S segments for each convex and concave part of an activation",
    )
    parser.add_argument("--exact", action="store_true", help="in fractions: ReLU networks, polynomial densities")
    parser.add_argument("--quantile", type=float, metavar="Q", help="bounds of a quantile of the output as well")
    parser.add_argument("--classes", action="store_true", help="bounds of the probability of each class as well")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="bounds of one output beside Monte Carlo")
    parser.add_argument("--samples", type=int, metavar="N", help=f"of the Monte Carlo in the plot (default {SAMPLES})")
    parser.add_argument("--time-limit", default=f"{LIMIT:g}", metavar="S", help="seconds; looser bounds then count")
    parser.add_argument("--cells", type=int, default=CELLS, metavar="N", help=f"regions at most; {CELLS} by default")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    return parser


def _check(options: argparse.Namespace) -> None:
    """Nothing.

    Raises:
        UsageError: options that do not fit each other. ArfjError: no picture can be drawn.
    """
    if options.samples is not None and options.plot is None:
        raise UsageError("--samples is about the Monte Carlo in a plot; name its file with --plot, or leave it out")
    if not 0 <= options.tolerance < 1 or options.cells < 1 or (options.samples is not None and options.samples < 1):
        raise UsageError("--tolerance must lie in [0, 1), --cells and --samples must be at least 1")
    if options.joint and (options.plot is not None or options.quantile is not None):
        raise UsageError("--plot and --quantile are about one output; name it with --output, and leave out --joint")
    if options.quantile is not None and not 0 < options.quantile < 1:
        raise UsageError(f"--quantile {options.quantile:g} does not exist; expected a number between 0 and 1")
    if options.exact and options.quantile is not None:
        raise UsageError("--exact is about points and classes; leave out --quantile")
    if options.plot is not None:
        from arfj.certify.cdf.plot import format_of

        format_of(options.plot)
    if options.segments is not None and not 1 <= options.segments <= SEGMENTS:
        raise UsageError(f"--segments {options.segments} are none or too many; expected 1 to {SEGMENTS}")


def _question(options: argparse.Namespace, plain: Network | Graph | Layers) -> Question | Enclosed:
    """The question of the command line; where no cells can be refined, that about networks below and above.

    Raises:
        UsageError: options that do not fit the network.
    """
    network = with_softmax(plain) if options.softmax else plain
    if options.segments is not None:
        network = layers_of(network)
    if options.exact and isinstance(network, Layers):
        raise UsageError("--exact needs a network with ReLUs alone; leave out --exact, --softmax and --segments")
    if not 0 <= options.output < network.classes:
        raise UsageError(f"--output {options.output} does not exist; expected 0 to {network.classes - 1}")
    try:
        free = [int(part) for part in options.free.split(",")]
    except ValueError:
        raise UsageError(f"--free {options.free} holds no numbers; expected indices, such as 0,1") from None
    lower, upper = read_box(options.box, len(free), options.density)
    density = read_density(options.density, lower, upper)
    fixed = read_fixed(options.input, network.input_shape)
    if isinstance(network, Layers):
        asked = enclosed(network, fixed, free, density, lower, upper)
        if not options.softmax or isinstance(plain, Layers):
            return asked
        return replace(asked, logits=question(plain, fixed, free, density, lower, upper))
    return question(network, fixed, free, density, lower, upper)


@dataclass(frozen=True)
class Watched(Budget):
    """A budget that tells, whenever it is asked, how much of it is left.

    Attributes:
        say: takes a line.
    """

    say: Callable[[str], None] = field(default=lambda _: None, compare=False)

    def spent(self, cells: int) -> bool:
        """As `Budget.spent`."""
        left = max(0.0, self.until - time.monotonic())
        self.say(f"{cells} of {self.cells} cells, {left:.0f} s left" if cells else f"{left:.0f} s left")
        return super().spent(cells)


def _enclosed_answer(options: argparse.Namespace, asked: Enclosed, budget: Budget) -> Answer:
    fixed, outside = options.segments is not None, options.outside
    classes = None
    if options.classes and asked.logits is not None:  # first, as they cost little: later no time may be left
        classes = class_probabilities(asked.logits.pieces(budget), asked.logits, budget, options.tolerance, outside)
    first = enclosures.enclosure(asked, options.segments or enclosures.FIRST, budget)
    y = _points(options, asked.outputs, lambda column: enclosures.output_range(first, column))
    if options.joint:
        last, found = enclosures.joint(asked, first, y, budget, options.tolerance, outside, fixed)
    else:
        column = options.output
        last, found = enclosures.one_output(asked, first, column, y, budget, options.tolerance, outside, fixed)
    of_quantile = None
    if options.quantile is not None:
        of_quantile = enclosures.quantile(last, options.output, options.quantile, budget, outside, options.tolerance)
    if options.classes and classes is None:
        classes = enclosures.class_probabilities(last, asked.outputs, budget, options.tolerance, outside)
    return Answer(y, found, last.pieces, of_quantile, classes, last.segments)


def _answered(options: argparse.Namespace, asked: Question, budget: Budget) -> Answer:
    pieces = asked.pieces(budget, options.exact)
    y = _points(options, asked.graph.classes, lambda column: output_range(pieces, column))
    if options.joint and options.at is None:
        columns = [np.unique(column) for column in y.T]
        if not options.exact and math.prod(map(len, columns)) == len(y):
            found = grid(pieces, asked, columns, budget, options.tolerance, options.outside)
            found = Found(_flat(found), found.pieces, found.cells, found.reached)
        else:
            found = joint(pieces, asked, y, budget, options.tolerance, options.outside)
    elif options.joint:
        found = joint(pieces, asked, y, budget, options.tolerance, options.outside)
    else:
        found = one_output(pieces, asked, options.output, y, budget, options.tolerance, options.outside)
    of_quantile = None
    if options.quantile is not None:
        of_quantile = quantile(
            found.pieces, asked, options.output, options.quantile, budget, options.outside, options.tolerance
        )
    classes = (
        class_probabilities(found.pieces, asked, budget, options.tolerance, options.outside)
        if options.classes
        else None
    )
    return Answer(y, found, pieces, of_quantile, classes)


def _flat(found: Found) -> Any:  # noqa: ANN401 - Bounds
    from arfj.certify.cdf.distribution import Bounds

    return Bounds(found.bounds.lower.ravel(), found.bounds.upper.ravel())


def _points(options: argparse.Namespace, outputs: int, range_of: Callable[[int], tuple[Any, Any]]) -> Array:
    """Where bounds are asked for: (points,) or (points, outputs), as fractions where all is exact.

    Raises:
        UsageError: a file of another shape, or a grid that is too large.
    """
    if options.at is not None:
        y = load_numbers(options.at)
        good = (y.ndim == 2 and y.shape[1] == outputs) if options.joint else y.ndim == 1
        if not good:
            expected = f"(points, {outputs})" if options.joint else "(points,)"
            raise UsageError(f"{options.at} has shape {y.shape}; expected {expected}")
    else:
        count = POINTS if options.points is None else options.points
        columns = range(outputs) if options.joint else [options.output]
        if count < 1 or count ** len(columns) > GRID:
            raise UsageError(
                f"{count} points for each of {len(columns)} outputs are {'none' if count < 1 else 'too many'}; "
                f"expected 1 to {int(GRID ** (1 / len(columns)))} with --points, or points of your own with --at"
            )
        ranges = [np.array(range_of(column), dtype=np.float64) for column in columns]
        levels = [np.unique(np.linspace(low, high, count + 2)[1:-1]) for low, high in ranges]
        y = np.array(list(itertools.product(*levels))) if options.joint else levels[0]
    return as_fractions(y) if options.exact else y
