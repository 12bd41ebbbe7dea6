"""Seconds and memory of both methods, input dimension 2 to 784, width 10 to 256, each in a process of its own; and what
it saves that rivals go together.
"""

from __future__ import annotations

import functools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arfj.certify.cvar import Moments, Options, certify_classes, certify_loss, lifted
from arfj.certify.cvar.certificate import METHODS, Method
from arfj.certify.cvar.multipliers import Family
from arfj.errors import ArfjError
from arfj.network import Network
from experiments.cvar.given import CLASS, digits
from experiments.sheets import Column, Sheet
from experiments.studies import Row, Scale, Task

SIZES = ((2, 10), (8, 16), (16, 32), (64, 32), (64, 128), (256, 64), (784, 64), (784, 256))
LIMIT = 300.0
GRACE = 60.0
"""Seconds beyond the limit after which a process is ended: solvers look at their clocks between iterations alone."""
MEMORY = 12 * 2**30
"""Bytes of address space of a process."""
TOGETHER: tuple[Family, ...] = ("diagonal", "pairs")


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
    ]


def together_stage(scale: Scale, _rows: Sequence[Row]) -> list[Task]:
    """The rivals of the digits, one by one and together."""
    rivals = [j for j in range(10) if j != CLASS] if scale.size == "full" else [7, 8]
    limit = scale.seconds(LIMIT)
    return [
        Task(f"cvar/together/{family}", functools.partial(together, family, rivals), limit, "together")
        for family in (TOGETHER if scale.size == "full" else TOGETHER[:1])
    ]


def asked(inputs: int, width: int, method: Method, limit: float, memory: int = MEMORY) -> Mapping[str, Any]:
    """Measure in a fresh process, whose largest memory is its own, and which ends where its time or memory does."""
    code = f"from experiments.cvar.scaling import told; told({inputs}, {width}, {method!r}, {limit}, {memory})"
    row: dict[str, Any] = {"study": "cvar", "part": "scaling", "inputs": inputs, "width": width, "method": method}
    row |= {"bound": None, "mebibytes": None, "status": "optimal"}
    began = time.perf_counter()
    try:
        done = subprocess.run(  # noqa: S603 - this module
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=limit + GRACE, check=False
        )
    except subprocess.TimeoutExpired:
        return row | {"said": f"none within {limit + GRACE:g} s", "seconds": time.perf_counter() - began}
    if not done.returncode:
        return row | dict(json.loads(done.stdout))
    reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
    if "memory" not in done.stderr.lower() and "MemoryError" not in done.stderr:
        raise ArfjError(f"the process ended without an answer: {reason[0]}")
    return row | {"said": f"out of {memory / 2**30:g} GiB of memory", "seconds": time.perf_counter() - began}


def told(inputs: int, width: int, method: Method, limit: float, memory: int) -> None:
    """Certify a random network, and print what it took."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(inputs, width)) / np.sqrt(inputs), rng.normal(size=(width, 2)) / np.sqrt(width)]
    network = Network.from_arrays(weights, [0.1 * rng.normal(size=width), np.zeros(2)], "linear")
    net = lifted(network, Moments(np.zeros(inputs), np.eye(inputs)))
    began = time.perf_counter()
    found = certify_loss(net, net.linear_loss([1.0, -1.0]), 0.2, Options(method=method, seconds=limit))
    row = {"bound": found.bound, "said": found.status, "seconds": time.perf_counter() - began}
    row["mebibytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(row))


def together(family: Family, rivals: Sequence[int]) -> Mapping[str, Any]:
    """The same rivals one by one and together, in one process, and how far apart their bounds are."""
    given, how = digits(), Options(family)
    began = time.perf_counter()
    alone = {j: certify_classes(given.network, given.moments, CLASS, 0.2, how, [j])[j] for j in rivals}
    between = time.perf_counter()
    whole = certify_classes(given.network, given.moments, CLASS, 0.2, how, rivals)
    ended = time.perf_counter()
    apart = max(abs((alone[j].bound or np.inf) - (whole[j].bound or -np.inf)) for j in rivals)
    row = {"study": "cvar", "part": "together", "family": family, "rivals": len(rivals), "apart": float(apart)}
    return row | {"alone": between - began, "together": ended - between, "status": "optimal"}


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """A line a size; a line a family."""
    return [*scaling_sheet(rows), *together_sheet(rows)]


def scaling_sheet(rows: Sequence[Row]) -> list[Sheet]:
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
    limits = " or ".join(f"{limit:g}" for limit in sorted({row["time_limit"] for row in by.values()}))
    notes = (
        f"A dash was not tried. The limit is {limits} s; a bound that is not called optimal is the best found, "
        f"and certified. A process is ended {GRACE:g} s beyond the limit, or at {MEMORY / 2**30:g} GiB.",
    )
    return [Sheet("cvar_scaling", "One loss of a random network, diagonal multipliers, eps 0.2", columns, lines, notes)]


def together_sheet(rows: Sequence[Row]) -> list[Sheet]:
    """A line a family."""
    by = {row["family"]: row for row in rows if row.get("part") == "together"}
    lines = [
        (family, str(row["rivals"]), row["alone"], row["together"], row["alone"] / row["together"], row["apart"])
        for family, row in by.items()
    ]
    if not lines:
        return []
    columns = [Column("multipliers"), Column("rivals"), Column("one by one s", 2), Column("together s", 2)]
    columns += [Column("ratio", 2), Column("bounds apart by", 6)]
    return [Sheet("cvar_together", f"All rivals of class {CLASS}, digits 64-32-10, by descent", columns, lines)]
