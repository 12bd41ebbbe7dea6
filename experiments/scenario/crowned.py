"""What deterministic linear bounds say: the worst case, and Hoeffding's bound on them, as PROVEN has it."""

from __future__ import annotations

import math

import numpy as np

from arfj.bounds import crown_bounds
from arfj.bounds.backward import sites
from arfj.bounds.crown import Relaxed
from arfj.bounds.interval import propagate
from arfj.certify.scenario import Safe
from arfj.graph import Affine, Graph
from arfj.network import Floats, Network
from arfj.region import Region

HALVINGS = 14


def line(network: Network | Graph, safe: Safe, x: Floats, radius: float) -> tuple[Floats, float]:
    """A and d with A x + d <= a'f(x) + b over the cube of this radius around x (not cut with [0, 1])."""
    graph, region = network.graph(), Region(x, x - radius, x + radius)
    deep = Graph(graph.inputs, (*graph.nodes, Affine((len(graph.nodes),), (safe.rows.T,), safe.offsets)))
    pairs = dict(zip(sites(deep), zip(*_sides(deep, region), strict=True), strict=True))
    relaxed = Relaxed(deep, region)
    while len(relaxed.values) < len(deep.nodes):
        index = len(relaxed.values)
        node = deep.nodes[index - 1]
        if index in pairs:
            relaxed.append(pairs[index])
        elif isinstance(node, Affine):
            relaxed.append(propagate(node, relaxed.values, region))
    passed = relaxed.linear(len(deep.nodes), np.eye(1), {})
    return np.asarray(passed.rows[0]), float(passed.constant[0])


def _sides(graph: Graph, region: Region) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
    bounds = crown_bounds(graph, region)
    return bounds.lower, bounds.upper


def worst(network: Network | Graph, safe: Safe, x: Floats, radius: float) -> float:
    """The least margin that the cube allows, by CROWN."""
    rows, constant = line(network, safe, x, radius)
    return float(rows @ x + constant - radius * np.abs(rows).sum())


def hoeffding(network: Network | Graph, safe: Safe, x: Floats, radius: float, epsilon: float) -> float:
    """A x + d - R ||A|| sqrt(2 ln(1 / eps)): with probability 1 - eps the margin is at least this (PROVEN's bound)."""
    rows, constant = line(network, safe, x, radius)
    return float(rows @ x + constant) - radius * float(np.linalg.norm(rows)) * math.sqrt(2.0 * math.log(1.0 / epsilon))


def certified_radius(network: Network | Graph, safe: Safe, x: Floats, most: float = 1.0) -> float:
    """The largest radius at which CROWN certifies the worst case, by halving."""
    low, up = 0.0, most
    for _ in range(HALVINGS):
        middle = 0.5 * (low + up)
        low, up = (middle, up) if worst(network, safe, x, middle) >= 0 else (low, middle)
    return low
