"""`python -m experiments.bounds_quality`: how wide the bounds of every method are, beside those of linear programs.

On 784-8-8-8-10 networks over L1 balls around the ten bundled images. The program has the pixels, pre-activations and
activations as variables, the ball as a row, and the triangle

    y >= 0,   y >= a,   y <= u (a - l) / (u - l)

for every ReLU that is open under the bounds l, u of the same program for the layers before: no bounds that use the
relaxation of one neuron at a time are narrower. What a method is worth is the share of the gap between CROWN and the
program that it closes. The program's optima are a solver's, up to its tolerances, and prove nothing.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array

from arfj.bounds import Bounds, pre_activation_bounds
from arfj.bounds.interval import over_region
from arfj.cli import run
from arfj.data import bundled_images, bundled_nominal, bundled_outer
from arfj.errors import ArfjError
from arfj.network import Dense, Floats, Network
from arfj.region import Region
from arfj.report.store import Store
from experiments.tables import HERE, Experiment, Row

ROWS = HERE / "rows" / "bounds_quality.jsonl"
MARK = "bounds_quality"
EXAMPLES = """\
  python -m experiments.bounds_quality            print the table of the committed rows
  python -m experiments.bounds_quality --smoke    one small network, into rows that are not kept
  python -m experiments.bounds_quality --run      measure what is missing in the rows (minutes)
  python -m experiments.bounds_quality --write    put the table into PERFORMANCE.md
"""
RADII = (10.0, 20.0, 40.0)
LP = "linear program"


def linear_program_bounds(network: Network, region: Region) -> Bounds:
    """Bounds of every pre-activation by the layer-wise linear program; the first layer in closed form.

    Raises:
        ArfjError: the solver finds no optimum.
    """
    first, *others = network.layers
    found = [over_region(first.weight, first.bias, region)]
    program = _Triangles(region)
    program.append(first, *found[0])
    for layer in others:
        found.append(program.bounds(layer))
        program.append(layer, *found[-1])
    return Bounds(tuple(low for low, _ in found), tuple(up for _, up in found))


class _Triangles:
    """The relaxed network so far: variables up, down (the moves of the pixels), then a, y of every layer."""

    def __init__(self, region: Region) -> None:
        pixels = len(region.centre)
        self.lower = np.zeros(2 * pixels)
        self.upper = np.concatenate([region.upper - region.centre, region.centre - region.lower])
        self.equal, self.most = _Rows(), _Rows()
        self.last = slice(0, 2 * pixels)
        # Of the values that the next layer reads: v = constant + variables[last] @ map.
        self.constant, self.map = region.centre, np.vstack([np.eye(pixels), -np.eye(pixels)])
        if region.has_ball:
            self.most.add(np.arange(2 * pixels), np.ones(2 * pixels), region.radius)

    def bounds(self, layer: Dense) -> tuple[Floats, Floats]:
        """Least and greatest pre-activations of the next layer."""
        weight, bias = self._read_by(layer)
        least = self._minima(np.concatenate([weight.T, -weight.T]))
        return bias + least[: layer.outputs], bias - least[layer.outputs :]

    def append(self, layer: Dense, low: Floats, up: Floats) -> None:
        """Add a layer's pre-activations a, within their bounds, and y = ReLU(a), relaxed."""
        weight, bias = self._read_by(layer)
        size, begin = layer.outputs, len(self.lower)
        before = np.arange(self.last.start, self.last.stop)
        for neuron in range(size):
            a, y = begin + neuron, begin + size + neuron
            least, greatest = low[neuron], up[neuron]
            self.equal.add([*before, a], [*weight[:, neuron], -1.0], -bias[neuron])
            if least >= 0:
                self.equal.add([a, y], [1.0, -1.0], 0.0)
            elif greatest > 0:
                slope = greatest / (greatest - least)
                self.most.add([a, y], [1.0, -1.0], 0.0)
                self.most.add([a, y], [-slope, 1.0], -slope * least)
        self.lower = np.concatenate([self.lower, low, np.maximum(low, 0.0)])
        self.upper = np.concatenate([self.upper, up, np.maximum(up, 0.0)])
        self.last = slice(begin + size, begin + 2 * size)
        self.constant, self.map = np.zeros(size), np.eye(size)

    def _read_by(self, layer: Dense) -> tuple[Floats, Floats]:
        return self.map @ layer.weight, self.constant @ layer.weight + layer.bias

    def _minima(self, costs: Floats) -> Floats:
        """min c . variables[last] for every row c."""
        count = len(self.lower)
        rows = (self.most.matrix(count), self.most.right, self.equal.matrix(count), self.equal.right)
        limits = np.column_stack([self.lower, self.upper])
        least = np.zeros(len(costs))
        for index, cost in enumerate(costs):
            whole = np.zeros(count)
            whole[self.last] = cost
            result = linprog(whole, *rows, limits)  # type: ignore[call-overload]  # the stubs know no sparse rows
            if result.status != 0:
                raise ArfjError(f"HiGHS found no optimum of a relaxation: {result.message}")
            least[index] = result.fun
        return least


