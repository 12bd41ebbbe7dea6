"""Seconds of enumeration and of 100 points of one output, for a small and a deep network, each in a process of its own.

Rules of quadrature and modules that are loaded when first asked for are in the first call, not in the later ones: both
are told.
"""

from __future__ import annotations

import functools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from arfj.certify.cdf import answers
from arfj.certify.cdf.densities import Density
from arfj.certify.cdf.gaussians import Mixture
from arfj.certify.cdf.question import Question, beta, question
from arfj.certify.cdf.refine import Found
from arfj.certify.cdf.regions import Budget
from experiments.cdf.networks import random_network
from experiments.sheets import Cell, Column, Sheet
from experiments.studies import Row, Scale, Task

PREFIX = "cdf/speed/"
SIZES: dict[str, tuple[int, ...]] = {"2, 3 x 12": (2, 12, 12, 12, 3), "3, 4 x 32": (3, 32, 32, 32, 32, 2)}
DENSITIES = {"beta": "beta, whole parameters", "mixture": "mixture of 5 Gaussians"}
POINTS, REPEATS, LIMIT, TOLERANCE = 100, 5, 600.0, 1e-3
PATIENCE = 60.0
"""Seconds after which a call is not repeated."""
T = TypeVar("T")


def stage(scale: Scale, _rows: Sequence[Row]) -> list[Task]:
    """Network by network, density by density."""
    smoke = scale.size == "smoke"
    limit = scale.seconds(LIMIT, 60.0)
    return [
        Task(f"{PREFIX}{name}/{kind}", functools.partial(measured, name, kind, 1 if smoke else REPEATS), limit, name)
        for name in list(SIZES)[: 1 if smoke else None]
        for kind in DENSITIES
    ]


def measured(name: str, kind: str, repeats: int) -> dict[str, Any]:
    """Measure in a fresh process, so that first calls are first and its largest memory is its own."""
    code = f"from experiments.cdf.speed import told; told({name!r}, {kind!r}, {repeats})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - this module
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def told(name: str, kind: str, repeats: int) -> None:
    """Measure one row, and print it."""
    print(json.dumps(row(name, kind, repeats)))


def row(name: str, kind: str, repeats: int = REPEATS) -> dict[str, Any]:
    """Seconds of the first call and the least of the others."""
    asked = _asked(SIZES[name], kind)
    pieces, cut = _timed(asked.pieces, repeats)
    low, high = answers.output_range(pieces, 0)
    y = np.linspace(float(low), float(high), POINTS + 2)[1:-1]

    def bounds() -> Found:
        return answers.one_output(pieces, asked, 0, y, Budget(), TOLERANCE)

    found, taken = _timed(bounds, repeats)
    apart = found.bounds.upper - found.bounds.lower
    return {
        "network": name, "density": kind, "regions": pieces.regions, "cells": len(found.cells.least), "points": POINTS,
        "cut_first": cut[0], "cut": min(cut), "points_first": taken[0], "points_least": min(taken),
        "apart": float(apart.max()), "outside": 1 - float(found.cells.inside[0]), "reached": found.reached,
        "mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def _asked(sizes: Sequence[int], kind: str) -> Question:
    """A random network on [-1, 1]^d; the mixture has means in [-0.5, 0.5]^d and deviations from 0.1 to 0.3."""
    d = sizes[0]
    low, high = -np.ones(d), np.ones(d)
    density: Density = beta([(2.0, 2.0), (3.0, 2.0), (2.0, 3.0)][:d], low, high)
    if kind == "mixture":
        rng = np.random.default_rng(0)
        turns = np.linalg.qr(rng.normal(size=(5, d, d)))[0]
        spreads = rng.uniform(0.1, 0.3, (5, d))
        covariances = np.einsum("kij,kj,klj->kil", turns, spreads**2, turns)
        density = Mixture(
            np.full(5, 0.2), rng.uniform(-0.5, 0.5, (5, d)), (covariances + covariances.swapaxes(1, 2)) / 2
        )
    return question(random_network(sizes, 0), np.zeros(d), range(d), density, low, high)


def _timed(call: Callable[[], T], repeats: int) -> tuple[T, list[float]]:
    """The answer, and the seconds of every call."""
    taken: list[float] = []
    while True:
        began = time.perf_counter()
        found = call()
        taken.append(time.perf_counter() - began)
        if len(taken) >= repeats or sum(taken) > PATIENCE:
            return found, taken


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """A line a network and density."""
    columns = [
        Column("inputs, hidden"), Column("density"), Column("regions", 0), Column("cells", 0),
        Column("enumeration, first, s", 3), Column("least, s", 3), Column(f"{POINTS} points, first, s", 3),
        Column("least, s", 3), Column("largest U - L", 9), Column("of it outside", 9), Column("MiB", 0),
    ]  # fmt: skip
    cells: list[list[Cell]] = [
        [
            found["network"], DENSITIES[found["density"]], found["regions"], found["cells"], found["cut_first"],
            found["cut"], found["points_first"], found["points_least"], found["apart"], found["outside"],
            found["mebibytes"],
        ]
        for found in sorted((r for r in rows if r["key"].startswith(PREFIX)), key=lambda r: str(r["key"]))
        if found.get("status") != "error"
    ]  # fmt: skip
    notes = (
        f"Random networks on [-1, 1]^d, one process a row; the least of {REPEATS} calls beside the first, which loads "
        "modules and makes rules of quadrature. Enumeration: the regions. Points: masses and bounds of output 0, with "
        f"the regions at hand, to a tolerance of {TOLERANCE:g}. Outside: mass of the mixture outside of the box.",
    )
    return [Sheet("cdf_speed", "What a distribution function costs", columns, cells, notes)] if cells else []
