"""Seconds and memory of both methods, input dimension 2 to 784, width 10 to 256, each in a process of its own."""

from __future__ import annotations

import functools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from arfj.certify.cvar import Moments, Options, certify_loss, lifted
from arfj.certify.cvar.certificate import METHODS, Method
from arfj.network import Network
from experiments.sheets import Column, Sheet
from experiments.studies import Row, Scale, Task

SIZES = ((2, 10), (8, 16), (16, 32), (64, 32), (64, 128), (256, 64), (784, 64), (784, 256))
LIMIT = 60.0
LARGEST_SDP = 48
"""Widths above are not asked of a semidefinite solver: it would need minutes before its limit is even looked at."""


def stage(scale: Scale, _rows: Sequence[Row]) -> list[Task]:
    """Size by size."""
    limit = scale.seconds(LIMIT)
    return [
        Task(
            f"cvar/scaling/{inputs}/{width}/{method}",
            functools.partial(asked, inputs, width, method, limit),
            limit,
            method,
        )
        for inputs, width in (SIZES if scale.size == "full" else SIZES[:1])
        for method in METHODS
        if method != "sdp" or width <= LARGEST_SDP
    ]


def asked(inputs: int, width: int, method: Method, limit: float) -> dict[str, Any]:
    """Measure in a fresh process, so that its largest memory is its own."""
    code = f"from experiments.cvar.scaling import told; told({inputs}, {width}, {method!r}, {limit})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - this module
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def told(inputs: int, width: int, method: Method, limit: float) -> None:
    """Certify a random network, and print what it took."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(inputs, width)) / np.sqrt(inputs), rng.normal(size=(width, 2)) / np.sqrt(width)]
    network = Network.from_arrays(weights, [0.1 * rng.normal(size=width), np.zeros(2)], "linear")
    net = lifted(network, Moments(np.zeros(inputs), np.eye(inputs)))
    began = time.perf_counter()
    found = certify_loss(net, net.linear_loss([1.0, -1.0]), 0.2, Options(method=method, seconds=limit))
    row = {"study": "cvar", "part": "scaling", "inputs": inputs, "width": width, "method": method}
    row |= {"bound": found.bound, "said": found.status, "seconds": time.perf_counter() - began, "status": "optimal"}
    row["mebibytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(row))


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """A line a size."""
    by = {(row["inputs"], row["width"], row["method"]): row for row in rows if row.get("part") == "scaling"}
    lines: list[tuple[Any, ...]] = []
    for inputs, width in SIZES:
        found = [by.get((inputs, width, method)) for method in METHODS]
        if any(row is not None for row in found):
            cells = [row and row[name] for row in found for name in ("bound", "seconds", "mebibytes", "said")]
            lines.append((str(inputs), str(width), *cells))
    if not lines:
        return []
    columns = [Column("inputs"), Column("width")]
    for method in METHODS:
        columns += [Column(f"{method}: bound", 4), Column("s", 1), Column("MiB", 0), Column("its word")]
    told_of = "a bound under `time limit` is the best by then, and certified"
    notes = (f"A dash was not tried. The limit is {LIMIT:g} s; {told_of}.",)
    return [Sheet("cvar_scaling", "One loss of a random network, diagonal multipliers, eps 0.2", columns, lines, notes)]
