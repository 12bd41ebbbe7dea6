"""`python -m arfj.bounds`: what every neuron of a network can be over a set of images."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

import numpy as np
from rich.table import Table

from arfj.bounds import Bounds, Method, pre_activation_bounds
from arfj.bounds.backward import sites
from arfj.cli import ANSWERED, INTERRUPTED, Parser, answer_console, leave, run, status_line
from arfj.data import load_image
from arfj.errors import ArfjError, UsageError
from arfj.graph import Affine, Graph
from arfj.network import Floats, Network, load_network
from arfj.region import Region
from arfj.simplify import entries

PROG = "python -m arfj.bounds"
EXAMPLES = f"""\
  {PROG} network.npz --image x.npy --box 0.01                 every pixel moves by at most 0.01
  {PROG} network.onnx --image x.npy --l1 2 --method crown     the sum of all moves is at most 2
  {PROG} network.keras --image x.npy --l2 0.5 --json          one JSON document on stdout
  {PROG} network.npz --image x.npy --l1 2 --method exact      by mixed-integer programs; small networks
"""
METHODS = ("interval", "crown", "alpha-crown", "exact")
MOST_WORK: dict[Method, float] = {"alpha-crown": 2e10, "crown": 2e12}
"""The multiplications that the default method may cost: some ten seconds, and some minutes."""
WORK: dict[Method, int] = {"alpha-crown": 128, "crown": 2}
"""How often a method carries every neuron back through the network, about."""
SECONDS = 10.0
"""Default limit of one program of the method exact."""


@dataclass(frozen=True, eq=False)
class Answer:
    """Bounds, and how they were made."""

    bounds: Bounds
    method: str
    seconds: float
    late: int | None = None
    interrupted: bool = False

    def document(self) -> dict[str, Any]:
        """The JSON document; with the method exact, `late` counts the bounds whose program was not closed."""
        pairs = zip(self.bounds.lower, self.bounds.upper, strict=True)
        return {
            "method": self.method,
            "layers": [{"lower": low.tolist(), "upper": up.tolist()} for low, up in pairs],
            "unstable": self.bounds.unstable,
            "seconds": self.seconds,
        } | ({} if self.late is None else {"late": self.late})


def main(argv: Sequence[str]) -> int:
    """Bound the network that `argv` names; the answer goes to stdout."""
    options = _parser().parse_args(argv)
    if not 0 < options.time_limit < float("inf"):
        raise UsageError(f"--time-limit is {options.time_limit:g}; expected seconds, more than 0")
    _check_radius(options)
    network = load_network(options.network)
    region = _region(options, _image(options.image, network))
    answer = _answer(network, region, options)
    if not all(np.isfinite(side).all() for side in (*answer.bounds.lower, *answer.bounds.upper)):
        raise ArfjError("the bounds are too large for floating-point numbers; scale the network's weights down")
    if options.json:
        print(json.dumps(answer.document(), indent=2, allow_nan=False))
    else:
        _print(answer)
    return INTERRUPTED if answer.interrupted else ANSWERED


def _parser() -> argparse.ArgumentParser:
    parser = Parser(PROG, "Lower and upper bounds of every pre-activation over a set of images.", EXAMPLES)
    parser.usage = f"{PROG} NETWORK (--box EPS | --l1 RADIUS | --l2 RADIUS) --image FILE.npy [options]"
    parser.add_argument("network", metavar="NETWORK", help="the network: .npz, .onnx, .onnx.gz, .keras or .h5")
    parser.add_argument("--image", metavar="FILE.npy", required=True, help="the image in the middle, pixels in [0, 1]")
    region = parser.add_argument_group("the set, cut with [0, 1]").add_mutually_exclusive_group(required=True)
    region.add_argument("--box", metavar="EPS", type=float, help="each pixel moves by at most EPS")
    region.add_argument("--l1", metavar="RADIUS", type=float, help="the moves sum up to at most RADIUS")
    region.add_argument("--l2", metavar="RADIUS", type=float, help="their Euclidean length is at most RADIUS")
    parser.add_argument(
        "--method",
        choices=METHODS,
        help="default: alpha-crown; crown for large networks, interval for very large ones",
    )
    parser.add_argument(
        "--time-limit",
        metavar="S",
        type=float,
        default=SECONDS,
        help=f"with --method exact: seconds for one bound, then what is proven of it counts (default {SECONDS:g})",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    return parser


def _check_radius(options: argparse.Namespace) -> None:
    for name in ("box", "l1", "l2"):
        radius = getattr(options, name)
        if radius is not None and not radius >= 0:
            raise UsageError(f"--{name} is {radius:g}; expected a number >= 0")


def _image(name: str, network: Network | Graph) -> Floats:
    image = load_image(name)
    shapes = {network.input_shape, (network.inputs,)} | ({(28, 28)} if network.inputs == 784 else set())
    if image.shape not in shapes:
        expected = " or ".join(map(str, sorted(shapes)))
        raise UsageError(f"the image has shape {image.shape}; the network takes inputs of shape {expected}")
    return image.ravel()


def _region(options: argparse.Namespace, image: Floats) -> Region:
    if options.box is not None:
        return Region.cube(image, options.box)
    if options.l1 is not None:
        return Region.around(image, options.l1, 1)
    return Region.around(image, options.l2, 2)


def default_method(graph: Graph) -> Method:
    """The best method whose work is bearable."""
    sizes = [
        sum(entries(m) for m in node.maps) if isinstance(node, Affine) else len_of
        for node, len_of in zip(graph.nodes, graph.sizes[1:], strict=True)
    ]
    before = [0, *accumulate(sizes)]
    work = sum(graph.sizes[site] * before[site] for site in sites(graph))
    return next((method for method, most in MOST_WORK.items() if WORK[method] * work <= most), "interval")


def _answer(network: Network | Graph, region: Region, options: argparse.Namespace) -> Answer:
    begun = time.perf_counter()
    if options.method == "exact":
        from arfj.exact import exact_bounds

        with status_line("bounds") as tell:

            def show(layer: int, done: int, asked: int) -> None:
                tell(f"layer {layer}: {done} of {asked} bounds, {time.perf_counter() - begun:.0f} s")

            found = exact_bounds(network, region, options.time_limit, show)
        return Answer(found.bounds, "exact", time.perf_counter() - begun, found.late, found.interrupted)
    graph = network.graph()
    method = cast(Method, options.method) if options.method else default_method(graph)
    with status_line(f"bounds by {method}"):
        bounds = pre_activation_bounds(graph, region, method)
    return Answer(bounds, method, time.perf_counter() - begun)


def _print(answer: Answer) -> None:
    bounds = answer.bounds
    table = Table(title=f"Pre-activation bounds by {answer.method}", title_justify="left")
    for name in ("layer", "neurons", "unstable", "mean width", "least", "largest"):
        table.add_column(name, justify="right")
    last = len(bounds.lower)
    for layer, (low, up) in enumerate(zip(bounds.lower, bounds.upper, strict=True), start=1):
        unstable = "" if layer == last else str(int(((low < 0) & (up > 0)).sum()))
        numbers = (f"{value:.6g}" for value in (float((up - low).mean()), float(low.min()), float(up.max())))
        table.add_row(str(layer), str(len(low)), unstable, *numbers)
    console = answer_console(file=sys.stdout, width=None if sys.stdout.isatty() else 100, highlight=False)
    console.print(table)
    late = f", {answer.late} bounds not closed (sound all the same)" if answer.late else ""
    ended = "interrupted after" if answer.interrupted else "in"
    console.print(f"{bounds.unstable} unstable hidden neurons, {ended} {answer.seconds:.2f} s{late}")


if __name__ == "__main__":
    leave(run(main))
