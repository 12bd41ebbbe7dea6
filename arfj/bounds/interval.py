"""Interval bounds: exact where only the input is read (support function of the region), intervals behind it."""

from __future__ import annotations

import numpy as np

from arfj.bounds.backward import absolute, sites
from arfj.bounds.records import Bounds, outward
from arfj.graph import Activation, Affine, Graph, Kind, Matrix
from arfj.network import Floats, Network
from arfj.region import Region, long_sum

CHUNK = 512
"""Rows that are handed to a support function at a time: its copies stay in the cache."""

Pair = tuple[Floats, Floats]


def dense_columns(matrix: Matrix, columns: slice) -> Floats:
    """M'[columns] as a dense array."""
    part = matrix[:, columns]
    return np.ascontiguousarray((part if isinstance(part, np.ndarray) else part.toarray()).T)


def over_region(matrix: Matrix, bias: Floats, region: Region) -> Pair:
    """min and max of x M + b over the region: closed form."""
    lowers, uppers = [], []
    for at in range(0, len(bias), CHUNK):
        rows, offset = dense_columns(matrix, slice(at, at + CHUNK)), bias[at : at + CHUNK]
        magnitude = region.magnitude(rows) + np.abs(offset)
        lower, upper = outward(offset - region.support(-rows), offset + region.support(rows), magnitude)
        lowers.append(lower)
        uppers.append(upper)
    return np.concatenate(lowers), np.concatenate(uppers)


def monotone(kind: Kind, bounds: Pair) -> Pair:
    """Bounds of act(a) from bounds of a: every activation here rises."""
    low, up = bounds
    match kind:
        case "relu":
            return np.maximum(low, 0.0), np.maximum(up, 0.0)
        case "tanh":
            return np.tanh(low) - 1e-15, np.tanh(up) + 1e-15
        case "sigmoid":
            return 0.5 * np.tanh(0.5 * low) + 0.5 - 1e-15, 0.5 * np.tanh(0.5 * up) + 0.5 + 1e-15


@np.errstate(over="ignore", invalid="ignore")  # what is too large bounds nothing, and is found to be so
def propagate(node: Affine, values: list[Pair], region: Region) -> Pair:
    """Bounds of an affine node from bounds of all values before it."""
    if node.sources == (0,):
        return over_region(node.maps[0], node.bias, region)
    middle, reach, magnitude = node.bias, np.zeros_like(node.bias), np.abs(node.bias)
    for source, matrix in zip(node.sources, node.maps, strict=True):
        low, up = values[source]
        sizes = absolute(matrix)
        middle = middle + (0.5 * (low + up)) @ matrix
        reach = reach + (0.5 * (up - low)) @ sizes
        magnitude = magnitude + np.maximum(np.abs(low), np.abs(up)) @ sizes
    length = long_sum(sum(matrix.shape[0] for matrix in node.maps))
    return outward(middle - reach, middle + reach, magnitude * length)


def interval_bounds(network: Network | Graph, region: Region) -> Bounds:
    """Bounds of every pre-activation over the region."""
    graph = network.graph()
    values: list[Pair] = [region.box]
    for node in graph.nodes:
        values.append(
            monotone(node.kind, values[node.source])
            if isinstance(node, Activation)
            else propagate(node, values, region)
        )
    found = [values[site] for site in sites(graph)]
    return Bounds(tuple(low for low, _ in found), tuple(up for _, up in found))
