"""Random small networks of every kind, their values in extended precision, and points that look for trouble."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from arfj.builder import Builder, average, convolution, windows
from arfj.graph import Activation, Affine, Graph
from arfj.region import Region

KINDS = ("dense", "wild", "convolution", "leaky", "smooth", "ties")


def random_graph(seed, kind="dense", outputs=2):
    """A network of some ten neurons; `wild` reads any earlier values, `ties` has pre-activations that are 0 exactly."""
    rng = np.random.default_rng(seed)
    return {
        "dense": _dense,
        "wild": _wild,
        "convolution": _convolution,
        "leaky": _leaky,
        "smooth": lambda rng, outputs: _dense(rng, outputs, ("sigmoid", "tanh")),
        "ties": _ties,
    }[kind](rng, outputs)


def _affine(rng, sources, sizes, size):
    maps = [rng.normal(size=(sizes[j], size)) * np.sqrt(2.0 / sizes[j]) for j in sources]
    maps = tuple(csr_array(m * (rng.random(m.shape) > 0.3)) if rng.random() < 0.3 else m for m in maps)
    return Affine(tuple(sources), maps, 0.3 * rng.normal(size=size))


def _dense(rng, outputs, kinds=("relu",)):
    sizes, nodes = [int(rng.integers(1, 5))], []
    for _ in range(int(rng.integers(1, 4))):
        size = int(rng.integers(1, 5))
        nodes += [_affine(rng, [len(nodes)], sizes, size), Activation(len(nodes) + 1, str(rng.choice(kinds)))]
        sizes += [size, size]
    nodes.append(_affine(rng, [len(nodes)], sizes, outputs))
    return Graph(sizes[0], tuple(nodes))


def _wild(rng, outputs):
    """Affine nodes of several sources, activations of the input and of activations; an activation may be the output."""
    sizes, nodes = [int(rng.integers(1, 4))], []
    for index in range(1, int(rng.integers(3, 10))):
        if rng.random() < 0.45:
            source = int(rng.integers(max(0, index - 3), index))
            nodes.append(Activation(source, str(rng.choice(["relu", "relu", "relu", "tanh", "sigmoid"]))))
            sizes.append(sizes[source])
            continue
        sources = sorted({index - 1, *rng.integers(index, size=2).tolist()})
        sizes.append(int(rng.integers(1, 4)))
        nodes.append(_affine(rng, sources, sizes, sizes[-1]))
    sources = sorted({len(nodes), int(rng.integers(len(nodes)))})
    nodes.append(_affine(rng, sources, sizes, outputs))
    if rng.random() < 0.3:
        nodes.append(Activation(len(nodes), str(rng.choice(["relu", "sigmoid"]))))
    return Graph(sizes[0], tuple(nodes))


def _convolution(rng, outputs):
    """Convolution, ReLU, a pooling (of the maximum or of the mean), a residual sum, a dense layer."""
    builder = Builder((1, 3, 3))
    value = builder.input
    reads = windows(value.places, (2, 2), (1, 1), (1, 1), ((0, 0), (0, 0))).reshape(1, 4, 4)
    places = np.arange(8).reshape(2, 4)
    matrix = convolution(reads, rng.normal(size=(2, 1, 4)) * 0.7, 1, 9, places)
    value = builder.sparse(value, matrix, np.repeat(0.2 * rng.normal(size=2), 4).reshape(2, 2, 2), (2, 2, 2))
    first = value = builder.activate(value, "relu")
    pooled = windows(value.places, (2, 2), (1, 1), (1, 1), ((0, 0), (0, 0)))
    if rng.random() < 0.5:
        value = builder.maximum(value, pooled.reshape(2, 4), (2,))
    else:
        mean = average(pooled.reshape(2, 1, 4), 4.0, 8, np.arange(2).reshape(2, 1))
        value = builder.sparse(value, mean, 0.0, (2,))
    skipped = builder.linear(first, rng.normal(size=(8, 2)) * 0.5, 0.3 * rng.normal(size=2), (2,))
    value = builder.activate(builder.add(value, skipped), "relu")
    value = builder.linear(value, rng.normal(size=(2, outputs)), 0.3 * rng.normal(size=outputs), (outputs,))
    return builder.finish(value, (1, 3, 3)).graph()


def _leaky(rng, outputs):
    builder = Builder((int(rng.integers(1, 4)),))
    value = builder.input
    for _ in range(2):
        size = int(rng.integers(1, 4))
        value = builder.linear(value, rng.normal(size=(value.size, size)), 0.3 * rng.normal(size=size), (size,))
        value = builder.leaky(value, rng.uniform(0, 1, size=size))
    value = builder.linear(value, rng.normal(size=(value.size, outputs)), 0.3 * rng.normal(size=outputs), (outputs,))
    return builder.finish(value, builder.input.shape).graph()


def _ties(rng, outputs):
    """Small integers throughout: pre-activations touch 0 at corners, in the middle, or everywhere."""
    sizes, nodes = [int(rng.integers(1, 4))], []
    for size in (*rng.integers(1, 4, size=int(rng.integers(1, 3))).tolist(), outputs):
        matrix = rng.integers(-1, 2, size=(sizes[-1], size)).astype(float)
        bias = rng.integers(-1, 2, size=size).astype(float)
        nodes += [Affine((len(nodes),), (matrix,), bias), Activation(len(nodes) + 1, "relu")]
        sizes += [size, size]
    return Graph(sizes[0], tuple(nodes[:-1]))


def badly_scaled(graph, seed, powers=6.0, cancel=0.3):
    """The graph with the neurons of its affine nodes scaled up and down, and some made the near copy of another."""
    rng = np.random.default_rng(seed)
    nodes = []
    for node in graph.nodes:
        if isinstance(node, Activation):
            nodes.append(node)
            continue
        factor = 10.0 ** rng.uniform(-powers, powers, size=len(node.bias))
        maps, bias = [m * factor if isinstance(m, np.ndarray) else m.toarray() * factor for m in node.maps], None
        bias = node.bias * factor
        if len(bias) > 1 and rng.random() < cancel:
            one, two = rng.choice(len(bias), 2, replace=False)
            share = rng.uniform(0.3, 3)
            for matrix in maps:
                matrix[:, one] = share * matrix[:, two]
            bias[one] = share * bias[two]
        nodes.append(Affine(node.sources, tuple(maps), bias))
    return Graph(graph.inputs, tuple(nodes), graph.input_shape)


def random_region(inputs, rng, balls=True):
    """A box of some width around some place, a point in some of its inputs; now and then with a ball of L1 or L2."""
    middle = rng.normal(size=inputs) * rng.choice([0.0, 1.0, 1.0, 100.0])
    reach = rng.choice([0.0, 0.1, 1.0, 1.0, 3.0]) * rng.random(inputs) * (rng.random(inputs) > 0.1)
    region = Region.between(middle - reach, middle + reach)
    if not balls or rng.random() < 0.4:
        return region
    radius = float(rng.random() * (region.reach + 0.01))
    return Region(region.centre, region.lower, region.upper, radius, 1 if rng.random() < 0.5 else 2)


def exact_values(graph, x):
    """All values at x (batch, inputs) in extended precision (numpy.longdouble): rounding a thousand times finer."""
    values = [np.asarray(x, dtype=np.longdouble)]
    for node in graph.nodes:
        if isinstance(node, Affine):
            maps = [m if isinstance(m, np.ndarray) else m.toarray() for m in node.maps]
            parts = [values[j] @ m.astype(np.longdouble) for j, m in zip(node.sources, maps, strict=True)]
            values.append(sum(parts) + node.bias.astype(np.longdouble))
            continue
        a = values[node.source]
        values.append(activation(node.kind, a))
    return values


def activation(kind, a):
    """The activation in the precision of a."""
    if kind == "relu":
        return np.maximum(a, 0)
    if kind == "tanh":
        return np.tanh(a)
    power = np.exp(-np.abs(a))
    return np.where(a >= 0, 1, power) / (1 + power)


def points_of(region, rng, count=60):
    """Corners, random points and points at the ends of random directions, all inside."""
    n = len(region.centre)
    uniform = rng.uniform(region.lower, region.upper, size=(count, n))
    corners = np.where(rng.random((count, n)) < 0.5, region.lower, region.upper)
    points = np.vstack([region.centre, uniform, corners])
    step = points - region.centre
    if region.has_ball:
        length = np.linalg.norm(step, region.norm, axis=1, keepdims=True)
        step = step * np.minimum(1.0, region.radius * (1 - 1e-12) / np.maximum(length, 1e-300))
    points = np.clip(region.centre + step, region.lower, region.upper)
    extreme = region.maximiser(rng.normal(size=(count, n))) if region.has_ball else points[:0]
    return np.clip(np.vstack([points, extreme]), region.lower, region.upper)


def improved(graph, region, points, row, rng, rounds=6):
    """The points after random steps, each kept where it lowers the output `row`: a descent without gradients."""
    best = exact_values(graph, points)[-1] @ row
    for scale in np.geomspace(1.0, 1e-3, rounds):
        target = points_of(region, rng, len(points))[: len(points)]
        moved = np.clip(points + scale * (target - points), region.lower, region.upper)
        value = exact_values(graph, moved)[-1] @ row
        better = value < best
        points, best = np.where(better[:, None], moved, points), np.minimum(best, value)
    return points