@dataclass
class _Rows:
    """Rows of a sparse matrix, and their right-hand sides."""

    columns: list[Any] = field(default_factory=list)
    numbers: list[Any] = field(default_factory=list)
    right: list[float] = field(default_factory=list)

    def add(self, columns: Any, numbers: Any, right: float) -> None:  # noqa: ANN401 - sequences of numbers
        self.columns.append(columns)
        self.numbers.append(numbers)
        self.right.append(right)

    def matrix(self, count: int) -> csr_array:
        """All rows, with so many columns."""
        starts = np.cumsum([0, *map(len, self.columns)])
        numbers, columns = (np.concatenate([[], *part]) for part in (self.numbers, self.columns))
        return csr_array((numbers, columns.astype(np.int64), starts), shape=(len(self.right), count))


METHODS: Mapping[str, Callable[[Network, Region], Bounds]] = {
    "interval": lambda network, region: pre_activation_bounds(network, region, "interval"),
    "crown": lambda network, region: pre_activation_bounds(network, region, "crown"),
    "alpha-crown": lambda network, region: pre_activation_bounds(network, region, "alpha-crown"),
    LP: linear_program_bounds,
}


def networks() -> dict[str, Network]:
    """The nominal network and those retrained for attacks."""
    return {"nominal": bundled_nominal()} | {f"outer {i}": network for i, network in enumerate(bundled_outer())}


def measure(store: Store, chosen: Mapping[str, Network], images: Floats, radii: Sequence[float] = RADII) -> None:
    """Append a row for every network, image and radius that has none."""
    for radius in radii:
        for number, image in enumerate(images):
            for name, network in chosen.items():
                key = f"{name}/{number}/{radius:g}"
                if store.find(key) is None:
                    store.append(key, 0.0, _row(network, Region.around(image, radius)) | {"radius": radius})


def _row(network: Network, region: Region) -> dict[str, Any]:
    widths, seconds = {}, {}
    for name, method in METHODS.items():
        begun = time.perf_counter()
        bounds = method(network, region)
        seconds[name] = time.perf_counter() - begun
        pairs = zip(bounds.lower, bounds.upper, strict=True)
        widths[name] = [float((up - low).sum()) for low, up in pairs]
    return {"widths": widths, "seconds": seconds, "neurons": [len(low) for low in bounds.lower]}


def closed(rows: Sequence[Row], method: str = "alpha-crown") -> float:
    """The share of the gap between the mean widths of CROWN and of the program that a method closes."""
    crown, own, least = (sum(sum(row["widths"][name]) for row in rows) for name in ("crown", method, LP))
    return float((crown - own) / (crown - least))


def table(rows: Sequence[Row]) -> str:
    """Markdown: mean widths relative to CROWN's, and the shares of the gap that alpha-CROWN closes."""
    if not rows:
        raise ArfjError("there are no rows; measure them with --run")
    names = [name for name in METHODS if name != "crown"]
    lines = [
        f"| L1 radius | CROWN | {' | '.join(names)} | alpha-CROWN closes | network by image, least to most | seconds |",
        f"|---:|---:|{'---:|' * len(names)}---:|---:|---|",
    ]
    for radius in sorted({row["radius"] for row in rows}):
        mine = [row for row in rows if row["radius"] == radius]
        mean = {name: np.mean([sum(row["widths"][name]) / sum(row["neurons"]) for row in mine]) for name in METHODS}
        each = [closed([row]) for row in mine]
        seconds = ", ".join(f"{np.mean([row['seconds'][name] for row in mine]):.3f}" for name in METHODS)
        cells = [f"{radius:g}", f"{mean['crown']:.3f}", *(f"{mean[name] / mean['crown']:.3f}" for name in names)]
        cells += [f"{100 * closed(mine):.1f} %", f"{100 * min(each):.1f} to {100 * max(each):.1f} %", seconds]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def smoke() -> list[Row]:
    """Rows of a random 6-4-4-3 network over balls around one image."""
    rng = np.random.default_rng(0)
    sizes = (6, 4, 4, 3)
    pairs = list(itertools.pairwise(sizes))
    layers = [
        Dense(rng.normal(size=pair), rng.normal(size=pair[1]) * 0.1, "linear" if index == len(pairs) else "relu")
        for index, pair in enumerate(pairs, start=1)
    ]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "rows.jsonl")
        measure(store, {"small": Network(tuple(layers))}, rng.uniform(size=(1, 6)), (0.5, 1.5))
        return list(store.rows())


def main(argv: Sequence[str]) -> int:
    """Measure, print, or write the table."""
    everything = Experiment(
        MARK,
        "How wide bounds are.",
        EXAMPLES,
        lambda store: measure(store, networks(), bundled_images().nominal),
        table,
        smoke,
    )
    return everything.main(argv)


if __name__ == "__main__":
    sys.exit(run(main))
