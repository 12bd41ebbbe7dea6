r"""A shallow network in place of a deep one: what it certifies, the deep one has as well (section 5 of the paper).

The layers after the k*-th are replaced by affine lower bounds. With v the values of layer k*, over all inputs that the
noise can make and for every row of the safe set,

    a_i'f(x) + b_i  >=  A_i v(x) + d_i,

by a backward pass of CROWN from the outputs to v, whose pre-activation bounds come from CROWN over the inputs; so the
sampled minimum over the shallow rows bounds that of the deep ones. The noise needs a bounded support.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from arfj.bounds import crown_bounds
from arfj.bounds.backward import sites
from arfj.bounds.crown import Relaxed
from arfj.bounds.interval import Pair, monotone, propagate
from arfj.bounds.records import OUTWARD
from arfj.certify.scenario.certificate import Request, Safe, ScenarioCertificate, certify
from arfj.certify.scenario.stream import Source
from arfj.errors import UsageError
from arfj.graph import Activation, Affine, Graph, Node
from arfj.network import Floats
from arfj.region import Region


@dataclass(frozen=True, eq=False)
class Surrogate:
    """The first layers of a network, and the affine rows that bound what comes after them.

    Attributes:
        network: x -> (A_i v(x) + d_i)_i, as many outputs as the safe set has rows.
        safe: all of these are to be >= 0.
    """

    network: Graph
    safe: Safe


def surrogate(source: Source, safe: Safe, layer: int) -> Surrogate:
    """Keep `layer` activations, k*, and replace the rest by lower bounds.

    Args:
        source: a network (`.npz`, ONNX, Keras), not a callable; noise of bounded support, or clipped.
        safe: the rows that are bounded.
        layer: k*, from 1 to the number of activations less one.

    Raises:
        UsageError: no network, no bounded support, a network that is no chain, or no such layer.
    """
    if not hasattr(source.function, "graph"):
        raise UsageError("a surrogate needs a network whose layers are known; a callable has none")
    region = source.support()
    if region is None:
        raise UsageError("a surrogate needs noise of bounded support: uniform:R, l1:R, or --clip")
    graph: Graph = source.function.graph()
    places = [index for index, node in enumerate(graph.nodes, start=1) if isinstance(node, Activation)]
    if any(node.sources != (index,) for index, node in enumerate(graph.nodes)):
        raise UsageError("a surrogate needs a chain of layers; this network branches")
    if len(places) < 2:
        raise UsageError(f"a surrogate replaces hidden layers behind the first; this network has {len(places)}")
    if not 1 <= layer < len(places):
        raise UsageError(f"the surrogate keeps {layer} of {len(places)} hidden layers; expected 1 to {len(places) - 1}")
    kept = places[layer - 1]
    rows, constants = _lower_lines(graph, region, kept, safe)
    nodes: tuple[Node, ...] = (*graph.nodes[:kept], Affine((kept,), (rows.T,), constants))
    return Surrogate(Graph(graph.inputs, nodes, graph.input_shape), Safe(np.eye(len(rows)), np.zeros(len(rows))))


def certify_by_surrogate(source: Source, safe: Safe, layer: int, request: Request | None = None) -> ScenarioCertificate:
    """The certificate of the deep network from samples of its surrogate; p = 1.

    Raises:
        UsageError, ArfjError: as `surrogate` and `certify`; a set that is no half-space.
    """
    request = request or Request()
    if request.chosen != "halfspace":
        raise UsageError(f"a surrogate certifies half-spaces, not {request.set}; use halfspace")
    found = surrogate(source, safe, layer)
    network = found.network.dense_chain() or found.network  # dense layers run without a copy of every value
    shallow = replace(source, function=network)
    return certify(shallow, found.safe, request)


def _lower_lines(graph: Graph, region: Region, kept: int, safe: Safe) -> tuple[Floats, Floats]:
    """A and d of the module's docstring, rounding covered."""
    classes = graph.classes
    last = len(graph.nodes)
    whole = Graph(graph.inputs, (*graph.nodes, Affine((last,), (safe.rows.T,), safe.offsets)), graph.input_shape)
    if safe.rows.shape[1] != classes:
        raise UsageError(f"the network gives {classes} outputs, the safe set is one of {safe.rows.shape[1]}")
    bounds = crown_bounds(whole, region)
    deep = tuple(_moved(node, kept) for node in whole.nodes[kept:])
    pairs = zip(bounds.lower, bounds.upper, strict=True)
    known: dict[int, Pair] = dict(zip(sites(whole), pairs, strict=True))
    values = Relaxed(Graph(graph.sizes[kept], deep), _region(whole, kept, known))
    while len(values.values) < len(deep):
        index = len(values.values)
        node = deep[index - 1]
        if kept + index in known:
            values.append(known[kept + index])  # over the inputs: tighter than over the box of the kept values
        elif isinstance(node, Affine):
            values.append(propagate(node, values.values, values.region))
    passed = values.linear(len(deep), np.eye(len(safe.rows)), {})
    rows = np.asarray(passed.rows)
    spare = OUTWARD * (passed.magnitude + values.region.magnitude(rows) + 1.0)
    return rows, np.asarray(passed.constant - spare)


def _region(graph: Graph, kept: int, known: dict[int, Pair]) -> Region:
    """The box that holds the kept activation's values."""
    node = graph.nodes[kept - 1]
    if not isinstance(node, Activation):
        raise TypeError("an activation was expected")
    low, up = monotone(node.kind, known[node.source])
    return Region.between(low, np.maximum(low, up))


def _moved(node: Node, by: int) -> Node:
    """The node of a graph whose values begin `by` later."""
    if isinstance(node, Activation):
        return Activation(node.source - by, node.kind)
    return Affine(tuple(source - by for source in node.sources), node.maps, node.bias)
