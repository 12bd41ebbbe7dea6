"""`python -m experiments.ensemble_bounds`: six networks bounded by one compiled call, beside one after another.

The nominal 784-8-8-8-10 network and the five retrained ones, over L1 balls around the ten bundled images. Widths are
means over all neurons of all networks, relative to those of plain CROWN; milliseconds are the least of five calls.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arfj.bounds import Bounds, pre_activation_bounds
from arfj.bounds.together import ensemble_bounds
from arfj.cli import run
from arfj.data import bundled_images, bundled_nominal, bundled_outer
from arfj.errors import ArfjError
from arfj.network import Network
from arfj.region import Region
from arfj.report.store import Store
from experiments.tables import HERE, Experiment, Row

ROWS = HERE / "rows" / "ensemble_bounds.jsonl"
MARK = "ensemble_bounds"
EXAMPLES = """\
  python -m experiments.ensemble_bounds            print the table of the committed rows
  python -m experiments.ensemble_bounds --smoke    two networks and one image, into rows that are not kept
  python -m experiments.ensemble_bounds --run      measure what is missing in the rows (a minute)
  python -m experiments.ensemble_bounds --write    put the table into PERFORMANCE.md
"""
RADII = (10.0, 20.0, 40.0)
CALLS = 5


def measure(store: Store, networks: Sequence[Network], images: Sequence[int], radii: Sequence[float] = RADII) -> None:
    """Append a row for every image and radius that has none."""
    for radius in radii:
        for image in images:
            key = f"{image}/{radius:g}"
            if store.find(key) is None:
                region = Region.around(bundled_images().nominal[image], radius)
                store.append(key, 0.0, _row(networks, region) | {"radius": radius, "image": image})


def _row(networks: Sequence[Network], region: Region) -> dict[str, Any]:
    begun = time.perf_counter()
    together = ensemble_bounds(networks, region)
    first = time.perf_counter() - begun
    return {
        "networks": len(networks),
        "crown": _width([pre_activation_bounds(network, region, "crown") for network in networks]),
        "alpha": _width([pre_activation_bounds(network, region, "alpha-crown") for network in networks]),
        "together": _width(together),
        "first": first,
        "milliseconds": _least(lambda: ensemble_bounds(networks, region)),
        "one_by_one": _least(lambda: [pre_activation_bounds(network, region, "alpha-crown") for network in networks]),
    }


def _width(bounds: Sequence[Bounds]) -> float:
    sides = [(low, up) for bound in bounds for low, up in zip(bound.lower, bound.upper, strict=True)]
    return float(np.concatenate([up - low for low, up in sides]).mean())


def _least(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return 1000.0 * min(seconds)


def table(rows: Sequence[Row]) -> str:
    """Markdown, one line a radius."""
    if not rows:
        raise ArfjError("there are no rows; measure them with --run")
    lines = [
        "| L1 radius | alpha-CROWN, width | one call, width | one call, ms | one by one in NumPy, ms | first call, s |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for radius in sorted({row["radius"] for row in rows}):
        mine = [row for row in rows if row["radius"] == radius]
        mean = {name: float(np.mean([row[name] for row in mine])) for name in ("crown", "alpha", "together")}
        cells = [f"{radius:g}", f"{mean['alpha'] / mean['crown']:.3f}", f"{mean['together'] / mean['crown']:.3f}"]
        cells += [f"{np.median([row[name] for row in mine]):.0f}" for name in ("milliseconds", "one_by_one")]
        lines.append(f"| {' | '.join(cells)} | {max(row['first'] for row in mine):.1f} |")
    return "\n".join(lines)


def smoke() -> list[Row]:
    """Two networks, one image."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "rows.jsonl")
        measure(store, [bundled_nominal(), bundled_outer()[0]], [3], (10.0,))
        return list(store.rows())


def main(argv: Sequence[str]) -> int:
    """Measure, print, or write the table."""
    everything = Experiment(
        MARK,
        "Six networks bounded by one call.",
        EXAMPLES,
        lambda store: measure(store, [bundled_nominal(), *bundled_outer()], range(10)),
        table,
        smoke,
    )
    return everything.main(argv)


if __name__ == "__main__":
    sys.exit(run(main))
