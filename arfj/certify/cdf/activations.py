r"""Piecewise linear networks below and above a network with other activations, as they were published.

A neuron's argument has interval bounds [l, u]. These are split where the curvature of the activation changes its sign
or where it has a kink, and each part into S segments. On a segment [p, q] where it is convex,
    above   the two chords through the midpoint,
    below   the tangents at p and q, which meet in between: from (p, f(p)) to (x, v) to (q, f(q)), where v is the
            smaller of the values of both tangents at x. For any x in [p, q] that is below f: each line is below its
            tangent. So x is the midpoint where the slopes are too near to each other to be divided by their difference;
on a concave one the other way round. With knots x_0 .. x_n and slopes a_1 .. a_n such a function is, for t in [x_0,
    x_n], f~(t) = x_0 a_1 + b_1 + sum_i sign(a_i - a_(i-1)) ReLU(|a_i - a_(i-1)| (t - x_(i-1))),   a_0 = 0,
a layer of ReLUs. All activations here rise, and so do these bounds; an affine map reads the upper ones where its weight
is positive and the lower ones where it is negative, for its upper bound, and the reverse for its lower one. The
intervals are those of S = 1, so that bounds for 2 S segments lie between those for S.

Functions of several arguments are made of these: |x| = ReLU(x) + ReLU(-x), x^2 = h(x) + h(-x) with h(t) = max(t, 0)^2,
x y = ((x + y)^2 - (x - y)^2) / 4, and max(x, y) of upper bounds is one of max(x, y). A softmax is made of functions
whose slopes are in [0, 1], so that nothing is as large as an exponential:
    softmax_i = sigmoid(-L),  L = log sum_(j != i) exp(x_j - x_i),  by  log(exp(a) + exp(b)) = a + softplus(b - a).

Source: A. Kofnov et al., Exact upper and lower bounds for the output distribution of neural networks with random
inputs, ICML 2025, section 4 and appendix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from arfj.certify.cdf.evaluation import LARGEST, dense
from arfj.certify.cdf.mesh import UNIT
from arfj.errors import UsageError
from arfj.graph import Activation, Affine, Graph, Node
from arfj.network import Floats

PARALLEL = 1e-6
"""Slopes whose difference is smaller, relative to the greater one, meet in the midpoint."""


@dataclass(frozen=True)
class Shape:
    """A rising function: itself, its derivative, and where its parts begin, from the left, with the sign of its
    curvature.

    Attributes:
        value, slope: the function and its derivative; at a kink the derivative of the part is asked for inside of it.
        parts: (start, curvature) with curvature 1, 0 or -1.
    """

    value: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]
    parts: tuple[tuple[float, int], ...]


def _sigmoid(t: Floats) -> Floats:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * t))


SHAPES: Mapping[str, Shape] = {
    "tanh": Shape(np.tanh, lambda t: 1 - np.tanh(t) ** 2, ((-np.inf, 1), (0.0, -1))),
    "sigmoid": Shape(_sigmoid, lambda t: _sigmoid(t) * _sigmoid(-t), ((-np.inf, 1), (0.0, -1))),
    "elu": Shape(
        lambda t: np.where(t > 0, t, np.expm1(np.minimum(t, 0))),
        lambda t: np.exp(np.minimum(t, 0)),
        ((-np.inf, 1), (0.0, 0)),
    ),
    "exp": Shape(np.exp, np.exp, ((-np.inf, 1),)),
    "half_square": Shape(lambda t: np.maximum(t, 0) ** 2, lambda t: 2 * np.maximum(t, 0), ((-np.inf, 0), (0.0, 1))),
    "softplus": Shape(lambda t: np.maximum(t, 0) + np.log1p(np.exp(-np.abs(t))), _sigmoid, ((-np.inf, 1),)),
}
"""By name; `half_square` is max(t, 0)^2, `softplus` log(1 + exp(t))."""


@dataclass(frozen=True, eq=False)
class Linear:
    """A continuous piecewise linear function: knots and values there, both ascending."""

    knots: Floats
    values: Floats

    def __call__(self, t: ArrayLike) -> Floats:
        """Its values between the first and the last knot."""
        return np.asarray(np.interp(np.asarray(t, dtype=np.float64), self.knots, self.values))


def envelope(kind: str, low: float, high: float, segments: int) -> tuple[Linear, Linear]:
    """Piecewise linear functions below and above an activation on [low, high].

    Raises:
        UsageError: an activation that is not known, an interval that is none, or fewer than one segment.
    """
    if kind not in SHAPES:
        raise UsageError(f"activation {kind!r} has no bounds here; expected one of {', '.join(SHAPES)}")
    if segments < 1 or not low < high:
        raise UsageError(f"{segments} segments on [{low:g}, {high:g}] are none; expected at least one, and l < u")
    shape = SHAPES[kind]
    below: list[tuple[float, float]] = []
    above: list[tuple[float, float]] = []
    starts = [start for start, _ in shape.parts] + [np.inf]
    for (start, curvature), end in zip(shape.parts, starts[1:], strict=True):
        left, right = max(low, start), min(high, end)
        if left >= right:
            continue
        knots = np.linspace(left, right, segments + 1)
        chords, tangents = _chords(shape, knots), _tangents(shape, knots, curvature)
        below += tangents if curvature >= 0 else chords
        above += chords if curvature >= 0 else tangents
    return _made(below, low, high, -1), _made(above, low, high, 1)


def _chords(shape: Shape, knots: Floats) -> list[tuple[float, float]]:
    at = np.sort(np.concatenate([knots, (knots[:-1] + knots[1:]) / 2]))
    return list(zip(at.tolist(), shape.value(at).tolist(), strict=True))


def _tangents(shape: Shape, knots: Floats, curvature: int) -> list[tuple[float, float]]:
    """The ends of each segment and the point between them where the tangents meet, at or beyond it."""
    values, slopes = shape.value(knots), shape.slope(knots)
    found = []
    for p, q, f, g, a, b in zip(knots, knots[1:], values, values[1:], slopes, slopes[1:], strict=False):
        meet = (p + q) / 2
        if abs(b - a) > PARALLEL * max(abs(a), abs(b)):
            meet = min(max((f - g + b * q - a * p) / (b - a), p), q)
        one, two = f + a * (meet - p), g + b * (meet - q)
        found += [(float(p), float(f)), (float(meet), float(max(one, two) if curvature < 0 else min(one, two)))]
    return [*found, (float(knots[-1]), float(values[-1]))]


def _made(points: list[tuple[float, float]], low: float, high: float, side: int) -> Linear:
    """The function through points, moved outward by what rounding may do, and rising: upper values are raised, lower
    lowered.

    The margin covers values of the activation (8 u), knots and slopes of the layer that is made of it, n of each.
    """
    at, values = np.array(sorted(points)).T
    keep = np.append(True, np.diff(at) > 1e-12 * max(1.0, high - low))
    keep[-1] = True
    if len(at) > 2 and not at[-1] - at[keep][-2] > 1e-12 * max(1.0, high - low):
        keep[np.flatnonzero(keep)[-2]] = False
    apart = np.abs(np.interp(at, at[keep], values[keep]) - values).max()  # knots that were next to others, on a cliff
    at, values = at[keep], values[keep]
    steepest = float(np.abs(np.diff(values) / np.diff(at)).max())
    lost = 4e-12 * max(1.0, high - low) * steepest + float(apart)
    margin = 16 * UNIT * (len(at) + 8) * (1 + np.abs(values).max() + np.ptp(values)) + lost
    values = values + side * margin
    values = np.maximum.accumulate(values) if side > 0 else np.minimum.accumulate(values[::-1])[::-1]
    at[0], at[-1] = low, high
    return Linear(at, values)


@dataclass(frozen=True)
class Pointwise:
    """act(v_source), for an activation of `SHAPES`."""

    source: int
    kind: str

    @property
    def sources(self) -> tuple[int, ...]:
        """As `Affine.sources`."""
        return (self.source,)


@dataclass(frozen=True)
class Maximum:
    """max of the values `one` and `two` of v_source, pair by pair."""

    source: int
    one: tuple[int, ...]
    two: tuple[int, ...]

    @property
    def sources(self) -> tuple[int, ...]:
        """As `Affine.sources`."""
        return (self.source,)


Layer = Affine | Activation | Pointwise | Maximum


def evaluate(layers: Sequence[Layer], x: Floats) -> list[Floats]:
    """v_0, v_1, .. of the true network, shapes (batch, size)."""
    values = [np.asarray(x, dtype=np.float64)]
    for layer in layers:
        match layer:
            case Affine() | Activation():
                values.append(layer(values))
            case Pointwise(source, kind):
                values.append(np.asarray(SHAPES[kind].value(values[source])))
            case Maximum(source, one, two):
                values.append(np.maximum(values[source][:, list(one)], values[source][:, list(two)]))
    return values


def square(layers: list[Layer], source: int, size: int) -> None:
    """Append x^2 = h(x) + h(-x) of a value."""
    eye = np.eye(size)
    layers.append(Affine((source,), (np.hstack([eye, -eye]),), np.zeros(2 * size)))
    layers.append(Pointwise(len(layers), "half_square"))
    layers.append(Affine((len(layers),), (np.vstack([eye, eye]),), np.zeros(size)))


def absolute(layers: list[Layer], source: int, size: int) -> None:
    """Append |x| = ReLU(x) + ReLU(-x) of a value."""
    eye = np.eye(size)
    layers.append(Affine((source,), (np.hstack([eye, -eye]),), np.zeros(2 * size)))
    layers.append(Activation(len(layers), "relu"))
    layers.append(Affine((len(layers),), (np.vstack([eye, eye]),), np.zeros(size)))


def product(layers: list[Layer], source: int, size: int) -> None:
    """Append x_k y_k = ((x_k + y_k)^2 - (x_k - y_k)^2) / 4 of a value (x, y) of 2 `size` numbers."""
    eye = np.eye(size)
    layers.append(Affine((source,), (np.block([[eye, eye], [eye, -eye]]),), np.zeros(2 * size)))
    square(layers, len(layers), 2 * size)
    layers.append(Affine((len(layers),), (np.vstack([eye, -eye]) / 4,), np.zeros(size)))


def softmax(layers: list[Layer], source: int, size: int) -> None:
    """Append softmax_i = sigmoid(-log sum_(j != i) exp(x_j - x_i)) of a value of two numbers or more, by halves."""
    pairs = [(i, j) for i in range(size) for j in range(size) if i != j]
    differences = np.zeros((size, len(pairs)))
    for k, (i, j) in enumerate(pairs):
        differences[[j, i], k] = 1.0, -1.0
    layers.append(Affine((source,), (differences,), np.zeros(len(pairs))))
    count = size - 1
    while count > 1:
        half, eye = count // 2, np.eye(count)
        step = _each(size, eye[:, half : 2 * half] - eye[:, :half])  # b - a
        kept = _each(size, np.delete(eye, range(half, 2 * half), axis=1))  # a, and the odd one out
        at = len(layers)
        layers.append(Affine((at,), (step,), np.zeros(size * half)))
        layers.append(Pointwise(at + 1, "softplus"))
        layers.append(
            Affine((at, at + 2), (kept, _each(size, np.eye(half, count - half))), np.zeros(size * (count - half)))
        )
        count -= half
    layers.append(Affine((len(layers),), (-np.eye(size),), np.zeros(size)))
    layers.append(Pointwise(len(layers), "sigmoid"))


def _each(size: int, matrix: Floats) -> Floats:
    """The same map of the numbers of each class."""
    return np.asarray(np.kron(np.eye(size), matrix), dtype=np.float64)


@dataclass
class _Builder:
    """Both bounds under construction: nodes so far, and for each layer where they stand and its range."""

    inputs: int
    nodes: list[Node] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    ranges: list[tuple[Floats, Floats]] = field(default_factory=list)

    def add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes)

    def affine(self, layer: Affine) -> tuple[int, int]:
        """Upper bounds where weights are positive and lower ones where they are negative, or the reverse."""
        made = []
        for side in (0, 1):
            sources: dict[int, Floats] = {}
            for source, matrix in zip(layer.sources, layer.maps, strict=True):
                weight, places = dense(matrix), self.places[source]
                for place, part in ((places[side], np.maximum(weight, 0)), (places[1 - side], np.minimum(weight, 0))):
                    sources[place] = sources.get(place, 0.0) + part
            made.append(self.add(Affine(tuple(sources), tuple(sources.values()), layer.bias)))
        return made[0], made[1]

    def pointwise(self, source: int, lines: Sequence[Linear]) -> int:
        """A layer of ReLUs for one piecewise linear function a neuron."""
        rows = [(k, *_relus(line)) for k, line in enumerate(lines)]
        count = sum(len(sizes) for _, _, sizes, _, _ in rows)
        weight, bias = np.zeros((len(lines), count)), np.zeros(count)
        out, offset, at = np.zeros((count, len(lines))), np.zeros(len(lines)), 0
        for k, start, sizes, signs, knots in rows:
            part = slice(at, at + len(sizes))
            weight[k, part], bias[part], out[part, k], offset[k] = sizes, -sizes * knots, signs, start
            at += len(sizes)
        place = self.add(Affine((source,), (weight,), bias))
        place = self.add(Activation(place, "relu"))
        return self.add(Affine((place,), (out,), offset))


def _relus(line: Linear) -> tuple[float, Floats, Floats, Floats]:
    """f~(x_0), and |a_i - a_(i-1)|, their signs and x_(i-1)."""
    slopes = np.diff(line.values) / np.diff(line.knots)
    steps = np.diff(slopes, prepend=0.0)
    return float(line.values[0]), np.abs(steps), np.sign(steps), line.knots[:-1]


def bounding_network(layers: Sequence[Layer], lower: Floats, upper: Floats, segments: int) -> Graph:
    """A ReLU network with outputs (f_lower, f_upper), below and above the network of these layers on the box.

    Args:
        layers: as the nodes of a `Graph`: layer i - 1 gives v_i, and the last one the outputs.
        lower: the lower corner of the box.
        upper: the upper one.
        segments: S, for each part of an activation that is convex or concave.

    Raises:
        UsageError: an activation that is not known, or S < 1.
    """
    build = _Builder(len(lower), places=[(0, 0)], ranges=[(lower, upper)])
    for layer in layers:
        low, high = build.ranges[layer.sources[0]]
        match layer:
            case Affine():
                build.places.append(build.affine(layer))
                build.ranges.append(_range(layer, build.ranges))
            case Activation("relu") | Activation(kind="relu"):
                one, two = (build.add(Activation(place, "relu")) for place in build.places[layer.source])
                build.places.append((one, two))
                build.ranges.append((np.maximum(low, 0.0), np.maximum(high, 0.0)))
            case Activation() | Pointwise():
                _add_pointwise(build, layer.source, layer.kind, segments)
            case Maximum(source, first, second):
                one, two = (_add_maximum(build, place, first, second, len(low)) for place in build.places[source])
                build.places.append((one, two))
                ends = [np.maximum(side[list(first)], side[list(second)]) for side in (low, high)]
                build.ranges.append((ends[0], ends[1]))
    below, above = build.places[-1]
    size = len(build.ranges[-1][0])
    eye, none = np.eye(size), np.zeros((size, size))
    maps = {below: np.hstack([eye, none])}
    maps[above] = maps.get(above, 0) + np.hstack([none, eye])
    build.add(Affine(tuple(maps), tuple(maps.values()), np.zeros(2 * size)))
    return Graph(build.inputs, tuple(build.nodes))


@np.errstate(over="ignore", invalid="ignore")  # what is too large is refused
def _range(layer: Affine, ranges: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    middle, reach, size = layer.bias, np.zeros_like(layer.bias), np.abs(layer.bias)
    for source, matrix in zip(layer.sources, layer.maps, strict=True):
        low, high = ranges[source]
        weight = dense(matrix)
        middle = middle + 0.5 * (low + high) @ weight
        reach = reach + 0.5 * (high - low) @ np.abs(weight)
        size = size + np.maximum(np.abs(low), np.abs(high)) @ np.abs(weight)
    if not (size <= LARGEST).all():
        raise UsageError(f"values of the network may be larger than {LARGEST:g}; scale its weights down")
    room = 1e-9 * (1 + size)
    return middle - reach - room, middle + reach + room


def _add_pointwise(build: _Builder, source: int, kind: str, segments: int) -> None:
    low, high = build.ranges[source]
    places = build.places[source]
    lines = [envelope(kind, a, b, segments) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    widest = [envelope(kind, a, b, 1) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    one = build.pointwise(places[0], [line for line, _ in lines])
    build.places.append((one, build.pointwise(places[1], [line for _, line in lines])))
    room = 1e-9
    build.ranges.append(
        (
            np.array([line.values[0] for line, _ in widest]) - room,
            np.array([line.values[-1] for _, line in widest]) + room,
        )
    )


def _add_maximum(build: _Builder, place: int, first: Sequence[int], second: Sequence[int], size: int) -> int:
    """max(x, y) = x + ReLU(y - x), of values of one bound."""
    count = len(first)
    pick, difference = np.zeros((size, count)), np.zeros((size, count))
    pick[list(first), range(count)] = 1.0
    np.add.at(difference, (list(second), range(count)), 1.0)
    np.add.at(difference, (list(first), range(count)), -1.0)
    more = build.add(Affine((place,), (difference,), np.zeros(count)))
    more = build.add(Activation(more, "relu"))
    return build.add(Affine((place, more), (pick, np.eye(count)), np.zeros(count)))
